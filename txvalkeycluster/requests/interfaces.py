"""What requests need of the places that they go to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .request import MultiRequest, Request


class Destination(Protocol):
    """A node, a connection or a queue that accepts requests.

    Each method raises TooManyPending if a limit is reached, and then has not accepted the request.
    """

    def send(self, request: Request) -> None:
        """Accept a plain command of a caller."""

    def send_mixed(self, request: Request) -> None:
        """Accept a request that is not a plain command of a caller."""

    def send_batch(self, batch: MultiRequest) -> None:
        """Accept a request with several replies."""

    def send_exclusive(self, request: Request) -> None:
        """Accept a request that needs an exclusive connection."""

    def send_subscription(self, request: Request) -> None:
        """Accept a request that changes the subscriptions of a connection."""

    def ask(self, request: Request) -> None:
        """Accept a request that must be sent after ASKING."""


class Connection(Protocol):
    """The part of a connection that requests use."""

    #: Decides about error replies; a ConnectionListener.
    owner: Any
    #: Returns the current time.
    seconds: Callable[[], float]

    def decoded(self, reply: Any) -> Any:
        """Return a reply with its bytes decoded, or the unchanged reply if the client has no encoding."""

    #: The value of `carried` for the latest writes that WAIT has confirmed.
    confirmed: int

    def carried(self) -> int:
        """Return the number of writes with commands of callers; several writes between two calls count as one."""

    def abort(self, reason: Exception) -> None:
        """End the connection at once."""

"""A call that reports its end, for the listeners of finished commands."""

from __future__ import annotations

from contextvars import copy_context
from typing import Any, Protocol

from ..address import Address
from ..commands import Command
from ..commands.encoder import Packed
from .request import Call, Destination
from .target import Target


class Observer(Protocol):
    """What gets the reports."""

    def address_of(self, target: Target) -> Address | None:
        """Return the node to which a new request for a target goes now; None if it waits for a node."""

    def call_ended(self, call: ObservedCall, error: Any) -> None:
        """Handle the end of a call.

        Args:
            call: The call; its caller has not got the result yet.
            error: An exception or a Failure; None if the call succeeded.
        """


class ObservedCall(Call):
    """A call that reports its end to an observer.

    A callback on an ordinary call would do the same, but cost 1 us: it prevents the direct resumption of a coroutine.
    """

    def __init__(
        self, observer: Observer, payload: Packed, command: Command, target: Target, *rest: Any, **canceller: Any
    ) -> None:
        """Make the call; all arguments but ``observer`` are those of `Call`."""
        Call.__init__(self, payload, command, target, *rest, **canceller)
        self._observer = observer
        #: The node that gets this call.
        self.address = observer.address_of(target)
        #: The context variables of the caller.
        self.context = copy_context()

    def give_to(self, destination: Destination) -> None:
        """Give this call to a destination, and note which node that is."""
        self.address = getattr(destination, "address", self.address)
        super().give_to(destination)

    def callback(self, result: Any) -> None:
        """Report the success, then give the caller the reply."""
        self._observer.call_ended(self, None)
        super().callback(result)

    def errback(self, fail: Any = None) -> None:
        """Report the error, then give it to the caller."""
        self._observer.call_ended(self, fail)
        super().errback(fail)

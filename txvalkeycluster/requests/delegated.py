"""Calls that are never sent themselves: their result comes from another Deferred."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from ..commands import Command
from ..commands.encoder import Arg, Packed, pack
from .request import Call
from .target import UNROUTED


class DelegatedCall(Call):
    """A call that is never sent itself.  It gets the result of another Deferred, and cancels that if it ends before."""

    __slots__ = ("_followed",)

    def __init__(
        self,
        payload: Packed,
        command: Command,
        since: float,
        deadline: float,
        repeatable: bool,
        canceller: Callable[[Deferred[Any]], None],
    ) -> None:
        super().__init__(payload, command, UNROUTED, since, deadline, repeatable, canceller)
        self._followed: Deferred[Any] | None = None

    def follow(self, deferred: Deferred[Any]) -> None:
        """Take the result of another Deferred, which replaces the one that was followed before."""

        def ended(result: Any, tell: Callable[[Any], None]) -> None:
            if self._followed is deferred:
                self._followed = None
                tell(result)

        self._followed = deferred
        deferred.addCallbacks(ended, ended, callbackArgs=(self.answer,), errbackArgs=(self.fail,))

    def errback(self, fail: Any = None) -> None:
        """End with an error, and cancel the Deferred that is followed."""
        followed, self._followed = self._followed, None
        if followed is not None:
            followed.cancel()
        super().errback(fail)


class UnroutedCall(DelegatedCall):
    """A command that cannot be routed yet, because the slot map or the definition of the command is missing.

    It may become one request or many.  So it follows the result of those requests instead of being sent itself.
    """

    __slots__ = ("args", "split_keys")

    def __init__(
        self,
        args: tuple[Arg, ...],
        command: Command,
        since: float,
        deadline: float,
        repeatable: bool,
        canceller: Callable[[Deferred[Any]], None],
        split_keys: bool,
    ) -> None:
        super().__init__(pack(args), command, since, deadline, repeatable, canceller)
        #: The words of the command.
        self.args = args
        #: Whether the keys may be in several slots.
        self.split_keys = split_keys

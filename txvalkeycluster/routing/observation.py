"""Observation: tells listeners about each command of the application that has ended.

As long as nobody listens, there is no observation, and commands take their usual way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..address import Address
from ..commands.encoder import Arg
from ..connection.node import NodeConnection
from ..options import DEFAULT
from ..requests.observed import ObservedCall
from ..requests.target import Target
from ..statistics import FinishedCommand
from ..topology.model import Node

if TYPE_CHECKING:
    from .router import Router, Terms

_log = Logger()
_T = TypeVar("_T")
CommandListener = Callable[[FinishedCommand], object]
# FinishedCommand(...) costs three times as much: it calls a function that is written in Python.
_new = tuple.__new__


class Observation:
    """Stands in front of a router and reports the ends of commands."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._seconds = router.clock.seconds
        self._execute = router.execute
        self._execute_on = router.execute_on
        self._make = partial(ObservedCall, self)
        #: Called with each finished command.
        self.listeners: list[CommandListener] = []

    # ---- in place of the methods of the router

    def execute(
        self,
        args: Sequence[Arg],
        convert: Any = None,
        timeout: float | None = DEFAULT,
        repeatable: bool = False,
        terms: Terms | None = None,
    ) -> Deferred[Any]:
        """Do as `Router.execute`, and report the end.  A part of a pipeline or of a delayed command is not reported."""
        if terms is not None and terms.admitted:
            return self._execute(args, convert, timeout, repeatable, terms)
        since = self._seconds()
        done = self._execute(args, convert, timeout, repeatable, terms, self._make)
        return done if isinstance(done, ObservedCall) else self._watch(done, self._name(args), since, done)

    def execute_on(self, where: Node | Address | str, args: Sequence[Arg], timeout: float | None) -> Deferred[Any]:
        """Do as `Router.execute_on`, and report the end."""
        since = self._seconds()
        done = self._execute_on(where, args, timeout)
        try:
            node = self._router.recovery.slot_map.address_of(where)
        except Exception:
            # ``done`` has failed with this error.
            node = None
        return self._watch(done, self._name(args), since, done, node=node)

    # ---- commands that are more than one call

    def watch(
        self, done: Deferred[_T], kind: str, names: Iterable[Any], request: Any = None, count: int | None = None
    ) -> Deferred[_T]:
        """Report the end of a pipeline or a transaction.

        Args:
            done: Its Deferred.
            kind: "PIPELINE" or "MULTI".
            names: The names of its commands.
            request: The request, if there is only one.
            count: The number of its commands; None if that is the result of ``done``.

        Returns:
            The same Deferred.
        """
        different = {self._name((name,)) for name in names}
        name = f"{kind} {different.pop()}" if len(different) == 1 else kind
        return self._watch(done, name, self._seconds(), request, count)

    def watch_call(self, call: Deferred[_T], name: str, node: Address | None) -> Deferred[_T]:
        """Report the end of one command to one node; return its Deferred."""
        return self._watch(call, name, self._seconds(), call, node=node)

    def _watch(
        self,
        done: Deferred[Any],
        name: str,
        since: float,
        request: Any,
        count: int | None = 1,
        node: Address | None = None,
    ) -> Deferred[Any]:
        context = copy_context()

        def ended(result: Any) -> Any:
            error = result.value if isinstance(result, Failure) else None
            commands = count if count is not None else result if isinstance(result, int) else 0
            address = node or getattr(request, "address", None)
            self._tell(name, address, since, getattr(request, "history", None), error, commands, context)
            return result

        return done.addBoth(ended)

    def _name(self, args: Sequence[Arg]) -> str:
        try:
            return self._router.commands[args[0]].resolve(args).name
        except Exception:
            # The command fails for the same reason.
            return "INVALID"

    # ---- the observer of calls

    def address_of(self, target: Target) -> Address | None:
        """Return the node of a slot; None if the slot has no owner, or the target is another one."""
        if isinstance(target, int):
            destination = self._router.destinations[target]
            return destination.address if isinstance(destination, NodeConnection) else None
        return None

    def call_ended(self, call: ObservedCall, error: Any) -> None:
        """Report the end of a call."""
        if isinstance(error, Failure):
            error = error.value
        self._tell(call.command.name, call.address, call.since, call.history, error, 1, call.context)

    def _tell(
        self,
        name: str,
        node: Address | None,
        since: float,
        history: Any,
        error: BaseException | None,
        commands: int,
        context: Context,
    ) -> None:
        attempts = 1 if history is None else history.attempts + 1 if error is None else max(history.attempts, 1)
        finished = _new(FinishedCommand, (name, node, self._seconds() - since, attempts, error, commands, context))
        for listener in self.listeners:
            try:
                listener(finished)
            except BaseException:
                # SystemExit too must not keep a command from ending.
                _log.failure("a listener raised an exception for a finished {name}", name=name)

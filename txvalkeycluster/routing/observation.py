"""Observation: tells listeners about each command of the application that has ended.

As long as nobody listens, there is no observation, and commands take their usual way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextvars import Context, copy_context
from math import inf
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..address import Address
from ..commands import Command, CommandTable
from ..commands.converters import Convert, converted
from ..commands.encoder import Arg, Packed, pack_keyed
from ..connection.node import NodeConnection
from ..errors import WrongThread
from ..options import DEFAULT, Options
from ..requests.later_calls import failure
from ..requests.observed import NoteTime, ObservedCall, attempts_of
from ..requests.request import PLAIN, Call
from ..requests.target import Target
from ..statistics import FinishedCommand
from ..topology.model import Node

if TYPE_CHECKING:
    from .planned_commands import Terms
    from .router import Router

_log = Logger()
_T = TypeVar("_T")
CommandListener = Callable[[FinishedCommand], object]


class ObservableClient(Protocol):
    """A client of any interface: of Twisted, of threads or of asyncio."""

    @property
    def options(self) -> Options:
        """The options."""

    @property
    def commands(self) -> CommandTable:
        """The table of commands."""

    def add_command_listener(self, listener: CommandListener) -> None:
        """Call a function with every command that is called from now on, when it has ended."""

    def remove_command_listener(self, listener: CommandListener) -> None:
        """Stop calling a listener of commands."""


_new = ObservedCall.__new__
_NO_CONTEXT = Context()


class Observation:
    """Stands in front of a router and reports the ends of commands."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._commands = router.commands
        self._destinations = router.destinations
        self._limit = router._limit
        self._note_cancel = router.note_cancel
        self._execute = router.execute_in_python
        self._execute_on = router.execute_on
        self._listeners: list[CommandListener] = []
        #: Returns the current time.
        self.seconds: Callable[[], float] = router.clock.seconds
        #: Calls the listeners; the only listener itself if there is one.
        self.report: Callable[[FinishedCommand], object] = self._report_to_all
        #: What is called in place of the only listener, if it needs neither a record nor a context.
        self.note_time: NoteTime | None = None
        #: Returns the context variables of the caller, or an empty context if nobody needs them.
        self.context: Callable[[], Context] = copy_context

    @property
    def listeners(self) -> list[CommandListener]:
        """Called with each finished command."""
        return self._listeners

    @listeners.setter
    def listeners(self, listeners: list[CommandListener]) -> None:
        self._listeners = listeners
        only = listeners[0] if len(listeners) == 1 else None
        self.report = only or self._report_to_all
        self.note_time = getattr(only, "note_time", None)
        self.context = copy_context if self.note_time is None else _NO_CONTEXT.copy
        if self._router.executor is not None:
            self._router.executor.context = None if self.note_time is None else _NO_CONTEXT
            self._router.executor.note_time = self.note_time

    # ---- in place of the methods of the router

    def execute(
        self,
        args: Sequence[Arg],
        convert: Convert | None = None,
        timeout: float | None = DEFAULT,
        repeatable: bool = False,
        terms: Terms | None = None,
        make: Callable[..., Call] = Call,
    ) -> Deferred[Any]:
        """Do as `Router.execute`, and report the end.

        A part of a pipeline or of a delayed command is not reported.  The call of any other command for one node is an
        `ObservedCall`, whatever ``make`` is.
        """
        if terms is not None and terms.admitted:
            return self._execute(args, convert, timeout, repeatable, terms, make)
        since = self.seconds()
        try:
            command = self._commands[args[0]]
            plain = command.keyed and len(args) > 1 and PLAIN and not self._router.closed
            slot, payload = pack_keyed(command.wire_name, args) if plain else (0, b"")
        except Exception:
            # A wrong argument.  The router fails in the same way, and makes the error for the caller.
            plain = False
        if plain:
            # The same as Router.execute, ObservedCall.__init__ and Deferred.__init__.  With calls of these, a listener
            # would cost 8% of a command more.
            destination = self._destinations[slot]
            call = _new(ObservedCall)
            call._callbacks = []
            call._canceller = self._note_cancel
            call.payload = payload
            call.command = command
            call.target = slot
            call.since = since
            call.deadline = since + self._limit if timeout is DEFAULT else inf if timeout is None else since + timeout
            call.repeatable = repeatable or command.repeatable
            call.history = None
            call._observer = self
            call.address = destination.address if destination.__class__ is NodeConnection else None
            call.context = copy_context() if self.note_time is None else _NO_CONTEXT
            try:
                destination.send(call)
            except WrongThread:
                raise
            except Exception as error:
                # A full queue.
                refused = self._router.next_turn.postponed(failure(error))
                return self._watch(refused, command.name, since, None)
            return call if convert is None else call.addCallback(converted, convert)
        done = self._execute(args, convert, timeout, repeatable, terms, self._make)
        return done if isinstance(done, ObservedCall) else self._watch(done, self._name(args), since, done)

    def _make(self, payload: Packed, command: Command, target: Target, *rest: Any) -> ObservedCall:
        call = ObservedCall(self, payload, command, target, *rest)
        if isinstance(target, int):
            # `Router.execute` gives a call to the node of its slot without `ObservedCall.give_to`.
            call.address = getattr(self._destinations[target], "address", None)
        return call

    def execute_on(self, where: Node | Address | str, args: Sequence[Arg], timeout: float | None) -> Deferred[Any]:
        """Do as `Router.execute_on`, and report the end."""
        since = self.seconds()
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
            names: The names of its commands, as far as they are known.
            request: The request, if there is only one.
            count: The number of its commands.  None: that of the names, or the result of ``done`` if there are none.

        Returns:
            The same Deferred.
        """
        listed = list(names)
        try:
            spellings = set(listed)
        except TypeError:
            # A name that is a bytearray, or no name at all.
            spellings = set(map(self._name_of, listed))
        different = set(map(self._name_of, spellings))
        name = f"{kind} {different.pop()}" if len(different) == 1 else kind
        if count is None and listed:
            count = len(listed)
        return self._watch(done, name, self.seconds(), request, count)

    def watch_call(self, call: Deferred[_T], name: str, node: Address | None) -> Deferred[_T]:
        """Report the end of one command to one node; return its Deferred."""
        return self._watch(call, name, self.seconds(), call, node=node)

    def _watch(
        self,
        done: Deferred[Any],
        name: str,
        since: float,
        request: Any,
        count: int | None = 1,
        node: Address | None = None,
    ) -> Deferred[Any]:
        context = self.context()

        def ended(result: Any) -> Any:
            error = result.value if isinstance(result, Failure) else None
            commands = count if count is not None else result if isinstance(result, int) else 0
            address = node or getattr(request, "address", None)
            attempts = attempts_of(getattr(request, "history", None), error)
            finished = FinishedCommand(name, address, self.seconds() - since, attempts, error, commands, context)
            self._report_to_all(finished)
            return result

        return done.addBoth(ended)

    def _name(self, args: Sequence[Arg]) -> str:
        try:
            return self._commands[args[0]].resolve(args).name
        except Exception:
            # The command fails for the same reason.
            return "INVALID"

    def _name_of(self, name: Any) -> str:
        return self._name((name,))

    # ---- the listeners

    def _report_to_all(self, finished: FinishedCommand) -> None:
        for listener in self._listeners:
            try:
                listener(finished)
            except BaseException:
                # SystemExit too must not keep a command from ending.
                self.report_failed(finished.name)

    def report_failed(self, name: str) -> None:
        """Log that a listener has raised an exception."""
        _log.failure("a listener raised an exception for a finished {name}", name=name)

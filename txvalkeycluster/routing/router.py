"""The router sends each command to its node.  `recovery` handles the commands that fail.

The hot path is `Router.execute`: one look-up finds the command, and one list access finds the destination of its slot.
The destination is the owner of the slot, or the queue of the commands that wait for an owner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from ..address import Address
from ..commands import Command
from ..commands.converters import Convert, converted
from ..commands.encoder import Arg, pack_keyed
from ..connection.factory import ClusterFactory
from ..connection.forks import in_forked_children
from ..connection.node import NodeConnection
from ..connection.protocol import RESPProtocol
from ..errors import ClientClosed, ValkeyError, WrongThread
from ..events import Event, TopologyUpdated
from ..options import DEFAULT, Options
from ..requests.delegated import DelegatedCall, UnroutedCall
from ..requests.fast_deferred import fast
from ..requests.later_calls import LaterCalls, failure
from ..requests.request import PLAIN, Call, Request
from ..statistics import Statistics
from ..topology.model import Node, Topology
from .full_queues import FullQueues
from .observation import CommandListener, Observation
from .planned_commands import PlannedCommands, Terms, time_left
from .recovery import Recovery
from .replica_wait import ReplicaWait
from .shutdown import Shutdown

_new = Call.__new__
_R = TypeVar("_R", bound=Request)


class Router:
    """Routes the commands of one client."""

    def __init__(self, reactor: IReactorTime, options: Options, emit: Callable[[Event], None]) -> None:
        """Make a router without connections.

        Args:
            reactor: Makes connections and measures time.
            options: The options of the client.
            emit: Called with each event.
        """
        #: What belongs to no node, such as refreshes, and what removed nodes have done.
        self.statistics = Statistics()
        #: The option ``max_pending``.
        self.max_pending = options.max_pending
        #: The table of commands.
        self.commands = options.commands
        #: The reactor.
        self.clock = reactor
        self._seconds = reactor.seconds
        self._limit = inf if options.timeout is None else options.timeout
        #: The canceller of all commands.  One bound method for all: a new one for each command would cost 0.1 us.
        self.note_cancel = self._cancelled
        self._options = options
        self._terms = Terms(options.split_keys)
        #: The terms of the commands of a pipeline.
        self.admitted = Terms(options.split_keys, True)
        #: The nodes.
        self.factory = ClusterFactory(reactor, options, self.statistics)
        #: Reports finished commands; None as long as nobody listens.
        self.observation: Observation | None = None
        #: Called with each new slot map, before the listeners of the client.
        self.topology_listeners: list[Callable[[TopologyUpdated], None]] = []
        #: Whether new commands are rejected.
        self.closed = False
        #: Why new commands are rejected.
        self.closed_because = "the client is closed"
        in_forked_children(self, Router.forked)
        #: What WAIT and WAITAOF need to know.
        self.replica_wait = ReplicaWait(
            reactor,
            options,
            self._primary_nodes,
            self._unconfirmed_nodes,
            lambda node, error: recovery.noticed(node, error),
        )
        #: Deals with requests that failed; has the slot map.
        self.recovery = recovery = Recovery(
            reactor,
            options,
            self.factory,
            self.statistics,
            self._announcer(emit),
            self._start_unrouted,
            self.replica_wait.writes_lost,
        )
        self.factory.listener = recovery
        #: The destination of each slot: its owner, or the queue of the requests that wait for an owner.
        self.destinations = recovery.slot_map.destinations
        #: Functions to call again after full queues have rejected something.
        self.retries = LaterCalls(reactor, 0.01, self.factory.thread)
        #: Passes on immediate failures in the next turn of the reactor.
        self.next_turn = LaterCalls(reactor, 0.0, self.factory.thread)
        #: The relayed requests that full queues have rejected.
        self.full_queues = FullQueues(self)
        self._planned = PlannedCommands(self)
        #: The method `execute`, also while something else takes its place.
        self.execute_in_python = self.execute
        #: Takes the place of `execute`, and calls it for what is not a plain command; None without the C extension.
        self.executor: Any = None
        if fast is not None:
            seconds, cancel = reactor.seconds, self.note_cancel
            self.executor = fast.Executor(
                self.execute, self.commands, self.destinations, seconds, self._limit, cancel, DEFAULT, converted
            )
            self.execute = self.executor  # type: ignore[method-assign]
        self._shutdown = Shutdown(reactor, self.factory, recovery, self.replica_wait, self.retries)

    def __repr__(self) -> str:
        waiting = sum(map(len, self.recovery.queues()))
        return f"<Router {self.topology!r} {self.factory!r} waiting={waiting}>"

    def _announcer(self, emit: Callable[[Event], None]) -> Callable[[Event], None]:
        listeners = self.topology_listeners

        def announce(event: Event) -> None:
            if isinstance(event, TopologyUpdated):
                for listener in listeners:
                    listener(event)
            emit(event)

        return announce

    def snapshot(self) -> Statistics:
        """Return a copy of all counters."""
        total = self.factory.snapshot()
        total.pending += sum(map(len, self.recovery.queues()))
        return total

    @property
    def topology(self) -> Topology:
        """The current slot map."""
        return self.recovery.slot_map.topology

    # ---- commands

    def execute(
        self,
        args: Sequence[Arg],
        convert: Convert | None = None,
        timeout: float | None = DEFAULT,
        repeatable: bool = False,
        terms: Terms | None = None,
        make: Callable[..., Call] = Call,
    ) -> Deferred[Any]:
        """Send a command to the node of its keys, or to the nodes of its request policy.

        Args:
            args: The name of the command and its arguments.
            convert: Converts the reply; None returns the reply unchanged.
            timeout: The seconds that the command may take, over all attempts.  None means no limit, DEFAULT the option.
            repeatable: Whether the command may be sent again if its reply is lost.
            terms: How to treat the command; None for a new command of the caller.  A new command that fails at once
                fails in a later turn of the reactor.
            make: Makes the call of a command for one node.

        Returns:
            A Deferred that fires with the reply.  It fails with any ValkeyError, with TypeError or ValueError for a
            wrong argument, and with CancelledError if the caller cancels it.
        """
        try:
            if self.closed and (terms is None or not terms.admitted):
                raise ClientClosed(self.closed_because)
            command = self.commands[args[0]]
            if not command.keyed or len(args) < 2:
                terms = terms or self._terms
                done = self._planned.execute(command.resolve(args), args, timeout, repeatable, terms, make)
                return done if convert is None else done.addCallback(converted, convert)
            slot, payload = pack_keyed(command.wire_name, args)
            now: float = self._seconds()
            deadline = now + self._limit if timeout is DEFAULT else inf if timeout is None else now + timeout
            if make is Call and PLAIN and not Deferred.debug:
                # What Deferred and Call do in their methods __init__, in a third of the time.
                call = _new(Call)
                call._callbacks = []
                call._canceller = self.note_cancel
                call.payload = payload
                call.command = command
                call.target = slot
                call.since = now
                call.deadline = deadline
                call.repeatable = repeatable or command.repeatable
                call.history = None
            else:
                call = make(payload, command, slot, now, deadline, repeatable or command.repeatable, self.note_cancel)
            self.destinations[slot].send(call)
        except WrongThread:
            raise
        except Exception as error:
            # A wrong argument or a full queue.  The caller gets every error through the Deferred.
            failed = failure(_explained(error, args))
            return failed if terms is not None and terms.admitted else self.next_turn.postponed(failed)
        return call if convert is None else call.addCallback(converted, convert)

    def observe(self, listener: CommandListener) -> None:
        """Call a function with each command of the application that has ended."""
        if self.observation is None:
            self.observation = Observation(self)
            # From now on these are used instead of the methods.
            self._execute_by(self.observation.execute)
            self.execute_on = self.observation.execute_on  # type: ignore[method-assign]
        self.observation.listeners = [*self.observation.listeners, listener]

    def stop_observing(self, listener: CommandListener) -> None:
        """Stop calling a function.

        Raises:
            ValueError: It is not called.
        """
        listeners = list(self.observation.listeners) if self.observation is not None else []
        listeners.remove(listener)
        if self.observation is not None:
            self.observation.listeners = listeners
            if not listeners:
                self.observation = None
                self._execute_by(self.execute_in_python)
                del self.execute_on

    def _execute_by(self, execute: Callable[..., Deferred[Any]]) -> None:
        """Let another function send the commands."""
        if self.executor is not None:
            self.executor.python, self.executor.observer = execute, self.observation
        else:
            self.execute = execute  # type: ignore[method-assign]

    def _reject(self, because: str) -> None:
        """Send no new commands."""
        self.closed = self.recovery.closed = True
        self.closed_because = because
        if self.executor is not None:
            # `execute` raises the error.
            self.executor.off = True

    def send(self, request: _R) -> _R:
        """Send a new request and return it.  If it cannot be sent, the request fails."""
        return self.give(request, lambda: self.route(request))

    def give(self, request: _R, give: Callable[[], object]) -> _R:
        """Call a function that sends a new request, and return the request.  If ``give`` raises, the request fails."""
        try:
            if self.closed:
                raise ClientClosed(self.closed_because)
            give()
        except WrongThread:
            raise
        except ValkeyError as error:
            self.next_turn.add(partial(request.fail, error))
        return request

    def route(self, request: _R) -> _R:
        """Send a request to the node that its target has now, and return it.

        Args:
            request: The request.

        Raises:
            TooManyPending: The queue of the node is full.
        """
        request.give_to(self.recovery.slot_map.destination_of(request.target))
        return request

    def execute_on(self, where: Node | Address | str, args: Sequence[Arg], timeout: float | None) -> Deferred[Any]:
        """Send a command to one node.  It is not redirected and not repeated.

        Args:
            where: The node, or its address.
            args: The name of the command and its arguments.
            timeout: The seconds that the command may take.  None means no limit, DEFAULT the option.

        Returns:
            A Deferred that fires with the reply.  It fails as that of `execute`, and with ConnectFailed if the node
            cannot be reached.
        """
        try:
            if self.closed:
                raise ClientClosed(self.closed_because)
            address = self.recovery.slot_map.address_of(where)
            command = self.commands[args[0]].resolve(args)
            command.check_allowed(args)
            node = self.factory.node_at(address)
            return self._planned.execute_on(node, command, args, timeout)
        except WrongThread:
            raise
        except Exception as error:
            return self.next_turn.postponed(failure(_explained(error, args)))

    async def may_be_asked(self, node: Node, teller: Node) -> bool:
        """Tell whether the client may log in to a node that only one other node has listed.

        Args:
            node: The node to log in to.
            teller: The node that listed it.
        """
        check = self.recovery.redirect_check
        address, sender = node.address, teller.address
        if address is None or sender is None or check.allows(address):
            return address is not None
        return await check.confirm(address, self.factory.node_at(sender))

    def connection_of(self, where: Node | Address | str) -> RESPProtocol | None:
        """Return the connection that `execute_on` uses now; None if there is none."""
        return self.factory.node_at(self.recovery.slot_map.address_of(where)).protocol

    def deadline_of(self, timeout: float | None) -> float:
        """Return the deadline of a command that is issued now, as of ``reactor.seconds()``."""
        now: float = self.clock.seconds()
        return now + self._limit if timeout is DEFAULT else inf if timeout is None else now + timeout

    def delegate(self, command: Command, deferred: Deferred[Any]) -> DelegatedCall:
        """Make a call that gets the result of a Deferred.

        ``close()`` of the client waits for it, and ``abort()`` cancels it.

        Args:
            command: The command, for error texts.
            deferred: The Deferred.

        Returns:
            The call.

        Raises:
            WrongThread: This is not the thread of the reactor.
        """
        self.factory.thread.check()
        call = DelegatedCall(b"", command, self.clock.seconds(), inf, False, self.note_cancel)
        self._shutdown.watch(call)
        call.follow(deferred)
        return call

    def _primary_nodes(self) -> list[NodeConnection]:
        return [self.factory.node_at(node.address) for node in self.topology.primaries if node.address is not None]

    def _unconfirmed_nodes(self) -> list[NodeConnection]:
        return [node for node in self.factory.nodes.values() if node.has_unconfirmed]

    def _start_unrouted(self, call: UnroutedCall) -> None:
        timeout = time_left(self.clock.seconds(), call.deadline)
        call.follow(self.execute(call.args, None, timeout, call.repeatable, Terms(call.split_keys, True)))

    def refresh(self) -> Deferred[None]:
        """Fetch the slot map now.

        Returns:
            A Deferred that fires with None when the client uses the new map.  It fails with ClusterUnavailable,
            TopologyError or ClientClosed.

        Raises:
            WrongThread: This is not the thread of the reactor.
        """
        self.factory.thread.check()
        refreshed = self.recovery.refresher.refresh()
        return self.next_turn.postponed(refreshed)

    def _cancelled(self, deferred: Deferred[Any]) -> None:
        """The canceller of all commands: queues skip the cancelled request."""
        self.factory.waits.cancels.note(deferred)
        self._shutdown.cancelled()

    # ---- the end

    @property
    def connected(self) -> bool:
        """Whether there is an open connection."""
        return self.factory.connected

    def forked(self) -> None:
        """In a forked child process: reject all commands if there are connections, because the parent uses them."""
        if self.factory.forked():
            self._reject("the connections of this client belong to the parent process; make a new client")
            self.recovery.refresher.stop()

    def close(self) -> Deferred[None]:
        """Reject new commands, wait for the pending ones, then close all connections.

        Returns:
            A Deferred that fires with None when all connections are closed.
        """
        if self.factory.is_copy:
            return succeed(None)
        self._reject(self.closed_because)
        return self._shutdown.close()

    def abort(self) -> Deferred[None]:
        """Fail all pending commands with ClientClosed, and close all connections at once.

        Returns:
            A Deferred that fires with None when all connections are closed.
        """
        if self.factory.is_copy:
            return succeed(None)
        self._reject(self.closed_because)
        return self._shutdown.abort()


def _explained(error: Exception, args: Sequence[Arg]) -> Exception:
    """Return a better error for a call that cannot be sent, or ``error`` itself."""
    if not args:
        return TypeError("the command is empty; give its name and its arguments")
    if args[0].__hash__ is None:
        return TypeError(f"the name of a command must be str or bytes, not {type(args[0]).__name__}")
    return error

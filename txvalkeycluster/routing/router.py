"""Router: which node a command goes to.  What becomes of one that fails is decided in `recovery`.

The hot path is `execute`: one look-up finds the command, one list index finds what takes it.  That is the connection of
the slot's owner, or the queue where commands wait for an owner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import Any, NamedTuple, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from ..address import Address
from ..commands import Command
from ..commands.converters import Convert, converted
from ..commands.encoder import Arg, pack, pack_keyed
from ..connection.factory import ClusterFactory
from ..connection.forks import in_forked_children
from ..connection.node import NodeConnection
from ..connection.protocol import RESPProtocol
from ..errors import ClientClosed, RoutingError, ValkeyError
from ..events import Event
from ..options import DEFAULT, Options
from ..requests.delegated import DelegatedCall, UnroutedCall
from ..requests.exclusive import BlockingCall, ExclusiveCall
from ..requests.later_calls import LaterCalls, failure
from ..requests.request import Call, Request
from ..requests.retry_queue import RetryQueue
from ..requests.target import THIS_NODE, Target
from ..statistics import Statistics
from ..topology.model import Node, Topology
from .fanout import send_apart, send_parts, send_to_all
from .plan import Scope, plan_command
from .recovery import Recovery
from .replica_wait import ReplicaWait
from .shutdown import Shutdown

_R = TypeVar("_R", bound=Request)


class Terms(NamedTuple):
    """What holds for a command beside its arguments."""

    #: Whether its keys may be in several slots, where its policy allows for that.
    split_keys: bool
    #: Whether it was taken before the client was closed, by something that deals itself with what fails at once.
    admitted: bool = False


class Router:
    """Routes the commands of one client."""

    def __init__(self, reactor: IReactorTime, options: Options, emit: Callable[[Event], None]) -> None:
        self.statistics = Statistics()
        self.max_pending = options.max_pending
        #: What the commands mean.
        self.commands = options.commands
        self.clock = reactor
        self._seconds = reactor.seconds
        self._limit = inf if options.timeout is None else options.timeout
        # One bound method for all commands: a new one for each would cost 0.1 us.
        self.note_cancel = self._cancelled
        self._options = options
        # Whether this is a forked child's copy.
        self._is_copy = False
        self._terms = Terms(options.split_keys)
        #: Of what a pipeline was given.
        self.admitted = Terms(options.split_keys, True)
        self._factory = ClusterFactory(reactor, options)
        #: Whether no new commands are taken, and why.
        self.closed = False
        self.closed_because = "the client is closed"
        in_forked_children(self, Router.forked)
        self._replica_wait = ReplicaWait(
            reactor,
            options,
            self._primary_nodes,
            self._unconfirmed_nodes,
            lambda node, error: recovery.noticed(node, error),
        )
        self._recovery = recovery = Recovery(
            reactor, options, self._factory, self.statistics, emit, self._start_unrouted, self._replica_wait.writes_lost
        )
        self._factory.listener = recovery
        #: By slot, what takes the requests for it: its owner, or the queue where they wait for one.
        self.destinations = recovery.slot_map.destinations
        #: For whoever is turned away by full queues.
        self.retries = LaterCalls(reactor, 0.01)
        #: For what fails at once.
        self.next_turn = LaterCalls(reactor, 0.0)
        self._shutdown = Shutdown(reactor, self._factory, recovery, self._replica_wait, self.retries)

    def __repr__(self) -> str:
        waiting = sum(map(len, self._recovery.queues()))
        return f"<Router {self.topology!r} {self._factory!r} waiting={waiting}>"

    @property
    def topology(self) -> Topology:
        """The slot map in force."""
        return self._recovery.slot_map.topology

    # ---- commands

    def execute(
        self,
        args: Sequence[Arg],
        convert: Convert | None = None,
        timeout: float | None = DEFAULT,
        repeatable: bool = False,
        terms: Terms | None = None,
    ) -> Deferred[Any]:
        """Send a command where its keys live, or where its policy says; ``convert`` makes the result of its reply.

        Without ``terms`` it is a new one, and fails in a later turn of the reactor if it fails at once.
        """
        try:
            if self.closed and (terms is None or not terms.admitted):
                raise ClientClosed(self.closed_because)
            command = self.commands[args[0]]
            if not command.keyed or len(args) < 2:
                done = self._execute_otherwise(command.resolve(args), args, timeout, repeatable, terms or self._terms)
                return done if convert is None else done.addCallback(converted, convert)
            slot, payload = pack_keyed(command.wire_name, args)
            now: float = self._seconds()
            deadline = now + self._limit if timeout is DEFAULT else inf if timeout is None else now + timeout
            call = Call(payload, command, slot, now, deadline, repeatable or command.repeatable, self.note_cancel)
            self.destinations[slot].send(call)
        except Exception as error:
            # A wrong argument or a full queue; the caller hears of every failure in one way.
            failed = failure(_explained(error, args))
            return failed if terms is not None and terms.admitted else self.next_turn.postponed(failed)
        return call if convert is None else call.addCallback(converted, convert)

    def _execute_otherwise(
        self, command: Command, args: Sequence[Arg], timeout: float | None, repeatable: bool, terms: Terms
    ) -> Deferred[Any]:
        """Send a command that has not one key in a fixed place."""
        done = self._execute_by_plan(command, args, timeout, repeatable, terms.split_keys)
        return self.next_turn.postponed(done) if done.called and not terms.admitted else done

    def _execute_by_plan(
        self, command: Command, args: Sequence[Arg], timeout: float | None, repeatable: bool, split_keys: bool
    ) -> Deferred[Any]:
        command.check_allowed(args)
        now: float = self.clock.seconds()
        deadline = self.deadline_of(timeout)
        repeatable = repeatable or command.repeatable
        if not command.known:
            return self._put_off(self._recovery.discovery.queue, command, args, now, deadline, repeatable, split_keys)
        plan = plan_command(command, args, split=split_keys)
        if plan.scope in (Scope.SHARDS, Scope.NODES):
            if not self.topology.version:
                return self._put_off(self._recovery.unserved, command, args, now, deadline, repeatable, split_keys)
            return self._send_to_all(command, args, plan.scope, now, deadline)
        if plan.scope is Scope.SLOTS:
            return send_parts(command, args, plan.slots, self.destinations, self.note_cancel, now, deadline, repeatable)
        if command.blocks(args):
            return self.route(self._blocking(command, args, plan.target, _time_left(now, deadline), repeatable))
        return self.route(Call(pack(args), command, plan.target, now, deadline, repeatable, self.note_cancel))

    def send(self, request: _R) -> _R:
        """Send a new request; if it cannot be sent, it fails."""
        return self.give(request, lambda: self.route(request))

    def give(self, request: _R, give: Callable[[], object]) -> _R:
        """Do what sends a new request; if it cannot be sent, it fails."""
        try:
            if self.closed:
                raise ClientClosed(self.closed_because)
            give()
        except ValkeyError as error:
            self.next_turn.add(partial(request.fail, error))
        return request

    def route(self, request: _R) -> _R:
        """Send a request to where its target is now.  Raises TooManyPending."""
        request.give_to(self._recovery.slot_map.destination_of(request.target))
        return request

    def execute_on(self, where: Node | Address | str, args: Sequence[Arg], timeout: float | None) -> Deferred[Any]:
        """Send a command to one node: no redirect, no repetition."""
        try:
            if self.closed:
                raise ClientClosed(self.closed_because)
            address = self._recovery.slot_map.address_of(where)
            command = self.commands[args[0]].resolve(args)
            command.check_allowed(args)
            node = self._factory.node_at(address)
            if command.name in ("WAIT", "WAITAOF"):
                return self._wait_for_replicas(command, args, node)
            deadline = self.deadline_of(timeout)
            call: Call
            if command.blocks(args):
                call = self._blocking(command, args, THIS_NODE, timeout)
            elif command.response_policy == "one_succeeded":
                call = self._apart(command, args, deadline)
            else:
                now = self.clock.seconds()
                call = Call(pack(args), command, THIS_NODE, now, deadline, canceller=self.note_cancel)
            call.give_to(node)
        except Exception as error:
            return self.next_turn.postponed(failure(_explained(error, args)))
        return call

    async def may_be_asked(self, node: Node, teller: Node) -> bool:
        """Whether a node that ``teller`` alone has told of may be logged in to."""
        check = self._recovery.redirect_check
        address, sender = node.address, teller.address
        if address is None or sender is None or check.allows(address):
            return address is not None
        return await check.confirm(address, self._factory.node_at(sender))

    def connection_of(self, where: Node | Address | str) -> RESPProtocol | None:
        """The connection that `execute_on` uses now."""
        return self._factory.node_at(self._recovery.slot_map.address_of(where)).protocol

    def deadline_of(self, timeout: float | None) -> float:
        """When a command ends that is issued now."""
        now: float = self.clock.seconds()
        return now + self._limit if timeout is DEFAULT else inf if timeout is None else now + timeout

    def _blocking(
        self, command: Command, args: Sequence[Arg], target: Target, timeout: float | None, repeatable: bool = False
    ) -> BlockingCall:
        now: float = self.clock.seconds()
        return BlockingCall(tuple(args), command, target, now, timeout, repeatable, self.note_cancel)

    def _apart(self, command: Command, args: Sequence[Arg], deadline: float) -> ExclusiveCall:
        """A command past all that is under way at a node, such as the script that it is to kill."""
        now: float = self.clock.seconds()
        return ExclusiveCall(pack(args), command, THIS_NODE, now, deadline, False, self.note_cancel)

    def _send_to_all(
        self, command: Command, args: Sequence[Arg], scope: Scope, now: float, deadline: float
    ) -> Deferred[Any]:
        """Send a command to every primary or every node."""
        shards = [s for s in self.topology.shards if s.primary is not None and s.primary.address is not None]
        listed = [shard.primary for shard in shards] if scope is Scope.SHARDS else self.topology.nodes
        addresses = [node.address for node in listed if node is not None]
        nodes = [self._factory.node_at(address) for address in addresses if address is not None]
        if not nodes:
            raise RoutingError(f"{command.name} is for several nodes, and none has an address that can be dialled")
        if command.blocks(args):
            return self._wait_for_replicas(command, args)
        if command.response_policy == "one_succeeded":
            # SCRIPT KILL and FUNCTION KILL: on the shared connection they would stand behind what they are to kill.
            calls = [self._apart(command, args, deadline) for _ in nodes]
            return send_apart(command, nodes, calls)
        leads = shards if scope is Scope.SHARDS else None
        return send_to_all(command, pack(args), nodes, leads, self.note_cancel, now, deadline)

    def _wait_for_replicas(
        self, command: Command, args: Sequence[Arg], only: NodeConnection | None = None
    ) -> Deferred[Any]:
        """WAIT and WAITAOF, which have a time of their own and no deadline."""
        return self.delegate(command, Deferred.fromCoroutine(self._replica_wait.wait(tuple(args), only)))

    def delegate(self, command: Command, deferred: Deferred[Any]) -> DelegatedCall:
        """A call that has the result of a Deferred, which the client's close waits for, and its abort cancels."""
        call = DelegatedCall(b"", command, self.clock.seconds(), inf, False, self.note_cancel)
        self._shutdown.watch(call)
        call.follow(deferred)
        return call

    def _primary_nodes(self) -> list[NodeConnection]:
        return [self._factory.node_at(node.address) for node in self.topology.primaries if node.address is not None]

    def _unconfirmed_nodes(self) -> list[NodeConnection]:
        return [node for node in self._factory.nodes.values() if node.has_unconfirmed]

    def _put_off(
        self,
        queue: RetryQueue,
        command: Command,
        args: Sequence[Arg],
        now: float,
        deadline: float,
        repeatable: bool,
        split_keys: bool,
    ) -> Deferred[Any]:
        """Have a command wait that cannot be routed yet, be it for lack of a map or of knowledge about it."""
        call = UnroutedCall(tuple(args), command, now, deadline, repeatable, self.note_cancel, split_keys)
        queue.send(call)
        return call

    def _start_unrouted(self, call: UnroutedCall) -> None:
        timeout = _time_left(self.clock.seconds(), call.deadline)
        call.follow(self.execute(call.args, None, timeout, call.repeatable, Terms(call.split_keys, True)))

    def refresh(self) -> Deferred[None]:
        """Fetch the slot map now."""
        refreshed = self._recovery.refresher.refresh()
        return self.next_turn.postponed(refreshed) if refreshed.called else refreshed

    def _cancelled(self, deferred: Deferred[Any]) -> None:
        """Canceller of every command: its request is passed over, wherever it is."""
        self._factory.cancels.note(deferred)
        self._shutdown.cancelled()

    # ---- the end

    @property
    def connected(self) -> bool:
        """Whether there is an open connection."""
        return self._factory.connected

    def forked(self) -> None:
        """Take no commands in a forked child, if there are connections: they are the parent's."""
        if self._factory.forked():
            self.closed = self._recovery.closed = self._is_copy = True
            self.closed_because = "the client has connections of the process that forked this one: make a new client"
            self._recovery.refresher.stop()

    def close(self) -> Deferred[None]:
        """Take no new commands, wait for the unanswered ones, then close every connection."""
        if self._is_copy:
            return succeed(None)
        self.closed = self._recovery.closed = True
        return self._shutdown.close()

    def abort(self) -> Deferred[None]:
        """End everything at once."""
        if self._is_copy:
            return succeed(None)
        self.closed = self._recovery.closed = True
        return self._shutdown.abort()


def _explained(error: Exception, args: Sequence[Arg]) -> Exception:
    """What is wrong with a call that cannot be sent."""
    if not args:
        return TypeError("there is no command")
    if args[0].__hash__ is None:
        return TypeError(f"the name of a command is text or bytes, not {type(args[0]).__name__}")
    return error


def _time_left(now: float, deadline: float) -> float | None:
    """Seconds to a deadline; None if there is none."""
    return None if deadline == inf else max(deadline - now, 0.0)

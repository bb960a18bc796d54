"""Router: command -> node -> decision -> again, until there is a reply or an error for the caller.

The hot path is `execute`: one look-up finds the command, one list index finds what takes it.  That is the connection of
the slot's owner, or the queue where commands wait for an owner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Any

from twisted.internet.defer import Deferred, fail

from ..address import Address
from ..commands import Command
from ..commands.converters import Convert
from ..commands.encoder import Arg, pack, pack_keyed
from ..connection.factory import ClusterFactory
from ..connection.node import NodeConnection
from ..connection.protocol import RESPProtocol
from ..errors import ClientClosed, RoutingError
from ..events import Event
from ..options import DEFAULT, Options
from ..requests.batch import Batch
from ..requests.request import Call, History, UnroutedCall
from ..requests.retry_queue import LaterCalls, RetryQueue
from ..slots import THIS_NODE
from ..statistics import Statistics
from ..topology.model import Node, Topology
from .fanout import send_apart, send_parts, send_to_all
from .plan import Scope, plan_command
from .recovery import Recovery
from .replica_wait import ReplicaWait
from .shutdown import Shutdown
from .units import UnitRunner


class Router:
    """Routes the commands of one client."""

    def __init__(self, reactor: Any, options: Options, emit: Callable[[Event], None]) -> None:
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
        self._factory = ClusterFactory(reactor, options)
        #: Whether no new commands are taken.
        self.closed = False
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
        self.retries = LaterCalls(reactor)
        #: Takes what goes out as a whole to where its slot is.
        self.units = UnitRunner(reactor, options, recovery, self.note_cancel)
        self._shutdown = Shutdown(reactor, self._factory, recovery, self.units, self._replica_wait, self.retries)

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
        admitted: bool = False,
    ) -> Deferred[Any]:
        """Send a command where its keys live, or where its policy says; ``convert`` makes the result of its reply.

        ``admitted`` commands were taken before the client was closed.
        """
        try:
            if self.closed and not admitted:
                raise ClientClosed("the client is closed")
            command = self.commands[args[0]]
            if not command.keyed or len(args) < 2:
                done = self._execute_otherwise(command.resolve(args), args, timeout, repeatable)
                return done if convert is None else done.addCallback(convert)
            slot, payload = pack_keyed(command.wire_name, args)
            now: float = self._seconds()
            deadline = now + self._limit if timeout is DEFAULT else inf if timeout is None else now + timeout
            call = Call(payload, command, slot, now, deadline, repeatable or command.repeatable, self.note_cancel)
            self.destinations[slot].send(call)
        except Exception:
            # A wrong argument or a full queue; the caller hears of every failure in one way.
            if args and args[0].__hash__ is None:
                return fail(TypeError(f"the name of a command is text or bytes, not {type(args[0]).__name__}"))
            return fail() if args else fail(TypeError("there is no command"))
        return call if convert is None else call.addCallback(convert)

    def _execute_otherwise(
        self, command: Command, args: Sequence[Arg], timeout: float | None, repeatable: bool
    ) -> Deferred[Any]:
        """Send a command that has not one key in a fixed place."""
        command.check_allowed(args)
        now: float = self.clock.seconds()
        deadline = now + self._limit if timeout is DEFAULT else inf if timeout is None else now + timeout
        repeatable = repeatable or command.repeatable
        if not command.known:
            return self._put_off(self._recovery.discovery.queue, command, args, now, deadline, repeatable)
        plan = plan_command(command, args, split=self._options.split_keys)
        if plan.scope in (Scope.SHARDS, Scope.NODES):
            if not self.topology.version:
                return self._put_off(self._recovery.unserved, command, args, now, deadline, repeatable)
            return self._send_to_all(command, args, plan.scope, now, deadline)
        if plan.scope is Scope.SLOTS:
            return send_parts(command, args, plan.slots, self.destinations, self.note_cancel, now, deadline, repeatable)
        if command.blocks(args):
            return self.units.block(command, args, plan.slot, _time_left(now, deadline), repeatable)
        call = Call(pack(args), command, plan.slot, now, deadline, repeatable, self.note_cancel)
        destination = self.destinations[plan.slot] if plan.slot >= 0 else self._recovery.slot_map.any_destination()
        destination.send(call)
        return call

    def execute_on(self, where: Node | Address, args: Sequence[Arg], timeout: float | None = DEFAULT) -> Deferred[Any]:
        """Send a command to one node: no redirect, no repetition."""
        if self.closed:
            return fail(ClientClosed("the client is closed"))
        if not args:
            return fail(TypeError("there is no command"))
        timeout = self.timeout_of(timeout)
        try:
            address = self._recovery.slot_map.address_of(where)
            command = self.commands[args[0]].resolve(args)
            command.check_allowed(args)
            node = self._factory.node_at(address)
            if command.blocks(args) or command.response_policy == "one_succeeded":
                return self._execute_apart(node, command, args, timeout)
            now: float = self.clock.seconds()
            deadline = inf if timeout is None else now + timeout
            call = Call(pack(args), command, THIS_NODE, now, deadline, canceller=self.note_cancel)
            node.send(call)
        except Exception:
            return fail()
        return call

    def connection_of(self, where: Node | Address) -> RESPProtocol | None:
        """The connection that `execute_on` uses now."""
        return self._factory.node_at(self._recovery.slot_map.address_of(where)).protocol

    def send_batch(self, batch: Batch) -> None:
        """Send commands that go as one to what takes the batch's slot.  Raises TooManyPending."""
        self.destinations[batch.slot].send_batch(batch)

    def timeout_of(self, given: float | None) -> float | None:
        """A timeout as it was given, or the option of that name for DEFAULT."""
        return self._options.timeout if given is DEFAULT else given

    def _execute_apart(
        self, node: NodeConnection, command: Command, args: Sequence[Arg], timeout: float | None
    ) -> Deferred[Any]:
        """Send to one node what the shared connection is not for."""
        if command.name in ("WAIT", "WAITAOF"):
            return self._wait_for_replicas(args, node)
        if not command.blocks(args):
            return self.units.apart(node, command, args, timeout)
        return self.units.block_on(node, command, args, timeout)

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
            return self._wait_for_replicas(args)
        if command.response_policy == "one_succeeded":
            # SCRIPT KILL and FUNCTION KILL: on the shared connection they would stand behind what they are to kill.
            timeout = _time_left(now, deadline)
            return send_apart(command, nodes, lambda node: self.units.apart(node, command, args, timeout))
        leads = shards if scope is Scope.SHARDS else None
        return send_to_all(command, pack(args), nodes, leads, self.note_cancel, now, deadline)

    def _wait_for_replicas(self, args: Sequence[Arg], only: NodeConnection | None = None) -> Deferred[Any]:
        """WAIT and WAITAOF, which have a time of their own and no deadline."""
        return self.units.track(self._replica_wait.wait(tuple(args), only), str(args[0]), None, History())

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
    ) -> Deferred[Any]:
        """Have a command wait that cannot be routed yet, be it for lack of a map or of knowledge about it."""
        call = UnroutedCall(tuple(args), command, now, deadline, repeatable, self._unrouted_cancelled)
        queue.send(call)
        return call

    def _start_unrouted(self, call: UnroutedCall) -> None:
        timeout = _time_left(self.clock.seconds(), call.deadline)
        call.begun = self.execute(call.args, None, timeout, call.repeatable, admitted=True)
        call.begun.addCallbacks(call.answer, call.fail)

    def _unrouted_cancelled(self, call: UnroutedCall) -> None:
        if call.begun is not None:
            call.begun.cancel()
        self.note_cancel(call)

    def refresh(self) -> Deferred[None]:
        """Fetch the slot map now."""
        return self._recovery.refresher.refresh()

    def _cancelled(self, deferred: Deferred[Any]) -> None:
        """Canceller of every command: its request is passed over, wherever it is."""
        self._factory.cancels.note(deferred)
        self._shutdown.cancelled()

    # ---- the end

    def close(self) -> Deferred[None]:
        """Take no new commands, wait for the unanswered ones, then close every connection."""
        self.closed = self._recovery.closed = True
        return self._shutdown.close()

    def abort(self) -> Deferred[None]:
        """End everything at once."""
        self.closed = self._recovery.closed = True
        return self._shutdown.abort()


def _time_left(now: float, deadline: float) -> float | None:
    """Seconds to a deadline; None if there is none."""
    return None if deadline == inf else max(deadline - now, 0.0)

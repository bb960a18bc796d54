"""Router: command -> node -> decision -> again, until there is a reply or an error for the caller.

The hot path is `execute`: one look-up finds the command, one list index finds what takes it.  That is the connection of
the slot's owner, or the queue where commands wait for an owner.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from math import inf
from typing import Any

from twisted.internet.defer import Deferred, fail, gatherResults

from ..address import Address
from ..commands import Command, can_fail_after_writing
from ..commands.converters import Convert
from ..commands.encoder import Arg, pack, pack_keyed
from ..connection.factory import ClusterFactory
from ..connection.node import NodeConnection
from ..connection.protocol import RESPProtocol
from ..errors import ClientClosed, ConnectionLost, MaybeExecuted, ReplyError, RoutingError, ValkeyError
from ..events import (
    Event,
    NodeConnected,
    NodeConnectFailed,
    NodeDisconnected,
    Ready,
    TopologyRefreshFailed,
    TopologyUpdated,
)
from ..options import DEFAULT, Options
from ..requests.batch import Batch, ShardSubRequest
from ..requests.drain import Drain
from ..requests.request import Call, History, Request, live, own_slots
from ..requests.retry_queue import LaterCalls, RetryQueue
from ..slots import ANY_NODE, THIS_NODE, UNROUTED
from ..statistics import Statistics
from ..topology.model import Node, Topology
from .command_discovery import CommandDiscovery
from .fanout import send_apart, send_parts, send_to_all
from .plan import Scope, plan_command
from .refresh import TopologyRefresher
from .replica_wait import ReplicaWait
from .retry_policy import (
    Action,
    Decision,
    Refresh,
    decide_on_loss,
    decide_on_reply,
    ends_transaction,
    proves_not_executed,
)
from .slot_map import Draft, SlotMap
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
        self._emit = emit
        self._factory = ClusterFactory(reactor, options)
        self._factory.carrier = self
        #: Whether no new commands are taken.
        self.closed = False
        self._drain: Drain | None = None
        self._unserved = RetryQueue(
            reactor,
            options,
            self._factory.cancels,
            "a slot map that has an owner for the slot",
            self._again,
            ticks=False,
            on_enter=lambda: self._refresher.trigger(),
        )
        self._map = SlotMap(self._factory, self._unserved, options.random)
        #: By slot, what takes the requests for it: its owner, or the queue where they wait for one.
        self.destinations = self._map.destinations
        self._refresher = TopologyRefresher(
            reactor,
            options,
            self._map,
            self._factory,
            self.statistics,
            install=self._install,
            failed=self._refresh_failed,
            needed=self._anything_waits,
        )
        #: For whoever is turned away by full queues.
        self.retries = LaterCalls(reactor)
        #: Takes what goes out as a whole to where its slot is.
        self.units = UnitRunner(reactor, options, self, self.note_cancel)
        self._replica_wait = ReplicaWait(reactor, options, self._primary_nodes, self._unconfirmed_nodes, self.noticed)
        self._discovery = CommandDiscovery(
            reactor, self.commands, self._discovery_queue, lambda: self.node_for(ANY_NODE)
        )
        self._retry_queues: dict[tuple[Address, str], RetryQueue] = {}

    def __repr__(self) -> str:
        waiting = sum(map(len, self._all_queues()))
        return f"<Router {self.topology!r} {self._factory!r} waiting={waiting}>"

    @property
    def topology(self) -> Topology:
        """The slot map in force."""
        return self._map.topology

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
            return self._put_off(self._discovery.queue, command, args, now, deadline, repeatable)
        to = plan_command(command, args, split=self._options.split_keys)
        if to.breadth in (Scope.SHARDS, Scope.NODES):
            if not self.topology.version:
                return self._put_off(self._unserved, command, args, now, deadline, repeatable)
            return self._send_to_all(command, args, to.breadth, now, deadline)
        if to.breadth is Scope.SLOTS:
            return send_parts(command, args, to.slots, self.destinations, self.note_cancel, now, deadline, repeatable)
        if command.blocks(args):
            return self.units.block(command, args, to.slot, _time_left(now, deadline), repeatable)
        call = Call(pack(args), command, to.slot, now, deadline, repeatable, self.note_cancel)
        destination = self.destinations[to.slot] if to.slot >= 0 else self._map.any_destination()
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
            address = self._map.address_of(where)
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
        return self._factory.node_at(self._map.address_of(where)).protocol

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

    # ---- units

    def node_for(self, slot: int) -> NodeConnection | None:
        """The owner of a slot, or for none any node; None, and a refresh is asked for, if there is none."""
        destination = self.destinations[slot] if slot >= 0 else self._map.any_destination()
        if isinstance(destination, NodeConnection):
            return destination
        self._refresher.trigger()
        return None

    def redirect(
        self, node: NodeConnection, error: ReplyError, history: History, command: Command, slot: int
    ) -> tuple[NodeConnection | None, bool]:
        """Where a unit goes after an error reply (None: after a pause, where the map says), and whether after ASKING.

        Raises ``error`` if it is the caller's.
        """
        decision = self._decide(node, error, history.redirects, command, (slot,))
        self._ask_for_refresh(decision.refresh)
        if decision.act is Action.FAIL:
            raise error
        if decision.target is not None:
            return self._redirected(decision, decision.target, history), decision.act is Action.ASK
        if decision.act is Action.REDIAL:
            self._redial(node, node.protocol, history)
        else:
            history.redirects = 0
        return None, False

    def unreachable(self, node: NodeConnection, reason: Exception) -> None:
        """Ask for a map without the node that a unit could not be sent to."""
        self._refresher.trigger()

    def noticed(self, node: NodeConnection, error: ReplyError) -> None:
        """Ask for a new map if an error that goes to its caller shows that the one in force is old."""
        self._ask_for_refresh(self._decide(node, error, 0).refresh)

    def _send_to_all(
        self, command: Command, args: Sequence[Arg], breadth: Scope, now: float, deadline: float
    ) -> Deferred[Any]:
        """Send a command to every primary or every node."""
        shards = [s for s in self.topology.shards if s.primary is not None and s.primary.address is not None]
        listed = [shard.primary for shard in shards] if breadth is Scope.SHARDS else self.topology.nodes
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
        leads = shards if breadth is Scope.SHARDS else None
        return send_to_all(command, pack(args), nodes, leads, self.note_cancel, now, deadline)

    def _wait_for_replicas(self, args: Sequence[Arg], only: NodeConnection | None = None) -> Deferred[Any]:
        """WAIT and WAITAOF, which have a time of their own and no deadline."""
        return self.units.track(self._replica_wait.wait(tuple(args), only), str(args[0]), None, History())

    def writes_lost(self, node: NodeConnection, why: str) -> None:
        """Have the next wait fail."""
        self._replica_wait.writes_lost(node.address, why)

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
        late = _UnroutedCall(tuple(args), command, now, deadline, repeatable, self._late_cancelled)
        queue.send(late)
        return late

    def _start_late(self, late: _UnroutedCall) -> None:
        timeout = _time_left(self.clock.seconds(), late.deadline)
        late.begun = self.execute(late.args, None, timeout, late.repeatable, admitted=True)
        late.begun.addCallbacks(late.answer, late.fail)

    def _late_cancelled(self, late: _UnroutedCall) -> None:
        if late.begun is not None:
            late.begun.cancel()
        self.note_cancel(late)

    def refresh(self) -> Deferred[None]:
        """Fetch the slot map now."""
        return self._refresher.refresh()

    def _discovery_queue(self, on_enter: Callable[[], None]) -> RetryQueue:
        what = "a node to say what the command means"
        cancels = self._factory.cancels
        return RetryQueue(self.clock, self._options, cancels, what, self._again, ticks=False, on_enter=on_enter)

    def _all_queues(self) -> list[RetryQueue]:
        return [self._unserved, self._discovery.queue, *self._retry_queues.values()]

    def _cancelled(self, deferred: Deferred[Any]) -> None:
        """Canceller of every command: its request is passed over, wherever it is."""
        self._factory.cancels.note(deferred)
        if self._drain is not None:
            self._drain.look_again()

    # ---- again

    def _again(self, requests: Iterable[Request]) -> None:
        doomed: list[tuple[Request, Exception]] = []
        for request in requests:
            if request.history is not None:
                request.history.asking = False
            if request.called:
                continue
            try:
                if request.slot >= 0:
                    self.destinations[request.slot].send(request)
                elif isinstance(request, _UnroutedCall):
                    self._start_late(request)
                elif isinstance(request, ShardSubRequest):
                    self._map.primary_of(request.shard).send(request)
                else:
                    self._map.any_destination().send(request)
            except Exception as error:
                doomed.append((request, error))
        # Last, since their callbacks may do anything, even close us.
        for request, reason in doomed:
            request.fail(reason)

    def _wait(self, node: NodeConnection, request: Request, what: str) -> None:
        key = (node.address, what)
        queue = self._retry_queues.get(key)
        if queue is None:
            what = f"{node.address} {what}"
            queue = RetryQueue(self.clock, self._options, self._factory.cancels, what, self._again)
            self._retry_queues[key] = queue
        self.statistics.put_off += 1
        queue.send(request)

    def _ask_for_refresh(self, refresh: Refresh) -> None:
        if refresh is not Refresh.NO:
            self._refresher.trigger(urgent=refresh is Refresh.NOW)

    def _anything_waits(self) -> bool:
        waiting = any(len(queue) for queue in self._all_queues())
        return waiting or any(node.pending for node in self._factory.nodes.values())

    # ---- what nodes tell

    def reply_failed(self, node: NodeConnection, connection: RESPProtocol, request: Request, error: Any) -> None:
        """Carry out the decision on an error reply."""
        if request.slot == THIS_NODE:
            self.noticed(node, error)
            if request.command is not None and request.command.name == "EXEC" and not ends_transaction(error):
                # The transaction is still open, and would swallow what others send.
                connection.abort(ConnectionLost(f"{node.address} refused EXEC: {error}"))
            request.fail(error)
            return
        history = request.failed_attempt(error)
        history.asking = False
        decision = self._decide(node, error, history.redirects, request.command, own_slots(request))
        if decision.act is Action.FAIL:
            self._ask_for_refresh(decision.refresh)
            request.fail(error)
            return
        if request.command is not None and can_fail_after_writing(request.command):
            # A script can forge the server's words.
            history.written = True
        self._carry_out(decision, node, connection, request, history)
        self._ask_for_refresh(decision.refresh)

    def _decide(
        self,
        node: NodeConnection,
        error: ReplyError,
        redirects: int,
        command: Command | None = None,
        slots: Collection[int] = (),
    ) -> Decision:
        """Judge an error reply, to ``command`` if it may be sent again; its keys are in ``slots``."""
        replica = self._map.lists_as_replica(node.address)
        decision = decide_on_reply(error, node.address, from_replica=replica, redirects=redirects)
        if decision.act is Action.FAIL or command is None or not can_fail_after_writing(command):
            return decision
        if not proves_not_executed(error, slots):
            return Decision(Action.FAIL)
        return decision if self._options.repeat_scripts else Decision(Action.FAIL, decision.refresh)

    def _redirected(self, decision: Decision, target: Address, history: History) -> NodeConnection:
        """Count a redirect, and point the slot at a MOVED's target."""
        history.redirects += 1
        node = self._factory.node_at(target)
        node.leads = True
        if decision.act is Action.FOLLOW:
            self.statistics.moved += 1
            self._map.repoint(decision.slot, node)
        else:
            self.statistics.asked += 1
        return node

    def _redial(self, node: NodeConnection, connection: RESPProtocol | None, history: History) -> None:
        history.redirects += 1
        self.statistics.moved += 1
        node.redial(connection)

    def _carry_out(
        self, decision: Decision, node: NodeConnection, connection: RESPProtocol, request: Request, history: History
    ) -> None:
        act = decision.act
        if decision.target is not None:
            target = self._redirected(decision, decision.target, history)
            if act is Action.ASK:
                history.asking = True
                target.ask(request)
            else:
                target.send(request)
        elif act is Action.REDIAL:
            self._redial(node, connection, history)
            self._again([request])
        elif act is Action.REROUTE and request.slot >= 0 and self.destinations[request.slot] is not node:
            self._again([request])
        else:
            history.redirects = 0
            self._wait(node, request, f"to answer otherwise than {history.last.partition(' ')[0]}")

    def lost(self, node: NodeConnection, unsent: list[Request], sent: list[Request], reason: Exception) -> None:
        """Send again what is safe to send again, then fail the rest."""
        self._refresher.trigger()
        doomed: list[tuple[Request, bool]] = []
        for written, requests in ((True, sent), (False, unsent)):
            for request in requests:
                request.failed_attempt(reason).written |= written
                decision = decide_on_loss(written=written, repeatable=request.repeatable)
                if request.slot == THIS_NODE or decision.act is Action.FAIL or self.closed:
                    doomed.append((request, written))
                else:
                    self.statistics.repeated += written
                    self._again([request])
        for request, written in doomed:
            name = request.command.name if request.command is not None else "a request"
            kind: type[MaybeExecuted] = ClientClosed if isinstance(reason, ClientClosed) else ConnectionLost
            request.fail_unanswered(kind, f"{name} lost its reply: {reason}", written=written, cause=reason)

    def dial_failed(self, node: NodeConnection, stranded: list[Request], reason: ValkeyError) -> None:
        """Ask for a fresh map; what was asked of this node alone fails, what need not wait for it goes back."""
        self._refresher.trigger()
        for request in stranded:
            if request.slot != THIS_NODE:
                request.failed_attempt(reason)
                self._wait(node, request, "to be reachable, or a way around it")
        for request in stranded:
            if request.slot == THIS_NODE:
                request.fail(reason)
        self._emit(NodeConnectFailed(node.address, reason))

    def connected(self, node: NodeConnection) -> None:
        """Tell the listeners."""
        self.statistics.connections += 1
        self._emit(NodeConnected(node.address))

    def disconnected(self, node: NodeConnection, reason: Exception, clean: bool) -> None:
        """Tell the listeners."""
        self._emit(NodeDisconnected(node.address, reason, clean))

    # ---- the map

    def _install(self, draft: Draft | None) -> None:
        """Put a map in force, if it is another, and have everything tried again that one may help."""
        previous = self.topology
        retries: list[Request] = []
        gone: list[NodeConnection] = []
        if draft is not None:
            retries, gone = self._map.install(draft)
            queues, self._retry_queues = self._retry_queues, {}
            for queue in queues.values():
                retries += queue.take()
        self._unserved.detail = ""
        retries += self._unserved.take()
        self._again(retries)
        for left in gone:
            left.close()
        self._discovery.ask()
        if self.topology is not previous:
            self._emit(TopologyUpdated(self.topology, previous if previous.version else None))
            if not previous.version:
                self._emit(Ready(self.topology))

    def _refresh_failed(self, reason: Exception) -> None:
        self._unserved.detail = str(reason)
        self._emit(TopologyRefreshFailed(reason))

    # ---- the end

    def close(self) -> Deferred[None]:
        """Take no new commands, wait for the unanswered ones, then close every connection."""
        self.closed = True
        self._drain = Drain(self.clock, self._everything())
        self._replica_wait.closed = True
        units = self.units.close()
        self._factory.unblock()
        ended: Deferred[Any] = gatherResults([self._drain.finished, units])
        self.retries.call_now()
        return ended.addCallback(lambda _: self._shut_when_all_is_said())

    def _shut_when_all_is_said(self) -> Deferred[None]:
        """Close every connection, once there is nothing any more; what has left a batch meanwhile has yet to end."""
        left = self._everything()
        if not left:
            return self._shut()
        self._drain = Drain(self.clock, left)
        return self._drain.finished.addCallback(lambda _: self._shut_when_all_is_said())

    def abort(self) -> Deferred[None]:
        """End everything at once."""
        self.closed = True
        self.units.abort()
        waiting = self._discovery.close()
        for queue in self._all_queues():
            waiting += queue.take()
        self._refresher.close()
        more, gone = self._factory.abort(ClientClosed("the client was aborted"))
        for request in live([*waiting, *more]):
            request.fail_unanswered(ClientClosed, "the client was aborted")
        if self._drain is not None:
            self._drain.give_up()
        self.retries.call_now()
        return gone

    def _shut(self) -> Deferred[None]:
        self._refresher.close()
        self._discovery.close()
        for queue in self._all_queues():
            # What is left there was cancelled.
            queue.take()
        self.retries.call_now()
        return self._factory.close()

    def _everything(self) -> list[Request]:
        """Every request of a caller who waits for it, wherever it is."""
        found = self._factory.everything()
        for queue in self._all_queues():
            found += queue.everything()
        return [request for request in live(found) if request.command is not None]


def _time_left(now: float, deadline: float) -> float | None:
    """Seconds to a deadline; None if there is none."""
    return None if deadline == inf else max(deadline - now, 0.0)


class _UnroutedCall(Call):
    """A command that cannot be routed yet: without a map, or without knowing what it means."""

    __slots__ = ("args", "begun")

    def __init__(
        self,
        args: tuple[Arg, ...],
        command: Command,
        now: float,
        deadline: float,
        repeatable: bool,
        canceller: Callable[[Any], None],
    ) -> None:
        super().__init__(pack(args), command, UNROUTED, now, deadline, repeatable, canceller)
        self.args = args
        #: What became of it once it could.
        self.begun: Deferred[Any] | None = None

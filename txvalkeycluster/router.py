"""Router: command -> node -> verdict -> again, until there is a reply or an error for the caller.

The hot path is `execute`: one look-up finds the command, one list index finds what takes it.  That is the connection of
the slot's owner, or the room where commands wait for an owner.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from math import inf
from typing import Any

from twisted.internet.defer import Deferred, fail, gatherResults

from .address import Address
from .closing import Farewell
from .commands import Command, can_fail_after_writing
from .commands.replies import Convert
from .errors import ClientClosed, ConnectionLost, MaybeExecuted, ReplyError, RoutingError, ValkeyError
from .events import (
    Event,
    NodeConnected,
    NodeConnectFailed,
    NodeDisconnected,
    Ready,
    TopologyRefreshFailed,
    TopologyUpdated,
)
from .factory import ClusterFactory
from .fanout import send_apart, send_parts, send_to_all
from .learning import Learner
from .node import NodeConnection
from .options import Options
from .pack import Arg, pack, pack_keyed
from .parts import Batch, ShardPart
from .protocol import RESPProtocol
from .refresh import TopologyRefresher
from .replica_wait import ReplicaWait
from .request import Call, Request, Trail, live, own_slots
from .routes import Breadth, route
from .slotmap import Draft, SlotMap
from .slots import ANY_NODE, THIS_NODE, UNROUTED
from .statistics import Statistics
from .topology import Node, Topology
from .travel import Travel
from .verdict import Act, Refresh, Verdict, ends_transaction, judge_loss, judge_reply, proves_not_executed
from .waiting import Retries, WaitingRoom

#: In the place of a timeout: the option of that name.
USUAL: Any = object()


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
        self._farewell: Farewell | None = None
        self._unserved = WaitingRoom(
            reactor,
            options,
            self._factory.cancels,
            "a slot map that has an owner for the slot",
            self._again,
            ticks=False,
            on_enter=lambda: self._refresher.trigger(),
        )
        self._map = SlotMap(self._factory, self._unserved, options.random)
        #: By slot, what takes the requests for it: its owner, or the room where they wait for one.
        self.takers = self._map.takers
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
        self.retries = Retries(reactor)
        #: Takes what goes out as a whole to where its slot is.
        self.travel = Travel(reactor, options, self, self.note_cancel)
        self._replica_wait = ReplicaWait(reactor, options, self._primary_nodes, self._unconfirmed_nodes, self.noticed)
        self._learner = Learner(reactor, self.commands, self._learners_room, lambda: self.node_for(ANY_NODE))
        self._rooms: dict[tuple[Address, str], WaitingRoom] = {}

    def __repr__(self) -> str:
        waiting = sum(map(len, self._all_rooms()))
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
        timeout: float | None = USUAL,
        repeatable: bool = False,
    ) -> Deferred[Any]:
        """Send a command where its keys live, or where its policy says; ``convert`` makes the result of its reply."""
        try:
            command = self.commands[args[0]]
            if not command.keyed or len(args) < 2:
                done = self._execute_otherwise(command.resolve(args), args, timeout, repeatable)
                return done if convert is None else done.addCallback(convert)
            slot, payload = pack_keyed(command.wire_name, args)
            now: float = self._seconds()
            deadline = now + self._limit if timeout is USUAL else inf if timeout is None else now + timeout
            call = Call(payload, command, slot, now, deadline, repeatable or command.repeatable, self.note_cancel)
            self.takers[slot].send(call)
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
        deadline = now + self._limit if timeout is USUAL else inf if timeout is None else now + timeout
        repeatable = repeatable or command.repeatable
        if not command.known:
            return self._put_off(self._learner.room, command, args, now, deadline, repeatable)
        to = route(command, args, split=self._options.split_keys)
        if to.breadth in (Breadth.SHARDS, Breadth.NODES):
            if not self.topology.version:
                return self._put_off(self._unserved, command, args, now, deadline, repeatable)
            return self._send_to_all(command, args, to.breadth, now, deadline)
        if to.breadth is Breadth.SLOTS:
            return send_parts(command, args, to.slots, self.takers, self.note_cancel, now, deadline, repeatable)
        if command.blocks(args):
            return self.travel.block(command, args, to.slot, _time_left(now, deadline), repeatable)
        call = Call(pack(args), command, to.slot, now, deadline, repeatable, self.note_cancel)
        taker = self.takers[to.slot] if to.slot >= 0 else self._map.any_taker()
        taker.send(call)
        return call

    def execute_on(self, where: Node | Address, args: Sequence[Arg], timeout: float | None = USUAL) -> Deferred[Any]:
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
        self.takers[batch.slot].send_batch(batch)

    def timeout_of(self, given: float | None) -> float | None:
        """A timeout as it was given, or the option of that name for USUAL."""
        return self._options.timeout if given is USUAL else given

    def _execute_apart(
        self, node: NodeConnection, command: Command, args: Sequence[Arg], timeout: float | None
    ) -> Deferred[Any]:
        """Send to one node what the shared connection is not for."""
        if command.name in ("WAIT", "WAITAOF"):
            return self._wait_for_replicas(args, node)
        if not command.blocks(args):
            return self.travel.apart(node, command, args, timeout)
        return self.travel.block_on(node, command, args, timeout)

    # ---- units

    def node_for(self, slot: int) -> NodeConnection | None:
        """The owner of a slot, or for none any node; None, and a refresh is asked for, if there is none."""
        taker = self.takers[slot] if slot >= 0 else self._map.any_taker()
        if isinstance(taker, NodeConnection):
            return taker
        self._refresher.trigger()
        return None

    def redirect(
        self, node: NodeConnection, error: ReplyError, trail: Trail, command: Command, slot: int
    ) -> tuple[NodeConnection | None, bool]:
        """Where a unit goes after an error reply (None: after a pause, where the map says), and whether after ASKING.

        Raises ``error`` if it is the caller's.
        """
        verdict = self._judge(node, error, trail.redirects, command, (slot,))
        self._ask_for_refresh(verdict.refresh)
        if verdict.act is Act.FAIL:
            raise error
        if verdict.target is not None:
            return self._redirected(verdict, verdict.target, trail), verdict.act is Act.ASK
        if verdict.act is Act.REDIAL:
            self._redial(node, node.protocol, trail)
        else:
            trail.redirects = 0
        return None, False

    def unreachable(self, node: NodeConnection, reason: Exception) -> None:
        """Ask for a map without the node that a unit could not be sent to."""
        self._refresher.trigger()

    def noticed(self, node: NodeConnection, error: ReplyError) -> None:
        """Ask for a new map if an error that goes to its caller shows that the one in force is old."""
        self._ask_for_refresh(self._judge(node, error, 0).refresh)

    def _send_to_all(
        self, command: Command, args: Sequence[Arg], breadth: Breadth, now: float, deadline: float
    ) -> Deferred[Any]:
        """Send a command to every primary or every node."""
        shards = [s for s in self.topology.shards if s.primary is not None and s.primary.address is not None]
        listed = [shard.primary for shard in shards] if breadth is Breadth.SHARDS else self.topology.nodes
        addresses = [node.address for node in listed if node is not None]
        nodes = [self._factory.node_at(address) for address in addresses if address is not None]
        if not nodes:
            raise RoutingError(f"{command.name} is for several nodes, and none has an address that can be dialled")
        if command.blocks(args):
            return self._wait_for_replicas(args)
        if command.response_policy == "one_succeeded":
            # SCRIPT KILL and FUNCTION KILL: on the shared connection they would stand behind what they are to kill.
            timeout = _time_left(now, deadline)
            return send_apart(command, nodes, lambda node: self.travel.apart(node, command, args, timeout))
        leads = shards if breadth is Breadth.SHARDS else None
        return send_to_all(command, pack(args), nodes, leads, self.note_cancel, now, deadline)

    def _wait_for_replicas(self, args: Sequence[Arg], only: NodeConnection | None = None) -> Deferred[Any]:
        """WAIT and WAITAOF, which have a time of their own and no deadline."""
        return self.travel.track(self._replica_wait.wait(tuple(args), only), str(args[0]), None, Trail())

    def writes_lost(self, node: NodeConnection, why: str) -> None:
        """Have the next wait fail."""
        self._replica_wait.writes_lost(node.address, why)

    def _primary_nodes(self) -> list[NodeConnection]:
        return [self._factory.node_at(node.address) for node in self.topology.primaries if node.address is not None]

    def _unconfirmed_nodes(self) -> list[NodeConnection]:
        return [node for node in self._factory.nodes.values() if node.has_unconfirmed]

    def _put_off(
        self,
        room: WaitingRoom,
        command: Command,
        args: Sequence[Arg],
        now: float,
        deadline: float,
        repeatable: bool,
    ) -> Deferred[Any]:
        """Have a command wait that cannot be routed yet, be it for lack of a map or of knowledge about it."""
        late = _Late(tuple(args), command, now, deadline, repeatable, self._late_cancelled)
        room.send(late)
        return late

    def _start_late(self, late: _Late) -> None:
        timeout = _time_left(self.clock.seconds(), late.deadline)
        late.begun = Router.execute(self, late.args, None, timeout, late.repeatable)
        late.begun.addCallbacks(late.answer, late.fail)

    def _late_cancelled(self, late: _Late) -> None:
        if late.begun is not None:
            late.begun.cancel()
        self.note_cancel(late)

    def refresh(self) -> Deferred[None]:
        """Fetch the slot map now."""
        return self._refresher.refresh()

    def _learners_room(self, on_enter: Callable[[], None]) -> WaitingRoom:
        what = "a node to say what the command means"
        cancels = self._factory.cancels
        return WaitingRoom(self.clock, self._options, cancels, what, self._again, ticks=False, on_enter=on_enter)

    def _all_rooms(self) -> list[WaitingRoom]:
        return [self._unserved, self._learner.room, *self._rooms.values()]

    def _cancelled(self, deferred: Deferred[Any]) -> None:
        """Canceller of every command: its request is passed over, wherever it is."""
        self._factory.cancels.note(deferred)
        if self._farewell is not None:
            self._farewell.look_again()

    # ---- again

    def _again(self, requests: Iterable[Request]) -> None:
        doomed: list[tuple[Request, Exception]] = []
        for request in requests:
            if request.trail is not None:
                request.trail.asking = False
            if request.called:
                continue
            try:
                if request.slot >= 0:
                    self.takers[request.slot].send(request)
                elif isinstance(request, _Late):
                    self._start_late(request)
                elif isinstance(request, ShardPart):
                    self._map.primary_of(request.shard).send(request)
                else:
                    self._map.any_taker().send(request)
            except Exception as error:
                doomed.append((request, error))
        # Last, since their callbacks may do anything, even close us.
        for request, reason in doomed:
            request.fail(reason)

    def _wait(self, node: NodeConnection, request: Request, what: str) -> None:
        key = (node.address, what)
        room = self._rooms.get(key)
        if room is None:
            what = f"{node.address} {what}"
            room = WaitingRoom(self.clock, self._options, self._factory.cancels, what, self._again)
            self._rooms[key] = room
        self.statistics.put_off += 1
        room.send(request)

    def _ask_for_refresh(self, refresh: Refresh) -> None:
        if refresh is not Refresh.NO:
            self._refresher.trigger(urgent=refresh is Refresh.NOW)

    def _anything_waits(self) -> bool:
        waiting = any(len(room) for room in self._all_rooms())
        return waiting or any(node.pending for node in self._factory.nodes.values())

    # ---- what nodes tell

    def reply_failed(self, node: NodeConnection, connection: RESPProtocol, request: Request, error: Any) -> None:
        """Carry out the verdict on an error reply."""
        if request.slot == THIS_NODE:
            self.noticed(node, error)
            if request.command is not None and request.command.name == "EXEC" and not ends_transaction(error):
                # The transaction is still open, and would swallow what others send.
                connection.abort(ConnectionLost(f"{node.address} refused EXEC: {error}"))
            request.fail(error)
            return
        trail = request.failed_attempt(error)
        trail.asking = False
        verdict = self._judge(node, error, trail.redirects, request.command, own_slots(request))
        if verdict.act is Act.FAIL:
            self._ask_for_refresh(verdict.refresh)
            request.fail(error)
            return
        if request.command is not None and can_fail_after_writing(request.command):
            # A script can forge the server's words.
            trail.written = True
        self._carry_out(verdict, node, connection, request, trail)
        self._ask_for_refresh(verdict.refresh)

    def _judge(
        self,
        node: NodeConnection,
        error: ReplyError,
        redirects: int,
        command: Command | None = None,
        slots: Collection[int] = (),
    ) -> Verdict:
        """Judge an error reply, to ``command`` if it may be sent again; its keys are in ``slots``."""
        replica = self._map.lists_as_replica(node.address)
        verdict = judge_reply(error, node.address, from_replica=replica, redirects=redirects)
        if verdict.act is Act.FAIL or command is None or not can_fail_after_writing(command):
            return verdict
        if not proves_not_executed(error, slots):
            return Verdict(Act.FAIL)
        return verdict if self._options.repeat_scripts else Verdict(Act.FAIL, verdict.refresh)

    def _redirected(self, verdict: Verdict, target: Address, trail: Trail) -> NodeConnection:
        """Count a redirect, and point the slot at a MOVED's target."""
        trail.redirects += 1
        node = self._factory.node_at(target)
        node.leads = True
        if verdict.act is Act.FOLLOW:
            self.statistics.moved += 1
            self._map.repoint(verdict.slot, node)
        else:
            self.statistics.asked += 1
        return node

    def _redial(self, node: NodeConnection, connection: RESPProtocol | None, trail: Trail) -> None:
        trail.redirects += 1
        self.statistics.moved += 1
        node.redial(connection)

    def _carry_out(
        self, verdict: Verdict, node: NodeConnection, connection: RESPProtocol, request: Request, trail: Trail
    ) -> None:
        act = verdict.act
        if verdict.target is not None:
            target = self._redirected(verdict, verdict.target, trail)
            if act is Act.ASK:
                trail.asking = True
                target.ask(request)
            else:
                target.send(request)
        elif act is Act.REDIAL:
            self._redial(node, connection, trail)
            self._again([request])
        elif act is Act.REROUTE and request.slot >= 0 and self.takers[request.slot] is not node:
            self._again([request])
        else:
            trail.redirects = 0
            self._wait(node, request, f"to answer otherwise than {trail.last.partition(' ')[0]}")

    def lost(self, node: NodeConnection, unsent: list[Request], sent: list[Request], reason: Exception) -> None:
        """Send again what is safe to send again, then fail the rest."""
        self._refresher.trigger()
        doomed: list[tuple[Request, bool]] = []
        for written, requests in ((True, sent), (False, unsent)):
            for request in requests:
                request.failed_attempt(reason).written |= written
                verdict = judge_loss(written=written, repeatable=request.repeatable)
                if request.slot == THIS_NODE or verdict.act is Act.FAIL or self.closed:
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
            rooms, self._rooms = self._rooms, {}
            for room in rooms.values():
                retries += room.take()
        self._unserved.detail = ""
        retries += self._unserved.take()
        self._again(retries)
        for left in gone:
            left.close()
        self._learner.ask()
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
        self._refuse_commands()
        self._farewell = Farewell(self.clock, self._everything())
        self._replica_wait.closed = True
        units = self.travel.close()
        self._factory.unblock()
        ended: Deferred[Any] = gatherResults([self._farewell.finished, units])
        self.retries.call_now()
        return ended.addCallback(lambda _: self._shut_when_all_is_said())

    def _shut_when_all_is_said(self) -> Deferred[None]:
        """Close every connection, once there is nothing any more; what has left a batch meanwhile has yet to end."""
        left = self._everything()
        if not left:
            return self._shut()
        self._farewell = Farewell(self.clock, left)
        return self._farewell.finished.addCallback(lambda _: self._shut_when_all_is_said())

    def abort(self) -> Deferred[None]:
        """End everything at once."""
        self._refuse_commands()
        self.travel.abort()
        waiting = self._learner.close()
        for room in self._all_rooms():
            waiting += room.take()
        self._refresher.close()
        more, gone = self._factory.abort(ClientClosed("the client was aborted"))
        for request in live([*waiting, *more]):
            request.fail_unanswered(ClientClosed, "the client was aborted")
        if self._farewell is not None:
            self._farewell.give_up()
        self.retries.call_now()
        return gone

    def _refuse_commands(self) -> None:
        """From here on: a method is replaced, so that while the client is open no command pays for the question."""
        self.closed = True
        self.execute = lambda *_, **__: fail(ClientClosed("the client is closed"))  # type: ignore[method-assign]

    def _shut(self) -> Deferred[None]:
        self._refresher.close()
        self._learner.close()
        for room in self._all_rooms():
            # What is left there was cancelled.
            room.take()
        self.retries.call_now()
        return self._factory.close()

    def _everything(self) -> list[Request]:
        """Every request of a caller who waits for it, wherever it is."""
        found = self._factory.everything()
        for room in self._all_rooms():
            found += room.everything()
        return [request for request in live(found) if request.command is not None]


def _time_left(now: float, deadline: float) -> float | None:
    """Seconds to a deadline; None if there is none."""
    return None if deadline == inf else max(deadline - now, 0.0)


class _Late(Call):
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

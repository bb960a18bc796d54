"""Router: command -> node -> verdict -> again, until there is a reply or an error for the caller.

The hot path is `execute`: one look-up finds the command, one list index finds what takes it.  That is the connection of
the slot's owner, or the room where commands wait for an owner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from typing import Any

from twisted.internet.defer import Deferred, fail

from .address import Address
from .closing import Farewell
from .commands import Command, CommandTable
from .errors import ClientClosed, ConnectionLost, ReplyError, RoutingError, ValkeyError
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
from .node import NodeConnection, State
from .options import Options
from .pack import Arg, pack
from .protocol import RESPProtocol
from .refresh import TopologyRefresher
from .request import ANY_NODE, THIS_NODE, UNROUTED, Request, live
from .slots import SLOT_COUNT, argument_slot
from .statistics import Statistics
from .topology import Node, Shard, Topology
from .verdict import Act, Refresh, Verdict, judge_loss, judge_reply
from .waiting import WaitingRoom

# Gives every name a command of which only the name is known.
_NO_COMMANDS = CommandTable([])


class Router:
    """Routes the commands of one client."""

    def __init__(self, reactor: Any, options: Options, emit: Callable[[Event], None]) -> None:
        self.topology = Topology(0, ())
        self.statistics = Statistics()
        self._clock = reactor
        self._options = options
        self._emit = emit
        self._factory = ClusterFactory(reactor, options)
        self._factory.carrier = self
        self._listed: dict[Address, Node] = {}
        self._primaries: list[NodeConnection] = []
        self._closed = False
        self._farewell: Farewell | None = None
        # Whether a MOVED has changed a slot since the map was installed.
        self._repointed = False
        self._refresher = TopologyRefresher(
            reactor,
            options,
            candidates=self._candidates,
            node_at=self._factory.node_at,
            current=lambda: self.topology.shards,
            install=self._install,
            failed=self._refresh_failed,
            needed=self._anything_waits,
            statistics=self.statistics,
        )
        self._unserved = WaitingRoom(
            reactor,
            options,
            self._factory.cancels,
            "a slot map that has an owner for the slot",
            self._again,
            ticks=False,
            on_enter=self._refresher.trigger,
        )
        self._rooms: dict[tuple[Address, str], WaitingRoom] = {}
        self._slots: list[NodeConnection | WaitingRoom] = [self._unserved] * SLOT_COUNT

    def __repr__(self) -> str:
        waiting = len(self._unserved) + sum(map(len, self._rooms.values()))
        return f"<Router {self.topology!r} {self._factory!r} waiting={waiting}>"

    # ---- commands

    def execute(self, args: tuple[Arg, ...], timeout: float | None, repeatable: bool) -> Deferred[Any]:
        """Send a command where its first key lives."""
        if self._closed:
            return fail(ClientClosed("the client is closed"))
        if not args:
            return fail(TypeError("there is no command"))
        commands = self._refresher.commands
        if commands is None:
            return self._execute_later(args, timeout, repeatable)
        try:
            command = commands[args[0]]
            index = command.key_index
            if 0 < index < len(args):
                slot = argument_slot(args[index])
            else:
                command, slot = _route(command, args)
            now: float = self._clock.seconds()
            deferred: Deferred[Any] = Deferred(self._cancelled)
            request = Request(
                pack(args),
                deferred,
                command,
                slot,
                now,
                inf if timeout is None else now + timeout,
                repeatable or command.repeatable,
            )
            if slot >= 0:
                self._slots[slot].send(request)
            else:
                self._any_node().send(request)
        except Exception:
            # A wrong argument or a full queue; the caller hears of every failure in one way.
            return fail()
        return deferred

    def execute_on(self, where: Node | Address, args: tuple[Arg, ...], timeout: float | None) -> Deferred[Any]:
        """Send a command to one node: no redirect, no repetition."""
        if self._closed:
            return fail(ClientClosed("the client is closed"))
        if not args:
            return fail(TypeError("there is no command"))
        try:
            address = self._address_of(where)
            commands = self._refresher.commands
            command = (commands or _NO_COMMANDS)[args[0]].resolve(args)
            command.check_shareable(args)
            now: float = self._clock.seconds()
            deferred: Deferred[Any] = Deferred(self._cancelled)
            deadline = inf if timeout is None else now + timeout
            self._factory.node_at(address).send(Request(pack(args), deferred, command, THIS_NODE, now, deadline))
        except Exception:
            return fail()
        return deferred

    def refresh(self) -> Deferred[None]:
        """Fetch the slot map now."""
        return self._refresher.refresh()

    def _execute_later(self, args: tuple[Arg, ...], timeout: float | None, repeatable: bool) -> Deferred[Any]:
        """Wait for the first map; with it comes what the command means."""
        now = self._clock.seconds()
        deferred: Deferred[Any] = Deferred()
        deadline = inf if timeout is None else now + timeout
        try:
            request = Request(pack(args), deferred, _Unresolved(args), UNROUTED, now, deadline, repeatable)
            self._unserved.send(request)
        except Exception:
            return fail()
        return deferred

    def _resolve(self, request: Request) -> None:
        """Find out what a command means that came before the first map.  Raises RoutingError."""
        commands, early = self._refresher.commands, request.command
        assert commands is not None and isinstance(early, _Unresolved)
        command, request.slot = _route(commands[early.args[0]], early.args)
        request.command = command
        request.repeatable = request.repeatable or command.repeatable

    def _any_node(self) -> NodeConnection | WaitingRoom:
        if not self._primaries:
            return self._unserved
        ready = [node for node in self._primaries if node.state is State.READY]
        return self._options.random.choice(ready or [n for n in self._primaries if not n.failing] or self._primaries)

    def _address_of(self, where: Node | Address) -> Address:
        if isinstance(where, Node):
            known = self.topology.node(where.id) or where
            if known.address is None:
                raise RoutingError(f"node {where.id} has no address that can be dialled")
            return known.address
        return Address(*where)

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
            outcome = request.outcome
            if outcome is None or outcome.called:
                continue
            try:
                if request.slot == UNROUTED:
                    self._resolve(request)
                if request.slot >= 0:
                    self._slots[request.slot].send(request)
                else:
                    self._any_node().send(request)
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
            room = WaitingRoom(self._clock, self._options, self._factory.cancels, what, self._again)
            self._rooms[key] = room
        self.statistics.put_off += 1
        room.send(request)

    def _ask_for_refresh(self, refresh: Refresh) -> None:
        if refresh is not Refresh.NO:
            self._refresher.trigger(urgent=refresh is Refresh.NOW)

    def _anything_waits(self) -> bool:
        return bool(
            len(self._unserved)
            or any(len(room) for room in self._rooms.values())
            or any(node.pending for node in self._factory.nodes.values())
        )

    # ---- what nodes tell

    def reply_failed(self, node: NodeConnection, connection: RESPProtocol, request: Request, error: Any) -> None:
        """Carry out the verdict on an error reply."""
        if request.slot == THIS_NODE:
            request.fail(error)
            return
        trail = request.failed_attempt(error)
        trail.asking = False
        listed = self._listed.get(node.address)
        replica = listed is not None and listed.role == "replica"
        verdict = judge_reply(error, node.address, from_replica=replica, redirects=trail.redirects)
        if verdict.act is Act.FAIL:
            request.fail(error)
            return
        self._redirect(node, connection, request, error, verdict)
        self._ask_for_refresh(verdict.refresh)

    def _redirect(
        self, node: NodeConnection, connection: RESPProtocol, request: Request, error: ReplyError, verdict: Verdict
    ) -> None:
        trail = request.failed_attempt(error) if request.trail is None else request.trail
        act = verdict.act
        if act is Act.FOLLOW and verdict.target is not None:
            trail.redirects += 1
            self.statistics.moved += 1
            target = self._factory.node_at(verdict.target)
            self._slots[verdict.slot] = target
            self._repointed = True
            target.send(request)
        elif act is Act.ASK and verdict.target is not None:
            trail.redirects += 1
            self.statistics.asked += 1
            trail.asking = True
            self._factory.node_at(verdict.target).ask(request)
        elif act is Act.REDIAL:
            trail.redirects += 1
            self.statistics.moved += 1
            node.redial(connection)
            self._again([request])
        elif act is Act.REROUTE and request.slot >= 0 and self._slots[request.slot] is not node:
            self._again([request])
        else:
            trail.redirects = 0
            self._wait(node, request, f"to answer otherwise than {error.code}")

    def lost(self, node: NodeConnection, unsent: list[Request], sent: list[Request], reason: Exception) -> None:
        """Send again what is safe to send again, then fail the rest."""
        self._refresher.trigger()
        doomed: list[tuple[Request, bool]] = []
        for written, requests in ((True, sent), (False, unsent)):
            for request in requests:
                request.failed_attempt(reason).written |= written
                verdict = judge_loss(written=written, repeatable=request.repeatable)
                if request.slot == THIS_NODE or verdict.act is Act.FAIL or self._closed:
                    doomed.append((request, written))
                else:
                    self.statistics.repeated += written
                    self._again([request])
        for request, written in doomed:
            name = request.command.name if request.command is not None else "a request"
            kind = ClientClosed if isinstance(reason, ClientClosed) else ConnectionLost
            error = kind(f"{name} lost its reply: {reason}", maybe_executed=written)
            error.__cause__ = reason
            request.fail(error)

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

    def _candidates(self) -> list[NodeConnection]:
        """Whom to ask for the map: connected nodes, other known nodes, the seeds, and last those that fail."""
        nodes = list(self._factory.nodes.values())
        self._options.random.shuffle(nodes)
        nodes.sort(key=lambda node: node.state is not State.READY)
        seeds = [self._factory.node_at(address) for address in self._options.seeds]
        working = [node for node in nodes if not node.failing]
        return list(dict.fromkeys([*working, *seeds, *nodes]))

    def _install(self, shards: tuple[Shard, ...]) -> None:
        previous = self.topology
        changed = shards != previous.shards
        retries: list[Request] = []
        gone: list[NodeConnection] = []
        if changed:
            self.topology = Topology(previous.version + 1, shards)
        if changed or self._repointed:
            self._repointed = False
            topology = self.topology
            self._listed = {node.address: node for node in topology.nodes if node.address is not None}
            retries, gone = self._factory.install(self._listed)
            slots: list[NodeConnection | WaitingRoom] = [self._unserved] * SLOT_COUNT
            for start, end, node in topology.ranges():
                if node.address is not None:
                    slots[start : end + 1] = [self._factory.node_at(node.address)] * (end + 1 - start)
            self._slots = slots
            self._primaries = [self._factory.node_at(n.address) for n in topology.primaries if n.address is not None]
            rooms, self._rooms = self._rooms, {}
            for room in rooms.values():
                retries += room.take()
        retries += self._unserved.take()
        self._again(retries)
        for left in gone:
            left.close()
        if changed:
            self._emit(TopologyUpdated(self.topology, previous if previous.version else None))
            if not previous.version:
                self._emit(Ready(self.topology))

    def _refresh_failed(self, reason: Exception) -> None:
        self._unserved.detail = str(reason)
        self._emit(TopologyRefreshFailed(reason))

    # ---- the end

    def close(self) -> Deferred[None]:
        """Take no new commands, wait for the unanswered ones, then close every connection."""
        self._closed = True
        self._farewell = Farewell(self._clock, self._everything())
        return self._farewell.finished.addCallback(lambda _: self._shut())

    def abort(self) -> Deferred[None]:
        """End everything at once."""
        self._closed = True
        waiting = self._unserved.take()
        for room in self._rooms.values():
            waiting += room.take()
        self._refresher.close()
        more, gone = self._factory.abort(ClientClosed("the client was aborted"))
        for request in live([*waiting, *more]):
            request.fail(ClientClosed("the client was aborted"))
        return gone

    def _shut(self) -> Deferred[None]:
        self._refresher.close()
        for room in (self._unserved, *self._rooms.values()):
            room.take()
        return self._factory.close()

    def _everything(self) -> list[Request]:
        """Every request that somebody waits for, wherever it is."""
        found = self._unserved.everything() + self._factory.everything()
        for room in self._rooms.values():
            found += room.everything()
        return live(found)


class _Unresolved(Command):
    """Stands for the meaning of a command until a server has told."""

    __slots__ = ("args",)

    def __init__(self, args: tuple[Arg, ...]) -> None:
        super().__init__(_NO_COMMANDS[args[0]].name)
        object.__setattr__(self, "args", args)

    args: tuple[Arg, ...]


def _route(command: Command, args: tuple[Arg, ...]) -> tuple[Command, int]:
    """The slot of a command whose first key has to be looked for, or any node; refuse what cannot be routed."""
    command = command.resolve(args)
    command.check_shareable(args)
    for key in command.keys(args):
        return command, argument_slot(key)
    if command.needs_every_node:
        raise RoutingError(
            f"{command.name} is for {command.request_policy} by the server's word: give it to each with execute_on"
        )
    return command, ANY_NODE

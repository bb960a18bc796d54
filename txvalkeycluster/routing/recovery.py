"""Recovery: it handles the commands that got an error reply or lost their connection.

`retry_policy` decides, and this module acts: a command follows a redirect, is sent again, waits in a retry queue, or
fails.  After each new slot map, the waiting commands are sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from twisted.internet.interfaces import IReactorTime

from ..address import Address
from ..commands import can_fail_after_writing
from ..connection.factory import ClusterFactory
from ..connection.node import NodeConnection
from ..connection.protocol import RESPProtocol
from ..errors import ClientClosed, ConnectionLost, MaybeExecuted, ReplyError, ValkeyError
from ..events import (
    CommandsResumed,
    CommandsWaiting,
    Event,
    LoginFailed,
    LoginRestored,
    NodeConnected,
    NodeConnectFailed,
    NodeDisconnected,
    Ready,
    TLSReloaded,
    TLSReloadFailed,
    TopologyRefreshFailed,
    TopologyRefreshRestored,
    TopologyUpdated,
)
from ..options import Options
from ..requests.delegated import UnroutedCall
from ..requests.history import History
from ..requests.raw_batch import RawReplyError
from ..requests.request import Request, for_each, own_slots
from ..requests.retry_queue import RetryQueue
from ..requests.target import ANY_NODE, THIS_NODE
from ..requests.waits import LongWait
from ..statistics import NodeStatistics, Purpose, Statistics
from .command_discovery import CommandDiscovery
from .redirect_check import RedirectCheck
from .refresh import TopologyRefresher
from .retry_policy import (
    Action,
    Decision,
    Refresh,
    decide_on_loss,
    decide_on_reply,
    proves_not_executed,
)
from .slot_map import Draft, SlotMap

# What a command in a retry queue waits for, by error text or code.  Errors show it after "waiting for host:port".
_WAITED_FOR = {
    "CLUSTERDOWN Hash slot not served": "to serve the slot",
    "LOADING": "to finish loading",
    "TRYAGAIN": "to finish moving the keys of the slot",
    "CLUSTERDOWN": "to report that the cluster is up",
    "MASTERDOWN": "to reach its primary",
    "READONLY": "to be replaced by a primary",
    "MOVED": "to stop redirecting",
    "ASK": "to stop redirecting",
}
_UNREACHABLE = "to become reachable"
# These concern all commands for a node, so the commands can stay in order.  All others may concern only some slots.
_OF_THE_NODE = frozenset([_UNREACHABLE, *(_WAITED_FOR[code] for code in ("LOADING", "CLUSTERDOWN", "MASTERDOWN"))])


class Recovery:
    """The listener of all nodes.  It holds the slot map and all retry queues."""

    def __init__(
        self,
        reactor: IReactorTime,
        options: Options,
        factory: ClusterFactory,
        statistics: Statistics,
        emit: Callable[[Event], None],
        restart: Callable[[UnroutedCall], None],
        writes_lost: Callable[[Address, str], None],
    ) -> None:
        """Make the slot map, the queues, and the parts that ask servers.

        Args:
            reactor: Measures time.
            options: The options of the client.
            factory: Makes the nodes.
            statistics: The counters of the client.
            emit: Called with each event.
            restart: Routes a command again that could not be routed before.
            writes_lost: Called with a node and a reason if writes there can no longer be confirmed.
        """
        #: Whether the client is being closed.  Then no lost command is sent again.
        self.closed = False
        self._refresh_failing = False
        self._reactor = reactor
        self._options = options
        self._factory = factory
        self._statistics = statistics
        self._emit = emit
        self._restart = restart
        self._writes_lost = writes_lost
        #: The commands for slots without a primary.
        self.unserved = self._waits_until_released(
            "a slot map that has a primary for the slot", lambda: self.refresher.trigger()
        )
        #: The current slot map.
        self.slot_map = SlotMap(factory, self.unserved, options.random)
        #: Fetches new slot maps.
        self.refresher = TopologyRefresher(
            reactor,
            options,
            self.slot_map,
            factory,
            statistics,
            install=self._install,
            failed=self._refresh_failed,
            needed=self._anything_waits,
        )
        #: Asks servers about commands that are not in the table.
        self.discovery = CommandDiscovery(
            reactor,
            options.commands,
            lambda on_enter: self._waits_until_released("a node to answer COMMAND INFO about the command", on_enter),
            self._any_node,
        )
        factory.waits.changed = self._waits_changed
        self._retry_queues: dict[tuple[Address, str], RetryQueue] = {}
        #: Asks other nodes about the targets of redirects.
        self.redirect_check = RedirectCheck(
            reactor, options, factory, lambda what: self._waits_until_released(what, lambda: None)
        )

    def queues(self) -> list[RetryQueue]:
        """Return all queues of commands that wait and are not sent yet."""
        held = self.redirect_check.queues.values()
        return [self.unserved, self.discovery.queue, *held, *self._retry_queues.values()]

    def close(self) -> list[Request]:
        """Fetch no more slot maps and ask servers nothing more; return the requests that waited in queues."""
        waiting = self.discovery.close()
        for queue in self.queues():
            waiting += queue.take_all()
        self.refresher.close()
        self.redirect_check.close()
        return waiting

    def _waits_until_released(self, what: str, on_enter: Callable[[], None]) -> RetryQueue:
        return self._queue(what, self._statistics, ticks=False, on_enter=on_enter)

    def _queue(self, what: str, counters: NodeStatistics, **how: Any) -> RetryQueue:
        return RetryQueue(self._reactor, self._options, self._factory.waits, counters, what, self.resend, **how)

    def _any_node(self) -> NodeConnection | None:
        destination = self.slot_map.destination_of(ANY_NODE)
        if isinstance(destination, NodeConnection):
            return destination
        self.refresher.trigger()
        return None

    def noticed(self, node: NodeConnection, error: ReplyError) -> None:
        """Ask for a new slot map if an error reply shows that the current one is old.

        It is called for errors that are passed on to the caller.

        Args:
            node: The node that sent the reply.
            error: The reply.
        """
        self._ask_for_refresh(self._decide(node, error, 0).refresh)

    def give_up(self, request: Request) -> bool:
        """End a request that a server has refused for the moment, if it is in a retry queue.  It gets that refusal.

        Returns:
            Whether it has ended now, and is not sent again.
        """
        history = request.history
        if request.called or history is None or history.last.partition(" ")[0] not in _WAITED_FOR:
            return False
        if not any(request in queue.everything() for queue in self.queues()):
            return False
        text = history.last
        request.fail(RawReplyError(b"-%b\r\n" % text.encode()) if self._options.raw_replies else ReplyError(text))
        return True

    # ---- sending again

    def resend(self, requests: Iterable[Request]) -> None:
        """Send requests to the nodes that the current slot map has for them."""
        for_each(requests, self._resend_one)

    def _resend_one(self, request: Request) -> None:
        if request.history is not None:
            request.history.asking = False
        if request.called:
            return
        if isinstance(request, UnroutedCall):
            self._restart(request)
        else:
            request.give_to(self.slot_map.destination_of(request.target))

    def _wait(self, node: NodeConnection, request: Request, what: str) -> None:
        key = (node.address, what)
        queue = self._retry_queues.get(key)
        if queue is None:
            in_order = what in _OF_THE_NODE
            queue = self._retry_queues[key] = self._queue(f"{node.address} {what}", node.counters, in_order=in_order)
        node.counters.put_off += 1
        queue.send(request)

    def _waits_changed(self, wait: LongWait | None) -> None:
        self._emit(CommandsWaiting(*wait) if wait is not None else CommandsResumed())

    def _ask_for_refresh(self, refresh: Refresh) -> None:
        if refresh is not Refresh.NO:
            self.refresher.trigger(urgent=refresh is Refresh.NOW)

    def _anything_waits(self) -> bool:
        waiting = any(len(queue) for queue in self.queues())
        return waiting or any(node.pending for node in self._factory.nodes.values())

    # ---- the listener of the nodes

    def reply_failed(self, node: NodeConnection, connection: RESPProtocol, request: Request, error: ReplyError) -> None:
        """Handle an error reply as `retry_policy` decides.

        Args:
            node: The node that sent the reply.
            connection: The connection on which it came.
            request: The request that got the reply.
            error: The reply, a ReplyError.
        """
        if request.target is THIS_NODE:
            self.noticed(node, error)
            request.fail(error)
            return
        history = request.failed_attempt(error)
        history.asking = False
        doubtful = can_fail_after_writing(request.command)
        decision = self._decide(node, error, history.redirects, own_slots(request) if doubtful else None)
        if decision.action is Action.FAIL:
            self._ask_for_refresh(decision.refresh)
            request.fail(error)
            return
        if doubtful:
            # A script can return the same text as the server.  So the command may have been executed.
            history.written = True
        self._carry_out(decision, node, connection, request, history)
        self._ask_for_refresh(decision.refresh)

    def _decide(
        self,
        node: NodeConnection,
        error: ReplyError,
        redirects: int,
        slots: Collection[int] | None = None,
    ) -> Decision:
        """Decide on an error reply.  ``slots`` are those of a command that can fail after it has written."""
        replica = self.slot_map.lists_as_replica(node.address)
        decision = decide_on_reply(error, node.address, from_replica=replica, redirects=redirects)
        if decision.action is Action.FAIL or slots is None:
            return decision
        if not proves_not_executed(error, slots):
            return Decision(Action.FAIL)
        return decision if self._options.repeat_scripts else Decision(Action.FAIL, decision.refresh)

    def _redirected(
        self, decision: Decision, sender: NodeConnection, target: Address, history: History
    ) -> NodeConnection:
        """Count a redirect, and after MOVED assign the slot to the target."""
        history.redirects += 1
        node = self._factory.node_at(target)
        node.set_leads(True)
        if decision.action is Action.FOLLOW:
            sender.counters.moved += 1
            self.slot_map.repoint(decision.slot, node)
        else:
            sender.counters.asked += 1
        return node

    def _redial(self, node: NodeConnection, connection: RESPProtocol | None, history: History) -> None:
        history.redirects += 1
        node.counters.moved += 1
        self.slot_map.overtake([node])
        node.redial(connection)

    def _carry_out(
        self, decision: Decision, node: NodeConnection, connection: RESPProtocol, request: Request, history: History
    ) -> None:
        action = decision.action
        if decision.target is not None and not self._factory.has_room_for(decision.target):
            self._wait(node, request, "to stop redirecting to more nodes than max_nodes allows")
        elif decision.target is not None and not self.redirect_check.allows(decision.target):
            if self.redirect_check.denies(decision.target):
                self._wait(node, request, "to stop redirecting to an address that no other node confirms")
            else:
                self.redirect_check.hold(request, decision.target, node)
        elif decision.target is not None:
            target = self._redirected(decision, node, decision.target, history)
            history.asking = action is Action.ASK
            for_each([request], lambda request: request.give_to(target))
        elif action is Action.REDIAL:
            self._redial(node, connection, history)
            self.resend([request])
        elif action is Action.REROUTE and self.slot_map.destination_of(request.target) is not node:
            self.resend([request])
        else:
            history.redirects = 0
            code = history.last.partition(" ")[0]
            what = _WAITED_FOR.get(history.last) or _WAITED_FOR.get(code, f"to stop answering {code}")
            self._wait(node, request, what)

    def lost(self, node: NodeConnection, unsent: Sequence[Request], sent: Sequence[Request], reason: Exception) -> None:
        """Handle the requests of a lost connection: send again those for which that is safe, then fail the others.

        Args:
            node: The node of the connection.
            unsent: The requests that were not written.
            sent: The requests that were written and have no reply.
            reason: Why the connection ended.
        """
        self.refresher.trigger()
        doomed: list[tuple[Request, bool]] = []
        again: list[Request] = []

        def judge(request: Request, written: bool) -> None:
            request.failed_attempt(reason).written |= written
            decision = decide_on_loss(written=written, repeatable=request.repeatable)
            if request.target is THIS_NODE or decision.action is Action.FAIL or self.closed:
                doomed.append((request, written))
            else:
                node.counters.repeated += written
                again.append(request)

        for_each(sent, lambda request: judge(request, True))
        for_each(unsent, lambda request: judge(request, False))
        self.resend(again)
        for request, written in doomed:
            kind: type[MaybeExecuted] = ClientClosed if isinstance(reason, ClientClosed) else ConnectionLost
            request.fail_unanswered(
                kind, f"{request.command.name} got no reply: {reason}", written=written, cause=reason
            )

    def dial_failed(self, node: NodeConnection, stranded: list[Request], reason: ValkeyError, purpose: Purpose) -> None:
        """Handle a failed connection attempt: ask for a new slot map, and move or fail the waiting requests.

        A request for this node only fails.  All others wait in a retry queue, and move with the next slot map.

        Args:
            node: The node.
            stranded: The requests that waited for the connection.
            reason: Why the attempt failed.
            purpose: What the connection is for.
        """
        self.refresher.trigger()
        routed = [request for request in stranded if request.target is not THIS_NODE]
        for request in routed:
            request.failed_attempt(reason)
        for_each(routed, lambda request: self._wait(node, request, _UNREACHABLE))
        for request in stranded:
            if request.target is THIS_NODE:
                request.fail(reason)
        self._emit(NodeConnectFailed(node.address, reason, purpose))

    def writes_lost(self, node: NodeConnection, why: str) -> None:
        """Make the next WAIT fail."""
        self._writes_lost(node.address, why)

    def connected(self, node: NodeConnection, purpose: Purpose) -> None:
        """Emit NodeConnected."""
        self._emit(NodeConnected(node.address, purpose))

    def login_failed(self, node: NodeConnection, reason: Exception) -> None:
        """Emit LoginFailed."""
        self._emit(LoginFailed(node.address, reason))

    def login_restored(self, node: NodeConnection) -> None:
        """Emit LoginRestored."""
        self._emit(LoginRestored(node.address))

    def tls_reloaded(self, error: Exception | None) -> None:
        """Emit TLSReloaded or TLSReloadFailed."""
        self._emit(TLSReloaded() if error is None else TLSReloadFailed(error))

    def disconnected(self, node: NodeConnection, reason: Exception, clean: bool, unanswered: int) -> None:
        """Emit NodeDisconnected."""
        self._emit(NodeDisconnected(node.address, reason, clean, unanswered))

    # ---- the slot map

    def _install(self, draft: Draft | None) -> None:
        """Use a new slot map, and send the waiting commands again.  With None, the map has not changed."""
        previous = self.slot_map.topology
        retries: list[Request] = []
        gone: list[NodeConnection] = []
        if draft is not None:
            retries, gone = self.slot_map.install(draft)
            queues, self._retry_queues = self._retry_queues, {}
            for queue in queues.values():
                retries += queue.take_all()
        else:
            gone = self._factory.drop_unlisted()
            # Remove empty queues: a node can redirect to more and more addresses.
            self._retry_queues = {key: queue for key, queue in self._retry_queues.items() if queue}
        self.unserved.detail = ""
        retries += self.unserved.take_all()
        self.resend(retries)
        for left in gone:
            left.close()
        self.discovery.ask()
        if self._refresh_failing:
            self._refresh_failing = False
            self._emit(TopologyRefreshRestored())
        if self.slot_map.topology is not previous:
            self._emit(TopologyUpdated(self.slot_map.topology, previous if previous.version else None))
            if not previous.version:
                self._emit(Ready(self.slot_map.topology))

    def _refresh_failed(self, reason: Exception) -> None:
        self.unserved.detail = str(reason)
        self._statistics.refreshes_failed += 1
        self._refresh_failing = True
        self._emit(TopologyRefreshFailed(reason))

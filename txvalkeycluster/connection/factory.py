"""ClusterFactory: creates, owns and closes the nodes of a client and their connections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory, connectionDone
from twisted.python.failure import Failure

from ..address import Address
from ..errors import ConnectFailed
from ..options import Options
from ..requests.request import Request
from ..requests.thread_check import ThreadCheck
from ..requests.waits import Waits
from ..statistics import NodeStatistics, Purpose, Statistics
from ..topology.model import Node
from .endpoints import endpoint_maker
from .exclusive_pool import Lease
from .listener import NodeListener
from .node import NodeConnection, State
from .protocol import RESPProtocol
from .raw_protocol import RawProtocol
from .subscriber_protocol import SubscriberProtocol
from .tls import TLSEndpoints
from .write_scheduler import WriteScheduler


class _DialledFactory(Factory):
    """Makes the protocol for one dial to a known address."""

    noisy = False

    def __init__(self, cluster: ClusterFactory, address: Address, purpose: Purpose) -> None:
        self._cluster = cluster
        self._address = address
        self._purpose = purpose
        self._given_up = False

    def buildProtocol(self, addr: IAddress | None) -> RESPProtocol | None:
        return None if self._given_up else self._cluster.make_protocol(self._address, self._purpose)

    def give_up(self, failure: Failure) -> Failure:
        """Refuse a later connection of a dial that failed or was cancelled; not every endpoint supports cancelling."""
        self._given_up = True
        return failure


class ClusterFactory:
    """The nodes of one client, by address, with their connections."""

    def __init__(self, reactor: IReactorTime, options: Options, statistics: Statistics) -> None:
        self.listener: NodeListener
        self.nodes: dict[Address, NodeConnection] = {}
        self._reactor = reactor
        self._options = options
        self._statistics = statistics
        #: Notices a wrong thread.
        self.thread = thread = ThreadCheck(reactor)
        #: Decides when the connections write.
        self.write_scheduler = WriteScheduler(reactor, thread)
        #: What the queues of waiting commands share.
        self.waits = Waits(reactor, self.write_scheduler.cancels, thread)
        #: Makes endpoints for TLS; None without TLS.
        self.tls = TLSEndpoints(reactor, options, self._tls_reloaded) if options.tls else None
        self._endpoint_for = endpoint_maker(reactor, options, self.tls)
        self._open = _Sockets(self._socket_closed)
        self._when_empty: list[Deferred[None]] = []
        #: Whether this factory had connections when the process forked, and this process is the child.
        self.is_copy = False

    def __repr__(self) -> str:
        ready = sum(node.state is State.READY for node in self.nodes.values())
        return f"<ClusterFactory nodes={len(self.nodes)} ready={ready} sockets={len(self._open)}>"

    @property
    def connected(self) -> bool:
        """Whether any socket is open."""
        return bool(self._open)

    def node_at(self, address: Address) -> NodeConnection:
        """Return the node at an address.  An unknown node is added, but not dialled."""
        node = self.nodes.get(address)
        if node is None:
            node = NodeConnection(self._reactor, address, self._options, self.waits, self._dial, self.listener)
            self.nodes[address] = node
        return node

    def candidates(self) -> list[NodeConnection]:
        """Return the nodes to ask for the slot map, in the order in which to ask them.

        Returns:
            Connected nodes first, then other known nodes, then the seeds, then nodes whose last dial failed.
        """
        nodes = list(self.nodes.values())
        self._options.random.shuffle(nodes)
        nodes.sort(key=lambda node: node.state is not State.READY)
        seeds = [self.node_at(address) for address in self._options.seeds]
        working = [node for node in nodes if not node.failing]
        return list(dict.fromkeys([*working, *seeds, *nodes]))

    def install(self, listed: Mapping[Address, Node]) -> tuple[list[Request], list[NodeConnection]]:
        """Keep the nodes of a new slot map and remove the others.

        A node that no slot map has listed yet, such as the target of an ASK, is removed only if it has no requests.

        Args:
            listed: The nodes of the new slot map, by address.

        Returns:
            The requests that waited for a connection and must be routed again, and the removed nodes, which the caller
            must close.
        """
        moved: list[Request] = []
        gone: list[NodeConnection] = []
        for address in [address for address in self.nodes if address not in listed]:
            node = self.nodes[address]
            if node.listed or node.unused:
                moved += node.take_waiting()
                gone.append(self._remove(address))
        for address, as_told in listed.items():
            node = self.node_at(address)
            node.listed = True
            node.set_leads(as_told.role == "primary")
            if node.state is not State.READY and node.pending:
                moved += node.take_waiting()
            if self._options.warm_up:
                node.dial()
        return moved, gone

    def drop_unlisted(self) -> list[NodeConnection]:
        """Remove nodes that no slot map lists and that have been idle for some time.

        Returns:
            The removed nodes, which the caller must close.
        """
        gone = [node for node in self.nodes.values() if not node.listed and node.unused and node.idle]
        return [self._remove(node.address) for node in gone]

    def has_room_for(self, address: Address) -> bool:
        """Whether the node is known, or the limit ``max_nodes`` allows one more."""
        return address in self.nodes or len(self.nodes) < self._options.max_nodes

    def snapshot(self) -> Statistics:
        """Return a copy of the counters, with the number of open connections and of pending requests."""
        counted: list[NodeStatistics] = [self._statistics, *(node.counters for node in self.nodes.values())]
        copies = {id(counters): counters.copy() for counters in counted}
        for connection in self._open:
            copied = copies[id(connection.counters)]
            copied.open.count(connection.purpose)
            copied.pending += connection.pending
        total = copies[id(self._statistics)]
        assert isinstance(total, Statistics)
        for address, node in self.nodes.items():
            total.nodes[address] = copied = copies[id(node.counters)]
            copied.pending += len(node.waiting())
            total.add(copied)
        return total

    def _remove(self, address: Address) -> NodeConnection:
        node = self.nodes.pop(address)
        # What its last connections still do counts for the client as a whole.
        self._statistics.add(node.counters)
        for connection in self._open:
            if connection.counters is node.counters:
                connection.counters = self._statistics
        return node

    def everything(self) -> list[Request]:
        """Return every request that waits for a connection or is on one, draining connections included."""
        found = [request for node in self.nodes.values() for request in node.waiting()]
        for connection in self._open:
            found += connection.everything()
        return found

    def log_in_again(self) -> Deferred[None]:
        """Let every open connection log in again, or put that off while a caller has the connection for itself.

        Returns:
            A Deferred that fires with None when it is done.  It fails with the first AuthenticationFailed or
            CommandTimeout, after all have ended.

        Raises:
            WrongThread: This is not the thread of the reactor.
        """
        self.thread.check()
        logins = [connection.login.renew() for connection in list(self._open) if connection.login is not None]
        return DeferredList(logins, consumeErrors=True).addCallback(_first_failure)

    def unblock(self) -> None:
        """Make servers end the blocking commands of this client, as if the commands had timed out."""
        # A node that has left the slot map may still hold a blocking command.
        lenders = [connection.owner.node for connection in self._open if isinstance(connection.owner, Lease)]
        for node in dict.fromkeys([*self.nodes.values(), *lenders]):
            node.unblock()

    def forked(self) -> bool:
        """Give up every connection in a forked child process.

        Returns:
            Whether there was any connection.
        """
        self._options.random.seed()
        self.thread.forget()
        self.is_copy = bool(self._open)
        for connection in self._open:
            connection.give_up_copy()
        self._open.clear()
        return self.is_copy

    def close(self) -> Deferred[None]:
        """Close every node after its pending replies have come.

        Returns:
            A Deferred that fires with None when the last socket is closed.
        """
        for node in list(self.nodes.values()):
            node.close()
        return self._emptied()

    def abort(self, reason: Exception) -> tuple[list[Request], Deferred[None]]:
        """Abort every connection at once.

        Args:
            reason: The error for the connections.

        Returns:
            The requests that waited for a connection, and a Deferred that fires with None when the last socket is
            closed.
        """
        waiting: list[Request] = []
        for node in list(self.nodes.values()):
            waiting += node.abort(reason)
        for connection in list(self._open):
            connection.abort(reason)
        return waiting, self._emptied()

    def make_protocol(self, address: Address, purpose: Purpose = "shared") -> RESPProtocol:
        """Make the protocol for a new connection to an address.

        Args:
            address: The node.
            purpose: What the connection is for.
        """
        node = self.nodes.get(address)
        counters = node.counters if node is not None else self._statistics
        make: type[_Owned] = _Owned
        if purpose == "subscriber":
            make = _OwnedSubscriber
        elif self._options.raw_replies:
            make = _OwnedRaw
        connection = make(self._reactor, self._options, self.write_scheduler, str(address), counters)
        if purpose != connection.purpose:
            connection.purpose = purpose
        connection.sockets = self._open
        return connection

    def _dial(self, address: Address, purpose: Purpose) -> Deferred[Any]:
        if self.is_copy:
            text = "a forked child process cannot use the client of its parent; create a new client"
            return fail(ConnectFailed(f"{address}: {text}"))
        try:
            endpoint = self._endpoint_for(address.host, address.port)
            factory = _DialledFactory(self, address, purpose)
            connecting: Deferred[Any] = endpoint.connect(factory)
        except Exception:
            # endpoint_for and address_map are the application's code.  Their error is a failed dial.
            return fail()
        return connecting.addErrback(factory.give_up)

    def _emptied(self) -> Deferred[None]:
        if not self._open:
            self._stop_timers()
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._when_empty.append(waiter)
        return waiter

    def _tls_reloaded(self, error: Exception | None) -> None:
        # The listener is set after this factory is made.
        self.listener.tls_reloaded(error)

    def _stop_timers(self) -> None:
        self.write_scheduler.stop()
        self.waits.stop()

    def _socket_closed(self) -> None:
        if not self._open:
            waiters, self._when_empty = self._when_empty, []
            if waiters:
                self._stop_timers()
            for waiter in waiters:
                waiter.callback(None)


def _first_failure(results: list[tuple[bool, Any]]) -> Any:
    return next((result for succeeded, result in results if not succeeded), None)


class _Sockets(set[RESPProtocol]):
    """The connections whose sockets are open."""

    def __init__(self, closed: Callable[[], None]) -> None:
        super().__init__()
        #: Called when a socket has been closed.
        self.closed = closed


class _Owned(RESPProtocol):
    """A protocol that is in the factory's set of open sockets while it is connected."""

    sockets: _Sockets

    def connectionMade(self) -> None:
        self.sockets.add(self)
        super().connectionMade()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self.sockets.discard(self)
        self.sockets.closed()


class _OwnedRaw(_Owned, RawProtocol):
    """A protocol for raw replies that is in the set of open sockets while it is connected."""


class _OwnedSubscriber(_Owned, SubscriberProtocol):
    """A protocol for subscriptions that is in the set of open sockets while it is connected."""

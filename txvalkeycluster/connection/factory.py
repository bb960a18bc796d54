"""ClusterFactory: makes and owns the nodes and all their connections, and closes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from ..address import Address
from ..errors import ConnectFailed
from ..options import Options
from ..requests.request import Request
from ..topology.model import Node
from .endpoints import endpoint_maker
from .exclusive_pool import Lease
from .node import NodeConnection, NodeListener, State
from .protocol import RESPProtocol
from .write_scheduler import WriteScheduler


class _DialledFactory(Factory):
    """Makes the protocol of one dial, knowing where it leads."""

    noisy = False

    def __init__(self, cluster: ClusterFactory, address: Address) -> None:
        self._cluster = cluster
        self._address = address
        self._given_up = False

    def buildProtocol(self, addr: Any) -> RESPProtocol | None:
        return None if self._given_up else self._cluster.make_protocol(self._address)

    def give_up(self, failure: Failure) -> Failure:
        """Refuse a connection that comes about though its dial was cancelled: not every endpoint can be."""
        self._given_up = True
        return failure


class ClusterFactory:
    """The nodes of one client by address, each with its connection."""

    def __init__(self, reactor: IReactorTime, options: Options) -> None:
        self.listener: NodeListener
        self.nodes: dict[Address, NodeConnection] = {}
        self._reactor = reactor
        self._options = options
        self._write_scheduler = WriteScheduler(reactor)
        #: Of every command, wherever it is.
        self.cancels = self._write_scheduler.cancels
        self._endpoint_for = endpoint_maker(reactor, options)
        self._open: set[RESPProtocol] = set()
        self._when_empty: list[Deferred[None]] = []
        # Whether this is a forked child's copy of a factory with connections.
        self._is_copy = False

    def __repr__(self) -> str:
        ready = sum(node.state is State.READY for node in self.nodes.values())
        return f"<ClusterFactory nodes={len(self.nodes)} ready={ready} sockets={len(self._open)}>"

    @property
    def connected(self) -> bool:
        """Whether there is an open socket."""
        return bool(self._open)

    def node_at(self, address: Address) -> NodeConnection:
        """The node at an address, made known if it is not; nothing is dialled yet."""
        node = self.nodes.get(address)
        if node is None:
            node = NodeConnection(self._reactor, address, self._options, self.cancels, self._dial, self.listener)
            self.nodes[address] = node
        return node

    def candidates(self) -> list[NodeConnection]:
        """Whom to ask about the cluster: connected nodes, other known nodes, the seeds, and last those that fail."""
        nodes = list(self.nodes.values())
        self._options.random.shuffle(nodes)
        nodes.sort(key=lambda node: node.state is not State.READY)
        seeds = [self.node_at(address) for address in self._options.seeds]
        working = [node for node in nodes if not node.failing]
        return list(dict.fromkeys([*working, *seeds, *nodes]))

    def install(self, listed: Mapping[Address, Node]) -> tuple[list[Request], list[NodeConnection]]:
        """Keep the nodes that the new map lists; return the others, which are to be closed, and what waited for any.

        A node that no map has listed yet, such as the target of an ASK, goes once it has nothing to do.
        """
        moved: list[Request] = []
        gone: list[NodeConnection] = []
        for address in [address for address in self.nodes if address not in listed]:
            node = self.nodes[address]
            if node.listed or node.unused:
                moved += node.take_waiting()
                gone.append(self.nodes.pop(address))
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
        """Forget nodes that no map lists and that have had nothing to do for a while; return them, to be closed."""
        gone = [node for node in self.nodes.values() if not node.listed and node.unused and node.idle]
        for node in gone:
            del self.nodes[node.address]
        return gone

    def has_room_for(self, address: Address) -> bool:
        """Whether a node may be made known."""
        return address in self.nodes or len(self.nodes) < self._options.max_nodes

    def everything(self) -> list[Request]:
        """Every request, waiting or on a connection, of drained ones too."""
        found = [request for node in self.nodes.values() for request in node.waiting()]
        for connection in self._open:
            found += connection.everything()
        return found

    def unblock(self) -> None:
        """Have the commands end that servers hold back, as if their time were up."""
        # A node that has left the map may still block.
        lenders = [connection.owner.node for connection in self._open if isinstance(connection.owner, Lease)]
        for node in dict.fromkeys([*self.nodes.values(), *lenders]):
            node.unblock()

    def forked(self) -> bool:
        """Give up every connection in a forked child; return whether there was any."""
        self._options.random.seed()
        self._is_copy = bool(self._open)
        for connection in self._open:
            connection.give_up_copy()
        self._open.clear()
        return self._is_copy

    def close(self) -> Deferred[None]:
        """Drain every node; fire when the last socket is closed."""
        for node in list(self.nodes.values()):
            node.close()
        return self._emptied()

    def abort(self, reason: Exception) -> tuple[list[Request], Deferred[None]]:
        """Cut every connection; return the requests that waited for one, and when the last socket is closed."""
        waiting: list[Request] = []
        for node in list(self.nodes.values()):
            waiting += node.abort(reason)
        for connection in list(self._open):
            connection.abort(reason)
        return waiting, self._emptied()

    def make_protocol(self, address: Address) -> RESPProtocol:
        """A protocol for a connection to ``address``."""
        connection = _OwnedProtocol(self._reactor, self._options, self._write_scheduler, str(address))
        connection.sockets = self._open
        connection.emptied = self._socket_closed
        return connection

    def _dial(self, address: Address) -> Deferred[Any]:
        if self._is_copy:
            return fail(ConnectFailed(f"{address} is not dialled by a forked copy of a client"))
        try:
            endpoint = self._endpoint_for(address.host, address.port)
            factory = _DialledFactory(self, address)
            connecting: Deferred[Any] = endpoint.connect(factory)
        except Exception:
            # endpoint_for and address_map are the application's: what they raise is a failed dial.
            return fail()
        return connecting.addErrback(factory.give_up)

    def _emptied(self) -> Deferred[None]:
        if not self._open:
            self._write_scheduler.stop()
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._when_empty.append(waiter)
        return waiter

    def _socket_closed(self) -> None:
        if not self._open:
            waiters, self._when_empty = self._when_empty, []
            if waiters:
                self._write_scheduler.stop()
            for waiter in waiters:
                waiter.callback(None)


class _OwnedProtocol(RESPProtocol):
    """Counts as an open socket from connect to loss."""

    sockets: set[RESPProtocol]
    emptied: Any

    def connectionMade(self) -> None:
        self.sockets.add(self)
        super().connectionMade()

    def connectionLost(self, reason: Any = None) -> None:
        super().connectionLost(reason)
        self.sockets.discard(self)
        self.emptied()

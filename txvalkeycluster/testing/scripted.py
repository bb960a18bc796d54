r"""Scripted nodes: servers on real sockets that give the replies of a script.

A test uses them for replies and failures that a real server does not give.  A node calls its script with every command.
Without a script, or if the script returns `DEFAULT_REPLY`, the node answers as a simple server does: it knows HELLO,
CLUSTER SLOTS, CLUSTER SHARDS, PING, GET, SET, INCR, DEL and the commands of publish/subscribe.  It answers everything
else with OK.  It records every command and the number of its connection.

Example:
    cluster = ScriptedCluster(reactor)
    await cluster.start()
    cluster.nodes[0].script = lambda node, words, connection: (
        b"-LOADING wait\r\n" if words[0] == b"GET" else DEFAULT_REPLY
    )
    client = ClusterClient(reactor, cluster.url)
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import hiredis
from twisted.internet import protocol
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IListeningPort, IReactorTime
from twisted.python.failure import Failure

from ..address import Address
from ..sentinel import Sentinel
from ..slots import SLOT_COUNT, key_slot
from . import scripted_pubsub

#: A script returns this to close the connection.
CLOSE = Sentinel("CLOSE")
#: A script returns this to leave a command without a reply.
SILENCE = Sentinel("SILENCE")
#: A script returns this to let the node answer as it does without a script.
DEFAULT_REPLY = Sentinel("DEFAULT_REPLY")

#: A script is called with the node, the words of a command and the connection.  It returns the bytes of a reply in
#: RESP, `CLOSE`, `SILENCE` or `DEFAULT_REPLY`.
Script = Callable[["ScriptedNode", list[bytes], "Connection"], bytes | Sentinel]


class Connection(protocol.Protocol):
    """A connection of a client to a scripted node."""

    def __init__(self, node: ScriptedNode, number: int) -> None:
        """Make a connection.

        Args:
            node: The node.
            number: The number of the connection at this node, from 1.
        """
        #: The node.
        self.node = node
        #: The number of the connection at its node, from 1.
        self.number = number
        #: Whether the command before was ASKING.
        self.asking = False
        #: Whether it speaks RESP3: it has sent HELLO.
        self.resp3 = False
        #: What it has subscribed: pairs of prefix (``b""``, ``b"P"``, ``b"S"``) and name.
        self.subscribed: dict[tuple[bytes, bytes], None] = {}
        #: How many times bytes have arrived.
        self.reads = 0
        self._reader = hiredis.Reader(notEnoughData=CLOSE)

    def connectionMade(self) -> None:
        """Add the connection to those of the node."""
        self.node.connections.append(self)

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        """Remove the connection from those of the node."""
        self.node.connections.remove(self)

    def dataReceived(self, data: bytes) -> None:
        """Answer every command that is complete with ``data``."""
        self.reads += 1
        self._reader.feed(data)
        while (words := self._words()) is not CLOSE:
            reply = self.node.reply(words, self)
            if reply is CLOSE:
                self.close()
                return
            if not isinstance(reply, Sentinel):
                self.write(reply)

    def _words(self) -> Any:
        try:
            return self._reader.gets()
        except hiredis.ProtocolError:
            # For example, the first bytes of a TLS handshake.
            self.close()
            return CLOSE

    def write(self, data: bytes) -> None:
        """Send bytes to the client, such as a reply that was held back with SILENCE."""
        assert self.transport is not None
        self.transport.write(data)

    def close(self) -> None:
        """Close the connection at once."""
        transport: Any = self.transport
        transport.abortConnection()


class ScriptedNode:
    """A node that gives the replies of a script."""

    def __init__(self, cluster: ScriptedCluster, index: int) -> None:
        """Make a node; `listen` opens its port.

        Args:
            cluster: The cluster that it belongs to.
            index: Its place in `ScriptedCluster.nodes`, from 0.
        """
        #: The cluster that it belongs to.
        self.cluster = cluster
        #: Its place in `ScriptedCluster.nodes`, from 0.
        self.index = index
        #: The node id.
        self.id = f"{index:040x}"
        #: The script; None: the node answers as a simple server does.
        self.script: Script | None = None
        #: The number of the connection and the words of every command, in the order in which they came.
        self.received: list[tuple[int, list[bytes]]] = []
        #: The open connections.
        self.connections: list[Connection] = []
        #: How many connections there have been.
        self.accepted = 0
        #: The host and the port; the port is 0 before `listen`.
        self.address = Address("127.0.0.1", 0)
        self._listening: IListeningPort | None = None

    def listen(self, reactor: IReactorTime, port: int = 0) -> Deferred[None]:
        """Listen for connections.

        Args:
            reactor: The Twisted reactor.
            port: The port; 0 takes a free one.

        Returns:
            A Deferred that fires with None when the node listens.
        """
        factory: Any = protocol.Factory()
        factory.noisy = False
        factory.buildProtocol = lambda _: self._accept()
        endpoint: Any = TCP4ServerEndpoint(reactor, port, interface="127.0.0.1")  # type: ignore[no-untyped-call]

        def listening(opened: IListeningPort) -> None:
            self._listening = opened
            host: Any = opened.getHost()
            self.address = Address("127.0.0.1", host.port)

        opened: Deferred[IListeningPort] = endpoint.listen(factory)
        return opened.addCallback(listening)

    def stop(self) -> Deferred[None]:
        """Stop listening and close all connections.

        Returns:
            A Deferred that fires with None when the port is closed.
        """
        listening, self._listening = self._listening, None
        for connection in list(self.connections):
            connection.close()
        return Deferred.fromCoroutine(_stopped(listening))

    def count(self, *words: bytes) -> int:
        """Count the commands that began with these words."""
        return sum(list(words) == received[: len(words)] for _, received in self.received)

    def reply(self, words: list[bytes], connection: Connection) -> bytes | Sentinel:
        """Record a command, and return the reply of the script, or the default reply.

        Args:
            words: The command, with its name first.
            connection: The connection that it came on.
        """
        self.received.append((connection.number, words))
        reply = self.script(self, words, connection) if self.script is not None else DEFAULT_REPLY
        asking, connection.asking = connection.asking, words[0] == b"ASKING"
        if reply is not DEFAULT_REPLY:
            return reply
        connection.resp3 = connection.resp3 or words[0] == b"HELLO"
        about_subscriptions = scripted_pubsub.answer(words, connection)
        return self.usual(words, asking=asking) if about_subscriptions is None else about_subscriptions

    def drop_subscribers(self) -> None:
        """Close the connections that have subscriptions."""
        for connection in list(self.connections):
            if connection.subscribed:
                connection.close()

    def _accept(self) -> Connection:
        self.accepted += 1
        return Connection(self, self.accepted)

    def usual(self, words: list[bytes], *, asking: bool) -> bytes:
        """Return the default reply to a command, in RESP.

        Args:
            words: The command, with its name first.
            asking: Whether ASKING came before it; the default reply does not depend on it.
        """
        name = words[0].upper()
        if name == b"HELLO":
            return b"%2\r\n+proto\r\n:3\r\n+version\r\n+9.1.2\r\n"
        if name == b"CLUSTER" and words[1].upper() == b"SLOTS":
            return self.cluster.slots_reply()
        if name == b"CLUSTER" and words[1].upper() == b"SHARDS":
            return self.cluster.shards_reply()
        values = self.cluster.values
        if name == b"GET":
            value = values.get(words[1])
            return b"_\r\n" if value is None else b"$%d\r\n%b\r\n" % (len(value), value)
        if name == b"INCR":
            values[words[1]] = b"%d" % (int(values.get(words[1], b"0")) + 1)
            return b":%b\r\n" % values[words[1]]
        if name == b"DEL":
            return b":%d\r\n" % sum(values.pop(key, None) is not None for key in words[1:])
        if name == b"SET":
            values[words[1]] = words[2]
        return b"+PONG\r\n" if name == b"PING" else b"+OK\r\n"


class ScriptedCluster:
    """Scripted nodes that share the slots evenly, and have one common set of keys."""

    def __init__(self, reactor: IReactorTime, count: int = 3) -> None:
        """Make the nodes; `start` opens their ports.

        Args:
            reactor: The Twisted reactor.
            count: How many nodes there are.
        """
        #: The nodes.
        self.nodes = [ScriptedNode(self, index) for index in range(count)]
        #: The keys with their values, common to all nodes.
        self.values: dict[bytes, bytes] = {}
        #: Ranges of slots: the first slot, the last slot, and the node that serves them.  A test may change it.
        self.ranges = [
            (index * SLOT_COUNT // count, (index + 1) * SLOT_COUNT // count - 1, node)
            for index, node in enumerate(self.nodes)
        ]
        #: The replicas of each primary in the slot map that the nodes report.  A test may change it.
        self.replicas: dict[ScriptedNode, list[ScriptedNode]] = {}
        #: The Twisted reactor.
        self.reactor = reactor

    def start(self) -> Deferred[list[None]]:
        """Return a Deferred that fires when every node listens."""
        return gatherResults([node.listen(self.reactor) for node in self.nodes])

    def stop(self) -> Deferred[list[None]]:
        """Return a Deferred that fires when no node listens any more."""
        return gatherResults([node.stop() for node in self.nodes])

    @property
    def url(self) -> str:
        """The URL of the cluster, with all nodes."""
        return "valkey://" + ",".join(str(node.address) for node in self.nodes)

    def count(self, *words: bytes) -> int:
        """Count the commands at all nodes that began with these words."""
        return sum(node.count(*words) for node in self.nodes)

    def keys_of(self, node: ScriptedNode, count: int) -> list[str]:
        """Make keys that are in the slots of a node.

        Args:
            node: The node.
            count: How many keys.
        """
        keys = (f"key:{number}" for number in range(SLOT_COUNT * count))
        owned = (key for key in keys if self.owner(key_slot(key)) is node)
        return list(islice(owned, count))

    def owner(self, slot: int) -> ScriptedNode | None:
        """Return the node that serves a slot, or None."""
        return next((node for start, end, node in self.ranges if start <= slot <= end), None)

    def publish(self, channel: bytes, data: bytes) -> int:
        """Send a message to everyone who has subscribed a classic channel, or a pattern that matches it.

        Args:
            channel: The channel.
            data: The payload.

        Returns:
            How many received it.
        """
        connections = [connection for node in self.nodes for connection in list(node.connections)]
        return sum(scripted_pubsub.deliver(connection, b"", channel, data) for connection in connections)

    def spublish(self, channel: bytes, data: bytes) -> int:
        """Send a message to everyone who has subscribed a sharded channel at the owner of its slot.

        Args:
            channel: The channel.
            data: The payload.

        Returns:
            How many received it.
        """
        owner = self.owner(key_slot(channel))
        connections = list(owner.connections) if owner is not None else []
        return sum(scripted_pubsub.deliver(connection, b"S", channel, data) for connection in connections)

    def move(self, slot: int, node: ScriptedNode) -> None:
        """Give a slot to another node.  The sharded channels of the slot end, as on a real server.

        Args:
            slot: The slot.
            node: Its new owner.
        """
        old = self.owner(slot)
        self.ranges = [
            part
            for start, end, owner in self.ranges
            for part in (
                [(start, slot - 1, owner), (slot, slot, node), (slot + 1, end, owner)]
                if start <= slot <= end
                else [(start, end, owner)]
            )
            if part[0] <= part[1]
        ]
        for connection in list(old.connections) if old is not None and old is not node else []:
            scripted_pubsub.end_sharded(connection, slot)

    def slots_reply(self) -> bytes:
        """Return the reply to CLUSTER SLOTS, in RESP, from `ranges` and `replicas`."""
        rows = []
        for start, end, primary in self.ranges:
            nodes = [primary, *self.replicas.get(primary, ())]
            entries = [
                b"*4\r\n$%d\r\n%b\r\n:%d\r\n$40\r\n%b\r\n*0\r\n"
                % (len(node.address.host), node.address.host.encode(), node.address.port, node.id.encode())
                for node in nodes
            ]
            rows.append(b"*%d\r\n:%d\r\n:%d\r\n%b" % (2 + len(nodes), start, end, b"".join(entries)))
        return b"*%d\r\n%b" % (len(rows), b"".join(rows))

    def shards_reply(self) -> bytes:
        """Return the reply to CLUSTER SHARDS, in RESP, from `ranges` and `replicas`."""
        following = {node for replicas in self.replicas.values() for node in replicas}
        bounds: dict[ScriptedNode, list[int]] = {node: [] for node in self.nodes if node not in following}
        for start, end, node in self.ranges:
            bounds.setdefault(node, []).extend((start, end))
        shards = []
        for primary, slots in bounds.items():
            nodes = [(primary, b"master"), *((replica, b"replica") for replica in self.replicas.get(primary, ()))]
            entries = b"".join(
                b"%%5\r\n+id\r\n+%b\r\n+port\r\n:%d\r\n+ip\r\n+%b\r\n+endpoint\r\n+%b\r\n+role\r\n+%b\r\n"
                % (node.id.encode(), node.address.port, node.address.host.encode(), node.address.host.encode(), role)
                for node, role in nodes
            )
            numbers = b"".join(b":%d\r\n" % slot for slot in slots)
            shards.append(b"%%2\r\n+slots\r\n*%d\r\n%b+nodes\r\n*%d\r\n%b" % (len(slots), numbers, len(nodes), entries))
        return b"*%d\r\n%b" % (len(shards), b"".join(shards))


async def _stopped(listening: IListeningPort | None) -> None:
    if listening is not None and (stopped := listening.stopListening()) is not None:
        await stopped

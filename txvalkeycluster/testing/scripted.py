"""Scripted nodes: servers on real sockets that misbehave on command, as no real server can be made to.

A node answers the handshake, CLUSTER SLOTS and CLUSTER SHARDS by itself and asks a script for everything else.  It
notes what it received, on which connection.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import hiredis
from twisted.internet import protocol
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IReactorTime

from ..address import Address
from ..sentinel import Sentinel
from ..slots import SLOT_COUNT, key_slot

#: Returned by a script to close the connection, and to leave a command without a reply.
CLOSE = Sentinel("CLOSE")
SILENCE = Sentinel("SILENCE")
#: Returned by a script to have the node answer as it would without one.
DEFAULT_REPLY = Sentinel("DEFAULT_REPLY")

Script = Callable[["ScriptedNode", list[bytes], "Connection"], Any]


class Connection(protocol.Protocol):
    """One client's connection to a scripted node."""

    def __init__(self, node: ScriptedNode, number: int) -> None:
        self.node = node
        self.number = number
        self.asking = False
        #: How many pieces its bytes came in.
        self.reads = 0
        self._reader = hiredis.Reader(notEnoughData=CLOSE)

    def connectionMade(self) -> None:
        """Be known to the node."""
        self.node.connections.append(self)

    def connectionLost(self, reason: Any = None) -> None:
        """Be forgotten."""
        self.node.connections.remove(self)

    def dataReceived(self, data: bytes) -> None:
        """Answer every command that ``data`` completes."""
        self.reads += 1
        self._reader.feed(data)
        while (words := self._words()) is not CLOSE:
            reply = self.node.reply(words, self)
            if reply is CLOSE:
                self.close()
                return
            if reply is not SILENCE:
                self.write(reply)

    def _words(self) -> Any:
        try:
            return self._reader.gets()
        except hiredis.ProtocolError:
            # Such as the first bytes of a TLS handshake.
            self.close()
            return CLOSE

    def write(self, data: bytes) -> None:
        """Send bytes."""
        assert self.transport is not None
        self.transport.write(data)

    def close(self) -> None:
        """Cut the connection."""
        transport: Any = self.transport
        transport.abortConnection()


class ScriptedNode:
    """One node: its script, what it received, and who is connected."""

    def __init__(self, cluster: ScriptedCluster, index: int) -> None:
        self.cluster = cluster
        self.index = index
        self.id = f"{index:040x}"
        self.script: Script | None = None
        #: Connection number and words of every command, in the order they came.
        self.received: list[tuple[int, list[bytes]]] = []
        self.connections: list[Connection] = []
        self.accepted = 0
        self.address = Address("127.0.0.1", 0)
        self._listening: Any = None

    def listen(self, reactor: IReactorTime, port: int = 0) -> Deferred[Any]:
        """Accept connections; fires when it does."""
        factory: Any = protocol.Factory()
        factory.noisy = False
        factory.buildProtocol = lambda _: self._accept()
        endpoint: Any = TCP4ServerEndpoint(reactor, port, interface="127.0.0.1")  # type: ignore[no-untyped-call]

        def listening(opened: Any) -> None:
            self._listening = opened
            self.address = Address("127.0.0.1", opened.getHost().port)

        opened: Deferred[Any] = endpoint.listen(factory)
        return opened.addCallback(listening)

    def stop(self) -> Deferred[Any]:
        """Refuse connections and cut those there are; fires when done."""
        listening, self._listening = self._listening, None
        for connection in list(self.connections):
            connection.close()
        stopped: Deferred[Any] = Deferred()
        if listening is None:
            stopped.callback(None)
            return stopped
        return Deferred.fromCoroutine(_awaited(listening.stopListening()))

    def count(self, *words: bytes) -> int:
        """How often a command that begins with these words came."""
        return sum(list(words) == received[: len(words)] for _, received in self.received)

    def reply(self, words: list[bytes], connection: Connection) -> Any:
        """The reply to a command: the script's, else the usual one."""
        self.received.append((connection.number, words))
        reply = self.script(self, words, connection) if self.script is not None else DEFAULT_REPLY
        asking, connection.asking = connection.asking, words[0] == b"ASKING"
        return self.usual(words, asking=asking) if reply is DEFAULT_REPLY else reply

    def _accept(self) -> Connection:
        self.accepted += 1
        return Connection(self, self.accepted)

    def usual(self, words: list[bytes], *, asking: bool) -> bytes:
        """What an obedient node answers."""
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
    """Scripted nodes that share the slots and one set of values."""

    def __init__(self, reactor: IReactorTime, count: int = 3) -> None:
        self.nodes = [ScriptedNode(self, index) for index in range(count)]
        self.values: dict[bytes, bytes] = {}
        #: Who serves which slots, as first and last slot and node; the scripts may change it.
        self.ranges = [
            (index * SLOT_COUNT // count, (index + 1) * SLOT_COUNT // count - 1, node)
            for index, node in enumerate(self.nodes)
        ]
        #: The replicas of nodes that serve slots, as the nodes tell of them; the scripts may change it.
        self.replicas: dict[ScriptedNode, list[ScriptedNode]] = {}
        self.reactor = reactor

    def start(self) -> Deferred[Any]:
        """Fires when every node listens."""
        return gatherResults([node.listen(self.reactor) for node in self.nodes])

    def stop(self) -> Deferred[Any]:
        """Fires when no node listens."""
        return gatherResults([node.stop() for node in self.nodes])

    @property
    def url(self) -> str:
        """A URL of every node."""
        return "valkey://" + ",".join(str(node.address) for node in self.nodes)

    def count(self, *words: bytes) -> int:
        """How often a command that begins with these words came to any node."""
        return sum(node.count(*words) for node in self.nodes)

    def keys_of(self, node: ScriptedNode, count: int) -> list[str]:
        """Keys that live on a node, by the ranges in force."""
        keys = (f"key:{number}" for number in range(SLOT_COUNT * count))
        owned = (key for key in keys if self.owner(key_slot(key)) is node)
        return list(islice(owned, count))

    def owner(self, slot: int) -> ScriptedNode | None:
        """Who serves a slot, by the ranges in force."""
        return next((node for start, end, node in self.ranges if start <= slot <= end), None)

    def slots_reply(self) -> bytes:
        """CLUSTER SLOTS for the ranges in force."""
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
        """CLUSTER SHARDS for the ranges in force."""
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


async def _awaited(result: Any) -> None:
    if result is not None:
        await result

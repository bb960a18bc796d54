"""The least that a client on Twisted can do: sockets, hiredis, a deque and a Deferred.

It contains no code of txvalkeycluster.  It recognizes no error replies, and it handles no lost connection.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import hiredis
from twisted.internet import protocol, tcp
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.epollreactor import install
from twisted.internet.interfaces import IReactorTime
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates

from ..workloads import Count
from . import Addresses, Unsupported

REACTOR = install
_NOTHING = object()


class _Cork:
    def __init__(self, reactor: IReactorTime) -> None:
        self.reactor = reactor
        self.held = False
        self.scheduled = False
        self.touched: list[_Connection] = []

    def release(self) -> None:
        self.scheduled = False
        touched, self.touched = self.touched, []
        for connection in touched:
            connection.flush()


class _Connection(protocol.Protocol):
    address: tuple[str, int]

    def __init__(self, cork: _Cork) -> None:
        self.cork = cork
        self.reader = hiredis.Reader(notEnoughData=_NOTHING)
        self.reader.setmaxbuf(1 << 20)
        self.sent: deque[Deferred[Any]] = deque()
        self.unsent: list[bytes] = []

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.setTcpNoDelay(True)
        # Do not look for methods: a TLS wrapper also has those of the transport below it.
        self.direct = isinstance(transport, tcp.Connection)

    def dataReceived(self, data: bytes) -> None:
        cork = self.cork
        cork.held = True
        gets, popleft = self.reader.gets, self.sent.popleft
        self.reader.feed(data)
        while (reply := gets()) is not _NOTHING:
            popleft().callback(reply)
        cork.held = False
        if cork.touched:
            cork.release()

    def send(self, args: tuple[Any, ...]) -> Deferred[Any]:
        deferred: Deferred[Any] = Deferred()
        if not self.unsent:
            cork = self.cork
            cork.touched.append(self)
            if not cork.held and not cork.scheduled:
                cork.scheduled = True
                cork.reactor.callLater(0, cork.release)
        self.unsent.append(hiredis.pack_command(args))
        self.sent.append(deferred)
        return deferred

    def flush(self) -> None:
        data = b"".join(self.unsent)
        self.unsent.clear()
        transport: Any = self.transport
        if self.direct and not transport.dataBuffer and not transport._tempDataBuffer:
            written = transport.writeSomeData(data)
            if written == len(data):
                return
            data = data[written:]
        transport.write(data)


class _Subscriber(_Connection):
    """A connection that gets messages as soon as it has functions for them; until then it gets replies."""

    functions: Sequence[Callable[[bytes, bytes], None]] = ()

    def dataReceived(self, data: bytes) -> None:
        if not self.functions:
            super().dataReceived(data)
            return
        gets, functions = self.reader.gets, self.functions
        self.reader.feed(data)
        while (push := gets()) is not _NOTHING:
            _, channel, message = push
            for function in functions:
                function(channel, message)


def _counting(count: Count) -> Callable[[bytes, bytes], None]:
    def received(channel: bytes, data: bytes) -> None:
        count(data)

    return received


class Floor:
    """Sends each command to the node of its slot.  The slot map never changes."""

    def __init__(
        self, slots: list[_Connection], dial: Callable[[tuple[str, int], type[_Connection]], Awaitable[Any]]
    ) -> None:
        self.slots = slots
        self.dial = dial

    def execute(self, *args: Any) -> Deferred[Any]:
        """Send a command whose first argument is its key."""
        return self._node(args[1]).send(args)

    def _node(self, key: str) -> _Connection:
        return self.slots[crc_hqx(key.encode(), 0) & 16383]

    def set(self, key: str, value: bytes) -> Deferred[Any]:
        """Store a value."""
        return self.execute("SET", key, value)

    def get(self, key: str) -> Deferred[bytes]:
        """Return a value."""
        return self.execute("GET", key)

    def hset(self, key: str, fields: dict[str, str]) -> Deferred[Any]:
        """Store the fields of a hash."""
        return self.execute("HSET", key, *(word for pair in fields.items() for word in pair))

    def hgetall(self, key: str) -> Deferred[Any]:
        """Return all fields of a hash."""
        return self.execute("HGETALL", key)

    def mget(self, keys: list[str]) -> Deferred[list[bytes]]:
        """Send a GET for each key: a node refuses an MGET of keys in several slots."""
        if keys[0].startswith("{"):
            raise Unsupported("it does not implement hash tags")
        return gatherResults([self.get(key) for key in keys])

    async def pipeline(self, commands: list[tuple[str, ...]]) -> list[Any]:
        """Send all commands at once, and return their replies."""
        return list(await gatherResults([self.execute(*command) for command in commands]))

    async def subscribe(
        self, channels: list[str], subscribers: list[Count], *, sharded: bool
    ) -> Callable[[], Awaitable[None]]:
        """Subscribe on one connection to each node that has a channel."""
        connections: dict[_Connection, _Subscriber] = {}
        command = "SSUBSCRIBE" if sharded else "SUBSCRIBE"
        for channel in channels:
            node = self._node(channel)
            if node not in connections:
                connections[node] = await self.dial(node.address, _Subscriber)
            await connections[node].send((command, channel))
        for connection in connections.values():
            connection.functions = [_counting(count) for count in subscribers]

        async def end() -> None:
            for connection in connections.values():
                transport: Any = connection.transport
                transport.abortConnection()

        return end


async def connect(reactor: IReactorTime, addresses: Addresses, ca: str | None) -> Floor:
    """Connect to the cluster."""
    cork = _Cork(reactor)
    slots: list[Any] = [None] * 16384
    connections: dict[tuple[str, int], _Connection] = {}

    async def dial(address: tuple[str, int], kind: type[_Connection]) -> _Connection:
        host, port = address
        factory: Any = protocol.Factory()
        factory.noisy = False
        factory.buildProtocol = lambda _: kind(cork)
        endpoint: Any = HostnameEndpoint(reactor, host, port)
        if ca is not None:
            make_root: Any = trustRootFromCertificates
            root = make_root([Certificate.loadPEM(Path(ca).read_bytes())])
            endpoint = wrapClientTLS(optionsForClientTLS(host, trustRoot=root), endpoint)
        connection: _Connection = await endpoint.connect(factory)
        connection.address = address
        await connection.send(("HELLO", 3))
        return connection

    first = await dial(addresses[0], _Connection)
    for start, end, primary, *_ in await first.send(("CLUSTER", "SLOTS")):
        address = (primary[0].decode(), primary[1])
        if address not in connections:
            connections[address] = await dial(address, _Connection)
        slots[start : end + 1] = [connections[address]] * (end + 1 - start)
    return Floor(slots, dial)

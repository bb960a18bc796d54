"""Direct writes to sockets, and ordinary writes where Twisted's transports have changed."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import tcp
from twisted.internet.testing import StringTransport

from tests.cases import SynchronousTestCase
from tests.scripted.base import ScriptedTests
from txvalkeycluster.direct_write import direct_writer, write_at_once


class Transport(tcp.Connection):
    """A transport without a socket that accepts all bytes."""

    def __init__(self) -> None:
        self.dataBuffer = b""
        self._tempDataBuffer = []

    def writeSomeData(self, data: bytes) -> int:
        return len(data)


class DirectWriterTests(SynchronousTestCase):
    def test_a_tcp_transport(self) -> None:
        transport = Transport()
        self.assertIs(direct_writer(transport), transport)

    def test_other_transports(self) -> None:
        """TLS transports and transports without a socket are not written to directly."""
        secured = Transport()
        secured.TLS = True
        self.assertIsNone(direct_writer(secured))
        self.assertIsNone(direct_writer(StringTransport()))  # type: ignore[no-untyped-call]

    def test_a_missing_attribute(self) -> None:
        """Writes are ordinary if Twisted's transport lacks an attribute that direct writes need."""
        transport = Transport()
        del transport._tempDataBuffer
        self.assertIsNone(direct_writer(transport))
        self.patch(Transport, "writeSomeData", None)
        self.assertIsNone(direct_writer(Transport()))

    def test_a_changed_attribute(self) -> None:
        """Writes are ordinary if an attribute has another type, other arguments or another result."""
        for name in ("dataBuffer", "_tempDataBuffer"):
            transport = Transport()
            setattr(transport, name, bytearray())
            self.assertIsNone(direct_writer(transport), name)

        def raises(data: bytes) -> int:
            raise OSError

        functions: list[Any] = [lambda data, flags=0: 0, lambda buffer: 0, lambda data: None, lambda data: 1, raises]
        for function in functions:
            transport = Transport()
            transport.writeSomeData = function  # type: ignore[method-assign]
            self.assertIsNone(direct_writer(transport))

    def test_what_writes(self) -> None:
        """The socket itself, unless the transport has its own way to write."""
        plain: Any = tcp.Connection.__new__(tcp.Connection)
        plain.socket = socket.socket()
        self.addCleanup(plain.socket.close)
        self.assertEqual(write_at_once(plain), plain.socket.send)
        own = Transport()
        self.assertEqual(write_at_once(own), own.writeSomeData)
        plain.writeSomeData = len
        self.assertIs(write_at_once(plain), len)
        del plain.writeSomeData
        plain.socket = object()
        self.assertEqual(write_at_once(plain), plain.writeSomeData)


class SocketTests(ScriptedTests):
    async def talk(self) -> None:
        """Check that small and large values are written and read back."""
        client = await self.client()
        key = self.key_of(self.nodes[0])
        for size in (1, 100, 3_000_000):
            self.assertEqual(await client.set(key, b"v" * size), b"OK")
            self.assertEqual(len(await client.get(key) or b""), size)

    async def test_direct_writes(self) -> None:
        """Commands are answered with direct writes, which begin with a trial write of zero bytes."""
        written: list[int] = []
        write = tcp.Connection.writeSomeData

        def counted(self: tcp.Connection, data: bytes) -> Any:
            written.append(len(data))
            return write(self, data)

        self.patch(tcp.Connection, "writeSomeData", counted)
        await self.talk()
        self.assertIn(0, written)

    async def test_ordinary_writes(self) -> None:
        """Commands are answered with ordinary writes too, which an unknown argument of ``writeSomeData`` causes."""
        write = tcp.Connection.writeSomeData
        self.patch(tcp.Connection, "writeSomeData", lambda self, data, more=None: write(self, data))
        await self.talk()

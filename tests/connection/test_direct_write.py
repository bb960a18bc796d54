"""Writing to sockets at once, and in the ordinary way where Twisted's transports are not what they were."""

from __future__ import annotations

from typing import Any

from twisted.internet import tcp
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from tests.scripted.base import ScriptedTests
from txvalkeycluster.connection.direct_write import direct_writer


class Transport(tcp.Connection):
    """One without a socket that takes everything."""

    def __init__(self) -> None:
        self.dataBuffer = b""
        self._tempDataBuffer = []

    def writeSomeData(self, data: bytes) -> int:
        return len(data)


class DirectWriterTests(SynchronousTestCase):
    def test_as_it_is(self) -> None:
        transport = Transport()
        self.assertIs(direct_writer(transport), transport)

    def test_others(self) -> None:
        """Neither TLS nor what is no socket."""
        secured = Transport()
        secured.TLS = True
        self.assertIsNone(direct_writer(secured))
        self.assertIsNone(direct_writer(StringTransport()))

    def test_something_is_gone(self) -> None:
        transport = Transport()
        del transport._tempDataBuffer
        self.assertIsNone(direct_writer(transport))
        self.patch(Transport, "writeSomeData", None)
        self.assertIsNone(direct_writer(Transport()))

    def test_something_has_changed(self) -> None:
        """Kept in other types, called with other arguments, or answering something else."""
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


class SocketTests(ScriptedTests):
    async def talk(self) -> None:
        """Commands small and large are answered."""
        client = await self.client()
        key = self.key_of(self.nodes[0])
        for size in (1, 100, 3_000_000):
            self.assertEqual(await client.set(key, b"v" * size), b"OK")
            self.assertEqual(len(await client.get(key) or b""), size)

    async def test_as_it_is(self) -> None:
        written: list[int] = []
        write = tcp.Connection.writeSomeData

        def counted(self: tcp.Connection, data: bytes) -> Any:
            written.append(len(data))
            return write(self, data)

        self.patch(tcp.Connection, "writeSomeData", counted)
        await self.talk()
        self.assertIn(0, written)

    async def test_in_the_ordinary_way(self) -> None:
        """Where the function has another argument, which only the transport itself knows to give."""
        write = tcp.Connection.writeSomeData
        self.patch(tcp.Connection, "writeSomeData", lambda self, data, more=None: write(self, data))
        await self.talk()

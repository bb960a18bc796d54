"""The limits of a proxy for its clients, in memory, on a clock that only the test advances."""

from __future__ import annotations

from typing import Any

from tests.proxy.memory import ClientEnd, MemoryProxyTests
from txvalkeycluster.proxy.server import ProxyServer
from txvalkeycluster.testing.scripted import DEFAULT_REPLY, SILENCE

_BUFFER = 1 << 16
PING, PONG = b"PING\r\n", b"+PONG\r\n"


def request(*words: str | bytes) -> bytes:
    """Return a request."""
    plain = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n%b" % (len(plain), b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in plain))


class SlowEnd(ClientEnd):
    """A client that reads only what the test takes, with the buffer of a transport of Twisted."""

    def __init__(self, server: ProxyServer) -> None:
        self.dataBuffer = bytearray()
        self.offset = self._tempDataLen = 0
        self._paused = False
        super().__init__(server)

    def write(self, data: bytes) -> None:
        self.dataBuffer += data
        if len(self.dataBuffer) > _BUFFER and not self._paused:
            self._paused = True
            self.session.pauseProducing()

    def take(self, size: int) -> None:
        """Read some bytes."""
        self.received += self.dataBuffer[:size]
        del self.dataBuffer[:size]
        if self._paused and not self.dataBuffer:
            self._paused = False
            self.session.resumeProducing()


class LimitTests(MemoryProxyTests):
    def setUp(self) -> None:
        super().setUp()
        self.value = b"$100000\r\n%b\r\n" % bytes(100_000)
        #: The names of commands that no node answers.
        self.silent: set[bytes] = set()
        for node in self.nodes:
            node.script = lambda _, words, __: self.reply(words)

    def reply(self, words: list[bytes]) -> Any:
        if words[0] in self.silent:
            return SILENCE
        return self.value if words[0] == b"GET" else DEFAULT_REPLY

    def sent(self, name: bytes) -> int:
        """Return how many commands with a name have come to the nodes."""
        return sum(words[0] == name for node in self.nodes for _, words in node.received)

    # ---- time

    def test_idle_clients(self) -> None:
        """A client that sends nothing is disconnected, but not one that waits for a reply."""
        server = self.proxy(idle_timeout=5.0)
        self.silent = {b"GET"}
        idle, busy, waiting = (ClientEnd(server) for _ in range(3))
        waiting.send(request("GET", "k"))
        for _ in range(8):
            busy.send(PING)
            self.advance(1.0, 0.5)
        self.assertEqual((idle.closed, busy.closed, waiting.closed), (True, False, False))
        self.assertEqual(busy.received, PONG * 8)
        self.assertEqual(server.counters.clients_cut, 1)

    def test_no_idle_timeout(self) -> None:
        """By default, a client may be idle as long as it likes."""
        client = ClientEnd(self.proxy())
        self.advance(1000.0, 1.0)
        client.send(PING)
        self.advance(0.0)
        self.assertEqual((client.closed, client.received), (False, PONG))

    def test_slow_senders(self) -> None:
        """A client has a limited time for a request, however many bytes it sends; it may be as slow between them."""
        server = self.proxy(request_timeout=10.0)
        silent, slow, inline, quick, late = (ClientEnd(server) for _ in range(5))
        silent.send(request("SET", "k", "v")[:-1])
        slow.send(b"*2\r\n$4\r\nECHO\r\n$100\r\n")
        late.send(PING)
        # Each of its writes ends a request and begins the next.
        one = request("ECHO", "x")
        quick.send(one[:-3])
        for _ in range(15):
            slow.send(b"x")
            inline.send(b"x")
            quick.send(one[-3:] + one[:-3])
            self.advance(1.0, 0.5)
        self.assertEqual(
            [each.closed for each in (silent, slow, inline, quick, late)], [True, True, True, False, False]
        )
        self.assertEqual(quick.received, b"$1\r\nx\r\n" * 15)
        self.assertEqual(server.counters.clients_cut, 3)

    def test_the_proxy_is_slow(self) -> None:
        """A client is not disconnected for a request that the proxy has not read, because it waits for a node."""
        server = self.proxy(request_timeout=3.0, timeout=8.0)
        self.silent = {b"SET"}
        client = ClientEnd(server)
        # The window lets four of them go at first.
        client.send(request("SET", "k", "v") * 6 + request("PING")[:-1])
        self.advance(5.0, 0.5)
        self.assertFalse(client.closed)
        self.silent = set()
        self.advance(3.0, 0.5)
        client.send(b"\n")
        self.advance(1.0, 0.5)
        self.assertTrue(client.received.endswith(PONG), client.received)

    # ---- replies that nobody reads

    def test_a_client_that_does_not_read(self) -> None:
        """The proxy asks the nodes for little more, reads nothing more, and disconnects the client after some time."""
        server = self.proxy(output_timeout=20.0)
        stuck, other = SlowEnd(server), ClientEnd(server)
        for _ in range(50):
            stuck.send(request("GET", "k") * 10)
        self.advance(1.0)
        self.assertFalse(stuck.reading)
        self.assertLessEqual(self.sent(b"GET"), 8)
        self.assertLessEqual(stuck.session.unread, 8 * len(self.value))
        self.advance(15.0, 0.5)
        other.send(PING)
        self.advance(0.0)
        self.assertEqual((stuck.closed, other.received), (False, PONG))
        self.advance(10.0, 0.5)
        self.assertEqual((stuck.closed, other.closed, set(server.slow)), (True, False, set()))

    def test_a_client_that_reads_slowly(self) -> None:
        """It is not disconnected, and gets all replies."""
        server = self.proxy(output_timeout=5.0)
        slow = SlowEnd(server)
        slow.send(request("GET", "k") * 30)
        for _ in range(400):
            self.advance(1.0, 0.5)
            slow.take(10_000)
        self.assertFalse(slow.closed)
        self.assertEqual(bytes(slow.received), self.value * 30)
        self.assertEqual((slow.reading, set(server.slow)), (True, set()))

    def test_all_unread_replies_together(self) -> None:
        """If they need too much memory, the clients are disconnected that have read nothing for the longest time."""
        server = self.proxy(max_output=2_000_000)
        clients = [SlowEnd(server) for _ in range(10)]
        for client in clients:
            client.send(request("GET", "k") * 4)
            self.advance(0.1)
        self.advance(2.0, 0.1)
        closed = [client.closed for client in clients]
        self.assertEqual(closed, sorted(closed, reverse=True))
        self.assertEqual(closed.count(False), 2_000_000 // (4 * len(self.value)))

    def test_the_size_of_replies(self) -> None:
        """The more requests are under way, the smaller the earlier replies were; in the beginning there are four."""
        server = self.proxy()
        client = ClientEnd(server)
        under_way: list[int] = []

        def reply(words: list[bytes]) -> Any:
            under_way.append(len(client.session.cells))
            return self.value

        self.patch(self, "reply", reply)
        for size, most, count in ((100_000, 10, 300), (3_000_000, 2, 30), (10, 1024, 3000)):
            self.value = b"$%d\r\n%b\r\n" % (size, bytes(size))
            # The first replies of this size come in the earlier window.
            client.send(request("GET", "k") * 20)
            self.advance(0.1)
            if size == 100_000:
                self.assertEqual(under_way[0], 4)
            under_way.clear()
            client.send(request("GET", "k") * count)
            while len(under_way) < count:
                self.network.step()
            self.network.settle()
            self.assertEqual((max(under_way), len(under_way)), (most, count), size)
            under_way.clear()

    def test_many_clients_whose_replies_become_large(self) -> None:
        """Clients whose replies were small so far cannot make the nodes send a few GB at once."""
        server = self.proxy()
        clients = [ClientEnd(server) for _ in range(100)]
        self.value = b"$1\r\nx\r\n"
        for _ in range(6):
            for client in clients:
                client.send(request("GET", "k") * 64)
            self.advance(0.1)
        self.silent = {b"GET"}
        before = self.sent(b"GET")
        for client in clients:
            client.send(request("GET", "k") * 64)
        self.advance(0.1)
        # Each reply may have 1 MB: 1024 requests together, and one of each client.
        self.assertLessEqual(self.sent(b"GET") - before, 1124)

    # ---- requests

    def test_the_bytes_of_requests(self) -> None:
        """A client with many bytes under way is not read; with many clients, each has its fair share."""
        self.silent = {b"SET"}
        server = self.proxy(max_pending_bytes=300_000, max_total_bytes=500_000)
        clients = [ClientEnd(server) for _ in range(4)]
        for client in clients:
            for _ in range(10):
                # The transport calls no dataReceived while it is paused.
                if client.reading:
                    client.send(request("SET", "k", bytes(90_000)))
        self.advance(0.1)
        self.assertEqual([client.reading for client in clients], [False] * 4)
        # The first client has reached its own limit, the others the one for all.
        self.assertEqual([len(client.session.cells) for client in clients], [3, 1, 1, 1])
        for client in clients:
            client.close()
        self.assertEqual(server.under_way, 0)

    def test_a_flood(self) -> None:
        """A request of another client waits for two windows of a flood at most: one under way, and one behind it."""
        server = self.proxy()
        flood, other = ClientEnd(server), ClientEnd(server)
        count = 20_000
        flood.send(request("SET", "k", "v") * count)
        waits: list[int] = []
        while True:
            before = flood.session.commands
            if before == count:
                break
            other.received.clear()
            other.send(request("GET", "k"))
            while not other.received:
                self.network.step()
            waits.append(flood.session.commands - before)
        self.network.settle()
        self.assertEqual(flood.received.count(b"+OK\r\n"), count)
        self.assertGreater(len(waits), 9)
        self.assertLessEqual(max(waits), 2 * server.settings.max_pending, waits)

    def test_the_number_of_clients(self) -> None:
        """A client too many is told so and disconnected, and there is room again when another leaves."""
        server = self.proxy(max_clients=2)
        clients = [ClientEnd(server) for _ in range(2)]
        refused: Any = server.buildProtocol(None)
        refusal = _Refused(refused)
        self.assertEqual((refusal.received, refusal.closed), (b"-ERR max number of clients reached\r\n", True))
        clients[0].close()
        another = ClientEnd(server)
        another.send(PING)
        self.advance(0.0)
        self.assertEqual(another.received, PONG)
        self.assertEqual(server.counters.clients_refused, 1)


class _Refused:
    """The transport of a client that is refused."""

    def __init__(self, made: Any) -> None:
        self.received = b""
        self.closed = False
        made.makeConnection(self)

    def write(self, data: bytes) -> None:
        self.received += data

    def loseConnection(self) -> None:
        self.closed = True

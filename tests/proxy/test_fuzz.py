"""Millions of random bytes as the requests of clients, in random pieces."""

from __future__ import annotations

import gc
import os
import resource
from collections.abc import Iterator
from random import Random
from traceback import format_exc
from typing import Any

from twisted.internet.defer import Deferred

from tests.fuzz.inputs import SEED, damaged_bytes
from tests.logs import observe_log
from tests.proxy.base import frames_of, request
from tests.proxy.calls import KEYED, OTHERS, SEQUENCES, SEVERAL_SLOTS, lines, words_of
from tests.proxy.memory import ClientEnd, MemoryProxyTests
from txvalkeycluster.proxy.request_framer import RequestFramer, RequestLimits
from txvalkeycluster.proxy.request_framer import words_of as words_of_frame
from txvalkeycluster.proxy.server import ProxyServer
from txvalkeycluster.proxy.users import line_for
from txvalkeycluster.testing import DEFAULT_REPLY, ScriptedNode

# All bytes of the test; ten million take a minute.
BYTES = int(os.environ.get("TXVALKEYCLUSTER_PROXY_FUZZ", "1000000"))
_CALLS = [
    words_of(call)
    for line in (*lines(KEYED), *lines(OTHERS), *lines(SEVERAL_SLOTS), *lines(SEQUENCES))
    for call in line.split(" | ")
]
_SUBSCRIBING = frozenset([b"SUBSCRIBE", b"PSUBSCRIBE", b"SSUBSCRIBE", b"UNSUBSCRIBE", b"PUNSUBSCRIBE", b"SUNSUBSCRIBE"])
# Requests whose number of replies is not one.
_OTHER_REPLIES = frozenset([b"QUIT", b"POST", b"HOST:", b"CLIENT", b"RESET", *_SUBSCRIBING])
_REPLIES = {
    b"INFO": b"$35\r\n# Server\r\nvalkey_version:9.1.2\r\na:1\r\n\r\n",
    b"SCAN": b"*2\r\n$1\r\n0\r\n*1\r\n$3\r\nkey\r\n",
    b"DBSIZE": b":1\r\n",
    b"EXISTS": b":1\r\n",
    b"TOUCH": b":1\r\n",
    b"UNLINK": b":1\r\n",
    b"KEYS": b"*1\r\n$3\r\nkey\r\n",
    b"MGET": b"*1\r\n$1\r\na\r\n",
    b"CONFIG": b"*2\r\n$1\r\na\r\n$1\r\nb\r\n",
    b"COMMAND": b"*1\r\n*-1\r\n",
    b"FUNCTION": b"-ERR no\r\n",
    b"CLUSTER": b"-ERR no\r\n",
    b"GET": b"$5\r\nvalue\r\n",
    b"DEL": b":1\r\n",
    b"PING": b"+PONG\r\n",
}


def answer(node: ScriptedNode, words: list[bytes], connection: Any) -> Any:
    """Answer as a node whose replies have the usual types."""
    del node.received[:]
    name = words[0].upper()
    of_the_map = [word.upper() for word in words] in ([b"CLUSTER", b"SLOTS"], [b"CLUSTER", b"SHARDS"])
    if name == b"HELLO" or name in _SUBSCRIBING or of_the_map:
        return DEFAULT_REPLY
    return _REPLIES.get(name, b"+OK\r\n")


def some_words(random: Random) -> list[bytes]:
    """Return the words of a request."""
    if random.random() < 0.5:
        return random.choice(_CALLS)
    if random.random() < 0.7:
        words = [random.choice((b"GET", b"SET", b"set", b"HSET", b"MGET", b"DEL", b"PING"))]
        return words + [random.randbytes(random.choice((0, 1, 10, 16, 99, 500))) for _ in range(random.randrange(4))]
    return [random.randbytes(random.randrange(20)) for _ in range(random.choice((1, 2, 3, 20)))]


def stream(random: Random) -> bytes:
    """Return what one client sends."""
    if random.random() < 0.1:
        return random.randbytes(random.randrange(2000))
    parts: list[bytes] = []
    for _ in range(random.choice((1, 3, 10, 40))):
        words = some_words(random)
        if random.random() < 0.1:
            parts.append(b" ".join(words) + random.choice((b"\n", b"\r\n")))
        elif random.random() < 0.002:
            parts.append(request("SET", "key", random.randbytes(random.choice((5000, 70_000)))))
        else:
            parts.append(request(*words))
    whole = b"".join(parts)
    return damaged_bytes(random, whole) if random.random() < 0.6 else whole


def pieces(random: Random, data: bytes) -> Iterator[bytes]:
    """Cut data as reads from a socket may bring it."""
    most = random.choice((5, 50, 1000, 65536))
    place = 0
    while place < len(data):
        size = random.randrange(1, most)
        yield data[place : place + size]
        place += size


class FuzzTests(MemoryProxyTests):
    def setUp(self) -> None:
        super().setUp()
        self.failures: list[str] = []
        observe_log(self, lambda event: self.failures.append(repr(event)) if "log_failure" in event else None)
        for node in self.nodes:
            node.script = answer

    def server_with_users(self) -> ProxyServer:
        """Return a proxy whose clients must log in."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.write(line_for("default", b"secret"))
        server = self.proxy(users=path)
        assert server.users is not None

        def in_this_thread(check: Any, password: bytes) -> Deferred[bool]:
            checked: Deferred[bool] = Deferred()
            self.clock.callLater(0, checked.callback, password == b"secret")
            return checked

        server.users._in_thread = in_this_thread
        return server

    def one_client(self, random: Random, server: ProxyServer) -> int:
        """Send the bytes of one client; return their number."""
        data = stream(random)
        known = server.lets_everybody_in
        if not known and random.random() < 0.7:
            data = request("AUTH", random.choice(("secret", "wrong"))) + data
        client = ClientEnd(server)
        for piece in pieces(random, data):
            client.send(piece)
            if random.random() < 0.3:
                self.network.settle()
            if random.random() < 0.002:
                client.close()
        self.network.settle()
        if client.session.cells and not client.closed:
            # Commands such as WAIT take time.
            self.advance(server.settings.timeout + 1.0, 0.5)
        # A command can wait without end.
        if known and not client.closed and client.session.blocked is None:
            self.check_replies(client, data)
        self.assertNotIn(b"the proxy failed", client.received)
        client.close()
        self.clock.advance(0.001)
        return len(data)

    def check_replies(self, client: ClientEnd, data: bytes) -> None:
        """Check that each request has a reply, and that nothing is left."""
        framer = RequestFramer(RequestLimits())
        requests = framer.feed(data)
        state = f"{client.session!r} {bytes(client.received[-300:])!r} {data[-300:]!r}"
        self.assertEqual((framer.error, client.session.partial), ("", framer.partial), state)
        self.assertEqual((len(client.session.cells), client.reading), (0, True), state)
        names = {name.upper() for _, name, _ in requests}
        if not names & _OTHER_REPLIES:
            replies = frames_of(bytes(client.received))
            self.assertEqual(len(replies), len(requests), [words_of_frame(frame) for frame, _, _ in requests])
            for (frame, name, key), reply in zip(requests, replies, strict=True):
                if name.upper() == b"ECHO" and len(words_of_frame(frame)) == 2:
                    self.assertEqual(reply, b"$%d\r\n%b\r\n" % (len(key or b""), key or b""))

    def fuzz(self, name: str, server: ProxyServer, share: float) -> None:
        random = Random(f"{SEED} {name}")
        sent, sizes = 0, []
        while sent < share * BYTES:
            for _ in range(200):
                state = random.getstate()
                try:
                    sent += self.one_client(random, server)
                except Exception:
                    raise AssertionError(f"client after {sent} bytes of {name}, seed {SEED}:\n{format_exc()}") from None
                self.assertEqual(self.failures, [], state[1][:1])
            gc.collect()
            sizes.append((len(gc.get_objects()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
        self.assertEqual((server.sessions, server.under_way, len(server.slow)), ({}, 0, 0))
        self.assertTrue(len(server.scans._scans) <= 1000)
        # The first clients fill caches, and scans and shapes are bounded.
        objects, kilobytes = zip(*sizes[len(sizes) // 2 :], strict=True)
        self.assertTrue(objects[-1] - objects[0] < 30_000, objects)
        self.assertTrue(kilobytes[-1] - kilobytes[0] < 30_000, kilobytes)

    def test_clients(self) -> None:
        """No bytes cause an exception or a lost reply, and nothing is left of clients that have gone."""
        self.fuzz("clients", self.proxy(), 0.7)

    def test_clients_that_must_log_in(self) -> None:
        """The same holds for clients that have not logged in, or log in first."""
        self.fuzz("logins", self.server_with_users(), 0.3)

"""Invalid and unusual bytes: the proxy answers and closes as a single server does.

Two things differ.  The proxy asks the cluster about an unknown command, so it cannot take back the error if the bytes
of a browser follow ("PUT / HTTP/1.1").  And the server takes the byte 255 for a space in an inline command.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet import reactor
from twisted.internet.task import deferLater

from tests.proxy.base import ProxyTests, Wire, request
from txvalkeycluster.proxy.users import line_for

PING = request("PING")
PASSWORD = "secret"
_LONG = b"A" * 65535

#: Each is sent by a client of its own: bytes, or several pieces with a pause between them.
INPUTS: list[bytes | list[bytes]] = [
    # Inline commands.
    *(b"\r\n", b"\n", b"   \r\n", b" \t\n" + PING, b"\r" + PING, b"\r\r\n" + PING, b"\n\n" + PING),
    PING + b"\r\n\r\n" + PING,
    *(b"PING\r\n", b"PING\n", b"ping\r\nPiNg a\r\n", b"  PING   a  \r\n", b"PING\ta\r\n", b"PING\r", b"PING\r\r\n"),
    [b"PIN", b"G\r", b"\n"],
    *(b'PING "a b"\r\n', b"PING 'a b'\r\n", b"PING ''\r\n", b'PING ""\r\n', b'""\r\n', b"'' a\r\n", b"PING a\\ b\r\n"),
    *(b'PING "\\x41\\n\\r\\t\\b\\a\\\\\\"\\q"\r\n', b"PING '\\'\\n'\r\n", b'PING "\\xzz"\r\n', b'PING "\\x4"\r\n'),
    *(b'PING "a\r\n', b"PING 'a\r\n", b'PING "a"b\r\n', b"PING 'a'b\r\n", b'PING a"b"\r\n', b"PING a'b'\r\n"),
    *(b'PING a"b c"\r\n', b'PING "a"\'b\'c\r\n', b'PING "\\"\r\n', b"PING '\\'\r\n", b"PING '\\\\'\r\n"),
    b'PING "\\""\r\n',
    *(b'PING "a\\\nb"\r\n', b"PING '\n'\r\n", b'"PING" "a"\r\n', b"P'I'N\"G\" a\r\n", b'PING "a" "b\r\n' + PING),
    *(b"PING a\x00b\r\n" + PING, b"PING \x00\r\n", b"\x00PING\r\n", b'PING "a\x00b"\r\n', b"FOO\x00BAR a\r\n"),
    *(b"PING a\x0bb\r\n", b"PING a\x0cb\r\n", b"PING \x0ba\x0c\r\n", b"PING a\rb\r\n", b"PING a\tb\r\n"),
    b"PING\x0b\r\n",
    *(b"PING\x85a\r\n", b"PING\xa0a\r\n", b"PING \x80\xfe\r\n", b"\xfe\n", b"PING \xe2\x82\xac\r\n"),
    [b"PING \0" + b"a" * 100 + b"\n", b"a" * 60000 + b"\n", b"a" * 6000],
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n",
    *(_LONG, _LONG + b"A", _LONG + b"AA", b"PING " + b"A" * 65000 + b"\r\n", b"PING " + b"A" * 100000 + b"\r\n"),
    # What is no request in RESP.
    *(b"$4\r\n", b"$4\r\nPING\r\n", b"+OK\r\n", b"-x\r\n", b":1\r\n", b">1\r\n", b"_\r\n", b"%1\r\n", b"~1\r\n"),
    # The number of words.
    *(b"*0\r\n" + PING, b"*-1\r\n" + PING, b"*-10\r\n" + PING, b"*\r\n" + PING, b"*a\r\n" + PING, b"*01\r\n" + PING),
    *(b"*+1\r\n" + PING, b"*-0\r\n" + PING, b"* 1\r\n" + PING, b"*1 \r\n" + PING, b"*-\r\n" + PING, b"*--1\r\n" + PING),
    *(b"*1048576\r\n", b"*1048577\r\n", b"*2147483648\r\n", b"*9223372036854775807\r\n", b"*9223372036854775808\r\n"),
    *(b"*-2147483649\r\n" + PING, b"*-9223372036854775808\r\n" + PING, b"*-9223372036854775809\r\n" + PING),
    *(b"*99999999999999999999999\r\n", b"*-99999999999999999999999\r\n", b"*1\x00\r\n" + PING, b"*\x00\r\n", b"*1\x00"),
    *(b"*1\n$4\nPING\n" + PING, b"*1\n$4\r\nPING\r\n", b"*1\rx" + PING, b"*a\rx" + PING, b"*1\r", b"*\r"),
    b"*1\n" + PING,
    [b"*1\r", b"x"],
    [b"*1\r", b"\n$4\r", b"\nPING\r", b"\n"],
    *(b"*" + b"1" * 65534, b"*" + b"1" * 65535, b"*" + b"1" * 65536, b"*" + b"1" * 70000),
    # The length of a word.
    *(b"*1\r\n$-1\r\n", b"*1\r\n$\r\n", b"*1\r\n$a\r\n", b"*1\r\n$04\r\nPING\r\n", b"*1\r\n$+4\r\nPING\r\n"),
    *(b"*1\r\n$-0\r\n\r\n", b"*1\r\n$4 \r\nPING\r\n", b"*1\r\n$99999999999999999999\r\n", b"*1\r\n$4\x00\r\nPING\r\n"),
    *(b"*1\r\n$536870912\r\n", b"*1\r\n$536870913\r\n", b"*1\r\n$0\r\n\r\n", b"*2\r\n$4\r\nPING\r\n$0\r\n\r\n"),
    *(b"*1\r\n$4\nPING\r\n", b"*1\r\n$4\rxPING\r\n" + PING, b"*1\r\n$a\rx", b"*1\r\n$4\r", b"*1\r\n$\r"),
    b"*1\r\n$\x00",
    [b"*1\r\n$4\r", b"x"],
    *(b"*1\r\n$" + b"1" * 65535, b"*1\r\n$" + b"1" * 65536, b"*1\r\n" + b"1" * 65537),
    # What is no word.
    *(b"*1\r\nfoo\r\n", b"*1\r\nfoo", b"*1\r\nfoo\rx", b"*1\r\nf\r", b"*1\r\n\r\n", b"*1\r\n\n\r\n", b"*1\r\n'\r\n"),
    *(b"*1\r\n\xff\r\n", b"*1\r\n\x80\r\n", b"*1\r\n\x00\r\n", b"*1\r\n\x00", b"*1\r\n*1\r\n", b"*1\r\n:1\r\n"),
    b"*1\r\n>1\r\n",
    *(b"*1\r\n+PING\r\n", b"*2\r\n$4\r\nPING\r\nPING\r\n", PING + b"*1\r\n$-1\r\n" + PING),
    [b"*1\r\nf\r", b"\n"],
    # The line break after a word.
    *(b"*1\r\n$4\r\nPINGxx" + PING, b"*1\r\n$4\r\nPING\n\r" + PING, b"*1\r\n$4\r\nPING\rx", b"*1\r\n$4\r\nPINGx"),
    *(b"*1\r\n$3\r\nPING\r\n" + PING, b"*1\r\n$5\r\nPING\r\n" + PING),
    [b"*1\r\n$4\r\nPINGx", b"y"],
    # A browser, and other programs that speak HTTP.
    [b"GET / HTTP/1.1\r\n", b"Host: localhost\r\n", b"\r\n"],
    *(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"POST / HTTP/1.1\r\nHost: x\r\n\r\n"),
    *(b"post\r\n", b"Host:\r\n", b"host: x\r\n", b"HOST:\r\n" + PING, b"*1\r\n$4\r\nPOST\r\n"),
    b"*1\r\n$5\r\nHost:\r\n" + PING,
    *(PING + b"POST / HTTP/1.1\r\n" + PING, PING + b"Host: a\r\n"),
    # The end.
    *(b"QUIT\r\n" + PING, PING + b"QUIT\r\n" + PING, b"quit a b\r\n", request("QUIT") + b"*1\r\n$-1\r\n"),
    # Unknown commands, with names and arguments that are cut or changed in the error.
    *(b'FOO "a\\nb"\r\n', b"FOO 'a'\r\n", b"FOO " + b"a " * 100 + b"\r\n", b"F" * 300 + b"\r\n"),
    b"F " + b"a" * 300 + b"\r\n",
    *(b"F" * 128 + b" b\r\n", b"F" * 129 + b" b\r\n", b"F " + b"a" * 127 + b" b\r\n", b"F " + b"a" * 128 + b" b\r\n"),
    *(request(b"FOO\0BAR", b"a\0b"), request(b"FO\r\n", b"a\r\nb", b"\xff\x80")),
    request("FOO", "a" * 60, "b" * 60, "c" * 60),
    *(request("CLIENT", "a\r\nb"), request("CLIENT", b"a\0\xffb"), request("OBJECT", b"a\0\xffb")),
    request("CLIENT", "F" * 300),
    *(request("config", "a\r\nb\r\n"), request("CLIENT", ""), request("SCRIPT", b"\xff")),
    request("FUNCTION", "F" * 129),
    # Wrong numbers of arguments.
    *(b"SET a\r\n", b"SET aaaaaaaaaaaaaaaaaaa\r\n" + PING, b"EXISTS\r\n", b"gEt a\r\n", b"client id x\r\n"),
    b"eXpIrE a\r\n",
]  # fmt: skip

#: Before the login.
UNKNOWN_CLIENT: list[bytes | list[bytes]] = [
    *(PING, b"PING\r\n", b"GET a\r\n", b"GET\r\n", b"FOO a\r\n", b"CLIENT X\r\n", b"CLIENT\r\n", b"CLIENT ID\r\n"),
    b"INFO\r\n",
    *(b"MULTI\r\n", b"SUBSCRIBE a\r\n", b"COMMAND\r\n", b"SELECT 0\r\n", b"ECHO a\r\n", b"POST a\r\n"),
    b"Host: a\r\n" + PING,
    *(b"QUIT\r\n" + PING, b"RESET\r\n" + PING, b"RESET a\r\n", b"QUIT a\r\n", b"HELLO\r\n", b"HELLO 2\r\n"),
    b"HELLO 3\r\n",
    *(b"HELLO x\r\n", b"HELLO 4\r\n", b"HELLO 2 SETNAME a\r\n", b"HELLO 2 FOO\r\n", b"HELLO 2 AUTH\r\n"),
    b"HELLO 2 AUTH a\r\n",
    *(b"HELLO 2 AUTH default wrong\r\n" + PING, b"HELLO 2 AUTH nobody secret\r\n" + PING, b"HELLO 2 SETNAME 'a b'\r\n"),
    *(b"AUTH\r\n", b"AUTH wrong\r\n" + PING, b"AUTH default wrong\r\n", b"AUTH nobody secret\r\n", b"AUTH a b c\r\n"),
    b"AUTH ''\r\n",
    *(b"AUTH secret\r\n" + PING, b"AUTH default secret\r\n" + PING),
    b"AUTH wrong\r\nAUTH secret\r\nAUTH wrong\r\n" + PING,
    *(b"AUTH secret\r\nRESET\r\n" + PING, b"HELLO 2 AUTH default wrong\r\nHELLO 3\r\n", b"AUTH \xff\r\n"),
    b"AUTH \xff \xff\r\n",
    *(b"*11\r\n", b"*10\r\n", b"*11\r\n$4\r\nPING\r\n", b"*2\r\n$4\r\nAUTH\r\n$16384\r\n"),
    b"*2\r\n$4\r\nAUTH\r\n$16385\r\n",
    *(b"*2147483648\r\n", b"*-1\r\n" + PING, b"*1\r\n$536870913\r\n", request("PING") + b"*11\r\n"),
    b"*12\r\n$20000\r\n",
    request("AUTH", "secret") + request("DEL", *"abcdefghijklmnop"),
    request("AUTH", "secret") + request("PING", "a" * 20000) + PING,
    [request("AUTH", "secret") + request("PING", "a" * 20000)[:10000], request("PING", "a" * 20000)[10000:] + PING],
    request("AUTH", "wrong") + request("PING", "a" * 20000) + PING,
    request("AUTH", "wrong") + request("DEL", *"abcdefghijklmnop") + PING,
    request("HELLO", 2, "AUTH", "nobody", "wrong") + request("DEL", *"abcdefghijklmnop") + PING,
    request("AUTH", "wrong") + request("AUTH", "secret") + request("DEL", *"abcdefghijklmnop") + PING,
    *(b"X" * 65537, b"X " + b"a" * 60000 + b"\r\n"),
]  # fmt: skip


class InputTests(ProxyTests):
    async def compare(self, inputs: Sequence[bytes | list[bytes]], single: int, port: int) -> list[Wire]:
        """Send inputs to a single server and to a proxy; both must answer the same, and close or wait."""
        pairs = [(await self.wire(single), await self.wire(port)) for _ in inputs]
        pieces = [each if isinstance(each, list) else [each] for each in inputs]
        fences = await self.wire(single), await self.wire(port)
        for turn in range(max(map(len, pieces))):
            for pair, each in zip(pairs, pieces, strict=True):
                for wire in pair:
                    if turn < len(each) and not wire.closed:
                        wire.send(each[turn])
            await self.fence(fences[0])
            await self.settle(pairs)
            await self.fence(fences[1])
        different = [
            f"{each!r:.120}\n  server {real.received!r:.200} {real.closed}\n  proxy  {proxied.received!r:.200} "
            f"{proxied.closed}"
            for each, (real, proxied) in zip(inputs, pairs, strict=True)
            if (real.received, real.closed) != (proxied.received, proxied.closed)
        ]
        self.assertEqual(different, [], "\n".join(different))
        return [real for real, _ in pairs]

    async def settle(self, pairs: Sequence[tuple[Wire, Wire]]) -> None:
        """Wait until the proxy has answered as the server has, or for three seconds."""
        for _ in range(300):
            if all((real.received, real.closed) == (proxied.received, proxied.closed) for real, proxied in pairs):
                return
            await deferLater(reactor, 0.01)

    async def fence(self, wire: Wire) -> None:
        """Wait until all earlier bytes on other connections of this process are handled."""
        for _ in range(15):
            await wire.call("PING")

    async def test_inputs(self) -> None:
        """The same bytes get the same errors and replies; the connection is closed, or not, as by a server."""
        ended = await self.compare(INPUTS, await self.start_single(), self.port)
        texts = {wire.received.partition(b":")[2] for wire in ended if b"Protocol error" in wire.received}
        self.assertTrue(len(texts) > 8, texts)
        self.assertTrue(20 < sum(wire.closed for wire in ended) < len(INPUTS) - 20)

    async def test_inputs_before_the_login(self) -> None:
        """The same holds for clients that have not logged in, with the limits for unknown clients."""
        users = self.mktemp()
        with open(users, "w") as file:
            file.write(line_for("default", PASSWORD.encode()))
        service = await self.start_proxy(users=users)
        single = await self.start_single("--requirepass", PASSWORD)
        ended = await self.compare(UNKNOWN_CLIENT, single, self.port_of(service))
        self.assertEqual({wire.closed for wire in ended}, {True, False})

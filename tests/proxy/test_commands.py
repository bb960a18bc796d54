"""The same requests get the same bytes from the proxy and from a single server."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from tests.cases import SynchronousTestCase
from tests.proxy.base import ProxyTests, Wire, frames_of, request
from tests.proxy.calls import DIFFERENT, KEYED, OTHERS, SEQUENCES, SEVERAL_SLOTS, TYPES, lines, words_of
from txvalkeycluster.commands import Command, CommandTable
from txvalkeycluster.proxy.commands.dispatch import REFUSED, Way, way_of

_TABLE = CommandTable()
# How many requests are sent in one write.
_AT_ONCE = 250
# Replies of these commands have members in a random order, or random members.
_RANDOM = frozenset(["HRANDFIELD", "SPOP", "SRANDMEMBER", "ZRANDMEMBER"])
_MEMBER = re.compile(rb"\$\d+\r\n[^\r]*\r\n|,[^\r]*\r\n")
# Replies of these commands have times, or numbers that depend on time.
_TIMED = frozenset(
    ["XADD", "XINFO STREAM", "XINFO CONSUMERS", "XPENDING", "XAUTOCLAIM", "TTL", "PTTL", "HTTL", "HPTTL"]
)
_NUMBER = re.compile(rb"\d+")
_UNSORTED = frozenset(["KEYS", "COMMAND", "COMMAND LIST", "PUBSUB CHANNELS"])
# What a reply to HELLO says about a connection, a version and modules.
_ABOUT = re.compile(rb"(version\r\n)\$\d+\r\n[^\r]*|(id\r\n):\d+|(modules\r\n)(?s:.*)")


def commands(*, refused: bool) -> Iterable[Command]:
    """Return all commands and subcommands that the proxy refuses, or all others."""
    for command in _TABLE.commands:
        for each in (*command.subcommands.values(), command):
            if (way_of(each) is Way.REFUSED) == refused:
                yield each


def named(words: Sequence[bytes]) -> str:
    """Return the name of the command of a call."""
    return _TABLE[words[0]].resolve(words).name


def normal(words: Sequence[bytes], reply: bytes) -> object:
    """Return a reply without what is random or depends on time."""
    name = named(words)
    if name in _RANDOM:
        return _MEMBER.sub(b"member", reply)
    if name in _TIMED:
        return _NUMBER.sub(b"n", reply)
    if name == "HELLO":
        return _ABOUT.sub(rb"\1\2\3", reply)
    return sorted(reply.splitlines()) if name in _UNSORTED else reply


class CallListTests(SynchronousTestCase):
    COMPARED = (*lines(KEYED), *lines(OTHERS), *lines(SEVERAL_SLOTS))

    def test_every_command_is_compared(self) -> None:
        """Every command that the proxy does not refuse is in the calls that are compared, or differs for a reason."""
        in_sequences = [call for line in lines(SEQUENCES) for call in line.split(" | ")]
        found = {named(words_of(line)) for line in (*self.COMPARED, *DIFFERENT, *in_sequences)}
        wanted = {each.name for each in commands(refused=False) if not each.subcommands}
        # The subcommands of CLUSTER are taken from the table.
        self.assertEqual({name for name in wanted - found if not name.startswith("CLUSTER ")}, set())

    def test_different_calls_are_not_compared(self) -> None:
        """A call that differs is in no other list."""
        self.assertEqual(set(self.COMPARED) & set(DIFFERENT), set())


class CommandTests(ProxyTests):
    timeout = 180

    async def pair(self, single: int, protocol: int = 2) -> tuple[Wire, Wire]:
        """Return a connection to a single server, and one to the proxy."""
        wires = await self.wire(single), await self.wire()
        for wire in wires:
            self.assertIn(b"proto\r\n:%d\r\n" % protocol, await wire.call("HELLO", protocol))
        return wires

    async def compare(self, wires: tuple[Wire, Wire], calls: Sequence[tuple[Sequence[bytes], str]]) -> None:
        """Make calls at both sides; the replies must be the same.  A call has a text that describes it."""
        different: list[str] = []
        for start in range(0, len(calls), _AT_ONCE):
            part = calls[start : start + _AT_ONCE]
            requests = [request(*words) for words, _ in part]
            of_server, of_proxy = [await self.ask(wire, requests) for wire in wires]
            for (words, text), one, other in zip(part, of_server, of_proxy, strict=True):
                if normal(words, one) != normal(words, other):
                    different.append(f"{text}\n  server {one[:300]!r}\n  proxy  {other[:300]!r}")
        self.assertEqual(different, [], "\n".join(different))

    async def compare_keyed(self, protocol: int) -> None:
        calls: list[tuple[Sequence[bytes], str]] = []
        for line in lines(KEYED):
            words = words_of(line)
            found: list[Any] = _TABLE.keys_of(words)
            keys = [key.decode() for key in dict.fromkeys(found) if not key.endswith(b"none")]
            for kind, makers in TYPES.items():
                if keys:
                    calls.append((words_of(" ".join(["DEL", *keys])), "DEL"))
                for key in keys:
                    calls += [(words_of(maker.format(key)), maker) for maker in makers]
                calls.append((words, f"{line}, for a key with: {kind}"))
        await self.compare(await self.pair(await self.start_single(), protocol), calls)

    async def test_keyed_commands_in_resp2(self) -> None:
        """Commands with keys get the same replies, for all types of keys, right and wrong ones."""
        await self.compare_keyed(2)

    async def test_keyed_commands_in_resp3(self) -> None:
        """The same with RESP3."""
        await self.compare_keyed(3)

    async def test_other_commands(self) -> None:
        """Commands about the connection and the server, scripts and functions get the same replies."""
        for protocol in (2, 3):
            wires = await self.pair(await self.start_single(), protocol)
            await self.compare(wires, [(words_of(line), line) for line in lines(OTHERS)])

    async def test_keys_in_several_slots(self) -> None:
        """Commands that are split get the same replies as from one server."""
        for protocol in (2, 3):
            wires = await self.pair(await self.start_single(), protocol)
            await self.compare(wires, [(words_of(line), line) for line in lines(SEVERAL_SLOTS)])

    async def test_keys_in_several_slots_without_a_way_to_split(self) -> None:
        """Every other command gets CROSSSLOT if its keys are in several slots, and executes nothing."""
        wire = await self.wire()
        split: set[str] = set()
        tried = 0
        for line in lines(KEYED):
            words = words_of(line)
            places = list(_TABLE[words[0]].resolve(words).places(words))
            if len({words[place] for place in places}) < 2:
                continue
            for number, place in enumerate(dict.fromkeys(places)):
                words[place] = b"key%d" % number
            reply = await wire.call(*words)
            tried += 1
            if not reply.startswith(b"-CROSSSLOT Keys in request don't hash to the same slot\r\n"):
                split.add(named(words))
        self.assertEqual(
            split,
            {"DEL", "EXISTS", "MGET", "MSET", "TOUCH", "UNLINK", "MSETEX", "BRPOP", "BLMPOP", "BZPOPMIN"},
        )
        self.assertTrue(tried > 40, tried)
        self.assertEqual(await wire.call("EXISTS", "d", "key0", "key1"), b":0\r\n")

    async def test_sequences(self) -> None:
        """Requests that change the connection have the same effect on those behind them."""
        single = await self.start_single()
        wrong: list[str] = []
        for line in lines(SEQUENCES):
            received: list[list[object]] = []
            calls = [words_of(call) for call in line.split(" | ")]
            for wire in (await self.wire(single), await self.wire()):
                wire.send(b"".join(request(*words) for words in [*calls, [b"QUIT"]]))
                received.append([normal([b"HELLO"], frame) for frame in frames_of(await wire.ended())])
            if received[1] != received[0]:
                wrong.append(f"{line}\n  server {received[0]}\n  proxy  {received[1]}")
        self.assertEqual(wrong, [], "\n".join(wrong))

    async def test_wrong_numbers_of_arguments(self) -> None:
        """Every command gets the same error for too few and too many arguments, also the commands that are refused."""
        calls: list[tuple[Sequence[bytes], str]] = []
        for command in (*commands(refused=False), *commands(refused=True)):
            name = command.name.encode().split(b" ")
            counts = [command.arity - 1, command.arity + 1] if command.arity > 0 else [-command.arity - 1]
            for count in counts:
                if count >= len(name) and not (command.subcommands and count > 1):
                    words = [*name, *[b"a"] * (count - len(name))]
                    calls.append((words, b" ".join(words).decode()))
        self.assertTrue(len(calls) > 400, len(calls))
        await self.compare(await self.pair(await self.start_single()), calls)

    async def test_cluster_commands(self) -> None:
        """The subcommands of CLUSTER are answered as by a server without cluster support."""
        calls: list[tuple[Sequence[bytes], str]] = []
        for name, command in _TABLE["CLUSTER"].subcommands.items():
            words = [b"CLUSTER", name.encode(), *[b"1"] * (abs(command.arity) - 2)]
            calls.append((words, command.name))
        self.assertTrue(len(calls) > 25, len(calls))
        await self.compare(await self.pair(await self.start_single()), calls)

    async def test_refused_commands(self) -> None:
        """Every command that is refused gets an error that says so, and the connection goes on."""
        wire = await self.wire()
        for command in commands(refused=True):
            words = command.name.encode().split(b" ")
            words += [b"a"] * (abs(command.arity) - len(words))
            if command.subcommands or command.name.endswith(" HELP"):
                continue
            reply = await wire.call(*words)
            name = command.name.partition(" ")[0]
            self.assertEqual(reply, f"-ERR {REFUSED[name]}\r\n".encode())
            self.assertTrue(name in REFUSED[name] or "cluster support" in REFUSED[name], reply)
        self.assertEqual(await wire.call("PING"), b"+PONG\r\n")

    async def test_differences(self) -> None:
        """What must differ has the reply that the list tells, and really differs."""
        single = await self.start_single("--requirepass", "secret")
        for line, (reason, pattern) in DIFFERENT.items():
            server, proxy = await self.wire(single), await self.wire()
            await server.call("AUTH", "secret")
            for wire in (server, proxy):
                await self.ask(wire, [request("DEL", "{t}list"), request("RPUSH", "{t}list", 2, 1)])
                wire.send(request("DEL", "a"))
                await wire.replies(1)
            proxied = await proxy.call(*words_of(line))
            self.assertTrue(re.match(pattern, proxied), (line, reason, proxied[:300]))
            if "QUIT" not in line and "RESET" not in line and "BLOCK" not in line and "COMMAND" not in line:
                await server.call("DEL", "a")
                self.assertNotEqual(await server.call(*words_of(line)), proxied, line)

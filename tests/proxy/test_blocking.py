"""Commands that block, through a proxy before a real cluster."""

from __future__ import annotations

from collections import Counter
from functools import partial
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from tests.proxy.base import ProxyTests, Wire, request
from tests.proxy.memory import ClientEnd, MemoryProxyTests
from tests.proxy.programs import until
from txvalkeycluster import key_slot
from txvalkeycluster.testing import CLOSE, DEFAULT_REPLY

# Lists in the slots of all three primaries, and streams there.
_LISTS = tuple(
    next(f"list:{number}" for number in range(100) if key_slot(f"list:{number}") * 3 // 16384 == third)
    for third in range(3)
)
_STREAMS = tuple(f"stream:{{{key}}}" for key in _LISTS)
_PRODUCERS, _CONSUMERS, _EACH = 200, 50, 25
_NOTHING = b"*-1\r\n"


def popped(key: str, value: str) -> bytes:
    """Return the reply of BLPOP."""
    return b"*2\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key.encode(), len(value), value.encode())


class BlockingTests(ProxyTests):
    async def blocked(self, count: int) -> None:
        """Wait until so many clients of the proxy wait."""
        sessions = self.service.server.sessions.values()
        await until(lambda: sum(each.blocked is not None for each in sessions) == count)

    async def at_servers(self, count: int) -> None:
        """Wait until so many commands block at the servers."""

        async def so_many() -> bool:
            found = 0
            for server in await self.cluster.primaries():
                text = (await self.cluster.ask(server, "INFO", "clients")).decode()
                found += int(text.partition("\r\nblocked_clients:")[2].partition("\r\n")[0])
            return found == count

        await self.cluster.until(so_many, f"{count} blocked commands")

    async def test_waiting(self) -> None:
        """A command waits for its element, the ones behind it wait, and other clients do not."""
        for keys in (_LISTS[:1], _LISTS):
            one, other = await self.wire(), await self.wire()
            one.send(request("BLPOP", *keys, 0) + request("SET", "behind", 1))
            await self.blocked(1)
            self.assertEqual(await other.call("GET", "behind"), b"$-1\r\n")
            self.assertEqual(await other.call("RPUSH", keys[-1], "v"), b":1\r\n")
            self.assertEqual(await one.replies(2), [popped(keys[-1], "v"), b"+OK\r\n"])
            self.assertEqual(await other.call("GETDEL", "behind"), b"$1\r\n1\r\n")
            self.assertEqual(await other.call("EXISTS", *_LISTS), b":0\r\n")
        await self.at_servers(0)

    async def test_the_first_key_first(self) -> None:
        """If several lists have elements, the first of the keys gives one."""
        wire = await self.wire()
        for key in _LISTS:
            await wire.call("RPUSH", key, "a", "b")
        for _ in range(2):
            for keys in (_LISTS, _LISTS[::-1]):
                self.assertEqual(await wire.call("BRPOP", *keys, 0), popped(keys[0], "b"))
                await wire.call("RPUSH", keys[0], "b")

    async def test_one_element_for_one_client(self) -> None:
        """Of many clients that wait for the same lists, one gets an element."""
        wires = [await self.wire() for _ in range(20)]
        for wire in wires:
            wire.send(request("BLPOP", *_LISTS, 0))
        await self.blocked(20)
        pusher = await self.wire()
        for number in range(20):
            await pusher.call("RPUSH", _LISTS[number % 3], number)
        replies = [(await wire.replies(1))[0] for wire in wires]
        self.assertEqual(sorted(replies), sorted(popped(_LISTS[number % 3], str(number)) for number in range(20)))

    async def test_streams(self) -> None:
        """XREAD and XREADGROUP wait for entries of streams in several slots."""
        other = await self.wire()
        for stream in _STREAMS:
            await other.call("XADD", stream, "1-1", "old", "1")
        for number, call in enumerate((("XREAD",), ("XREADGROUP", "GROUP", "g", "c")), 2):
            for stream in _STREAMS:
                await other.call("XGROUP", "DESTROY", stream, "g")
                await other.call("XGROUP", "CREATE", stream, "g", "$")
            one = await self.wire()
            one.send(request(*call, "BLOCK", 0, "STREAMS", *_STREAMS, *("$" if len(call) == 1 else ">") * 3))
            await self.blocked(1)
            if len(call) == 1:
                await self.at_servers(3)
            await other.call("XADD", _STREAMS[1], f"{number}-1", "new", "2")
            reply = (await one.replies(1))[0]
            self.assertIn(b"%d-1\r\n*2\r\n$3\r\nnew\r\n" % number, reply)
            self.assertTrue(reply.startswith(b"*1\r\n*2\r\n"), reply)

    async def test_sorted_sets(self) -> None:
        """BZPOPMIN waits for members of sorted sets in several slots."""
        one, other = await self.wire(), await self.wire()
        one.send(request("BZPOPMIN", *_LISTS, 0))
        await self.blocked(1)
        await other.call("ZADD", _LISTS[2], "1.5", "m")
        self.assertEqual(await one.replies(1), [b"*3\r\n$6\r\n%b\r\n$1\r\nm\r\n$3\r\n1.5\r\n" % _LISTS[2].encode()])

    async def test_a_client_that_leaves(self) -> None:
        """What comes after a client has left stays, also if it has sent more behind the command that waits."""
        other = await self.wire()
        for keys in (_LISTS[:1], _LISTS):
            for behind in (b"", request("SET", "a", 1)):
                one = await self.wire()
                one.send(request("BLPOP", *keys, 0) + behind)
                await self.at_servers(len(keys))
                one.close()
                await self.at_servers(0)
                self.assertEqual(await other.call("RPUSH", keys[-1], "v"), b":1\r\n")
                self.assertEqual(await other.call("LPOP", keys[-1]), b"$1\r\nv\r\n")
        self.assertEqual(self.service.server.snapshot().elements_lost, 0)

    async def test_unblock(self) -> None:
        """CLIENT UNBLOCK ends a command that waits, as if its time were over, or with an error."""
        other = await self.wire()
        for keys in (_LISTS[:1], _LISTS):
            one = await self.wire()
            number = (await one.call("CLIENT", "ID"))[1:-2]
            self.assertEqual(await other.call("CLIENT", "UNBLOCK", number), b":0\r\n")
            for how, reply in (
                ((), _NOTHING),
                (("TIMEOUT",), _NOTHING),
                (("ERROR",), b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"),
            ):
                one.send(request("BLPOP", *keys, 0))
                await self.at_servers(len(keys))
                self.assertIn(b" flags=b ", await other.call("CLIENT", "LIST", "ID", number))
                self.assertEqual(await other.call("CLIENT", "UNBLOCK", number, *how), b":1\r\n")
                self.assertEqual(await one.replies(1), [reply])
                await self.at_servers(0)

    async def test_time(self) -> None:
        """A command whose time is over gets the reply for that, and others begin before the first ones end."""
        wires = [await self.wire() for _ in range(4)]
        calls = [
            ("BLPOP", _LISTS[0], "0.2"), ("BLPOP", *_LISTS, "0.2"), ("BZPOPMIN", *_LISTS, "0.2"),
            ("XREAD", "BLOCK", "200", "STREAMS", *_LISTS, "0", "0", "0"),
        ]  # fmt: skip
        for wire, call in zip(wires, calls, strict=True):
            wire.send(request(*call))
        await self.blocked(4)
        self.assertEqual([await wire.replies(1) for wire in wires], [[_NOTHING]] * 4)
        await self.at_servers(0)

    async def test_stop(self) -> None:
        """A proxy that stops disconnects clients that wait, without a reply that would not be true."""
        wires = [await self.wire() for _ in range(2)]
        for wire, keys in zip(wires, (_LISTS[:1], _LISTS), strict=True):
            wire.send(request("BLPOP", *keys, 0))
        await self.at_servers(4)
        await self.service.stopService()
        self.assertEqual([await wire.ended() for wire in wires], [b"", b""])
        await self.at_servers(0)

    async def test_failover(self) -> None:
        """Clients that wait do not notice that slots move."""
        wires = [await self.wire() for _ in range(2)]
        for wire, keys in zip(wires, (_LISTS[:1], _LISTS), strict=True):
            wire.send(request("BLPOP", *keys, 0))
        await self.blocked(2)
        slot = key_slot(_LISTS[0])
        old = await self.cluster.owner_of(slot)
        new = next(each for each in await self.cluster.primaries() if each is not old)
        await self.cluster.migrate_by_key([slot], old, new)
        other = await self.wire()
        await other.call("RPUSH", _LISTS[0], "x", "y")
        replies = [(await wire.replies(1))[0] for wire in wires]
        self.assertEqual(sorted(replies), [popped(_LISTS[0], "x"), popped(_LISTS[0], "y")])

    async def test_killed_consumers(self) -> None:
        """200 producers, 50 consumers that are killed at random: nothing comes twice, and what is lost is counted."""
        random = Random(7)
        delivered: Counter[str] = Counter()
        killed = 0
        stopping = False
        consumers: list[Wire] = []

        async def consume(place: int) -> None:
            while not stopping:
                wire = consumers[place] = await self.wire()
                while not wire.closed:
                    for reply in await wire_call(wire):
                        if reply != _NOTHING:
                            delivered[reply.split(b"\r\n")[4].decode()] += 1
                    if stopping:
                        return

        async def wire_call(wire: Wire) -> list[bytes]:
            keys = random.sample(_LISTS, 3)
            wire.send(request("BLPOP", *keys, 1))
            return await wire.replies(1)

        async def produce(number: int) -> None:
            wire = await self.wire()
            for each in range(_EACH):
                reply = await wire.call("RPUSH", random.choice(_LISTS), f"{number}.{each}")
                assert reply.startswith(b":"), reply
            wire.close()

        consumers += [await self.wire() for _ in range(_CONSUMERS)]
        consuming = [Deferred.fromCoroutine(consume(place)) for place in range(_CONSUMERS)]
        producing: list[Any] = [Deferred.fromCoroutine(produce(number)) for number in range(_PRODUCERS)]
        produced = gatherResults(producing, consumeErrors=True)

        def advanced(goal: int) -> bool:
            return produced.called or delivered.total() >= goal

        while not produced.called:
            await until(partial(advanced, delivered.total() + 10))
            victim: Any = random.choice(consumers)
            victim.transport.abortConnection()
            killed += 1
        await produced
        reader = await self.wire()

        async def nothing_left() -> bool:
            return [await reader.call("LLEN", key) for key in _LISTS] == [b":0\r\n"] * 3

        await self.cluster.until(nothing_left, "the end of all elements")
        stopping = True
        await gatherResults(consuming, consumeErrors=True)
        lost = _PRODUCERS * _EACH - len(delivered)
        counted = self.service.server.snapshot().elements_lost
        print(f"killed {killed}, delivered {len(delivered)}, lost {lost}, counted by the proxy {counted}")
        self.assertEqual([value for value, count in delivered.items() if count > 1], [])
        # A reply that was written to the socket of a client that is gone is not counted by the proxy.
        self.assertTrue(counted <= lost <= killed, (counted, lost, killed))
        self.assertTrue(killed > 20, killed)
        await self.at_servers(0)


class LostTests(MemoryProxyTests):
    def test_a_lost_connection(self) -> None:
        """If the connection to a node ends while a command waits, the client is disconnected without a reply."""
        for call, name in (
            (("BLPOP", "{k}1", 0), b"BLPOP"), (("BLMOVE", "{k}1", "{k}2", "LEFT", "LEFT", 0), b"BLMOVE"),
            (("BLPOP", "a", "b", 0), b"LPOP"),
        ):  # fmt: skip
            for node in self.nodes:
                node.script = lambda node, words, _, name=name: CLOSE if words[0] == name else DEFAULT_REPLY
            client = ClientEnd(self.proxy())
            client.send(request(*call) + request("PING"))
            self.network.settle()
            self.advance(1)
            self.assertEqual((client.closed, bytes(client.received)), (True, b""), call)

"""`ClusterClient.lease`: a connection to the owner of a slot for one caller alone."""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.internet.defer import Deferred

from tests.cluster.base import ClusterTests
from txvalkeycluster import ClientClosed, CommandTimeout, ConnectionLost, ReplyError, key_slot
from txvalkeycluster.commands.encoder import pack
from txvalkeycluster.relay import RelayLease

SLOT = key_slot("{tag}")
# The slots of the two are half of all slots apart, so they belong to different nodes.
ELSEWHERE = next(key for key in map(str, range(1000)) if abs(key_slot(key) - SLOT) > 8000)


class LeaseTests(ClusterTests):
    options: ClassVar[dict[str, Any]] = {"replicas": 0}

    def send(self, client: Any, lease: RelayLease, *words: Any, timeout: float | None = 5.0) -> Deferred[Any]:
        payload = pack(words)
        assert isinstance(payload, bytes)
        return lease.send(payload, client.commands[words[0]], timeout=timeout)

    async def test_a_transaction(self) -> None:
        """Commands of a lease share a connection, and replies are bytes or values, errors included."""
        values = [b"OK", b"QUEUED", b"QUEUED", [b"OK", ReplyError("WRONGTYPE Operation against a key")]]
        for raw in (True, False):
            client = await self.connect(raw_replies=raw)
            await client.set("{tag}list", 1)
            lease = await client.lease(SLOT)
            sent = [("MULTI",), ("SET", "{tag}a", 1), ("LPUSH", "{tag}list", 1), ("EXEC",)]
            replies = [await self.send(client, lease, *words) for words in sent]
            if raw:
                self.assertEqual(replies[:3], [b"+OK\r\n", b"+QUEUED\r\n", b"+QUEUED\r\n"])
                self.assertTrue(replies[3].startswith(b"*2\r\n+OK\r\n-WRONGTYPE "))
            else:
                self.assertEqual(replies[:3], values[:3])
                self.assertEqual((replies[3][0], replies[3][1].code), (b"OK", "WRONGTYPE"))
            moved = await self.send(client, lease, "GET", ELSEWHERE)
            self.assertTrue((moved if raw else str(moved).encode()).lstrip(b"-").startswith(b"MOVED "))
            lease.release()
            lease.release()
            self.assertRaises(RuntimeError, self.send, client, lease, "PING")
            self.assertEqual(client.statistics.open.exclusive, 1)

    async def test_a_clean_connection_is_used_again(self) -> None:
        """A connection that is given back serves the next lease; a dirty one is closed."""
        client = await self.connect(raw_replies=True)
        numbers = []
        for dirty in (False, False, True, False):
            lease = await client.lease(SLOT)
            numbers.append(await self.send(client, lease, "CLIENT", "ID"))
            if dirty:
                await self.send(client, lease, "MULTI")
            lease.release(dirty=dirty)
        self.assertEqual(numbers[0], numbers[1])
        self.assertEqual(numbers[0], numbers[2])
        self.assertNotEqual(numbers[0], numbers[3])

    async def test_a_blocking_command(self) -> None:
        """A command that waits delays nothing else, and a lease that is released meanwhile ends it at the server."""
        client = await self.connect(raw_replies=True)
        lease = await client.lease(SLOT)
        popped = self.send(client, lease, "BLPOP", "{tag}queue", 0, timeout=None)
        await client.rpush("{tag}queue", "first")
        self.assertEqual(await popped, b"*2\r\n$10\r\n{tag}queue\r\n$5\r\nfirst\r\n")
        popped = self.send(client, lease, "BLPOP", "{tag}queue", 0, timeout=None)
        await self.send(client, await client.lease(SLOT), "PING")
        lease.release()
        await self.assertFailure(popped, ConnectionLost)
        server = await self.cluster.owner_of(SLOT)

        async def nothing_waits() -> bool:
            return "blocked_clients:0" in (await self.cluster.ask(server, "INFO", "clients")).decode()

        await self.cluster.until(nothing_waits, "the end of the blocking command")
        await client.rpush("{tag}queue", "second")
        self.assertEqual(await client.llen("{tag}queue"), 1)

    async def test_the_limit(self) -> None:
        """A lease waits for a connection if all are leased, until its deadline."""
        client = await self.connect(max_exclusive=1)
        first = await client.lease(SLOT)
        await self.assertFailure(client.lease(SLOT, timeout=0.05), CommandTimeout)
        waiting = client.lease(SLOT)
        first.release()
        (await waiting).release()

    async def test_a_killed_node(self) -> None:
        """What was sent fails, and so does what is sent afterwards; nothing is sent again."""
        client = await self.connect()
        lease = await client.lease(SLOT)
        lost = self.send(client, lease, "BLPOP", "{tag}queue", 0, timeout=None)
        await self.cluster.kill(await self.cluster.owner_of(SLOT))
        self.assertTrue((await self.assertFailure(lost, ConnectionLost)).maybe_executed)
        refused = await self.assertFailure(self.send(client, lease, "PING"), ConnectionLost)
        self.assertFalse(refused.maybe_executed)
        lease.release()

    async def test_a_closed_client(self) -> None:
        """A closed client leases nothing, and a lease of it sends nothing more."""
        client = await self.connect()
        lease = await client.lease(SLOT)
        closing = client.close()
        await self.assertFailure(self.send(client, lease, "PING"), ClientClosed)
        lease.release()
        await closing
        await self.assertFailure(client.lease(SLOT), ClientClosed)

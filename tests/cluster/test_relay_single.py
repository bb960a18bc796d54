"""Relayed transactions and blocking commands, on a real cluster."""

from __future__ import annotations

from typing import Any, ClassVar

from tests.cluster.base import ClusterTests
from txvalkeycluster import ClusterClient, TransactionAborted, WatchError, key_slot
from txvalkeycluster.commands.encoder import pack

TAG = "{tag}"
SLOT = key_slot(TAG)


def packed(*words: Any) -> bytes:
    """Return an encoded request."""
    payload = pack(words)
    assert isinstance(payload, bytes)
    return payload


class RelaySingleTests(ClusterTests):
    options: ClassVar[dict[str, Any]] = {"replicas": 0}

    async def raw(self, **options: Any) -> ClusterClient[bytes]:
        """Return a client whose replies are bytes."""
        client: ClusterClient[bytes] = await self.connect(**{"raw_replies": True, "protocol": 2, **options})
        return client

    async def test_a_transaction(self) -> None:
        """The reply to EXEC is that of the server, with errors of commands in it; without keys, any node executes."""
        client = await self.raw()
        requests = [packed("SET", f"{TAG}a", "x"), packed("INCR", f"{TAG}a"), packed("GET", f"{TAG}none")]
        reply = await client.submit_transaction(requests, SLOT)
        self.assertTrue(reply.startswith(b"*3\r\n+OK\r\n-ERR value is not an integer"), reply)
        self.assertTrue(reply.endswith(b"\r\n$-1\r\n"), reply)
        self.assertEqual(await client.submit_transaction([], None), b"*0\r\n")
        self.assertEqual(await client.submit_transaction([packed("ECHO", "x")], None), b"*1\r\n$1\r\nx\r\n")

    async def test_a_transaction_with_values(self) -> None:
        """Without raw replies it is the list of the replies."""
        client = await self.connect()
        self.assertEqual(
            await client.submit_transaction([packed("SET", TAG, 1), packed("INCR", TAG)], SLOT), [b"OK", 2]
        )

    async def test_resp3(self) -> None:
        """A reply has the types of RESP3."""
        client = await self.raw(protocol=3)
        await client.hset(f"{TAG}h", {"f": "v"})
        reply = await client.submit_transaction([packed("HGETALL", f"{TAG}h"), packed("GET", f"{TAG}none")], SLOT)
        self.assertEqual(reply, b"*2\r\n%1\r\n$1\r\nf\r\n$1\r\nv\r\n_\r\n")

    async def test_a_refused_command(self) -> None:
        """Nothing is executed if the server refuses a command when it is queued."""
        client = await self.raw()
        sent = client.submit_transaction([packed("SET", f"{TAG}b", 1), packed("GET")], SLOT)
        await self.assertFailure(sent, TransactionAborted)
        self.assertEqual(await client.exists(f"{TAG}b"), 0)

    async def test_watch(self) -> None:
        """A changed key ends the transaction of a watch session; an unchanged one does not."""
        client = await self.raw()
        for change in (True, False):
            async with client.watch(f"{TAG}w") as watch:
                if change:
                    await client.set(f"{TAG}w", 1)
                sent = client.submit_transaction([packed("INCR", f"{TAG}n")], SLOT, watch=watch)
                if change:
                    await self.assertFailure(sent, WatchError)
                else:
                    self.assertEqual(await sent, b"*1\r\n:1\r\n")

    async def test_slots_move(self) -> None:
        """A transaction and a blocking command follow their slot."""
        client = await self.raw()
        old = await self.cluster.owner_of(SLOT)
        new = next(each for each in await self.cluster.primaries() if each is not old)
        popped = client.submit_blocking([b"BLPOP", f"{TAG}q".encode(), b"0"], SLOT)
        for number in range(1, 4):
            await self.cluster.migrate_by_key([SLOT], old, new)
            old, new = new, old
            self.assertEqual(
                await client.submit_transaction([packed("INCR", f"{TAG}m")], SLOT), b"*1\r\n:%d\r\n" % number
            )
        await client.rpush(f"{TAG}q", "v")
        self.assertEqual(await popped, b"*2\r\n$6\r\n{tag}q\r\n$1\r\nv\r\n")

    async def test_a_blocking_command(self) -> None:
        """Its reply is that of the server: an element, nothing, or an error."""
        client = await self.raw()
        self.assertEqual(await client.submit_blocking([b"BLPOP", b"{tag}l", b"0.01"], SLOT), b"*-1\r\n")
        await client.set(TAG, 1)
        reply = await client.submit_blocking([b"BLPOP", TAG.encode(), b"0"], SLOT)
        self.assertTrue(reply.startswith(b"-WRONGTYPE "), reply)

    async def test_unblock(self) -> None:
        """A command that blocks ends before its time, as if that were over, or with an error."""
        client = await self.raw()
        replies = []
        for error in (False, True):
            popped = client.submit_blocking([b"BLPOP", f"{TAG}l".encode(), b"0"], SLOT)
            await self.blocked(1)
            self.assertEqual(await popped.unblock(error=error), 1)
            replies.append(await popped)
        self.assertEqual(replies, [b"*-1\r\n", b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"])

    async def blocked(self, count: int) -> None:
        """Wait until so many commands block on the owner of the slot."""
        owner = await self.cluster.owner_of(SLOT)

        async def so_many() -> bool:
            return f"blocked_clients:{count}" in (await self.cluster.ask(owner, "INFO", "clients")).decode()

        await self.cluster.until(so_many, f"{count} blocked commands")

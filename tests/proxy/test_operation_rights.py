"""The rights that docs/proxy-operation.md names are enough for a proxy, also while the cluster changes."""

from __future__ import annotations

import re
import shlex
from typing import Any, ClassVar

import hiredis

from tests.proxy.operation import OperationTests
from tests.proxy.programs import HOST, ROOT, PlainClient
from txvalkeycluster import key_slot
from txvalkeycluster.testing.ports import free_ports

# Commands with a right that is not dangerous.
_EVERYDAY: list[tuple[object, ...]] = [
    ("SET", "a", 1),
    ("INCR", "a"),
    ("MSET", "a", 1, "b", 2, "c", 3),
    ("MGET", "a", "b", "c"),
    ("DEL", "a", "b", "c"),
    ("DBSIZE",),
    ("RANDOMKEY",),
    ("LPUSH", "list", 1, 2, 3),
    ("ZADD", "zset", 1, "one"),
    ("XADD", "stream", "*", "field", "value"),
    ("XREAD", "STREAMS", "stream", "0"),
    ("OBJECT", "ENCODING", "list"),
    ("MEMORY", "USAGE", "list"),
    ("CLIENT", "LIST"),
    ("ROLE",),
    ("TIME",),
    ("SLOWLOG", "GET"),
    ("INFO",),
]
# With the first rule, also these.
_MORE: list[tuple[object, ...]] = [
    ("EVAL", "return redis.call('SET', KEYS[1], ARGV[1])", 1, "a", 1),
    ("SCRIPT", "LOAD", "return 1"),
    ("FUNCTION", "LIST"),
    ("PUBLISH", "channel", "message"),
    ("SPUBLISH", "channel", "message"),
    ("PUBSUB", "CHANNELS"),
    ("COMMAND", "COUNT"),
    ("WAIT", 1, 1000),
    ("BLPOP", "list", 1),
    ("BLPOP", "nothing", 0.05),
    ("XREAD", "BLOCK", 50, "STREAMS", "stream", "$"),
    ("MULTI",),
    ("SET", "a", 1),
    ("EXEC",),
    ("WATCH", "a"),
    ("UNWATCH",),
]


def documented() -> list[str]:
    """Return the rules of the page, without the name of the user and with a password."""
    text = (ROOT / "docs" / "proxy-operation.md").read_text()
    found = re.findall(r"^    ACL SETUSER proxy (.*)$", text, re.M)
    return [each.replace(">PASSWORD", ">v3ry-secret") for each in found]


class RightsTests(OperationTests):
    options: ClassVar[dict[str, Any]] = {"replicas": 1}

    async def use(self, client: PlainClient, *commands: tuple[object, ...]) -> None:
        """Send commands.  None of them may fail."""
        for words in commands:
            reply = await client.call(*words)
            self.assertFalse(isinstance(reply, hiredis.ReplyError), f"{words}: {reply}")

    async def leave_while_blocked(self, port: int) -> None:
        """Wait for an element, and go away: then the proxy ends the command."""
        client = await self.plain(port)
        (waiting,) = client.send(("BLPOP", "nothing", 0))
        waiting.addErrback(lambda _: None)
        while not await self.blocked():
            pass
        client.close()
        while await self.blocked():
            pass

    async def blocked(self) -> int:
        """Return how many clients wait at the servers."""
        texts = [await self.cluster.ask(each, "INFO", "clients") for each in self.cluster.servers]
        return sum(int(number) for text in texts for number in re.findall(rb"blocked_clients:(\d+)", text))

    async def nothing_was_refused(self) -> None:
        """Look into the logs of the servers."""
        for server in self.cluster.servers:
            if server.alive:
                self.assertEqual(await self.cluster.ask(server, "ACL", "LOG"), [])

    async def whole(self, rule: str, *commands: tuple[object, ...]) -> None:
        """Run a proxy with a rule through everything that needs rights."""
        for server in self.cluster.servers:
            await self.cluster.ask(server, "ACL", "SETUSER", "proxy", *shlex.split(rule))
            await self.cluster.ask(server, "ACL", "LOG", "RESET")
        (port,) = free_ports(HOST, 1)
        url = self.cluster.url.replace("://", "://proxy:v3ry-secret@")
        proxy = self.start(f"--listen=tcp:{port}:interface={HOST}", "--cluster", url)
        await self.ready(proxy, port)
        for protocol in (2, 3):
            client = await self.plain(port)
            await self.use(client, ("HELLO", protocol), *commands)
            await self.whole_scan(client)
        await self.leave_while_blocked(port)
        writes = [("SET", f"key{number}", number) for number in range(50)]
        await self.use(client, *writes)

        primary, other, _ = await self.cluster.primaries()
        (replica,) = await self.cluster.replicas_of(primary)
        await self.cluster.failover(replica)
        await self.use(client, *writes)
        # ASK, MOVED and a slot map that changes, during a scan.
        ranges = await self.cluster.ranges_of(other)
        slots = [key_slot(f"key{number}") for number in range(50)]
        slot = next(slot for slot in slots if any(slot in each for each in ranges))
        await self.cluster.open_slot(slot, other, replica)
        await self.cluster.move_keys(slot, other, replica)
        await self.use(client, *writes)
        await self.whole_scan(client)
        await self.cluster.close_slot(slot, other, replica)
        await self.use(client, *writes)
        await self.whole_scan(client)
        await self.nothing_was_refused()
        await self.cluster.kill(replica)
        await self.cluster.wait_for_takeover(replica)
        # WAIT cannot confirm the writes to a node that was killed.
        await self.use(client, *writes, *(each for each in commands if each[0] != "WAIT"))
        await self.whole_scan(client)
        # A command that the table does not have.
        reply = await client.call("NO.SUCH", "key")
        self.assertIn("unknown command", str(reply))
        await self.nothing_was_refused()
        self.assertNotIn("NOPERM", proxy.log)
        reply = await client.call("KEYS", "*")
        self.assertIn("NOPERM", str(reply))

    async def whole_scan(self, client: PlainClient) -> None:
        """Scan all keys."""
        cursor: Any = 0
        while cursor != b"0":
            reply = await client.call("SCAN", cursor)
            self.assertIsInstance(reply, list, reply)
            cursor = reply[0]

    async def test_the_rule_for_most_programs(self) -> None:
        """With it, clients can use everything that is not dangerous."""
        first, _ = documented()
        await self.whole(first, *_EVERYDAY, *_MORE)

    async def test_the_least_rights(self) -> None:
        """With them, only the commands that a client uses are needed beside."""
        _, second = documented()
        await self.whole(f"{second} +@read +@write -keys", *_EVERYDAY)

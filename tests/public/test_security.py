"""SECURITY.md: the tests that it names exist, and what no other test shows."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from tests.cases import SynchronousTestCase
from tests.memory import MemoryTests
from tests.scripted.base import moved
from txvalkeycluster import Address, ClusterClient, CommandTimeout, ReplyError
from txvalkeycluster.testing import DEFAULT_REPLY, ScriptedNode

ROOT = Path(__file__).parents[2]
SECURITY = ROOT / "SECURITY.md"


def _exists(name: str) -> bool:
    """Return whether a module, a class or a test exists."""
    words = name.split(".")
    count = len(words)
    while count and not _is_module(".".join(words[:count])):
        count -= 1
    if not count:
        return False
    found: Any = import_module(".".join(words[:count]))
    for word in words[count:]:
        found = getattr(found, word, None)
    return found is not None


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


class DocumentTests(SynchronousTestCase):
    def test_every_test_exists(self) -> None:
        """Every named test exists, and every line names a test or says why there is none."""
        text = SECURITY.read_text()
        rows = [row.split("|")[1:-1] for row in text.splitlines() if row.startswith("|") and "---" not in row]
        named = set(re.findall(r"`(tests\.[\w.]+)`", text))
        self.assertGreater(len(named), 20)
        self.assertEqual([name for name in sorted(named) if not _exists(name)], [])
        lasts = [cells[-1].strip() for cells in rows]
        self.assertEqual([last for last in lasts if not re.match(r"`tests\.|inherent$|see \[|test$", last)], [])

    def test_links(self) -> None:
        """The README links to SECURITY.md, and its own links lead to files."""
        self.assertIn("(SECURITY.md)", (ROOT / "README.md").read_text())
        for target in re.findall(r"\]\(([^)#]+)", SECURITY.read_text()):
            self.assertTrue((ROOT / target).exists(), target)


class ServerTests(MemoryTests):
    """What a hostile server can do."""

    def hostile(self, script: Any, **options: Any) -> ClusterClient[bytes]:
        """Return a client of a cluster whose first node is hostile."""
        client = self.client(timeout=1.0, **options)
        self.nodes[0].script = script
        return client

    def test_attributes(self) -> None:
        """Each attribute is read as one more reply, and the connection ends at the surplus reply."""
        client = self.hostile(lambda _, words, __: b"|1\r\n+k\r\n+v\r\n:5\r\n" if words[0] == b"GET" else DEFAULT_REPLY)
        keys = [self.key_of(self.nodes[0], number) for number in range(2)]
        getting = [client.get(key) for key in keys]
        self.assertEqual(self.result_of(getting[0]), [b"k", b"v"])
        self.assertEqual(self.result_of(getting[1]), 5)
        self.advance(0.1)
        self.assertEqual(self.nodes[0].connections, [])

    def test_a_redirect_after_execution(self) -> None:
        """A forged MOVED looks like a true one, so the command runs twice."""
        key = self.key_of(self.nodes[0])

        def script(node: ScriptedNode, words: list[bytes], _: Any) -> Any:
            if words[0] != b"INCR":
                return DEFAULT_REPLY
            node.usual(words, asking=False)
            return moved(key, self.nodes[1].address)

        self.assertEqual(self.result_of(self.hostile(script).incr(key)), 2)

    def test_words_of_an_error(self) -> None:
        key = self.key_of(self.nodes[0])
        client = self.hostile(lambda _, words, __: b"-ODD it's <me> %s\r\n" if words[0] == b"GET" else DEFAULT_REPLY)
        self.assertEqual(str(self.error_of(client.get(key), ReplyError)), "ODD it's <me> %s")

    def test_a_scan_without_end(self) -> None:
        """A scan goes on as long as the cursor is not 0."""
        key = self.key_of(self.nodes[0])
        step = b"*2\r\n$1\r\n7\r\n*1\r\n$1\r\nm\r\n"
        client = self.hostile(lambda _, words, __: step if words[0] == b"SSCAN" else DEFAULT_REPLY)

        async def members() -> int:
            count = 0
            async for _ in client.sscan_iter(key):
                count += 1
                if count == 30:
                    break
            return count

        self.assertEqual(self.result_of(Deferred.fromCoroutine(members())), 30)

    def test_a_slot_map_of_one_node(self) -> None:
        """The slot map can name unknown nodes, which then get the password."""
        client = self.hostile(None, password="secret")
        stranger = ScriptedNode(self.cluster, 3)
        stranger.address = Address("stranger", 7003)
        self.network.add(stranger)
        changed = [*self.cluster.ranges[:2], (*self.cluster.ranges[2][:2], stranger)]
        honest, self.cluster.ranges = self.cluster.ranges, changed
        self.result_of(client.refresh_topology())
        self.cluster.ranges = honest
        self.result_of(client.get(self.key_of(self.nodes[2])))
        self.assertTrue(any(b"secret" in words for _, words in stranger.received))

    def test_a_reply_without_end(self) -> None:
        """The client keeps what it has received, and the command still ends at its deadline."""
        key = self.key_of(self.nodes[0])
        begin = b"$100000000\r\n" + b"x" * 100_000
        client = self.hostile(lambda _, words, __: begin if words[0] == b"GET" else DEFAULT_REPLY)
        getting = client.get(key)
        for _ in range(15):
            self.advance(0.1, step=0.1)
            for connection in self.nodes[0].connections:
                connection.write(b"x" * 100_000)
        self.error_of(getting, CommandTimeout)
        other = self.key_of(self.nodes[1])
        self.assertIsNone(self.result_of(client.get(other)))

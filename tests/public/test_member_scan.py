"""Scans of the members of a key whose slot is being moved."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tests.memory import MemoryTests
from tests.scripted.base import ask
from txvalkeycluster.testing import ScriptedNode

EMPTY = b"*2\r\n$1\r\n0\r\n*0\r\n"
MEMBERS = b"*2\r\n$1\r\n0\r\n*1\r\n$1\r\nm\r\n"


class MemberScanTests(MemoryTests):
    def setUp(self) -> None:
        super().setUp()
        self.source, self.target = self.nodes[:2]
        self.key = self.key_of(self.source)
        # The replies of the source, in order. The last reply is repeated.
        self.answers = [ask(self.key.encode(), self.target.address)]
        self.source.script = self.answer
        self.target.script = lambda node, words, _: EMPTY if words[0] == b"SSCAN" else node.usual(words, asking=False)

    def answer(self, node: ScriptedNode, words: list[bytes], _: Any) -> bytes:
        if words[0] != b"SSCAN":
            return node.usual(words, asking=False)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def members(self) -> list[bytes]:
        client = self.client()

        async def scan() -> list[bytes]:
            return [member async for member in client.sscan_iter(self.key)]

        return self.result_of(Deferred.fromCoroutine(scan()))

    def test_the_key_moves_back_during_the_scan(self) -> None:
        """Between two questions the key moves back: the target no longer has it, and the source has it again."""
        self.answers.append(MEMBERS)
        self.assertEqual(self.members(), [b"m"])

    def test_a_missing_key(self) -> None:
        """Neither node has the key, so the scan gives no member."""
        self.assertEqual(self.members(), [])
        self.assertEqual(self.target.count(b"SSCAN"), 2)

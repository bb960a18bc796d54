"""Streams and pipelines in stories made by chance: nodes misbehave, and clients are ended in the midst of it."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from tests.scripted.base import ScriptedTests
from txvalkeycluster import ClientClosed, ClusterClient
from txvalkeycluster.testing import CLOSE, DEFAULT_REPLY, SILENCE, ScriptedNode

DEEDS = ("nothing", "close", "abort", "cancel", "raise", "commands raise", "another stream")


class Broken(Exception):
    """What is raised in place of a command, or by whoever is told a reply."""


class Story:
    """One run: what its nodes answer, what is sent, what is done in the midst of it, and what came of it."""

    def __init__(self, seed: int, nodes: list[ScriptedNode]) -> None:
        self.random = Random(seed)
        self.nodes = nodes
        self.trouble = self.random.choice([0, 0, 0.001, 0.01, 0.1])
        self.room = self.random.choice([1, 5, 50, 1000, 100_000])
        self.count = self.random.choice([1, 10, 300, 5000, 9000] if self.room >= 50 else [1, 10, 100])
        self.deed = self.random.choice(DEEDS)
        #: How many replies there are before it is done.
        self.at = self.random.randrange(self.count)
        self.taken: list[tuple[Any, ...]] = []
        self.told: dict[int, Any] = {}
        self.ends: list[Any] = []
        self.others: list[Deferred[Any]] = []

    def __str__(self) -> str:
        return f"{self.deed} at {self.at} of {self.count}, room {self.room}, trouble {self.trouble}, {self.ends}"

    def script(self, node: ScriptedNode, words: list[bytes], _: Any) -> Any:
        if words[0] not in (b"INCR", b"GET", b"SET") or self.random.random() >= self.trouble:
            return DEFAULT_REPLY
        there = self.random.choice(self.nodes).address.port
        answers = [b"-ERR no", b"-TRYAGAIN no", b"-LOADING no", b"-CLUSTERDOWN no"]
        answers += [b"-%b 1 127.0.0.1:%d" % (how, there) for how in (b"MOVED", b"ASK")]
        rare = CLOSE if self.random.random() < 0.5 else SILENCE
        return rare if self.random.random() < 0.05 else self.random.choice(answers) + b"\r\n"

    def commands(self) -> Iterator[tuple[Any, ...]]:
        for number in range(self.count):
            if self.deed == "commands raise" and number == self.at:
                raise Broken
            key, others = (self.random.choice("abcdefgh") for _ in range(2))
            command: Any = self.random.choice([
                ("INCR", "n" + key), ("INCR", "n" + key), ("GET", key), ("SET", key, "v" * 20_000),
                ("SET", key, b"\xff"), ("PING",), ("GET", None), ("MGET", key, others), ("DEL", key, others),
            ])  # fmt: skip
            self.taken.append(command)
            yield command

    async def run(self, client: ClusterClient) -> None:
        def each(place: int, reply: Any) -> None:
            if place in self.told:
                raise AssertionError(f"told {place} twice")
            self.told[place] = reply
            if len(self.told) == self.at + 1:
                self.do(client, streaming)

        streaming: Deferred[int] = Deferred()
        streaming = client.pipeline().stream(self.commands(), each)
        if len(self.told) > self.at and self.deed == "cancel":
            # All was over before there was anything to cancel.
            self.deed = "nothing"
        await streaming.addBoth(self.ends.append)

    def do(self, client: ClusterClient, streaming: Deferred[int]) -> None:
        if self.deed == "raise":
            raise Broken
        if self.deed == "cancel":
            streaming.cancel()
        elif self.deed == "another stream":
            self.others.append(client.pipeline().stream([("INCR", "other")] * 500, lambda *_: None))
        elif self.deed in ("close", "abort"):
            self.others.append(getattr(client, self.deed)())

    def judge(self, test: ScriptedTests) -> None:
        (end,) = self.ends
        error = end.type if isinstance(end, Failure) else None
        expected: dict[str, Any] = {
            "close": (None, ClientClosed),
            "abort": (None, ClientClosed),
            "cancel": (None, CancelledError),
            "raise": (Broken,),
            "commands raise": (Broken,),
        }
        test.assertIn(error, expected.get(self.deed, (None,)), str(self))
        if self.deed not in ("abort", "cancel", "raise"):
            # Each command that was taken has had its reply or error.
            test.assertEqual(sorted(self.told), list(range(len(self.taken))), str(self))
        if error is None:
            test.assertEqual(end, len(self.taken), str(self))
        if not self.trouble:
            last: dict[str, int] = {}
            for place, command in enumerate(self.taken):
                reply = self.told.get(place)
                if command[0] == "INCR" and isinstance(reply, int):
                    test.assertGreater(reply, last.get(command[1], 0), str(self))
                    last[command[1]] = reply


class StoryTests(ScriptedTests):
    timeout = 120

    async def test_stories(self) -> None:
        """Every command is told of once, in order for each key where nothing goes wrong; all has one end."""
        for seed in range(40):
            story = Story(seed, self.nodes)
            for node in self.nodes:
                node.script = story.script
            encoding = "utf-8" if seed % 3 == 0 else None
            client = await self.client(
                max_pending=story.room, unresponsive_after=0.2, timeout=0.4, refresh_period=None, encoding=encoding
            )
            await story.run(client)
            for other in story.others:
                await other
            await client.close()
            story.judge(self)

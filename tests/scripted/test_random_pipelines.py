"""Random scenarios for streams: nodes misbehave, and the stream or its client is ended on the way."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from tests.scripted.base import ScriptedTests
from txvalkeycluster import ClientClosed, ClusterClient, ValkeyError
from txvalkeycluster.testing import CLOSE, DEFAULT_REPLY, SILENCE, ScriptedNode

ACTIONS = ("nothing", "close", "abort", "cancel", "raise", "commands raise", "another stream")


class Broken(Exception):
    """The iterable of commands raises it, or the function that gets the replies."""


class Scenario:
    """One scenario: the answers of the nodes, the commands, one action on the way, and the results."""

    def __init__(self, seed: int, nodes: list[ScriptedNode]) -> None:
        self.random = Random(seed)
        self.nodes = nodes
        self.trouble = self.random.choice([0, 0, 0.001, 0.01, 0.1])
        self.room = self.random.choice([1, 5, 50, 1000, 100_000])
        self.count = self.random.choice([1, 10, 300, 5000, 9000] if self.room >= 50 else [1, 10, 100])
        self.action = self.random.choice(ACTIONS)
        #: The action happens after this many replies.
        self.at = self.random.randrange(self.count)
        #: The commands that the stream has taken.
        self.taken: list[tuple[Any, ...]] = []
        #: The replies and errors, by the number of the command.
        self.results: dict[int, Any] = {}
        #: What the Deferred of the stream fired with.
        self.ends: list[Any] = []
        self.others: list[Deferred[Any]] = []

    def __str__(self) -> str:
        return f"{self.action} at {self.at} of {self.count}, room {self.room}, trouble {self.trouble}, {self.ends}"

    def answer(self, node: ScriptedNode, words: list[bytes], _: Any) -> Any:
        if words[0] not in (b"INCR", b"GET", b"SET") or self.random.random() >= self.trouble:
            return DEFAULT_REPLY
        there = self.random.choice(self.nodes).address.port
        answers = [b"-ERR no", b"-TRYAGAIN no", b"-LOADING no", b"-CLUSTERDOWN no"]
        answers += [b"-%b 1 127.0.0.1:%d" % (how, there) for how in (b"MOVED", b"ASK")]
        rare = CLOSE if self.random.random() < 0.5 else SILENCE
        return rare if self.random.random() < 0.05 else self.random.choice(answers) + b"\r\n"

    def commands(self) -> Iterator[tuple[Any, ...]]:
        for number in range(self.count):
            if self.action == "commands raise" and number == self.at:
                raise Broken
            key, others = (self.random.choice("abcdefgh") for _ in range(2))
            command: Any = self.random.choice([
                ("INCR", "n" + key), ("INCR", "n" + key), ("GET", key), ("SET", key, "v" * 20_000),
                ("SET", key, b"\xff"), ("PING",), ("GET", None), ("MGET", key, others), ("DEL", key, others),
            ])  # fmt: skip
            self.taken.append(command)
            yield command

    async def run(self, client: ClusterClient[bytes]) -> None:
        """Send the commands in a stream, and act on the way."""

        def each(place: int, reply: Any) -> None:
            if place in self.results:
                raise AssertionError(f"two results for command {place}")
            self.results[place] = reply
            if len(self.results) == self.at + 1:
                self.act(client, streaming)

        streaming: Deferred[int] = Deferred()
        streaming = client.pipeline().stream(self.commands(), each)
        if len(self.results) > self.at and self.action == "cancel":
            # The stream ended before there was a Deferred to cancel.
            self.action = "nothing"
        await streaming.addBoth(self.ends.append)

    def act(self, client: ClusterClient[bytes], streaming: Deferred[int]) -> None:
        if self.action == "raise":
            raise Broken
        if self.action == "cancel":
            streaming.cancel()
        elif self.action == "another stream":
            self.others.append(client.pipeline().stream([("INCR", "other")] * 500, lambda *_: None))
        elif self.action in ("close", "abort"):
            self.others.append(getattr(client, self.action)())

    def check(self, test: ScriptedTests) -> None:
        """Check what the stream fired with, and the results of its commands."""
        (end,) = self.ends
        error = end.type if isinstance(end, Failure) else None
        expected: dict[str, Any] = {
            "close": (None, ClientClosed),
            "abort": (None, ClientClosed),
            "cancel": (None, CancelledError),
            "raise": (Broken,),
            "commands raise": (Broken,),
        }
        test.assertIn(error, expected.get(self.action, (None,)), str(self))
        if self.action not in ("abort", "cancel", "raise"):
            # Each command that was taken has a reply or an error.
            test.assertEqual(sorted(self.results), list(range(len(self.taken))), str(self))
        if error is None:
            test.assertEqual(end, len(self.taken), str(self))
        if not self.trouble:
            last: dict[str, int] = {}
            for place, command in enumerate(self.taken):
                reply = self.results.get(place)
                if command[0] == "INCR" and isinstance(reply, int):
                    test.assertGreater(reply, last.get(command[1], 0), str(self))
                    last[command[1]] = reply


class ScenarioTests(ScriptedTests):
    timeout = 300

    async def test_scenarios(self) -> None:
        """Each command has one result, in order for each key if the nodes behave, and each stream fires once."""
        for seed in range(40):
            scenario = Scenario(seed, self.nodes)
            for node in self.nodes:
                node.script = scenario.answer
            encoding = "utf-8" if seed % 3 == 0 else None
            client = self.lazy_client(
                max_pending=scenario.room, unresponsive_after=0.2, timeout=0.4, refresh_period=None, encoding=encoding
            )
            # On a slow machine the slot map may come later. The commands wait for it then.
            with contextlib.suppress(ValkeyError):
                await client.refresh_topology()
            await scenario.run(client)
            for other in scenario.others:
                await other
            await client.close()
            scenario.check(self)

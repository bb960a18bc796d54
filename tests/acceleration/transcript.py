"""Prints what a client does and what its callers are told, for commands and server replies chosen at random.

``python -m tests.acceleration.transcript SEED COUNT`` prints the transcripts of COUNT worlds.  `test_same_client` runs
it with and without the C extension, and compares the output.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.memory import MemoryTests
from txvalkeycluster import ClusterClient, FinishedCommand
from txvalkeycluster.slots import key_slot
from txvalkeycluster.testing import CLOSE, DEFAULT_REPLY, SILENCE, ScriptedNode

STEPS = 120
_VALUES: list[Any] = [
    "text", b"bytes", "naïve", b"\xff\x00", "x" * 1025, b"y" * 9000, 7, -(1 << 70), 2.5, True, None,
    bytearray(b"array"), "\ud800", "", b"", object, memoryview(b"view"),
]  # fmt: skip
_REPLIES: list[Any] = [
    b"$5\r\nvalue\r\n", b"$-1\r\n", b"_\r\n", b":7\r\n", b"+OK\r\n", b"$2\r\n\xff\xfe\r\n", b"*2\r\n$1\r\na\r\n:1\r\n",
    b"%1\r\n$1\r\nf\r\n$1\r\nv\r\n", b"-ERR wrong\r\n", b"-TRYAGAIN later\r\n", b"-CLUSTERDOWN down\r\n", b"#t\r\n",
    b"-LOADING soon\r\n", b">2\r\n$6\r\nunseen\r\n$1\r\nx\r\n$4\r\nreal\r\n", b"-NOPE\r\n", b",2.5\r\n",
    b"~1\r\n:1\r\n",
    DEFAULT_REPLY, DEFAULT_REPLY, DEFAULT_REPLY, DEFAULT_REPLY, SILENCE, CLOSE, b"$3\r\nbad", b"?what\r\n",
]  # fmt: skip
# The commands that get them.
_RANDOM = [b"MGET", b"MSET", b"GET", b"SET", b"HGETALL", b"APPEND"]


class Listener:
    """A listener of commands that notes what it gets, and sometimes raises an error."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def __call__(self, finished: FinishedCommand) -> None:
        """Note a finished command."""
        self.lines.append(f"finished {finished.name} at {finished.node} after {finished.attempts}: {finished.error!r}")
        self.note(finished.name, finished.seconds, finished.error)

    def note(self, name: str, seconds: float, error: BaseException | None) -> None:
        """Note a time."""
        self.lines.append(f"took {name} {seconds:.3f} {type(error).__name__}")
        if len(self.lines) % 11 == 3:
            raise LookupError("a listener")


class TimeListener(Listener):
    """A listener that takes only times."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(lines)
        self.note_time = self.note


class World(MemoryTests):
    """One client with three nodes that answer at random."""

    def runTest(self) -> None:
        """Do nothing; the test case is only a base."""

    def play(self, seed: int) -> list[str]:
        """Return what happened."""
        self.random = Random(seed)
        self.lines: list[str] = []
        self.waiting: list[Deferred[Any]] = []
        self.number = 0
        self.setUp()
        options: dict[str, Any] = {"timeout": self.random.choice([0.3, 2.0, None]), "backoff_max": 0.05}
        encoding = self.random.choice([None, None, "utf-8", "ascii"])
        if encoding is not None:
            options["encoding"] = encoding
        if self.random.random() < 0.3:
            options["max_pending"] = self.random.choice([1, 3, 20])
        # The node's scripts and the test draw from generators of their own: the order of their calls may not matter.
        self.replies = Random(seed + 1)
        self.world = ClusterClient(
            self.clock,
            seeds=",".join(str(node.address) for node in self.nodes),
            endpoint_for=self.network.endpoint_for,
            random=Random(seed + 2),
            **options,
        )
        self.share = self.random.choice([0.0, 0.05, 0.3])
        self.listeners: list[Any] = []
        for node in self.nodes:
            node.script = self.script
        steps: list[Callable[[], None]] = [
            self.call, self.call, self.call, self.converse, self.generate, self.pipeline, self.burst, self.cancel,
            self.pass_time, self.deliver, self.deliver, self.deliver, self.view, self.several, self.listen,
        ]  # fmt: skip
        for _ in range(STEPS):
            self.random.choice(steps)()
        self.advance(3.0, step=0.05)
        closed = self.world.close() if self.random.random() < 0.5 else self.world.abort()
        self.call()
        self.advance(11.0, step=0.5)
        self.lines.append(f"closed {closed.called}")
        for node in self.nodes:
            node.script = None
            self.lines += [f"{node.index}: {number} {words!r}" for number, words in node.received]
        self.lines.append(f"{self.world.statistics!r}")
        self.lines.append(f"unfinished {[call.called for call in self.waiting].count(False)}")
        return self.lines

    def script(self, node: ScriptedNode, words: list[bytes], _: Any) -> Any:
        """Answer the commands of callers."""
        if len(words) < {b"GET": 2, b"SET": 3, b"DEL": 2, b"INCR": 2}.get(words[0].upper(), 1):
            return b"-ERR wrong number of arguments\r\n"
        if words[0] in (b"MGET", b"MSET") and self.replies.random() >= self.share:
            values = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words[1:])
            return b"+OK\r\n" if words[0] == b"MSET" else b"*%d\r\n%b" % (len(words) - 1, values)
        if (
            words[0] not in (b"MGET", b"MSET", b"GET", b"SET", b"HGETALL", b"APPEND")
            or self.replies.random() >= self.share
        ):
            return DEFAULT_REPLY
        reply = self.replies.choice([*_REPLIES, b"MOVED", b"ASK"])
        if reply in (b"MOVED", b"ASK"):
            other = self.replies.choice(self.nodes).address
            key = words[1].decode("utf-8", "replace") if len(words) > 1 else ""
            return b"-%b %d %b\r\n" % (reply, key_slot(key), str(other).encode())
        return reply

    # ---- what a program does

    def call(self) -> None:
        """Send one command, and note its end in a callback."""
        deferred = self.world.execute(*self.words())
        self.waiting.append(deferred)
        self.note_end(deferred)

    def view(self) -> None:
        """Send a command of a view with another timeout."""
        view = self.world.with_options(
            timeout=self.random.choice([0.1, 1, None]), repeatable=self.random.random() < 0.5
        )
        deferred: Deferred[Any] = view.get(self.key())
        self.waiting.append(deferred)
        self.note_end(deferred)

    def converse(self) -> None:
        """Send commands one after the other in a coroutine."""
        number, words = self.next(), [self.words() for _ in range(3)]

        async def conversation() -> str:
            for each in words:
                try:
                    reply = await self.world.execute(*each)
                    self.lines.append(f"{number} got {reply!r}")
                except CancelledError:
                    self.lines.append(f"{number} cancelled")
                    raise
                except Exception as error:
                    self.lines.append(f"{number} failed {type(error).__name__}: {error}")
                if len(each) > 2 and each[2] == "text":
                    self.note_end(self.world.hgetall(self.key(Random(number))))
            return "end"

        self.waiting.append(Deferred.fromCoroutine(conversation()))
        self.note_end(self.waiting[-1])

    def generate(self) -> None:
        """Send two commands at once in a generator, and wait for both."""

        def name_of(failure: Failure) -> str:
            return type(failure.value).__name__

        number, words = self.next(), [self.words() for _ in range(2)]

        @inlineCallbacks
        def generator() -> Any:
            first, second = [self.world.execute(*each) for each in words]
            second.addErrback(name_of)
            try:
                self.lines.append(f"{number} first {(yield first)!r}")
            except Exception as error:
                self.lines.append(f"{number} first failed {error!r}")
            self.lines.append(f"{number} second {(yield second)!r}")
            return number

        self.waiting.append(generator())
        self.note_end(self.waiting[-1])

    def pipeline(self) -> None:
        """Send a pipeline."""
        pipeline: Any = self.world.pipeline()
        for _ in range(self.random.randrange(1, 12)):
            pipeline.add(*self.words())
        self.waiting.append(pipeline.execute())
        self.note_end(self.waiting[-1])

    def listen(self) -> None:
        """Add a listener of commands, or remove one.  Most worlds have none for most of the time."""
        if self.listeners:
            self.world.remove_command_listener(self.listeners.pop())
        elif self.random.random() < 0.4:
            kinds = [Listener(self.lines), TimeListener(self.lines), TimeListener(self.lines)]
            self.listeners = [self.random.choice(kinds) for _ in range(self.random.choice([1, 1, 2]))]
            for listener in self.listeners:
                self.world.add_command_listener(listener)

    def several(self) -> None:
        """Send a command with keys in several slots."""
        keys: list[Any] = [self.key() for _ in range(self.random.randrange(1, 9))]
        if self.random.random() < 0.1:
            keys[0] = self.random.choice(_VALUES)
        pairs = {key: self.random.choice(_VALUES) for key in keys if key.__hash__ is not None}
        name, words = self.random.choice(
            [("MGET", keys), ("DEL", keys), ("MSET", [word for pair in pairs.items() for word in pair])]
        )
        self.waiting.append(self.world.execute(name, *words))
        self.note_end(self.waiting[-1])

    def burst(self) -> None:
        """Send many commands in one turn."""
        for _ in range(self.random.choice([5, 40])):
            self.note_end(self.world.get(self.key()))

    def cancel(self) -> None:
        """Cancel something that may have ended."""
        if self.waiting:
            self.random.choice(self.waiting).cancel()

    def pass_time(self) -> None:
        """Let time pass."""
        self.clock.advance(self.random.choice([0.0, 0.01, 0.2]))

    def deliver(self) -> None:
        """Let bytes arrive on some connections."""
        self.network.trickle(self.random, 0.7)

    # ---- parts of these

    def next(self) -> int:
        """Return the number of the next event."""
        self.number += 1
        return self.number

    def key(self, random: Random | None = None) -> str:
        """Return a key."""
        random = random or self.random
        return random.choice(["{%d}key", "key:%d", "k{}%d", "é%d"]) % random.randrange(30)

    def words(self) -> list[Any]:
        """Return a command, which may be wrong."""
        name = self.random.choice(["GET", "GET", "SET", "SET", "get", b"GET", "HGETALL", "APPEND", "PING", "NOSUCH"])
        if self.random.random() < 0.03:
            wrong: list[list[Any]] = [[], [name], [None, 1], [["GET"], "a"], [object(), "a"]]
            return self.random.choice(wrong)
        words: list[Any] = [name, self.key()]
        if self.random.random() < 0.1:
            words[1] = self.random.choice(_VALUES)
        if name in ("SET", "APPEND"):
            words.append(self.random.choice(_VALUES))
        if self.random.random() < 0.1:
            words += ["EX", 60]
        return words

    def note_end(self, deferred: Deferred[Any]) -> None:
        """Note the result of a Deferred when it comes."""
        number = self.next()

        def ended(result: Any) -> None:
            if isinstance(result, Failure):
                error: Any = result.value
                cause = type(error.__cause__).__name__
                self.lines.append(f"{number} failed {type(error).__name__}: {error} {cause}")
            else:
                self.lines.append(f"{number} {result!r}")

        deferred.addBoth(ended)


def main(seed: int, count: int) -> None:
    """Print the transcripts of worlds."""
    logged: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        logged.append(str(event.get("log_format")))

    globalLogPublisher.addObserver(observe)
    world: Any = World
    for number in range(seed, seed + count):
        print(f"world {number}")
        for line in world().play(number):
            # The addresses of objects.
            print("  ", line.partition(" at 0x")[0])
    print(logged)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

"""Pipelines over many slots, and streams: results keep their order, and each increment is executed at most once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from twisted.internet.defer import CancelledError

from txvalkeycluster.errors import PartialFailure

from ..ledger import Outcome
from .base import GRACE, USUAL
from .steady import SteadyWork, value_of


class Pipelines(SteadyWork):
    """``pipeline().execute()`` and ``stream()``."""

    name = "pipelines"
    pause = 0.3

    async def step(self, worker: int) -> None:
        """Send different commands together."""
        commands = [self._command(worker) for _ in range(self.random.randint(1, 60))]
        if self.random.random() < 0.6:
            await self._execute(commands)
        else:
            await self._stream(commands)

    def _command(self, worker: int) -> _Command:
        chance = self.random.random()
        if chance < 0.5:
            return _Get(self, [self.random.choice(self.steady_keys[worker])])
        if chance < 0.6:
            return _Get(self, self.random.sample(self.steady_keys[worker], 4))
        return _Increment(self)

    async def _execute(self, commands: list[_Command]) -> None:
        pipeline = self.client.pipeline()
        for command in commands:
            command.begin()
            pipeline.add(*command.words)
        sent = pipeline.execute()
        cancels = self.random.random() < 0.1
        timer = self.reactor.callLater(self.random.uniform(0, 0.005), sent.cancel) if cancels else None
        whole = await self.findings.observe(self.name, "a pipeline", sent, self.timeout + GRACE)
        if timer is not None and timer.active():
            timer.cancel()
        if whole.succeeded and len(whole.reply) != len(commands):
            self.violation(f"a pipeline of {len(commands)} commands gave {len(whole.reply)} results")
        results = whole.reply if whole.succeeded else [whole.error] * len(commands)
        for command, result in zip(commands, results, strict=False):
            command.end(result, (*USUAL, CancelledError) if cancels else USUAL)

    async def _stream(self, commands: list[_Command]) -> None:
        answered: set[int] = set()

        def each(number: int, result: Any) -> None:
            if number in answered:
                self.violation(f"a stream gave two results for its command {number}")
            answered.add(number)
            commands[number].end(result, USUAL)

        def words() -> Iterator[Sequence[Any]]:
            for command in commands:
                command.begin()
                yield command.words

        sent = self.client.pipeline().stream(words(), each)
        whole = await self.findings.observe(self.name, "a stream", sent, self.timeout + GRACE)
        if not whole.succeeded:
            self.violation(f"a stream failed: {whole.error!r}")
        elif whole.reply != len(commands) or len(answered) != len(commands):
            self.violation(f"a stream of {len(commands)} gave {whole.reply}, and {len(answered)} results")


class _Command:
    """One command of a pipeline, which checks its result."""

    words: tuple[str, ...]

    def __init__(self, work: Pipelines) -> None:
        self._work = work

    def begin(self) -> None:
        """Record that the command is sent."""

    def end(self, result: Any, expected: tuple[type[BaseException], ...]) -> None:
        """Record the result of the command, or its error."""
        outcome = Outcome.of(result)

        def fits(error: BaseException) -> bool:
            """Return whether the parts of an MGET have errors that a single command may have."""
            parts = [what for _, what in error.outcomes] if isinstance(error, PartialFailure) else []
            return all(isinstance(what, expected) for what in parts if isinstance(what, BaseException))

        what = f"{self.words[0]} in a pipeline"
        self._work.findings.note(self._work.name, what, outcome, (*expected, PartialFailure), fits)
        self.verify(outcome)

    def verify(self, outcome: Outcome) -> None:
        """Check the reply."""
        raise NotImplementedError


class _Get(_Command):
    """GET or MGET of steady keys."""

    def __init__(self, work: Pipelines, keys: list[str]) -> None:
        super().__init__(work)
        self.words = ("GET" if len(keys) == 1 else "MGET", *keys)
        values = [value_of(key) for key in keys]
        self._expected: Any = values[0] if len(keys) == 1 else values

    def verify(self, outcome: Outcome) -> None:
        if outcome.succeeded and outcome.reply != self._expected:
            self._work.violation(f"{' '.join(self.words)} in a pipeline gave {outcome.reply!r}")


class _Increment(_Command):
    """INCR of a counter."""

    def __init__(self, work: Pipelines) -> None:
        super().__init__(work)
        self._tally = work.random.choice(work.tallies)
        self.words = ("INCR", self._tally.key)

    def begin(self) -> None:
        self._before = self._tally.begin()

    def verify(self, outcome: Outcome) -> None:
        self._work.end(self._tally, self._before, outcome)

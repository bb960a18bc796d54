"""Commands for all nodes or all primaries, from a client that sends nothing else, so that it gets no redirects."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred

from txvalkeycluster import key_slot
from txvalkeycluster.errors import PartialFailure, ReplyError, ValkeyError

from ..ledger import Outcome, Suspect
from .base import GRACE, USUAL, Environment, Work

_EXPECTED = (*USUAL, PartialFailure)


class Broadcasts(Work):
    """DBSIZE, SCRIPT LOAD, CONFIG SET and FUNCTION LOAD."""

    name = "broadcasts"
    # One worker, so that the last version of the library is known.
    workers = 1
    pause = 0.2

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._version = 0
        # Versions without a reply, which may be loaded late and replace a newer one.
        self._in_doubt: set[int] = set()
        self._sender = self.connect()

    async def step(self, worker: int) -> None:
        """Send one of these commands."""
        send = self.random.choice([self._dbsize, self._script, self._config, self._function])
        await send()

    def probes(self) -> dict[str, Callable[[], Awaitable[Outcome]]]:
        """Return a probe that writes to all primaries."""
        code = _library("probed", "probed", 1)

        def load() -> Deferred[Outcome]:
            loaded = self._sender.function_load(code, replace=True)
            return self.findings.observe(self.name, "FUNCTION LOAD", loaded, self.timeout + GRACE)

        return {"FUNCTION LOAD on every primary": load}

    async def _dbsize(self) -> None:
        outcome = await self.run("DBSIZE", self._sender.dbsize(), expected=_EXPECTED, fits=_parts_are_ours)
        if outcome.succeeded and (type(outcome.reply) is not int or outcome.reply < 0):
            self.violation(f"DBSIZE gave {outcome.reply!r}")

    async def _script(self) -> None:
        source = f"return {self.random.randint(1, 100)}"
        await self.run("SCRIPT LOAD", self._sender.script_load(source), expected=_EXPECTED, fits=_parts_are_ours)

    async def _config(self) -> None:
        setting = {"slowlog-max-len": self.random.randint(100, 200)}
        await self.run("CONFIG SET", self._sender.config_set(setting), expected=_EXPECTED, fits=_parts_are_ours)

    async def _function(self) -> None:
        """Load a new version, then call it on each shard with the other client."""
        self._version += 1
        version, epoch = self._version, self.ledger.epoch
        sent = self._sender.function_load(_library("versions", "version", version), replace=True)
        outcome = await self.run("FUNCTION LOAD", sent, expected=_EXPECTED, fits=_parts_are_ours)
        if not outcome.succeeded:
            self._in_doubt.add(version)
        else:
            for number in range(12):
                await self._call(f"broadcasts:{number}", version, epoch)

    async def _call(self, key: str, version: int, epoch: int) -> None:
        called = self.client.fcall("version", key)
        outcome = await self.run("FCALL", called, expected=(*USUAL, ReplyError), fits=_is_missing)
        is_older = outcome.succeeded and outcome.reply < version and outcome.reply not in self._in_doubt
        if is_older or isinstance(outcome.error, ReplyError):
            slot = key_slot(key)
            got = outcome.error if outcome.error is not None else f"version {outcome.reply}"
            text = f"version {version} was loaded into every shard; later the shard of slot {slot} has {got}"
            epochs = range(epoch, self.ledger.epoch + 1)
            self.ledger.suspects.append(
                Suspect(self.name, text, lambda: not any(self.ledger.may_be_lost(slot, e) for e in epochs))
            )


def _library(library: str, function: str, version: int) -> str:
    code = f"server.register_function('{function}', function() return {version} end)"
    return f"#!lua name={library}\n{code}"


def _parts_are_ours(error: BaseException) -> bool:
    """Whether every error of a PartialFailure is one of the documented classes."""
    parts = [what for _, what in error.outcomes] if isinstance(error, PartialFailure) else []
    return all(isinstance(what, ValkeyError) for what in parts if isinstance(what, BaseException))


def _is_missing(error: BaseException) -> bool:
    return not isinstance(error, ReplyError) or "Function not found" in str(error)

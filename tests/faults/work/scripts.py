"""Scripts and functions that write and then fail with an error of their own.

The texts of the errors look like those of a server.  A client that sent the script again would repeat the write.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha1
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from txvalkeycluster.errors import ReplyError

from ..ledger import Outcome, Tally
from .base import GRACE, USUAL, Environment
from .counters import CountingWork

_OWN = "of my own"
_TEXTS = (
    f"TRYAGAIN {_OWN}",
    f"LOADING {_OWN}",
    f"READONLY {_OWN}",
    f"CLUSTERDOWN {_OWN}",
    f"MASTERDOWN {_OWN}",
    f"UNBLOCKED {_OWN}, instance state changed",
    "MOVED 1 127.0.0.1:1",
    "ASK 1 127.0.0.1:1",
    f"MOVED {_OWN}",
)
_BODY = "redis.call('INCR', KEYS[1]) return redis.error_reply(ARGV[1])"
_LIBRARY = """#!lua name=failing
server.register_function('fail', function(keys, args)
  server.call('INCR', keys[1])
  return server.error_reply(args[1])
end)"""


class Scripts(CountingWork):
    """EVAL, EVALSHA, FCALL, `client.script` and EVAL in a pipeline."""

    name = "scripts"

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._script = self.client.script(_BODY)
        self._sha = sha1(_BODY.encode()).hexdigest()

    async def prepare(self) -> None:
        """Load the library and the script."""
        await self.client.function_load(_LIBRARY, replace=True)
        await self.client.script_load(_BODY)

    async def step(self, worker: int) -> None:
        """Call a script or function on a counter."""
        tally = self.random.choice(self.tallies)
        text = self.random.choice(_TEXTS)
        call = self.random.choice([self._eval, self._evalsha, self._loaded, self._function, self._pipelined])
        await call(tally, text)

    async def _eval(self, tally: Tally, text: str) -> None:
        await self._call("EVAL", tally, text, lambda: self.client.eval(_BODY, tally.key, text))

    async def _evalsha(self, tally: Tally, text: str) -> None:
        await self._call("EVALSHA", tally, text, lambda: self.client.evalsha(self._sha, tally.key, text), "NOSCRIPT")

    async def _loaded(self, tally: Tally, text: str) -> None:
        # EVALSHA, and EVAL if the script is missing, have a deadline each.
        await self._call("script()", tally, text, lambda: self._script(tally.key, text), timeout=2 * self.timeout)

    async def _function(self, tally: Tally, text: str) -> None:
        await self._call("FCALL", tally, text, lambda: self.client.fcall("fail", tally.key, text))

    async def _pipelined(self, tally: Tally, text: str) -> None:
        pipeline = self.client.pipeline()
        for _ in range(3):
            tally.begin()
            pipeline.eval(_BODY, tally.key, text)
        whole = await self.findings.observe(self.name, "a pipeline", pipeline.execute(), self.timeout + GRACE)
        for result in whole.reply if whole.succeeded else [whole.error] * 3:
            outcome = Outcome(text) if _is_own(result, text) else Outcome.of(result)
            self.findings.note(self.name, "EVAL in a pipeline", outcome, USUAL)
            self._ended(tally, outcome, text)

    async def _call(
        self,
        what: str,
        tally: Tally,
        text: str,
        call: Callable[[], Deferred[Any]],
        may_fail_with: str = "",
        timeout: float | None = None,
    ) -> None:
        """Call it once.  ``may_fail_with`` is the code of a server error that proves that it was not executed."""
        tally.begin()

        def own_error_is_success(failure: Failure) -> str | Failure:
            return text if _is_own(failure.value, text) else failure

        def fits(error: BaseException) -> bool:
            return not isinstance(error, ReplyError) or error.code == may_fail_with

        called = call().addErrback(own_error_is_success)
        outcome = await self.run(what, called, expected=(*USUAL, ReplyError), fits=fits, timeout=timeout)
        self._ended(tally, outcome, text)

    def _ended(self, tally: Tally, outcome: Outcome, text: str) -> None:
        if outcome.succeeded:
            tally.acknowledge()
            if outcome.reply != text:
                self.violation(f"a script that fails with {text!r} gave {outcome.reply!r}")
        elif not outcome.in_doubt:
            tally.refuse()


def _is_own(error: object, text: str) -> bool:
    return isinstance(error, ReplyError) and str(error) == text

"""Scripts, functions and module commands can fail after they have written: which errors allow to send them again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from tests.memory import MemoryTests
from tests.scripted.base import ScriptedTests
from txvalkeycluster import (
    ClientClosed,
    ClusterClient,
    CommandTimeout,
    ConnectionLost,
    ReplyError,
    WatchError,
    key_slot,
)
from txvalkeycluster.testing import CLOSE, DEFAULT_REPLY

# Errors that a script makes up, with first words that mean something to a client.
FORGED = [
    "TRYAGAIN later", "LOADING", "LOADING my data", "READONLY is this row", "CLUSTERDOWN x", "MASTERDOWN x",
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
    "MOVED 1 127.0.0.1:1", "ASK 1 127.0.0.1:1", "MOVED 99999999999999999999 127.0.0.1:1", "NOSCRIPT of mine",
    "READONLY You can't write against a read only replica. script: 1234, on @user_script:1.",
]  # fmt: skip
# Errors that the server itself sends before it executes anything.
GENUINE = [
    "TRYAGAIN Multiple keys request during rehashing of slot", "LOADING Valkey is loading the dataset in memory",
    "READONLY You can't write against a read only replica.", "CLUSTERDOWN Hash slot not served",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
]  # fmt: skip
PROGRAMS = (b"EVAL", b"EVALSHA", b"FCALL", b"EVAL_RO", b"MOD.WRITE")


class ScriptErrorTests(ScriptedTests):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.key = self.key_of(self.nodes[0])
        #: The nodes answer these errors to PROGRAMS, one after the other, and then a result.
        self.errors: list[str] = []
        for node in self.nodes:
            node.script = self.answer

    def answer(self, node: Any, words: list[bytes], _: Any) -> Any:
        if words[:2] == [b"COMMAND", b"INFO"]:
            entry = b"*7\r\n$9\r\nmod.write\r\n:-2\r\n*1\r\n+write\r\n:1\r\n:1\r\n:1\r\n*0\r\n"
            return b"*%d\r\n" % len(words[2:]) + b"".join(entry if w == b"MOD.WRITE" else b"*-1\r\n" for w in words[2:])
        if words[0] not in (*PROGRAMS, b"MOD.UNKNOWN"):
            return DEFAULT_REPLY
        return b"-%b\r\n" % self.errors.pop(0).encode() if self.errors else b":1\r\n"

    def calls(self, client: ClusterClient[bytes]) -> dict[bytes, Callable[[], Deferred[Any]]]:
        """Return a function for each of PROGRAMS that runs it."""
        return {
            b"EVAL": lambda: client.eval("s", [self.key]),
            b"EVALSHA": lambda: client.script("s")(self.key),
            b"FCALL": lambda: client.fcall("f", [self.key]),
            b"EVAL_RO": lambda: client.eval_ro("s", [self.key]),
            b"MOD.WRITE": lambda: client.execute("MOD.WRITE", self.key),
        }

    async def test_errors_that_a_script_makes_up(self) -> None:
        """An error that a script can make up goes to the caller, and the script is not sent again."""
        client = await self.client()
        for name, run in self.calls(client).items():
            for text in FORGED:
                before = self.cluster.count(name)
                self.errors = [text]
                error = await self.assertFailure(run(), ReplyError)
                self.assertEqual(str(error), text)
                self.assertEqual(self.cluster.count(name), before + 1, (name, text))

    async def test_in_a_pipeline(self) -> None:
        """A pipeline does not send a script again either."""
        client = await self.client()
        for text in FORGED:
            before = self.cluster.count(b"EVAL")
            self.errors = [text]
            results = await client.pipeline().incr(self.key).eval("s", [self.key]).incr(self.key).execute()
            self.assertEqual(str(results[1]), text)
            self.assertEqual(self.cluster.count(b"EVAL"), before + 1)

    async def test_errors_of_the_server(self) -> None:
        """After an error that the server sends before it executes anything, the client sends the script again."""
        client = await self.client()
        for name, run in self.calls(client).items():
            for text in GENUINE:
                before = self.cluster.count(name)
                self.errors = [text, text]
                self.assertEqual(await run(), 1)
                self.assertEqual(self.cluster.count(name), before + 3, (name, text))

    async def test_a_redirect_of_the_own_slot(self) -> None:
        """A redirect is followed if it names the slot of the script's keys, or if the keys are unknown."""
        client = await self.client()
        slot, target = key_slot(self.key), self.nodes[1]
        for name, run in [
            *self.calls(client).items(),
            (b"MOD.UNKNOWN", lambda: client.execute("MOD.UNKNOWN", self.key)),
        ]:
            for word in ("MOVED", "ASK"):
                self.errors = [f"{word} {slot} {target.address}"]
                before = self.cluster.count(name)
                self.assertEqual(await run(), 1)
                self.assertEqual(self.cluster.count(name), before + 2)
                await client.refresh_topology()
        self.errors = [f"MOVED {(slot + 1) % 16384} {target.address}"]
        await self.assertFailure(client.execute("MOD.UNKNOWN", self.key), ReplyError)

    async def test_repetition_forbidden(self) -> None:
        """With repeat_scripts=False every error goes to the caller, and scripts are sent with EVAL, never EVALSHA."""
        client = await self.client(repeat_scripts=False)
        slot = key_slot(self.key)
        missing = "NOSCRIPT No matching script."
        for text in [*GENUINE, f"MOVED {slot} {self.nodes[1].address}", f"ASK {slot} {self.nodes[1].address}", missing]:
            for run in self.calls(client).values():
                self.errors = [text, text]
                error = await self.assertFailure(run(), ReplyError)
                self.assertEqual(str(error), text)
                self.assertEqual(len(self.errors), 1)
        self.assertEqual(self.cluster.count(b"EVALSHA"), 0)
        self.assertEqual(await client.incr(self.key), 1)

    async def test_a_missing_script(self) -> None:
        """The client sends EVAL after NOSCRIPT, and FUNCTION LOAD never after an error that a script can make up."""
        client = await self.client()
        for text in ("NOSCRIPT No matching script.", "NOSCRIPT No matching script. Please use EVAL."):
            self.errors = [text]
            before = self.cluster.count(b"EVAL")
            self.assertEqual(await client.script("s")(self.key), 1)
            self.assertEqual(self.cluster.count(b"EVAL"), before + 1)
        self.errors = ["ERR Function not found in my table"]
        before = self.cluster.count(b"FCALL")
        await self.assertFailure(client.function("f", "code")(self.key), ReplyError)
        self.assertEqual((self.cluster.count(b"FCALL"), self.cluster.count(b"FUNCTION")), (before + 1, 0))

    async def test_in_a_session(self) -> None:
        """In a session an error that a script makes up is a ReplyError, an error of the server a WatchError."""
        client = await self.client()
        async with client.watch(self.key) as session:
            self.errors = ["TRYAGAIN later"]
            error = await self.assertFailure(session.eval("s", [self.key]), ReplyError)
            self.assertEqual(str(error), "TRYAGAIN later")
            self.errors = [GENUINE[0]]
            await self.assertFailure(session.eval("s", [self.key]), WatchError)

    async def test_abort_after_a_retry(self) -> None:
        """A script that was sent before may have been executed, even if it is not on a connection at abort()."""
        client = await self.client()
        self.errors = [GENUINE[0]]
        running = client.eval("s", [self.key])
        await self.until(lambda: not self.errors)
        await client.abort()
        error = await self.assertFailure(running, ClientClosed)
        self.assertTrue(error.maybe_executed)

    async def test_a_lost_reply(self) -> None:
        """A script that lost its reply is not sent again, and its error says that it may have been executed."""
        client = await self.client()
        self.nodes[0].script = lambda node, words, _: CLOSE if words[0] == b"EVAL" else DEFAULT_REPLY
        error = await self.assertFailure(client.eval("s", [self.key]), ConnectionLost)
        self.assertTrue(error.maybe_executed)


class DeadlineTests(MemoryTests):
    def test_a_deadline_during_retries(self) -> None:
        """A script that was sent at least once may have been executed, because it could make up the error."""
        for node in self.nodes:
            node.script = lambda node, words, _: (
                b"-%b\r\n" % GENUINE[0].encode() if words[0] == b"EVAL" else DEFAULT_REPLY
            )
        client = self.client(timeout=0.3)
        key = self.key_of(self.nodes[0])
        calls = [client.eval("s", [key]), client.pipeline().eval("s", [key]).execute(raise_first=True)]
        for call in calls:
            error = self.error_of(call, CommandTimeout)
            self.assertTrue(error.maybe_executed)
        self.assertGreater(self.cluster.count(b"EVAL"), 2)

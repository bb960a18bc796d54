"""Scripts and functions: loaded where they are missing, and repeated only if they did not run."""

from __future__ import annotations

from typing import Any

from tests.memory import MemoryTests
from txvalkeycluster import PartialFailure, ReplyError
from txvalkeycluster.testing import DEFAULT_REPLY

NO_SCRIPT = b"-NOSCRIPT No matching script. Please use EVAL.\r\n"
NO_FUNCTION = b"-ERR Function not found\r\n"
THERE = b"-ERR Library 'lib' already exists\r\n"


class ScriptTests(MemoryTests):
    def setUp(self) -> None:
        super().setUp()
        self.key = self.key_of(self.nodes[0])
        #: Replies of the nodes, by command, that replace the execution.
        self.answers: dict[bytes, Any] = {}
        for node in self.nodes:
            node.script = lambda node, words, _: self.answers.get(words[0], DEFAULT_REPLY)

    def sent(self) -> list[bytes]:
        """Return the names of the script and function commands that the first node received, in order."""
        words = [words[0] for _, words in self.nodes[0].received]
        return [name for name in words if name.startswith((b"EVAL", b"FCALL", b"FUNCTION"))]

    def test_a_script_that_the_server_lacks(self) -> None:
        """The script is sent as text, with the same keys."""
        self.answers = {b"EVALSHA": NO_SCRIPT, b"EVAL": b":1\r\n", b"EVALSHA_RO": NO_SCRIPT, b"EVAL_RO": b":2\r\n"}
        script = self.client().script("return 1")
        self.assertEqual(self.result_of(script(self.key, ["a"])), 1)
        self.assertEqual(self.nodes[0].received[-1][1], [b"EVAL", b"return 1", b"1", self.key.encode(), b"a"])
        self.assertEqual(self.result_of(script(self.key, read_only=True)), 2)
        self.assertEqual(self.sent(), [b"EVALSHA", b"EVAL", b"EVALSHA_RO", b"EVAL_RO"])

    def test_a_forged_error(self) -> None:
        """A script may raise such an error itself after it has written, so it is not repeated."""
        self.answers = {b"EVALSHA": b"-NOSCRIPT says the script\r\n", b"FCALL": b"-ERR says the function\r\n"}
        client = self.client()
        self.error_of(client.script("return 1")(self.key), ReplyError)
        self.error_of(client.function("does", "code")(self.key), ReplyError)
        self.assertEqual(self.sent(), [b"EVALSHA", b"FCALL"])

    def test_without_repeat_scripts(self) -> None:
        """A script is sent as text at once, and no library is loaded after a call."""
        self.answers = {b"EVAL": b":1\r\n", b"FCALL": NO_FUNCTION}
        client = self.client(repeat_scripts=False)
        self.assertEqual(self.result_of(client.script(b"return 1")(self.key)), 1)
        self.error_of(client.function("does", "code")(self.key), ReplyError)
        self.assertEqual(self.sent(), [b"EVAL", b"FCALL"])


class FunctionTests(ScriptTests):
    def setUp(self) -> None:
        super().setUp()
        self.answers = {b"FCALL": NO_FUNCTION, b"FUNCTION": b"$3\r\nlib\r\n"}
        self.loaded = False
        self.nodes[0].script = self.first

    def first(self, _: Any, words: list[bytes], __: Any) -> Any:
        """Know the function after FUNCTION LOAD."""
        if words[0] == b"FUNCTION":
            self.loaded = True
        if words[0] == b"FCALL" and self.loaded:
            return b":1\r\n"
        return self.answers.get(words[0], DEFAULT_REPLY)

    def test_the_library_is_loaded_into_every_shard(self) -> None:
        client = self.client()
        self.assertEqual(self.result_of(client.function("does", "code")(self.key, [1])), 1)
        self.assertEqual(self.cluster.count(b"FUNCTION", b"LOAD"), 3)

    def test_some_shards_have_the_library(self) -> None:
        """Shards that have the library keep their version."""
        for node in self.nodes[1:]:
            node.script = lambda node, words, _: THERE if words[0] == b"FUNCTION" else DEFAULT_REPLY
        self.assertEqual(self.result_of(self.client().function("does", "code")(self.key)), 1)

    def test_a_library_that_is_refused(self) -> None:
        """The caller gets the refusals, and the function is not called again."""
        self.answers[b"FUNCTION"] = b"-ERR Error compiling function\r\n"
        self.error_of(self.client().function("does", "code")(self.key), PartialFailure)
        self.assertEqual(self.nodes[0].count(b"FCALL"), 1)

    def test_without_a_library(self) -> None:
        self.answers[b"FCALL_RO"] = NO_FUNCTION
        client = self.client()
        self.error_of(client.function("does")(self.key), ReplyError)
        self.error_of(client.function("does")(self.key, read_only=True), ReplyError)
        self.assertEqual(self.cluster.count(b"FUNCTION"), 0)

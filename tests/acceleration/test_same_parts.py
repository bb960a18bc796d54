"""The parts of the C extension do what the Python code of the same name does."""

from __future__ import annotations

import codecs
import gc
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from tests.cases import SynchronousTestCase
from tests.memory import MemoryTests
from txvalkeycluster import ClientClosed, ProtocolError, ReplyError
from txvalkeycluster.acceleration import fast
from txvalkeycluster.commands import Command, CommandTable
from txvalkeycluster.commands.encoder import pack, pack_keyed
from txvalkeycluster.commands.generated import COMMANDS
from txvalkeycluster.connection.protocol import NOTHING, PUSH
from txvalkeycluster.requests.request import Call
from txvalkeycluster.slots import argument_slot
from txvalkeycluster.testing import DEFAULT_REPLY

NO_EXTENSION = "there is no C extension" if fast is None else None
GET = CommandTable(COMMANDS)["GET"]
TEXT = st.text(max_size=30) | st.sampled_from(["{tag}key", "{}key", "a{b", "a}b{c}", "é{ü}", "\ud800", "x" * 1100])
BYTES = st.binary(max_size=30) | st.sampled_from([b"{tag}key", b"\xff{\xfe}", b"y" * 1024, b"y" * 1025, b"z" * 9000])
ODD = st.integers() | st.floats() | st.sampled_from([True, None, bytearray(b"{x}y"), memoryview(b"m"), 1 << 80])
WORDS = st.lists(TEXT | BYTES, min_size=1, max_size=40) | st.lists(TEXT | BYTES | ODD, min_size=1, max_size=5)


def outcome(function: Callable[..., Any], *args: Any) -> Any:
    """Return the result of a function, or its error."""
    try:
        return function(*args)
    except Exception as error:
        return type(error), str(error)


class ShortcutTests(SynchronousTestCase):
    """Functions in C that leave to Python what they cannot do."""

    skip = NO_EXTENSION

    def check(self, shortcut: Any, *args: Any) -> None:
        self.assertEqual(outcome(shortcut, *args), outcome(shortcut.__wrapped__, *args))

    @given(WORDS, st.sampled_from([tuple, list]))
    def test_pack(self, words: list[Any], kind: type[Any]) -> None:
        self.check(pack, kind(words))
        self.check(pack_keyed, GET.wire_name, kind(["GET", *words]))
        self.check(pack_keyed, GET.wire_name, kind([b"get", *words]))

    @given(TEXT | BYTES | ODD)
    def test_slot(self, key: Any) -> None:
        self.check(argument_slot, key)

    def test_other_calls(self) -> None:
        for args in ((), (GET.wire_name,), ("GET", ("GET", "k")), (GET.wire_name, None), (GET.wire_name, ("GET",))):
            for shortcut in (pack, pack_keyed, argument_slot):
                results = [outcome(function, *args) for function in (shortcut, getattr(shortcut, "__wrapped__"))]  # noqa: B009
                # The text of a TypeError has the name of the function.
                self.assertEqual(*(r[0] if isinstance(r, tuple) else r for r in results))
        self.assertRaises(ValueError, fast.Shortcut, "no such function", pack)


def aggregates(items: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Return arrays, sets, pushes and maps of items."""

    def aggregate(kind: bytes, parts: list[bytes]) -> bytes:
        return b"%b%d\r\n%b" % (kind, len(parts), b"".join(parts))

    keys = st.sampled_from([b"$1\r\nk\r\n", b"+j\r\n", b":1\r\n"])
    rows = st.lists(st.tuples(keys, items).map(b"".join), max_size=3)
    lists = st.builds(aggregate, st.sampled_from([b"*", b"~", b">"]), st.lists(items, max_size=4))
    return lists | st.builds(aggregate, st.just(b"%"), rows)


ITEMS = st.recursive(
    st.sampled_from(
        [
            *(b"$5\r\nvalue\r\n", b"$0\r\n\r\n", b"$-1\r\n", b"_\r\n", b":7\r\n", b":-12\r\n", b"+OK\r\n", b"+\r\n"),
            *(b"#t\r\n", b"#f\r\n", b",2.5\r\n", b"-ERR no\r\n", b"=7\r\ntxt:abc\r\n", b"*-1\r\n", b":0\r\n"),
            *(b"(1234567890123456789012\r\n", b":1234567890123456789\r\n", b"$20000\r\n" + b"x" * 20000 + b"\r\n"),
            *(b"$300\r\n" + b"y" * 300 + b"\r\n", b"!5\r\nERR x\r\n", b"+two\rparts\r\n"),
        ]
    ),
    aggregates,
    max_leaves=6,
)
DAMAGE = st.sampled_from(
    [b"", b"", b"", b"?", b"$x\r\n", b"$5\r\nabcdefg\r\n", b"*99999\r\n", b"\r\n", b":\r\n", b"$-2\r\n"]
)


def read(reader: Any, chunks: list[bytes]) -> list[Any]:
    """Return the replies in a stream, with their classes, and the error at its end."""
    found: list[Any] = []
    try:
        for chunk in chunks:
            reader.feed(chunk)
            while (reply := reader.gets()) is not NOTHING:
                found.append((type(reply), repr(reply)))
    except Exception as error:
        found.append((type(error), str(error)))
    return found


def hiredis_reader() -> hiredis.Reader:
    return hiredis.Reader(protocolError=ProtocolError, replyError=ReplyError, notEnoughData=NOTHING)


class ReaderTests(SynchronousTestCase):
    """The reader in C reads what hiredis reads."""

    skip = NO_EXTENSION

    @given(st.lists(ITEMS, max_size=12), DAMAGE, st.lists(st.integers(1, 400), max_size=20))
    def test_the_same_replies(self, items: list[bytes], damage: bytes, sizes: list[int]) -> None:
        stream, chunks = b"".join(items) + damage, []
        for size in sizes:
            chunks.append(stream[:size])
            stream = stream[size:]
        chunks.append(stream)
        chunks = [chunk for chunk in chunks if chunk]
        expected = read(hiredis_reader(), chunks)
        self.assertEqual(read(fast.Reader(hiredis_reader(), NOTHING, PUSH), chunks), expected)

    @given(st.binary(max_size=60) | st.text("$*%+-:_#\r\n0123", max_size=60).map(str.encode))
    def test_any_bytes(self, stream: bytes) -> None:
        expected = read(hiredis_reader(), [stream])
        self.assertEqual(read(fast.Reader(hiredis_reader(), NOTHING, PUSH), [stream]), expected)

    def test_has_data(self) -> None:
        reader = fast.Reader(hiredis_reader(), NOTHING, PUSH)
        self.assertFalse(reader.has_data())
        for chunk in (b"$5\r\nva", b"$20000\r\nva"):
            reader.feed(chunk)
            self.assertIs(reader.gets(), NOTHING)
            self.assertTrue(reader.has_data())
            reader.feed(b"lue\r\n" if chunk[1:2] == b"5" else b"l" * 19998 + b"\r\n")
            self.assertIsInstance(reader.gets(), bytes)
            self.assertIs(reader.gets(), NOTHING)
            self.assertFalse(reader.has_data())
        self.assertRaises(TypeError, reader.feed, "text")


class ReferenceTests(MemoryTests):
    """Neither references nor objects are left behind."""

    skip = NO_EXTENSION

    def setUp(self) -> None:
        super().setUp()
        self.world: Any = self.client()
        self.key = self.key_of(self.nodes[0])
        self.name = "GET"

    def counts(self) -> dict[str, int]:
        """Return the numbers of references to objects that every command uses, and of Deferreds."""
        gc.collect()
        router = self.world._router
        objects: dict[str, Any] = {
            "None": None, "the class": Call, "the command": GET, "b''": b"", "a name": self.name, "a key": self.key,
            "the canceller": router.note_cancel, "the node": router.destinations[0],
            "the scheduler": router.factory.write_scheduler,
        }  # fmt: skip
        deferreds = sum(issubclass(type(each), Deferred) for each in gc.get_objects())
        return {**{name: sys.getrefcount(each) for name, each in objects.items()}, "Deferreds": deferreds}

    def round(self) -> None:
        """Run commands of every kind to their ends."""
        client, key = self.world, self.key

        async def converse() -> None:
            await client.set(key, b"value")
            await client.get(key)
            await client.execute(self.name, key, timeout=1.0)
            await client.hgetall(key)

        self.result_of(Deferred.fromCoroutine(converse()))
        self.result_of(client.get(key).addCallback(lambda value: value))
        self.result_of(client.pipeline().get(key).set(key, "v").get(key).execute())
        self.result_of(client.with_options(timeout=2).get(key))
        self.error_of(client.set(key, None))
        self.error_of(client.get(["a"]))
        self.nodes[0].script = lambda node, words, connection: b"-ERR no\r\n"
        self.error_of(client.get(key))
        self.error_of(Deferred.fromCoroutine(converse()))
        self.nodes[0].script = None
        for waiting in (client.get(key), Deferred.fromCoroutine(converse())):
            waiting.addErrback(lambda _: None)
            waiting.cancel()
            self.network.settle()
        self.nodes[0].received.clear()

    def test_the_same_after_many_rounds(self) -> None:
        for _ in range(50):
            self.round()
        before = self.counts()
        for _ in range(200):
            self.round()
        for name, count in self.counts().items():
            # One reference in each round would be 200.  Some are not the client's: Python frees them late.
            self.assertLess(abs(count - before[name]), 150, name)

    def test_abandoned(self) -> None:
        """A call that nobody refers to is collected, with the coroutine that waits for it."""
        ended: list[str] = []

        async def wait(call: Call) -> None:
            try:
                await call
            finally:
                ended.append("closed")

        waiting = Deferred.fromCoroutine(wait(Call(b"", GET, 0, 0.0, 0.0)))
        del waiting
        gc.collect()
        self.assertEqual(ended, ["closed"])


def stop_of(step: Callable[..., Any], *args: Any) -> Any:
    """Return the value of the StopIteration that a function raises."""
    try:
        step(*args)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("there was another step")


class RecordTests(SynchronousTestCase):
    """Attributes of a call that C code holds behave as those of a Python object."""

    skip = NO_EXTENSION

    def test_attributes(self) -> None:
        call: Any = Call(b"x", GET, 5, 1, 2, True)
        self.assertEqual((call.payload, call.command, call.target, call.since, call.deadline), (b"x", GET, 5, 1.0, 2.0))
        self.assertEqual((call.repeatable, call.history, call.called, call.paused), (True, None, False, 0))
        self.assertFalse(hasattr(call, "result"))
        call.note = "another"
        self.assertEqual(vars(call), {"note": "another"})
        self.assertRaises(TypeError, setattr, call, "_callbacks", ())
        self.assertRaises(TypeError, delattr, call, "_callbacks")

    def test_as_an_iterator(self) -> None:
        """The steps of a call, as Python takes them under a tracer."""
        call: Any = Call(b"x", GET, 5, 1, 2)
        steps = iter(call)
        self.assertIs(next(steps), call)
        self.assertEqual(stop_of(steps.send, ("a", "tuple")), ("a", "tuple"))
        call.callback(None)
        self.assertIsNone(stop_of(next, iter(call)))
        failed: Any = Call(b"x", GET, 5, 1, 2)
        failed.errback(ValueError("no"))
        self.assertRaises(ValueError, next, iter(failed))

    def test_wrong_use(self) -> None:
        for wrong in (
            lambda: fast.Executor(1, {}, [], 2, 1.0, 3, 4, 5),
            lambda: fast.Executor(),
            lambda: fast.Shortcut(),
            lambda: fast.Reader(1, 2, 3),
            lambda: fast.Replies(1, deque(), None, frozenset()),
            lambda: fast.Messages(fast.Reader(hiredis_reader(), NOTHING, PUSH), int, {}),
            lambda: fast.joined(()),
            lambda: fast.use_classes(int, int),
            lambda: fast.configure(deferred=1),
        ):
            self.assertRaises((AttributeError, TypeError, ValueError), wrong)
        for kind in (fast.Executor, fast.Messages, fast.Replies, fast.Shortcut):
            # Without a call of __init__.
            self.assertRaises(TypeError, kind.__new__(kind))
        self.assertRaises(RuntimeError, fast.Reader.__new__(fast.Reader).gets)

    def test_replies_that_python_code_handles(self) -> None:
        for first in ([], [Command("X")]):
            reader = fast.Reader(hiredis_reader(), NOTHING, PUSH)
            reader.feed(b":5\r\n?")
            replies = fast.Replies(reader, deque(first), None, frozenset())
            self.assertEqual(replies(), 5)
            self.assertRaises(ProtocolError, replies)


class ClockTests(MemoryTests):
    skip = NO_EXTENSION

    def test_a_clock_that_returns_an_int(self) -> None:
        """The Python code computes with it."""
        client = self.client()
        router = client._router
        executor = fast.Executor(
            router.execute_in_python,
            router.commands,
            router.destinations,
            lambda: 5,
            5.0,
            router.note_cancel,
            None,
            None,
        )
        self.assertIsNone(self.result_of(executor(("GET", self.key_of(self.nodes[0])))))


class CodecTests(MemoryTests):
    """An error handler of a codec is code of the application, which runs while a reply is decoded."""

    def check(self, act: Any) -> None:
        """Let a handler act while a pipeline and a command get replies that are not UTF-8."""

        def handler(error: UnicodeError) -> tuple[str, int]:
            act(clients[0])
            return "?", error.end  # type: ignore[attr-defined]

        clients: list[Any] = []
        codecs.register_error("txvalkeycluster-test", handler)
        client: Any = self.client(encoding="utf-8", encoding_errors="txvalkeycluster-test")
        clients.append(client)
        key = self.key_of(self.nodes[0])
        self.nodes[0].script = lambda node, words, _: b"$1\r\n\xff\r\n" if words[0] == b"GET" else DEFAULT_REPLY
        pipeline = client.pipeline().get(key).get(key).get(key).execute()
        single = client.get(key)
        for waiting in (pipeline, single):
            waiting.addErrback(lambda failure: failure.type)
        self.network.settle()
        self.results = self.successResultOf(pipeline), self.successResultOf(single)

    def test_a_handler_that_does_nothing(self) -> None:
        self.check(lambda client: None)
        self.assertEqual(self.results, (["?"] * 3, "?"))

    def test_a_handler_that_aborts_the_client(self) -> None:
        """Every command ends, once."""
        self.check(lambda client: client.abort())
        self.assertEqual(self.results, (ClientClosed, ClientClosed))

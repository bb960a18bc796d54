"""The framer returns exactly the replies of a server, in whatever pieces their bytes come, and never a wrong one."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from random import Random
from types import FrameType
from typing import Any

import hiredis
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.acceleration.test_same_parts import NO_EXTENSION
from tests.cases import SynchronousTestCase
from tests.fuzz.inputs import damaged_bytes
from tests.versions import in_python, versions
from txvalkeycluster import framing
from txvalkeycluster.errors import ProtocolError, ReplyError
from txvalkeycluster.framing import ReplyFramer, Sampler

_MOST = 1 << 32
NOTHING = object()


def bulk(value: bytes, kind: bytes = b"$") -> bytes:
    """Return a bulk string, or another element that has its form."""
    return b"%b%d\r\n%b\r\n" % (kind, len(value), value)


def aggregate(kind: bytes, elements: Sequence[bytes]) -> bytes:
    """Return an array, a set or a push."""
    return b"%b%d\r\n%b" % (kind, len(elements), b"".join(elements))


def pairs(kind: bytes, elements: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return a map, or attributes."""
    return b"%b%d\r\n%b" % (kind, len(elements), b"".join(key + value for key, value in elements))


TEXTS = st.one_of(
    st.sampled_from([b"", b"OK", b"QUEUED", b"ERR no", b"MOVED 1 h:1", b"\xff\x00", b"$5", b"x" * 70_000]),
    st.binary(max_size=20).map(lambda text: text.translate(None, b"\r\n")),
)
CONTENTS = st.one_of(
    st.sampled_from(
        [b"", b"\r\n", b"\r", b"+OK\r\n", b"$5\r\nabcde\r\n", b"*1000\r\n", b"\r\n-ERR no\r\n", b"v" * 64, b"v" * 2048]
    ),
    st.binary(max_size=40),
    # Lengths as they are learnt, and longer ones.
    st.integers(0, 5000).map(lambda length: (b"value\r\n" * (length // 7 + 1))[:length]),
)
DOUBLES = st.sampled_from([b"1.5", b"-0", b"3", b"inf", b"-inf", b"nan", b"1e308", b"-1.7976931348623157e+308"])
LEAVES = st.one_of(
    TEXTS.map(lambda text: b"+%b\r\n" % text),
    st.integers(-(1 << 63), (1 << 63) - 1).map(lambda number: b":%d\r\n" % number),
    DOUBLES.map(lambda number: b",%b\r\n" % number),
    st.integers().map(lambda number: b"(%d\r\n" % number),
    st.sampled_from([b"_\r\n", b"#t\r\n", b"#f\r\n", b"$-1\r\n", b"*-1\r\n", b"*0\r\n", b"~0\r\n", b"%0\r\n"]),
    CONTENTS.map(bulk),
    CONTENTS.map(lambda text: bulk(b"txt:" + text, b"=")),
)
ERRORS = TEXTS.map(lambda text: b"-%b\r\n" % text)
BULK_ERRORS = CONTENTS.map(lambda text: bulk(text, b"!"))
# Keys of maps, which hiredis puts in a dict.
KEYS = CONTENTS.map(bulk)


def nested(leaves: st.SearchStrategy[bytes], *, attributes: bool) -> st.SearchStrategy[bytes]:
    """Return the replies with these elements."""

    def extend(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
        several = st.lists(inner, max_size=5)
        fields = st.lists(st.tuples(KEYS, inner), max_size=3)
        found = [
            several.map(lambda elements: aggregate(b"*", elements)),
            several.map(lambda elements: aggregate(b"~", elements)),
            fields.map(lambda found: pairs(b"%", found)),
        ]
        if attributes:
            found.append(st.tuples(fields, inner).map(lambda both: pairs(b"|", both[0]) + both[1]))
        return st.one_of(found)

    return st.recursive(leaves, extend, max_leaves=12)


# What hiredis can read: neither bulk errors nor attributes.
READABLE = st.one_of(
    nested(st.one_of(LEAVES, ERRORS), attributes=False),
    st.lists(LEAVES, min_size=1, max_size=4).map(lambda elements: aggregate(b">", elements)),
)
REPLIES = st.one_of(READABLE, nested(st.one_of(LEAVES, ERRORS, BULK_ERRORS), attributes=True))
CUTS = st.lists(st.integers(0, 1 << 20), max_size=20)
SHAPES = st.sampled_from([[], [b"64", b"2048", b"0"], [b"5", b"40", b"64", b"1", b"7", b"21"]])


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """Cut data at places, which are taken modulo its length.  Every place may be one of them."""
    ends = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(ends)]


def in_pieces(data: bytes, size: int) -> list[bytes]:
    """Cut data into pieces of one size."""
    return [data[start : start + size] for start in range(0, len(data), size)]


def feed(chunks: Sequence[bytes], most: int = _MOST) -> list[bytes]:
    """Return the frames in chunks, and check that nothing is left."""
    framer = ReplyFramer(most)
    found = [frame for chunk in chunks for frame in framer.feed(chunk)]
    assert framer.partial == 0
    return found


def values(data: bytes) -> Iterator[Any]:
    """Iterate over the replies that hiredis reads; its error is the last one."""
    reader = hiredis.Reader(protocolError=ProtocolError, replyError=ReplyError, notEnoughData=NOTHING)
    reader.feed(data)
    try:
        while (value := reader.gets()) is not NOTHING:
            yield repr(value)
    except (ProtocolError, TypeError) as error:
        # Also a map whose key is a list.
        yield error


class LearningCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(framing, "_shapes", framing._ReplyShapes())

    def learn(self, lengths: list[bytes]) -> None:
        """Let the framer know bulk strings of these lengths, and no others."""
        framing._shapes = framing._ReplyShapes()
        framing._shapes._compile(lengths)


class FramingTests(LearningCase):
    """The search in Python, and the one in C."""

    @settings(max_examples=150, deadline=None)
    @given(st.lists(REPLIES, max_size=12), CUTS, SHAPES)
    def test_any_replies_in_any_pieces(self, replies: list[bytes], places: list[int], lengths: list[bytes]) -> None:
        """The frames are the replies, however their bytes are cut, and together they are all bytes."""
        data = b"".join(replies)
        whole = [data] if data else []
        for _ in versions(framing, "take_plain"):
            for chunks in (whole, cut(data, places), in_pieces(data, 1) if len(data) < 3000 else in_pieces(data, 1000)):
                self.learn(lengths)
                self.assertEqual(feed(chunks), replies)

    @settings(max_examples=150, deadline=None)
    @given(st.lists(READABLE, max_size=12), CUTS, SHAPES)
    def test_agreement_with_hiredis(self, replies: list[bytes], places: list[int], lengths: list[bytes]) -> None:
        """Each frame is one reply for hiredis, the same as in the whole stream."""
        data = b"".join(replies)
        for _ in versions(framing, "take_plain"):
            self.learn(lengths)
            frames = feed(cut(data, places))
            self.assertEqual([list(values(frame)) for frame in frames], [[value] for value in values(data)])

    @settings(max_examples=300, deadline=None)
    @given(st.lists(READABLE, min_size=1, max_size=6), st.integers(0, 1 << 30), CUTS, SHAPES)
    def test_damaged_replies(self, replies: list[bytes], seed: int, places: list[int], lengths: list[bytes]) -> None:
        """No frame is wrong, and where bytes are not RESP does not depend on the pieces."""
        self.learn(lengths)
        data = damaged_bytes(Random(seed), b"".join(replies))
        # hiredis reads neither of the two, and deep lists have no repr.
        assume(b"!" not in data and b"|" not in data and b"*1\r\n" * 50 not in data)
        found: list[tuple[list[bytes], bool]] = []
        for _ in versions(framing, "take_plain"):
            for chunks in ([data], cut(data, places), in_pieces(data, 1) if len(data) < 3000 else [data]):
                framer = ReplyFramer(_MOST)
                frames: list[bytes] = []
                raised = False
                try:
                    for chunk in chunks:
                        framer.feed(chunk, frames)
                except ProtocolError:
                    raised = True
                found.append((frames, raised))
        self.assertEqual(found, found[:1] * len(found))
        frames = found[0][0]
        self.assertTrue(data.startswith(b"".join(frames)))
        for frame, value in zip(frames, values(data), strict=False):
            if isinstance(value, Exception):
                break
            self.assertEqual(list(values(frame)), [value])

    def test_every_kind_of_reply(self) -> None:
        """Each reply is one frame, also if it comes alone; none is found before it is complete."""
        texts = (
            b"+a",
            b":-1",
            b"_",
            b"#f",
            b",-1.5e3",
            b"(12",
            b"$-1",
            b"*-1",
            b"*0",
            b"$0\r\n",
            b"=5\r\ntxt:a",
            b"~0",
            b"%0",
        )
        leaves = [text + b"\r\n" for text in texts]
        nested = [aggregate(b"*", leaves), aggregate(b"~", leaves), pairs(b"%", [(leaf, leaf) for leaf in leaves])]
        errors = aggregate(b"*", [b"-ERR no\r\n", bulk(b"no", b"!"), bulk(b"txt:a", b"=")])
        for _ in versions(framing, "take_plain"):
            for reply in (*leaves, *nested, aggregate(b"*", nested), errors):
                self.assertEqual(feed([reply]), [reply])
                self.assertEqual(feed([b"+OK\r\n" + reply + b"+OK\r\n"]), [b"+OK\r\n", reply, b"+OK\r\n"])
                for place in range(1, len(reply)):
                    self.assertEqual(feed([reply[:place], reply[place:]]), [reply])


class ExtensionTests(SynchronousTestCase):
    """The search in C."""

    skip = NO_EXTENSION

    def test_all_plain_replies_are_found(self) -> None:
        """Python searches the rest only: what is special or not complete."""
        plain = [b"+OK\r\n", bulk(b"v" * 5000), aggregate(b"*", [b":1\r\n", pairs(b"%", [(b"+a\r\n", b"_\r\n")])])]
        for rest in (b"-ERR no\r\n", b">1\r\n+a\r\n", b"*2\r\n:1\r\n", b"$5\r\nab", b"HTTP", b""):
            frames: list[bytes] = []
            self.assertEqual(
                framing.take_plain(b"x" + b"".join(plain) + rest, 1, frames, _MOST), 1 + len(b"".join(plain))
            )
            self.assertEqual(frames, plain)


class LearningTests(LearningCase):
    """What the search in Python learns."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(framing, "take_plain", in_python(framing.take_plain))

    def test_lengths_are_learnt_and_forgotten(self) -> None:
        """Bulk strings of usual lengths are found by the expression; when others are usual, they replace them."""
        random = Random(1)
        for lengths in ((64, 5, 0), (1024,), (2048, 7), (2049, 64)):
            replies = [bulk(bytes(random.choice(lengths))) for _ in range(5000)]
            replies[::7] = [b"+OK\r\n"] * len(replies[::7])
            data = b"".join(replies)
            self.assertEqual(feed(in_pieces(data, 4096)), replies)
            usual = {b"%d" % length for length in lengths if length <= 2048}
            self.assertLessEqual(usual, framing._shapes._known)

    def test_what_is_not_learnt(self) -> None:
        """A length is learnt only from a complete header, and only if it is one."""
        for data in (b"$20", b"$05\r\n", b"$-2\r\n", b"$\r\n", b"$a\r\n", b"$99999\r\n", b"$2049\r\n", b"$+5\r\n"):
            framing._shapes.missed(data, 0)
        self.assertFalse(framing._shapes._sampler._sample)
        framing._shapes.missed(b"$2048\r\n", 0)
        framing._shapes.missed(b"$0\r\n", 0)
        self.assertEqual(dict(framing._shapes._sampler._sample), {b"2048": 1, b"0": 1})

    def test_a_python_that_repeats_wrongly(self) -> None:
        """With Python before 3.11.5, runs of frames are found in parts, and are the same frames."""
        self.patch(framing, "REPEATED", b"{0,512}")
        replies = [b"+OK\r\n", b":12\r\n", bulk(b"v" * 64), b"_\r\n", b"$-1\r\n"] * 1000
        data = b"".join(replies)
        for size in (1, 7, 1000, len(data)):
            self.learn([b"64", b"5"])
            self.assertEqual(feed(in_pieces(data, size)), replies)

    def test_the_expression_ends_where_a_frame_ends(self) -> None:
        """Frames that are not complete are no part of a run, with any version of Python."""
        self.learn([b"5", b"10"])
        for rest in (b"+abc", b"+abc\r", b"$5\r\nabc", b"$5\r\nabcdeXX", b"$10\r\n12345678\r\n+", b":12\r", b"$-1\r"):
            self.assertEqual(framing._shapes.run(b"+OK\r\n" + rest).end(), 5, rest)  # type: ignore[union-attr]


class InvalidTests(SynchronousTestCase):
    INVALID = (
        b"OK\r\n", b"\r\n", b"\n", b" +OK\r\n", b"\x15\x03\x01\x00\x02\x02\x46", b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"+a\nb\r\n", b"+a\rb\r\n", b"-ERR a\nb\r\n", b"+OK\n", b"+OK\r\r\n",
        b"$\r\n", b"$a\r\n", b"$5x\r\n", b"$+5\r\n", b"$05\r\nabcde\r\n", b"$-2\r\n", b"$?\r\n", b"$99999999999\r\n",
        b"$5\r\nabcdeXX", b"$5\r\nabcdef\r\n", b"$0\r\nabc", b"=-1\r\n", b"!-1\r\n",
        b"*-2\r\n", b"*a\r\n", b"*01\r\n", b"*?\r\n", b"*99999999999\r\n", b"*9999999999\r\n",
        b"~-1\r\n", b">-1\r\n", b"%-1\r\n", b"|-1\r\n", b"%a\r\n", b"%9999999999\r\n",
        b":\r\n", b":a\r\n", b":1.5\r\n", b":" + b"9" * 20 + b"\r\n", b"_x\r\n", b"#\r\n", b"#x\r\n", b"#tt\r\n",
        b",\r\n", b",1 5\r\n", b"(a\nb\r\n", b"(a\rb\r\n", b":" + b"9" * 600, b"$" + b"9" * 600,
    )  # fmt: skip

    def test_invalid_bytes(self) -> None:
        """Bytes that are not RESP raise an error, alone, behind other replies and inside of one, in any pieces."""
        for invalid in self.INVALID:
            for before in (b"", b"+OK\r\n$2\r\nab\r\n", b"*3\r\n:1\r\n"):
                data = before + invalid
                for chunks in ([data], in_pieces(data, 1), in_pieces(data, 3)):
                    framer = ReplyFramer(_MOST)
                    error = None
                    try:
                        for chunk in chunks:
                            framer.feed(chunk)
                    except ProtocolError as raised:
                        error = raised
                    self.assertIsInstance(error, ProtocolError, repr((before, invalid, len(chunks))))

    def test_the_frames_before_invalid_bytes(self) -> None:
        """The caller gets the replies before the invalid bytes of the same read."""
        frames: list[bytes] = []
        framer = ReplyFramer(_MOST)
        self.assertRaises(ProtocolError, framer.feed, b"+OK\r\n*1\r\n:1\r\n+b\r\nHTTP", frames)
        self.assertEqual(frames, [b"+OK\r\n", b"*1\r\n:1\r\n", b"+b\r\n"])

    def test_any_text_as_a_big_number(self) -> None:
        """A script can return any text as a big number; the reply is passed on, and the connection goes on."""
        replies = [b"(x\r\n", b"(\r\n", b"(12  3\r\n", b"*2\r\n(\xff\r\n:1\r\n", b"(-12\r\n"]
        for size in (1, 3, 100):
            self.assertEqual(feed(in_pieces(b"".join(replies), size)), replies)

    def test_plain(self) -> None:
        """``plain`` is false if a frame of the last read is an error, a push, or has attributes."""
        special = (b"-ERR no\r\n", bulk(b"ERR no", b"!"), b">1\r\n+a\r\n", b"|1\r\n+a\r\n+b\r\n:1\r\n")
        for frame in special:
            framer = ReplyFramer(_MOST)
            framer.feed(b"+OK\r\n*1\r\n-ERR no\r\n" + bulk(b"\r\n-ERR\r\n>"))
            self.assertTrue(framer.plain)
            half = len(frame) // 2
            framer.feed(b"+OK\r\n" + frame[:half])
            self.assertTrue(framer.plain)
            framer.feed(frame[half:] + b"+OK\r\n")
            self.assertFalse(framer.plain)
            framer.feed(b"+OK\r\n")
            self.assertTrue(framer.plain)


class LimitTests(SynchronousTestCase):
    FRAMES = (
        bulk(b"v" * 90), b"+" + b"x" * 97 + b"\r\n", b"-" + b"x" * 97 + b"\r\n", aggregate(b"*", [b":1\r\n"] * 24),
        aggregate(b"*", [bulk(b"v" * 40)] * 2), pairs(b"%", [(b"+a\r\n", b":1\r\n")] * 12), bulk(b"v" * 5000),
        b"+" + b"x" * 5000 + b"\r\n", b"+" + b"x" * 500_000 + b"\r\n", aggregate(b"*", [b":1\r\n"] * 5000),
    )  # fmt: skip

    def test_a_frame_may_be_as_large_as_the_limit(self) -> None:
        """A frame of the limit is returned, and a larger one is an error, in whatever pieces it comes."""
        for frame in self.FRAMES:
            for size in (len(frame), 1 if len(frame) < 1000 else 999, 64):
                chunks = in_pieces(b"+OK\r\n" + frame, size)
                self.assertEqual(feed(chunks, len(frame)), [b"+OK\r\n", frame])
                self.assertRaises(ProtocolError, feed, chunks, len(frame) - 1)

    def test_an_announced_frame(self) -> None:
        """A frame that announces more than the limit is an error at once."""
        for header in (b"$101\r\n", b"*34\r\n", b"%17\r\n", b">34\r\n", b"*2\r\n*33\r\n", b"+" + b"x" * 101):
            self.assertRaises(ProtocolError, ReplyFramer(100).feed, header)

    def test_millions_of_elements_are_announced(self) -> None:
        """What a server announces takes no memory before it comes."""
        framer = ReplyFramer(_MOST)
        tracemalloc.start()
        try:
            for header in (b"*1000000000\r\n", b"*100000000\r\n", b"$4000000000\r\n", b"abc"):
                self.assertEqual(framer.feed(header), [])
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        self.assertLess(peak, 20_000)
        self.assertEqual(framer.partial, 13 + 12 + 13 + 3)


class Work:
    """Counts what a framer does: the searches for an element, and the bytes that it joins."""

    def __init__(self, framer: ReplyFramer) -> None:
        self.framer = framer
        self.searches = self.joined = 0

    def __call__(self, frame: FrameType, event: str, called: Any) -> None:
        if event == "c_call" and frame.f_code.co_filename == framing.__file__:
            self.searches += called.__name__ == "match"
            if called.__name__ == "join":
                self.joined += self.framer._rest_size or self.framer._done_size

    def of(self, chunks: Sequence[bytes]) -> list[bytes]:
        """Feed chunks, and return the frames."""
        frames: list[bytes] = []
        before: Callable[..., Any] | None = sys.getprofile()
        sys.setprofile(self)
        try:
            for chunk in chunks:
                self.framer.feed(chunk, frames)
        finally:
            sys.setprofile(before)
        return frames


class WorkTests(SynchronousTestCase):
    def check(self, reply: bytes, size: int, elements: int) -> None:
        """Check that the work for a reply in pieces is in proportion to its size."""
        work = Work(ReplyFramer(_MOST))
        chunks = in_pieces(reply, size)
        self.assertEqual(work.of(chunks), [reply])
        self.assertLessEqual(work.joined, 3 * len(reply) + 64 * len(chunks))
        self.assertLessEqual(work.searches, 2 * elements + 2 * len(chunks) + 8)

    def test_a_large_value(self) -> None:
        """A value of 20 MB in pieces of 64 KiB is joined once."""
        self.check(bulk(bytes(20_000_000)), 65536, 1)
        self.check(aggregate(b"*", [bulk(bytes(7_000_000))] * 3), 65536, 4)

    def test_many_elements(self) -> None:
        """An array of 300,000 elements is scanned once."""
        self.check(aggregate(b"*", [b":1\r\n"] * 300_000), 65536, 300_001)
        self.check(aggregate(b"*", [b"$1\r\nv\r\n"] * 30_000), 100, 30_001)

    def test_a_long_line(self) -> None:
        """A line of 2 MB in small pieces is joined once: a script can return such a status."""
        self.check(b"+" + b"x" * 2_000_000 + b"\r\n", 500, 1)
        self.check(aggregate(b"*", [b"-ERR " + b"x" * 1_000_000 + b"\r\n"] * 2), 500, 3)

    def test_single_bytes(self) -> None:
        """Elements whose bytes come one by one are joined once or twice each."""
        work = Work(ReplyFramer(_MOST))
        replies = [bulk(b"v" * 1000), b"+" + b"x" * 1000 + b"\r\n"] * 3
        self.assertEqual(work.of(in_pieces(b"".join(replies), 1)), replies)
        self.assertLessEqual(work.joined, 3 * sum(map(len, replies)))


class SamplerTests(SynchronousTestCase):
    def test_what_is_usual(self) -> None:
        """After a sample of 128 items, the most frequent ones are usual. Single ones are not."""
        sampler: Sampler[int] = Sampler(2)
        changes = [sampler.note(item) for item in [1, 2, 3] * 42 + [4, 5]]
        self.assertEqual(changes[:-1], [None] * 127)
        self.assertEqual(len(changes[-1] or []), 2)
        self.assertLessEqual(set(changes[-1] or []), {1, 2, 3})

    def test_samples_become_rare(self) -> None:
        """Between two samples there are 64, 128 and more unusual items, but never more than 65,536."""
        sampler: Sampler[int] = Sampler(2)
        at = [number for number in range(400_000) if sampler.note(number) is not None]
        waits = [later - earlier for earlier, later in pairwise(at)][::2]
        self.assertEqual(waits, [min(64 << number, 1 << 16) for number in range(len(waits))])
        self.assertEqual(waits[-1], 1 << 16)

"""The framer gives the same requests and errors for the same bytes, in whatever pieces they come."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from random import Random
from typing import ClassVar

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.acceleration.test_same_parts import NO_EXTENSION
from tests.cases import SynchronousTestCase
from tests.proxy.base import request
from tests.versions import in_python, versions
from txvalkeycluster.proxy import request_framer
from txvalkeycluster.proxy.request_framer import Request, RequestFramer, RequestLimits, words_of

Words = list[bytes]

# Names, keys and values as they are usual, and others.
_USUAL = st.tuples(
    st.sampled_from([b"GET", b"set", b"HSET", b"INCR", b"ZADD", b"GETDEL", b"EXISTS", b"PTTL"]),
    st.sampled_from([b"k" * 16, b"key:000000000001", b"k" * 10, b"\r\n" * 8, b"k" * 99]),
)
_USUAL_WORDS = st.one_of(
    _USUAL.map(list),
    st.tuples(_USUAL, st.sampled_from([b"v" * 64, b"\r" * 64, b"v" * 3, b"", b"*3\r\n$3\r\n" * 8])).map(
        lambda pair: [*pair[0], pair[1]]
    ),
)
_ANY_WORDS = st.lists(st.binary(max_size=120), min_size=1, max_size=6)
_SHAPES: dict[str, list[tuple[int, int]]] = {
    "nothing learnt": [],
    "the usual lengths learnt": [(16, 64), (16, -1), (10, 3)],
    "many lengths learnt": [(length, value) for length in (10, 16, 17, 99) for value in (-1, 0, 3, 64)],
}


def learnt(lengths: list[tuple[int, int]]) -> None:
    """Make the framer know requests with these lengths of keys and values."""
    request_framer._shapes = request_framer._RequestShapes()
    if lengths:
        request_framer._shapes._compile(lengths)


def feed(framer: RequestFramer, chunks: Sequence[bytes]) -> list[Request]:
    """Give chunks to a framer in the way of a session."""
    found: list[Request] = []
    for chunk in chunks:
        simple = framer.feed_simple(chunk)
        found += simple
        if not simple:
            found += framer.feed(chunk)
            while framer.waits:
                found += framer.go_on()
    return found


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Cut data at places, which are taken modulo its length."""
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in pairwise(edges) if start < end]


def in_pieces(random: Random, data: bytes) -> Iterator[bytes]:
    """Cut data into pieces of random lengths."""
    place = 0
    while place < len(data):
        length = random.choice((1, 2, 10, 100, 5000))
        yield data[place : place + length]
        place += length


class RequestFramerTests(SynchronousTestCase):
    """The search in Python, and the one in C."""

    def setUp(self) -> None:
        self.patch(request_framer, "_shapes", request_framer._shapes)

    @settings(max_examples=400, deadline=None)
    @given(
        st.lists(st.one_of(_USUAL_WORDS, _USUAL_WORDS, _ANY_WORDS), max_size=30),
        st.lists(st.integers(0, 20_000), max_size=20),
        st.sampled_from(sorted(_SHAPES)),
    )
    def test_chunks(self, commands: list[Words], places: list[int], shapes: str) -> None:
        """Valid requests come out once each and in order, with their name and the word after it."""
        expected = [(request(*words), words[0], words[1] if len(words) > 1 else None) for words in commands]
        for _ in versions(request_framer, "take_simple"):
            learnt(_SHAPES[shapes])
            framer = RequestFramer(RequestLimits())
            found = feed(framer, cut(b"".join(request(*words) for words in commands), places))
            self.assertEqual((found, framer.error, framer.partial), (expected, "", 0))

    @settings(max_examples=400, deadline=None)
    @given(
        st.lists(
            st.one_of(
                st.sampled_from(
                    [
                        *(b"*1\r\n$4\r\nPING\r\n", b"*2\r\n$3\r\nGET\r\n$16\r\n" + b"k" * 16 + b"\r\n", b"PING\r\n"),
                        *(b"*0\r\n", b"*-1\r\n", b"*01\r\n", b"*2\r\n", b"$3\r\n", b"$-1\r\n", b"\r\n", b"\n", b"\r"),
                        *(b"*3\r\n$3\r\nSET\r\n$16\r\n" + b"k" * 16 + b"\r\n$64\r\n", b"v" * 64, b"*", b"$", b"\0"),
                        *(b"'", b'"', b"\\", b" ", b"*11\r\n", b"$20000\r\n", b"*9999999999\r\n", b"$9999999999\r\n"),
                    ]
                ),
                st.binary(max_size=20),
            ),
            max_size=12,
        ).map(b"".join),
        st.lists(st.integers(0, 2_000), max_size=10),
        st.booleans(),
    )
    def test_any_bytes(self, data: bytes, places: list[int], known: bool) -> None:
        """Any bytes give the same requests, the same error and the same rest in one piece and in several."""
        seen: list[tuple[list[Request], str, int]] = []
        for _ in versions(request_framer, "take_simple"):
            learnt([(16, 64), (16, -1)])
            for chunks in ([data] if data else [], cut(data, places)):
                framer = RequestFramer(RequestLimits(known=known))
                seen.append((feed(framer, chunks), framer.error, framer.partial))
        self.assertEqual(seen, seen[:1] * len(seen))
        found = [frame for frame, _, _ in seen[0][0]]
        self.assertEqual([request(*words_of(frame)) for frame in found], found)

    def test_lengths_that_become_usual(self) -> None:
        """Requests come out unchanged while the framer learns their lengths, forgets them and learns others."""
        random = Random(20)
        self.patch(request_framer, "take_simple", in_python(request_framer.take_simple))
        learnt([])
        framer = RequestFramer(RequestLimits())
        for _ in range(40):
            shapes = [(random.randrange(8, 102), random.choice((0, 1, 64, 500, 2049))) for _ in range(4)]
            commands: list[Words] = []
            for _ in range(300):
                key, value = random.choice(shapes)
                words = [random.choice((b"GET", b"HINCRBY", b"SETNX", b"X")), random.randbytes(key)]
                commands.append(words if random.random() < 0.3 else [*words, random.randbytes(value)])
            data = b"".join(request(*words) for words in commands)
            found = feed(framer, list(in_pieces(random, data)))
            self.assertEqual(found, [(request(*words), words[0], words[1]) for words in commands])

    def test_a_request_of_single_bytes_needs_no_more_than_its_length(self) -> None:
        """A megabyte that comes byte by byte needs little more than a megabyte, whatever its parts are."""
        for data in (b"*2\r\n$3\r\nGET\r\n$1048576\r\n" + b"v" * (1 << 20), b"*200000\r\n" + b"$1\r\nx\r\n" * 150_000):
            framer = RequestFramer(RequestLimits())
            for place in range(len(data)):
                framer.feed(data[place : place + 1])
            self.assertEqual((framer.partial, framer.error), (len(data), ""))
            used = sum(sys.getsizeof(getattr(framer, name)) for name in ("_done", "_rest"))
            self.assertTrue(used < 1.3 * len(data), used)

    def test_limits(self) -> None:
        """A request above the limit is refused as soon as its size is known, also if all its words are small."""
        word = b"$400\r\n" + b"x" * 400 + b"\r\n"
        for data, error in (
            (b"*2\r\n$3\r\nSET\r\n$1001\r\n", "invalid bulk length"),
            (
                b"*3\r\n$3\r\nSET\r\n$16\r\n" + b"k" * 16 + b"\r\n$1001\r\n" + b"v" * 1001 + b"\r\n",
                "invalid bulk length",
            ),
            (b"*1000\r\n" + word * 200, "the request is larger than 1000 bytes"),
            (b"*999999999\r\n", "the request is larger than 1000 bytes"),
            (b"*2147483648\r\n", "invalid multibulk length"),
        ):
            framer = RequestFramer(RequestLimits(request=1000))
            found: list[Request] = []
            for piece in in_pieces(Random(1), data):
                found += framer.feed(piece)
            self.assertEqual((found, framer.error), ([], f"ERR Protocol error: {error}"))
            self.assertEqual((framer.partial, framer.feed(b"PING\r\n")), (0, []))

    LOGIN_LIMITS: ClassVar = [
        (b"*10\r\n", ""),
        (b"*11\r\n", "ERR Protocol error: unauthenticated multibulk length"),
        (b"*2\r\n$4\r\nAUTH\r\n$16384\r\n", ""),
        (b"*2\r\n$4\r\nAUTH\r\n$16385\r\n", "ERR Protocol error: unauthenticated bulk length"),
    ]

    def test_limits_before_the_login(self) -> None:
        """Before the login, a request has at most 10 words of 16384 bytes; afterwards the limits are gone."""
        for data, error in self.LOGIN_LIMITS:
            for known in (False, True):
                framer = RequestFramer(RequestLimits(known=known))
                self.assertEqual(framer.feed_simple(data), [])
                self.assertEqual(framer.feed(data), [])
                self.assertEqual(framer.error, "" if known else error)

    def test_bytes_behind_a_login(self) -> None:
        """The bytes behind a login are read when it is answered, with the limits that apply then."""
        many = request("DEL", *"abcdefghijkl")
        for login in (request("AUTH", "secret"), b"auth secret\r\n", request("hello", 3), b"HELLO\r\n"):
            whole = login + many
            for place in range(1, len(whole)):
                framer = RequestFramer(RequestLimits(known=False))
                found = framer.feed(whole[:place]) + framer.feed(whole[place:])
                self.assertEqual((len(found), framer.waits, framer.partial), (1, True, len(many)))
                framer.limits = RequestLimits()
                self.assertEqual((framer.go_on(), framer.waits), ([(many, b"DEL", b"a")], False))
                self.assertEqual((framer.go_on(), framer.error), ([], ""))

    def test_bytes_behind_a_refused_login(self) -> None:
        """After a refused login the limits are as low as before, and another login is waited for again."""
        framer = RequestFramer(RequestLimits(known=False))
        self.assertEqual(len(framer.feed(2 * request("AUTH", "a") + b"*11\r\n")), 1)
        self.assertEqual((len(framer.go_on()), framer.waits), (1, True))
        self.assertEqual((framer.go_on(), framer.error), ([], "ERR Protocol error: unauthenticated multibulk length"))


class ExtensionTests(SynchronousTestCase):
    """The search in C."""

    skip = NO_EXTENSION

    def test_all_simple_requests_are_found(self) -> None:
        """Requests of two or three words of any usual length are found until something else comes."""
        words = [(b"GET", b""), (b"set", b"\r\n" * 8, b"v" * 2048), (b"HINCRBYXX", b"k" * 2048), (b"X" * 9, b"k", b"")]
        simple = [(request(*each), each[0], each[1]) for each in words]
        start = b"".join(frame for frame, _, _ in simple)
        for rest in (
            *(b"", b"PING\r\n", b"*2", b"*2\r\n$3\r\nGET\r\n$3\r\nab", b"*2\r\n$03\r\nGET\r\n$1\r\na\r\n", b"*02\r\n"),
            *(request(b"PING"), request(b"G\nT", b"a"), request(b"X", b"a"), request(b"X" * 10, b"a")),
            *(
                request(b"SET", b"k" * 2049, b"v"),
                request(b"SET", b"k", b"v" * 2049),
                request(b"MGET", b"a", b"b", b"c"),
            ),
        ):
            found: list[Request] = []
            self.assertEqual(request_framer.take_simple(b"x" + start + rest, 1, found), 1 + len(start))
            self.assertEqual(found, simple)

"""``RawProtocol``: replies as the server's own bytes beside parsed ones, on one connection in memory."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.python.failure import Failure

from tests.connection import test_batches, test_protocol
from tests.connection.raw_base import TABLE, RawBase
from tests.connection.wire import ECHO, echoes, packed
from tests.fuzz import test_replies
from txvalkeycluster.connection.raw_protocol import RawProtocol
from txvalkeycluster.errors import ConnectionLost, ProtocolError
from txvalkeycluster.requests.raw_batch import RawBatch, RawCall, RawPart, RawReplyError


class RawRepliesTests(test_protocol.RepliesTests):
    """All that holds for the replies of an ordinary connection."""

    kind = RawProtocol


class RawBatchesTests(test_batches.BatchTests):
    """All that holds for ordinary batches on an ordinary connection."""

    kind = RawProtocol


class RawFuzzTests(test_replies.ReplyTests):
    """Every command ends once, whatever bytes come."""

    kind = RawProtocol

    def ask(self, random: Random) -> list[int]:
        """Send commands, and a raw batch before, between or behind them."""
        self.batched = FuzzCollector()
        batch = RawBatch(self.batched, 7, TABLE)
        places = list(range(random.choice((1, 2, 20))))
        for place in places:
            batch.put(place, packed(("ECHO", "w")))
        batch.send_at(0.0, 10.0)
        at = random.randrange(test_replies.COMMANDS)
        for number in range(test_replies.COMMANDS):
            if number == at:
                self.connection.send_batch(batch)
            self.send("w").addBoth(self.ended.append)
        self.clock.advance(0)
        return places


class FuzzCollector(test_batches.Collector):
    """Records the result of each request of a raw batch."""

    def left(self, place: int) -> None:
        """Do nothing."""

    def parted(self, place: int, part: RawPart) -> None:
        """Do nothing."""

    def waits(self, change: int) -> None:
        """Do nothing."""


class OrderTests(RawBase):
    def test_raw_and_parsed_requests(self) -> None:
        """Each request gets its own reply: as bytes in a raw batch and for a raw call, as a value otherwise."""
        one = self.send("1")
        self.raw("2", "3")
        four = self.parsed("4", "5")
        internal = self.connection.call("PING")
        self.raw("6")
        self.raw("7", "8")
        call = RawCall(packed(("ECHO", "9")), ECHO, 0, 0.0, 10.0)
        self.connection.send_mixed(call)
        self.clock.advance(0)
        self.assertEqual(self.transport.value(), echoes("12345") + packed(("PING",)) + echoes("6789"))
        self.receive(b"".join(b"$1\r\n%d\r\n" % number for number in (1, 2, 3, 4, 5)))
        self.receive(b"+PONG\r\n:6\r\n~1\r\n:7\r\n_\r\n*1\r\n:9\r\n")
        self.assertEqual((self.successResultOf(one), self.successResultOf(internal)), (b"1", b"PONG"))
        self.assertEqual(four.came, [(0, b"4"), (1, b"5")])
        self.assertEqual(self.successResultOf(call), b"*1\r\n:9\r\n")
        came = [("2", b"$1\r\n2\r\n"), ("3", b"$1\r\n3\r\n"), ("6", b":6\r\n"), ("7", b"~1\r\n:7\r\n"), ("8", b"_\r\n")]
        self.assertEqual(self.whole.came, came)
        self.assertEqual((self.whole.delayed, self.connection.pending), ([], 0))

    def test_any_pieces(self) -> None:
        """Wherever the replies are cut, all get the same."""
        data = b"$4\r\n\r\n-E\r\n-ERR no\r\n>1\r\n+push\r\n!6\r\nERR no\r\n%1\r\n+k\r\n$-1\r\n"
        data += b"|1\r\n+a\r\n:1\r\n+x\r\n:5\r\n"
        results: list[Any] = []
        for places in [
            (),
            *((first, second) for first in range(1, len(data)) for second in range(first, len(data), 7)),
        ]:
            self.setUp()
            pushes: list[Any] = []
            self.connection.on_push = pushes.append
            self.raw("1", "2", "3")
            parsed = self.parsed("4")
            self.raw("5")
            last = self.send("6")
            self.clock.advance(0)
            for start, end in zip((0, *places), (*places, len(data)), strict=True):
                self.receive(data[start:end])
            errors = [getattr(value, "frame", value) for _, value in self.whole.came]
            results.append((errors, parsed.came, self.successResultOf(last), [list(push) for push in pushes]))
        wanted = [b"$4\r\n\r\n-E\r\n", b"-ERR no\r\n", b"!6\r\nERR no\r\n", b"|1\r\n+a\r\n:1\r\n+x\r\n"]
        self.assertEqual(results[0], (wanted, [(0, {b"k": None})], 5, [[b"push"]]))
        self.assertEqual([result for result in results if result != results[0]], [])

    def test_replies_of_each_read(self) -> None:
        """Replies that have come are given at the end of each read, before the others of the batch."""
        self.raw("1", "2", "3")
        self.clock.advance(0)
        for number, data in enumerate((b"+1\r\n+", b"2", b"\r\n", b"+3\r\n")):
            self.receive(data)
            self.assertEqual(len(self.whole.came), (1, 1, 2, 3)[number])

    def test_many_batches_in_one_read(self) -> None:
        """A read with the replies to many batches gives each of them its own, in one call each."""
        calls: list[int] = []
        self.whole.on_replies = lambda: calls.append(len(self.whole.came))
        for number in range(50):
            self.raw(*(f"{number}.{index}" for index in range(number + 1)))
        self.clock.advance(0)
        replies = [b"+%d.%d\r\n" % (number, index) for number in range(50) for index in range(number + 1)]
        self.receive(b"".join(replies))
        self.assertEqual([reply for _, reply in self.whole.came], replies)
        self.assertEqual([tag for tag, _ in self.whole.came], [reply[1:-2].decode() for reply in replies])
        self.assertEqual(len(calls), 50)

    @settings(max_examples=150, deadline=None)
    @given(st.randoms(use_true_random=False))
    def test_random_requests(self, random: Random) -> None:
        """Whatever is sent, answered and cut: every request gets its own reply, once and in order."""
        self.setUp()
        owner = self.own()
        expected: list[tuple[str, bytes]] = []
        calls: list[tuple[Any, bytes]] = []
        batches: list[tuple[test_batches.Collector, list[bytes]]] = []
        replies: list[bytes] = []
        refused: list[bytes] = []

        def reply(word: str) -> bytes:
            text = word.encode()
            if random.random() < 0.15:
                refused.append(b"ERR " + text)
                replies.append(random.choice((b"-ERR %b\r\n" % text, b"!%d\r\nERR %b\r\n" % (len(text) + 4, text))))
                return b""
            kind = random.choice((b"+%b\r\n" % text, b"$%d\r\n%b\r\n" % (len(text), text)))
            replies.append(random.choice((b"", b"", b"|1\r\n+a\r\n*0\r\n")) + kind)
            return kind

        for number in range(random.randrange(1, 12)):
            words = [f"{number}.{index}" for index in range(random.choice((1, 1, 2, 5, 40)))]
            which = random.randrange(4)
            if which == 0:
                calls.append((self.send(words[0]), reply(words[0])))
            elif which == 1:
                batches.append((self.parsed(*words), [reply(word) for word in words]))
            else:
                self.raw(*words)
                for word in words:
                    reply(word)
                    if not replies[-1].startswith((b"-", b"!")):
                        expected.append((word, replies[-1]))
            if random.random() < 0.3:
                replies.append(b">1\r\n+push\r\n")
        self.clock.advance(0)
        data = b"".join(replies)
        while data:
            size = random.randrange(1, random.choice((2, 10, 200, 5000)))
            self.receive(data[:size])
            data = data[size:]
        self.assertEqual(self.whole.came, expected)
        self.assertEqual([str(error).encode() for _, error in owner.failed], refused)
        for call, frame in calls:
            if frame:
                self.assertIn(self.successResultOf(call), frame)
            else:
                self.assertNoResult(call)
        for collector, frames in batches:
            self.assertEqual(len(collector.came), len([frame for frame in frames if frame]))
            for place, value in collector.came:
                self.assertIn(value, frames[place])
        self.assertEqual((self.connection.pending, self.transport.aborted), (0, []))


class PushTests(RawBase):
    def test_pushes_are_no_replies(self) -> None:
        """Pushes between the replies, and inside of a batch, are given to the listener, with and without attributes."""
        pushes: list[Any] = []
        self.connection.on_push = pushes.append
        self.raw("1", "2")
        call = self.send("3")
        self.clock.advance(0)
        push, marked = b">2\r\n+invalidate\r\n*1\r\n+k\r\n", b"|1\r\n+ttl\r\n:1\r\n>1\r\n+marked\r\n"
        self.receive(push + b"+1\r\n" + push + marked + b"+2\r\n" + push + b":3\r\n" + push)
        self.assertEqual(len(pushes), 5)
        self.assertEqual(list(pushes[0]), [b"invalidate", [b"k"]])
        self.assertEqual(list(pushes[2]), [b"marked"])
        self.assertEqual(self.whole.came, [("1", b"+1\r\n"), ("2", b"+2\r\n")])
        self.assertEqual(self.successResultOf(call), 3)

    def test_attributes(self) -> None:
        """Attributes are part of a raw reply, and no part of a parsed one or of an error."""
        marks = b"|1\r\n$14\r\nkey-popularity\r\n*2\r\n$1\r\nk\r\n:90\r\n"
        owner = self.own()
        self.raw("1", "2")
        three, four = self.parsed("3"), self.send("4")
        self.raw("5")
        self.clock.advance(0)
        self.receive(
            b"".join(
                marks + reply for reply in (b"+1\r\n", b"-MOVED 7 h:1\r\n", b"+3\r\n", marks + b"*0\r\n", b":5\r\n")
            )
        )
        self.assertEqual(self.whole.came, [("1", marks + b"+1\r\n"), ("5", marks + b":5\r\n")])
        self.assertEqual([getattr(error, "frame", None) for _, error in owner.failed], [b"-MOVED 7 h:1\r\n"])
        self.assertEqual((three.came, self.successResultOf(four)), ([(0, b"3")], []))

    def test_attributes_inside_of_a_reply(self) -> None:
        """Hiredis cannot read them. So a parsed request fails, and no later one gets a wrong reply."""
        self.raw("1")
        call, later = self.send("2"), self.send("3")
        self.clock.advance(0)
        inside = b"*2\r\n|1\r\n+a\r\n:1\r\n+x\r\n+y\r\n"
        self.receive(inside + inside + b"+3\r\n")
        self.assertEqual(self.whole.came, [("1", inside)])
        self.failureResultOf(call, ProtocolError)
        self.failureResultOf(later, ConnectionLost)
        self.assertEqual(self.transport.aborted, [True])


class CountTests(RawBase):
    def test_statistics(self) -> None:
        """Requests of raw batches count as commands, and bytes as bytes."""
        self.raw("1", "2")
        self.send("3")
        self.clock.advance(0)
        self.receive(b"+1\r\n+2\r\n+3\r\n")
        counters = self.connection.counters
        self.assertEqual((counters.commands, counters.bytes_sent, counters.bytes_received), (3, len(echoes("123")), 12))

    def test_failures_are_failures(self) -> None:
        """A raw call that fails gets the error of the server with its bytes."""
        call = RawCall(packed(("ECHO", "1")), ECHO, 0, 0.0, 10.0)
        self.connection.send_mixed(call)
        self.clock.advance(0)
        self.receive(b"-ERR no\r\n")
        failed: list[Failure] = []
        call.addErrback(failed.append)
        self.assertIsInstance(failed[0].value, RawReplyError)

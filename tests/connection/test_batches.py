"""Batches on the wire: several commands for one node in one record."""

from collections.abc import Sequence
from typing import Any

from tests.connection.wire import ECHO, Base, echoes, packed
from txvalkeycluster.errors import CommandTimeout, ConnectionLost, ReplyError, TooManyPending
from txvalkeycluster.requests.batch import Batch


class Collector:
    """Records the result of each command in a batch."""

    called = False

    def __init__(self) -> None:
        self.came: list[tuple[int, Any]] = []

    def by_place(self) -> list[tuple[int, Any]]:
        return sorted(self.came, key=lambda came: came[0])

    def answered(self, places: Sequence[int], replies: Sequence[Any]) -> None:
        self.came += zip(places, replies, strict=True)

    def failed(self, place: int, error: Any) -> None:
        self.came.append((place, type(error)))


class BatchTests(Base):
    def setUp(self) -> None:
        self.connect()
        self.whole = Collector()

    def batch(self, *words: str, timeout: float = 10.0) -> Batch:
        now = self.clock.seconds()
        batch = Batch(self.whole, 0, now, now + timeout)
        for number, word in enumerate(words):
            batch.add(number, packed(("ECHO", word)), ECHO, 0)
        batch.seal()
        self.connection.send_batch(batch)
        return batch

    def test_order_among_other_commands(self) -> None:
        """A batch leaves in the order of the queue, and each reply goes to its command."""
        before = self.send("1")
        self.batch("2", "3")
        after = self.send("4")
        self.clock.advance(0)
        self.assertEqual(self.transport.value(), echoes("1234"))
        self.assertEqual(self.connection.pending, 4)
        self.receive(b"+1\r\n+2\r\n")
        self.receive(b"+3\r\n+4\r\n")
        self.assertEqual((self.successResultOf(before), self.successResultOf(after)), (b"1", b"4"))
        self.assertEqual(self.whole.came, [(0, b"2"), (1, b"3")])

    def test_a_large_batch_is_written_at_once(self) -> None:
        """The server begins to execute while the client packs the next batch."""
        self.batch(*map(str, range(200)))
        self.assertEqual(self.transport.value().count(b"ECHO"), 200)

    def test_an_error_reply_fails_one_command(self) -> None:
        """An error reply fails only its own command, also if it is the last reply of the batch."""
        self.batch("1", "2", "3")
        after = self.send("4")
        self.clock.advance(0)
        self.receive(b"+1\r\n-ERR 2\r\n-ERR 3\r\n+4\r\n")
        self.assertEqual(self.whole.by_place(), [(0, b"1"), (1, ReplyError), (2, ReplyError)])
        self.assertEqual(self.successResultOf(after), b"4")

    def test_a_lost_connection(self) -> None:
        """Commands with a reply have their result. The other commands fail with ConnectionLost."""
        self.batch("1", "2", "3")
        self.clock.advance(0)
        self.receive(b"+1\r\n")
        self.assertEqual(self.whole.came, [(0, b"1")])
        self.lose()
        self.assertEqual(self.whole.by_place(), [(0, b"1"), (1, ConnectionLost), (2, ConnectionLost)])

    def test_deadline(self) -> None:
        """Commands without a reply time out, but keep their places, so no reply goes to another command."""
        self.batch("1", "2", "3", timeout=1.0)
        after = self.send("4")
        self.clock.advance(0)
        self.receive(b"+1\r\n")
        self.clock.advance(1.1)
        self.assertEqual(self.whole.by_place(), [(0, b"1"), (1, CommandTimeout), (2, CommandTimeout)])
        self.receive(b"+2\r\n-ERR 3\r\n+4\r\n")
        self.assertEqual(self.successResultOf(after), b"4")
        self.assertEqual(len(self.whole.came), 3)

    def test_cancelled(self) -> None:
        """A cancelled batch that was not written is not sent. If it was written, its replies are dropped."""
        written = self.batch("1", "2")
        self.clock.advance(0)
        unwritten, after = self.batch("3", "4"), self.send("5")
        written.called = unwritten.called = True
        self.scheduler.cancels.note(after)
        self.transport.clear()
        self.clock.advance(0)
        self.assertEqual(self.transport.value(), echoes("5"))
        self.receive(b"+1\r\n+2\r\n+5\r\n")
        self.assertEqual(self.whole.came, [])
        self.assertEqual(self.successResultOf(after), b"5")

    def test_a_busy_transport(self) -> None:
        """While the transport is paused a batch waits, and then it is sent completely."""
        self.connection.pauseProducing()
        self.batch("1", "2")
        after = self.send("3")
        self.clock.advance(0)
        self.assertEqual(self.transport.value(), b"")
        self.connection.resumeProducing()
        self.receive(b"+1\r\n+2\r\n+3\r\n")
        self.assertEqual(self.whole.came, [(0, b"1"), (1, b"2")])
        self.assertEqual(self.successResultOf(after), b"3")

    def test_max_pending_refuses_the_whole_batch(self) -> None:
        """A batch over the limit is refused as a whole. A batch that fits is accepted."""
        self.connect(max_pending=3)
        one = self.send("1")
        self.assertRaises(TooManyPending, self.batch, "2", "3", "4")
        self.batch("2", "3")
        self.clock.advance(0)
        self.receive(b"+1\r\n+2\r\n+3\r\n")
        self.assertEqual(self.successResultOf(one), b"1")
        self.assertEqual(self.whole.came, [(0, b"2"), (1, b"3")])

    def test_after_many_commands(self) -> None:
        """However many commands come before a batch in the queue, each reply goes to its command."""
        for count in (1022, 1023, 1024, 1025, 2048):
            self.connect()
            self.whole = Collector()
            before = [self.send(str(number)) for number in range(count)]
            self.batch("a", "b")
            after = self.send("c")
            self.clock.advance(0)
            self.receive(b"".join(b"+%d\r\n" % number for number in range(count)) + b"+a\r\n+b\r\n+c\r\n")
            self.assertEqual([self.successResultOf(each) for each in before], [b"%d" % n for n in range(count)])
            self.assertEqual(self.whole.came, [(0, b"a"), (1, b"b")])
            self.assertEqual(self.successResultOf(after), b"c")

    def test_a_transport_that_raises(self) -> None:
        """The connection ends, so that no command waits for a reply to a write that failed."""
        self.transport.write = lambda data: 1 / 0
        self.batch(*map(str, range(200)))
        self.assertTrue(self.connection.ended)
        self.assertEqual({error for _, error in self.whole.came}, {ConnectionLost})

    def test_each_command_counts_as_pending(self) -> None:
        """Each command of a batch counts towards ``max_pending``, written or not."""
        self.connect(max_pending=4)
        self.batch("1", "2", "3")
        self.assertEqual(self.connection.pending, 3)
        self.send("4")
        self.assertRaises(TooManyPending, self.send, "5")
        self.clock.advance(0)
        self.assertEqual(self.connection.pending, 4)

    def test_a_reply_that_cannot_be_decoded(self) -> None:
        """An error of the decoder fails only the command of that reply."""
        self.connect(encoding="ascii")
        self.batch("1", "2", "3")
        self.clock.advance(0)
        self.receive(b"+1\r\n$1\r\n\xff\r\n+3\r\n")
        self.assertEqual(self.whole.by_place(), [(0, "1"), (1, UnicodeDecodeError), (2, "3")])

    def test_drain(self) -> None:
        """``drain`` waits for the replies to a batch."""
        self.batch("1", "2")
        self.connection.drain()
        self.receive(b"+1\r\n")
        self.assertFalse(self.transport.disconnecting)
        self.receive(b"+2\r\n")
        self.assertTrue(self.transport.disconnecting)
        self.clock.advance(self.options.close_timeout)
        self.lose()

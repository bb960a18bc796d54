"""Commands that go to one node as one, on the wire."""

from collections.abc import Sequence
from typing import Any

from tests.connection.wire import ECHO, Base
from txvalkeycluster.commands.encoder import pack
from txvalkeycluster.errors import CommandTimeout, ConnectionLost, ReplyError, TooManyPending
from txvalkeycluster.requests.batch import Batch


class Collector:
    """Notes what its parts come to."""

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
            batch.add(number, pack(("ECHO", word)), ECHO, 0)  # type: ignore[arg-type]
        batch.seal()
        self.connection.send_batch(batch)
        return batch

    def test_among_others(self) -> None:
        """It leaves in the order of the queue, and each reply finds its place."""
        before = self.send("1")
        self.batch("2", "3")
        after = self.send("4")
        self.clock.advance(0)
        self.assertEqual(self.transport.value(), b"".join(pack(("ECHO", w)) for w in "1234"))  # type: ignore[misc]
        self.assertEqual(self.connection.pending, 4)
        self.receive(b"+1\r\n+2\r\n")
        self.receive(b"+3\r\n+4\r\n")
        self.assertEqual((self.successResultOf(before), self.successResultOf(after)), (b"1", b"4"))
        self.assertEqual(self.whole.came, [(0, b"2"), (1, b"3")])

    def test_large_ones_leave_at_once(self) -> None:
        """The server is to begin while the next is packed."""
        self.batch(*map(str, range(200)))
        self.assertEqual(self.transport.value().count(b"ECHO"), 200)

    def test_an_error_concerns_its_command_alone(self) -> None:
        """Also the last one, which ends the batch."""
        self.batch("1", "2", "3")
        after = self.send("4")
        self.clock.advance(0)
        self.receive(b"+1\r\n-ERR 2\r\n-ERR 3\r\n+4\r\n")
        self.assertEqual(self.whole.by_place(), [(0, b"1"), (1, ReplyError), (2, ReplyError)])
        self.assertEqual(self.successResultOf(after), b"4")

    def test_a_lost_connection(self) -> None:
        """What was answered is told, what was not is lost."""
        self.batch("1", "2", "3")
        self.clock.advance(0)
        self.receive(b"+1\r\n")
        self.assertEqual(self.whole.came, [(0, b"1")])
        self.lose()
        self.assertEqual(self.whole.by_place(), [(0, b"1"), (1, ConnectionLost), (2, ConnectionLost)])

    def test_its_deadline(self) -> None:
        """Those without reply end; their places stay, so that no reply goes astray."""
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
        """Not sent if it was not written; no reply of it is told if it was."""
        written = self.batch("1", "2")
        self.clock.advance(0)
        unwritten, after = self.batch("3", "4"), self.send("5")
        written.called = unwritten.called = True
        self.scheduler.cancels.note(after)
        self.transport.clear()
        self.clock.advance(0)
        self.assertEqual(self.transport.value(), pack(("ECHO", "5")))
        self.receive(b"+1\r\n+2\r\n+5\r\n")
        self.assertEqual(self.whole.came, [])
        self.assertEqual(self.successResultOf(after), b"5")

    def test_a_busy_transport(self) -> None:
        """It waits, and is complete when the transport is free."""
        self.connection.pauseProducing()
        self.batch("1", "2")
        after = self.send("3")
        self.clock.advance(0)
        self.assertEqual(self.transport.value(), b"")
        self.connection.resumeProducing()
        self.receive(b"+1\r\n+2\r\n+3\r\n")
        self.assertEqual(self.whole.came, [(0, b"1"), (1, b"2")])
        self.assertEqual(self.successResultOf(after), b"3")

    def test_no_room(self) -> None:
        """All of it is turned away, and can be sent again."""
        self.connect(max_pending=3)
        one = self.send("1")
        self.assertRaises(TooManyPending, self.batch, "2", "3", "4")
        self.batch("2", "3")
        self.clock.advance(0)
        self.receive(b"+1\r\n+2\r\n+3\r\n")
        self.assertEqual(self.successResultOf(one), b"1")
        self.assertEqual(self.whole.came, [(0, b"2"), (1, b"3")])

    def test_behind_a_burst(self) -> None:
        """However many commands are queued before it, each reply finds its own."""
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
        """It costs the connection, so that no reply is waited for of what was not written."""
        self.transport.write = lambda data: 1 / 0
        self.batch(*map(str, range(200)))
        self.assertTrue(self.connection.ended)
        self.assertEqual({error for _, error in self.whole.came}, {ConnectionLost})

    def test_its_commands_count(self) -> None:
        """Each of them, written or not, for whoever comes after it."""
        self.connect(max_pending=4)
        self.batch("1", "2", "3")
        self.assertEqual(self.connection.pending, 3)
        self.send("4")
        self.assertRaises(TooManyPending, self.send, "5")
        self.clock.advance(0)
        self.assertEqual(self.connection.pending, 4)

    def test_a_reply_that_cannot_be_decoded(self) -> None:
        """It is the one command's error."""
        self.connect(encoding="ascii")
        self.batch("1", "2", "3")
        self.clock.advance(0)
        self.receive(b"+1\r\n$1\r\n\xff\r\n+3\r\n")
        self.assertEqual(self.whole.by_place(), [(0, "1"), (1, UnicodeDecodeError), (2, "3")])

    def test_drained(self) -> None:
        """A connection that closes waits for its replies."""
        self.batch("1", "2")
        self.connection.drain()
        self.receive(b"+1\r\n")
        self.assertFalse(self.transport.disconnecting)
        self.receive(b"+2\r\n")
        self.assertTrue(self.transport.disconnecting)
        self.clock.advance(self.options.close_timeout)
        self.lose()

"""RESPProtocol over a transport in memory, with a clock that stands still."""

from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.connection.wire import ECHO, Base
from txvalkeycluster.commands.encoder import pack
from txvalkeycluster.connection.write_scheduler import WriteScheduler
from txvalkeycluster.errors import CommandTimeout, ConnectionLost, ProtocolError, ReplyError, TooManyPending
from txvalkeycluster.requests.request import Call


class RepliesTests(Base):
    def setUp(self) -> None:
        self.connect()

    def test_one_write_per_turn_in_order(self) -> None:
        """Commands of one turn leave together, and replies find their commands in order."""
        one, two = self.send("1"), self.send("2")
        self.assertEqual(self.transport.value(), b"")
        self.clock.advance(0)
        self.assertEqual(self.transport.value(), b"".join(pack(("ECHO", w)) for w in "12"))  # type: ignore[misc]
        self.receive(b"$1\r\n1\r\n$1\r\n")
        self.assertEqual(self.successResultOf(one), b"1")
        self.assertNoResult(two)
        self.receive(b"2\r\n")
        self.assertEqual(self.successResultOf(two), b"2")

    def test_commands_of_callbacks_leave_with_the_read(self) -> None:
        """What a reply's callback sends is written when that read is done, once."""
        writes: list[bytes] = []
        first = self.send("1")

        def answered(_: Any) -> None:
            self.send("2")
            self.send("3")

        first.addCallback(answered)
        self.clock.advance(0)
        self.transport.clear()
        self.transport.write = writes.append
        self.receive(b"+OK\r\n")
        self.assertEqual(writes, [b"".join(pack(("ECHO", w)) for w in "23")])  # type: ignore[misc]

    def test_errors_false_and_pushes(self) -> None:
        """An error reply fails its command; RESP3 false is a reply; a push takes nobody's place."""
        pushes: list[Any] = []
        self.connection.on_push = pushes.append
        one, two = self.send("1"), self.send("2")
        self.clock.advance(0)
        self.receive(b">2\r\n+a\r\n+b\r\n-WRONGTYPE no\r\n#f\r\n")
        self.assertEqual(self.failureResultOf(one, ReplyError).value.code, "WRONGTYPE")
        self.assertIs(self.successResultOf(two), False)
        self.assertEqual([list(push) for push in pushes], [[b"a", b"b"]])

    def test_tombstones(self) -> None:
        """A timed out or cancelled command keeps its place, so its reply reaches nobody."""
        late, cancelled, last = self.send("1", timeout=1.0), self.send("2"), self.send("3")
        self.clock.advance(0)
        cancelled.cancel()
        self.failureResultOf(cancelled)
        self.clock.advance(1.1)
        error = self.failureResultOf(late, CommandTimeout).value
        self.assertTrue(error.maybe_executed)
        self.assertIn("h:1: 3 replies due", str(error))
        self.receive(b":1\r\n:2\r\n:3\r\n")
        self.assertEqual(self.successResultOf(last), 3)
        self.assertEqual(self.connection.pending, 0)

    def test_cancelled_before_the_write_is_never_sent(self) -> None:
        """A command cancelled in the turn it was issued in does not reach the server."""
        deferreds = [self.send(word, canceller=True) for word in "123"]
        deferreds[1].cancel()
        self.failureResultOf(deferreds[1], CancelledError)
        self.clock.advance(0)
        self.assertEqual(self.transport.value(), b"".join(pack(("ECHO", w)) for w in "13"))  # type: ignore[misc]
        self.receive(b":1\r\n:3\r\n")
        self.assertEqual((self.successResultOf(deferreds[0]), self.successResultOf(deferreds[2])), (1, 3))

    def test_doubt_ends_the_connection(self) -> None:
        """Bad bytes, surplus replies and a map with a list as key cost one connection, and no more."""
        for data in (b"?what\r\n", b"+OK\r\n+surplus\r\n", b"%1\r\n*1\r\n:1\r\n:1\r\n", b"$-9\r\n"):
            self.connect()
            answered = self.send("1")
            self.clock.advance(0)
            self.receive(b"+OK\r\n" + data if data.startswith(b"+") else data)
            if data.startswith(b"+"):
                self.assertEqual(self.successResultOf(answered), b"OK")
            else:
                self.assertTrue(self.failureResultOf(answered, ProtocolError).value.maybe_executed)
            self.assertTrue(self.connection.ended, data)
            self.assertTrue(self.transport.disconnecting, data)

    def test_asking_is_adjacent_and_goes_with_its_command(self) -> None:
        """ASKING and its command leave in one write, and neither is left without the other."""
        call = Call(pack(("ECHO", "2")), ECHO, 0, 0.0, 10.0)
        self.send("1")
        self.connection.ask(call)
        self.clock.advance(0)
        wire = b"".join(pack(words) for words in (("ECHO", "1"), ("ASKING",), ("ECHO", "2")))  # type: ignore[misc]
        self.assertEqual(self.transport.value(), wire)
        self.receive(b"+1\r\n+OK\r\n+2\r\n")
        self.assertEqual(self.successResultOf(call), b"2")


class Writer:
    """A connection that notes when it is told to write."""

    peer = "h:1"

    def __init__(self) -> None:
        self.flushes = 0

    def flush(self) -> None:
        self.flushes += 1


class WriteSchedulerTests(SynchronousTestCase):
    def flushed(self, replies: int) -> tuple[int, int]:
        """How often a connection touched in a read has written after it, and after the turn."""
        clock, writer = Clock(), Writer()
        scheduler = WriteScheduler(clock)
        scheduler.held = True
        scheduler.touch(writer)  # type: ignore[arg-type]
        scheduler.held = False
        scheduler.read_done(replies)
        at_once = writer.flushes
        clock.advance(0)
        self.assertEqual(clock.getDelayedCalls(), [])
        return at_once, writer.flushes

    def test_when_a_read_is_done(self) -> None:
        """At once after one of few or of very many replies, else with the turn; always just once."""
        for replies in (0, 1, 7, 64, 1000):
            self.assertEqual(self.flushed(replies), (1, 1), replies)
        for replies in (8, 63):
            self.assertEqual(self.flushed(replies), (0, 1), replies)


class LimitsTests(Base):
    def test_unanswered_commands(self) -> None:
        """The command over the limit is refused at once, and the others are not harmed."""
        self.connect(max_pending=2)
        one, _ = self.send("1"), self.send("2")
        self.assertRaises(TooManyPending, self.send, "3")
        self.clock.advance(0)
        self.assertRaises(TooManyPending, self.send, "4")
        self.receive(b"+1\r\n")
        self.assertEqual(self.successResultOf(one), b"1")

    def test_unsent_bytes(self) -> None:
        """While the transport is busy, commands wait unsent up to the limit, then go out together."""
        self.connect(max_unsent_bytes=20)
        self.connection.pauseProducing()
        kept = self.send("x" * 20)
        self.assertRaises(TooManyPending, self.send, "y")
        self.clock.advance(0)
        self.assertEqual(self.transport.value(), b"")
        self.connection.resumeProducing()
        self.assertEqual(self.transport.value(), pack(("ECHO", "x" * 20)))
        self.assertNoResult(kept)

    def test_unsent_past_its_deadline_is_never_sent(self) -> None:
        """A command that timed out unsent was not executed, and takes its ASKING along."""
        self.connect()
        self.connection.pauseProducing()
        call = Call(pack(("ECHO", "1")), ECHO, 0, 0.0, 1.0)
        self.connection.ask(call)
        self.clock.advance(1.1)
        self.assertFalse(self.failureResultOf(call, CommandTimeout).value.maybe_executed)
        self.connection.resumeProducing()
        self.assertEqual(self.transport.value(), b"")

    def test_silent_peer(self) -> None:
        """A peer that owes replies and says nothing is given up, with what it owes."""
        self.connect(unresponsive_after=3.0, timeout=None)
        lost = self.send("1", timeout=float("inf"))
        self.clock.advance(0)
        self.clock.advance(2.9)
        self.assertNoResult(lost)
        self.clock.advance(0.2)
        # Not at the first look: after a stall of the reactor the reply may be there, unread.
        self.assertNoResult(lost)
        self.clock.advance(0.005)
        self.assertTrue(self.failureResultOf(lost, ConnectionLost).value.maybe_executed)

    def test_a_stalled_reactor_is_no_silent_peer(self) -> None:
        """A reply that is read right after the timer keeps the connection."""
        self.connect(unresponsive_after=3.0, timeout=None)
        reply = self.send("1", timeout=float("inf"))
        self.clock.advance(0)
        self.clock.advance(60.0)
        self.receive(b":1\r\n")
        self.clock.advance(1.0)
        self.assertEqual(self.successResultOf(reply), 1)
        self.assertFalse(self.connection.ended)

    def test_a_codec_that_raises(self) -> None:
        """Whatever decoding raises is the one caller's error."""
        self.connect(encoding="ascii", encoding_errors="xmlcharrefreplace")
        bad, good = self.send("1"), self.send("2")
        self.clock.advance(0)
        self.receive(b"$1\r\n\xff\r\n$1\r\na\r\n")
        self.failureResultOf(bad)
        self.assertEqual(self.successResultOf(good), "a")

    def test_no_timer_is_left(self) -> None:
        """A lost connection leaves nothing scheduled."""
        self.connect()
        lost = self.send("1")
        self.clock.advance(0)
        self.lose()
        self.failureResultOf(lost, ConnectionLost)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class DrainTests(Base):
    def test_closes_after_the_last_reply(self) -> None:
        """Draining waits for what is owed, then closes; a peer that does not close is aborted."""
        self.connect()
        last = self.send("1")
        self.connection.drain()
        self.assertFalse(self.transport.disconnecting)
        self.receive(b"+1\r\n")
        self.assertEqual(self.successResultOf(last), b"1")
        self.assertTrue(self.transport.disconnecting)
        self.clock.advance(self.options.close_timeout)
        self.assertEqual(self.transport.aborted, [True])
        self.lose()


class ProtocolErrorTests(Base):
    def test_unasked_reply(self) -> None:
        """A reply that nothing asked for is a ProtocolError to whoever owns the connection."""
        self.connect()
        reasons: list[Exception] = []
        self.connection.owner.connection_gone = (  # type: ignore[method-assign]
            lambda connection, reason, clean: reasons.append(reason)
        )
        self.receive(b"+surprise\r\n")
        self.lose()
        self.assertIsInstance(reasons[0], ProtocolError)

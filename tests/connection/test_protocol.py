"""``RESPProtocol`` on a transport in memory and on a clock that only the test advances."""

from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock

from tests.cases import SynchronousTestCase
from tests.connection.wire import ECHO, Base, echoes, packed
from txvalkeycluster.commands.encoder import pack
from txvalkeycluster.connection.write_scheduler import WriteScheduler
from txvalkeycluster.errors import CommandTimeout, ConnectionLost, ProtocolError, ReplyError, TooManyPending
from txvalkeycluster.requests.request import Call


class RepliesTests(Base):
    def setUp(self) -> None:
        self.connect()

    def test_one_write_per_turn_in_order(self) -> None:
        """The commands of one turn leave in one write, and each reply goes to its command in order."""
        one, two = self.send("1"), self.send("2")
        self.assertEqual(self.transport.value(), b"")
        self.clock.advance(0)
        self.assertEqual(self.transport.value(), echoes("12"))
        self.receive(b"$1\r\n1\r\n$1\r\n")
        self.assertEqual(self.successResultOf(one), b"1")
        self.assertNoResult(two)
        self.receive(b"2\r\n")
        self.assertEqual(self.successResultOf(two), b"2")

    def test_commands_from_callbacks_leave_after_the_read(self) -> None:
        """Commands that the callbacks of a reply send leave in one write at the end of the read."""
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
        self.assertEqual(writes, [echoes("23")])

    def test_errors_false_and_pushes(self) -> None:
        """An error reply fails its command. RESP3 false is a reply. A push is not the reply of a command."""
        pushes: list[Any] = []
        self.connection.on_push = pushes.append
        one, two = self.send("1"), self.send("2")
        self.clock.advance(0)
        self.receive(b">2\r\n+a\r\n+b\r\n-WRONGTYPE no\r\n#f\r\n")
        self.assertEqual(self.failureResultOf(one, ReplyError).value.code, "WRONGTYPE")
        self.assertIs(self.successResultOf(two), False)
        self.assertEqual([list(push) for push in pushes], [[b"a", b"b"]])

    def test_late_replies_reach_no_other_command(self) -> None:
        """A timed-out or cancelled command keeps its place in the queue, so its late reply is dropped."""
        late, cancelled, last = self.send("1", timeout=1.0), self.send("2"), self.send("3")
        self.clock.advance(0)
        cancelled.cancel()
        self.failureResultOf(cancelled)
        self.clock.advance(1.1)
        error = self.failureResultOf(late, CommandTimeout).value
        self.assertTrue(error.maybe_executed)
        self.assertIn("h:1: 3 replies pending", str(error))
        self.receive(b":1\r\n:2\r\n:3\r\n")
        self.assertEqual(self.successResultOf(last), 3)
        self.assertEqual(self.connection.pending, 0)

    def test_cancelled_before_the_write_is_never_sent(self) -> None:
        """A command that is cancelled in the turn of its call does not reach the server."""
        deferreds = [self.send(word, canceller=True) for word in "123"]
        deferreds[1].cancel()
        self.failureResultOf(deferreds[1], CancelledError)
        self.clock.advance(0)
        self.assertEqual(self.transport.value(), echoes("13"))
        self.receive(b":1\r\n:3\r\n")
        self.assertEqual((self.successResultOf(deferreds[0]), self.successResultOf(deferreds[2])), (1, 3))

    def test_an_unreadable_stream_ends_the_connection(self) -> None:
        """Invalid bytes, surplus replies and a list as the key of a map end only this connection."""
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

    def test_asking_and_its_command_leave_in_one_write(self) -> None:
        """ASKING comes directly before its command."""
        call = Call(pack(("ECHO", "2")), ECHO, 0, 0.0, 10.0)
        self.send("1")
        self.connection.ask(call)
        self.clock.advance(0)
        self.assertEqual(self.transport.value(), packed(("ECHO", "1"), ("ASKING",), ("ECHO", "2")))
        self.receive(b"+1\r\n+OK\r\n+2\r\n")
        self.assertEqual(self.successResultOf(call), b"2")


class Writer:
    """A connection that counts its flushes."""

    peer = "h:1"

    def __init__(self) -> None:
        self.flushes = 0

    def flush(self) -> None:
        self.flushes += 1


class WriteSchedulerTests(SynchronousTestCase):
    def flushed(self, replies: int) -> tuple[int, int]:
        """Count the flushes of a connection that has output in a read: after that read, and after the turn."""
        clock = Clock()
        writer: Any = Writer()
        scheduler = WriteScheduler(clock)
        scheduler.held = True
        scheduler.touch(writer)
        scheduler.held = False
        scheduler.read_done(replies)
        at_once = writer.flushes
        clock.advance(0)
        self.assertEqual(clock.getDelayedCalls(), [])
        return at_once, writer.flushes

    def test_flush_after_a_read(self) -> None:
        """After few or very many replies the flush comes at once, else at the end of the turn; it comes only once."""
        for replies in (0, 1, 7, 64, 1000):
            self.assertEqual(self.flushed(replies), (1, 1), replies)
        for replies in (8, 63):
            self.assertEqual(self.flushed(replies), (0, 1), replies)


class LimitsTests(Base):
    def test_max_pending(self) -> None:
        """A command over the limit is refused at once. The commands before it are not affected."""
        self.connect(max_pending=2)
        one, _ = self.send("1"), self.send("2")
        self.assertRaises(TooManyPending, self.send, "3")
        self.clock.advance(0)
        self.assertRaises(TooManyPending, self.send, "4")
        self.receive(b"+1\r\n")
        self.assertEqual(self.successResultOf(one), b"1")

    def test_max_unsent_bytes(self) -> None:
        """While the transport is paused, commands up to the limit wait, and then leave together."""
        self.connect(max_unsent_bytes=20)
        self.connection.pauseProducing()
        kept = self.send("x" * 20)
        self.assertRaises(TooManyPending, self.send, "y")
        self.clock.advance(0)
        self.assertEqual(self.transport.value(), b"")
        self.connection.resumeProducing()
        self.assertEqual(self.transport.value(), pack(("ECHO", "x" * 20)))
        self.assertNoResult(kept)

    def test_a_command_that_times_out_unsent(self) -> None:
        """The command was not executed, and neither ASKING nor the command is sent later."""
        self.connect()
        self.connection.pauseProducing()
        call = Call(pack(("ECHO", "1")), ECHO, 0, 0.0, 1.0)
        self.connection.ask(call)
        self.clock.advance(1.1)
        self.assertFalse(self.failureResultOf(call, CommandTimeout).value.maybe_executed)
        self.connection.resumeProducing()
        self.assertEqual(self.transport.value(), b"")

    def test_silent_peer(self) -> None:
        """A peer that sends no byte while replies are pending is disconnected, and the pending commands fail."""
        self.connect(unresponsive_after=3.0, timeout=None)
        lost = self.send("1", timeout=float("inf"))
        self.clock.advance(0)
        self.clock.advance(2.9)
        self.assertNoResult(lost)
        self.clock.advance(0.2)
        # The first check does not disconnect: after a stall of the reactor, the reply may be unread in the socket.
        self.assertNoResult(lost)
        self.clock.advance(0.005)
        self.assertTrue(self.failureResultOf(lost, ConnectionLost).value.maybe_executed)

    def test_a_stalled_reactor_is_not_a_silent_peer(self) -> None:
        """The connection stays open if a reply is read right after the check."""
        self.connect(unresponsive_after=3.0, timeout=None)
        reply = self.send("1", timeout=float("inf"))
        self.clock.advance(0)
        self.clock.advance(60.0)
        self.receive(b":1\r\n")
        self.clock.advance(1.0)
        self.assertEqual(self.successResultOf(reply), 1)
        self.assertFalse(self.connection.ended)

    def test_a_codec_that_raises(self) -> None:
        """An error of the decoder fails only the command of that reply."""
        self.connect(encoding="ascii", encoding_errors="xmlcharrefreplace")
        bad, good = self.send("1"), self.send("2")
        self.clock.advance(0)
        self.receive(b"$1\r\n\xff\r\n$1\r\na\r\n")
        self.failureResultOf(bad)
        self.assertEqual(self.successResultOf(good), "a")

    def test_no_timer_is_left(self) -> None:
        """A lost connection leaves no scheduled call."""
        self.connect()
        lost = self.send("1")
        self.clock.advance(0)
        self.lose()
        self.failureResultOf(lost, ConnectionLost)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class DrainTests(Base):
    def test_closes_after_the_last_reply(self) -> None:
        """``drain`` waits for the pending replies and then closes. If the peer does not close, it aborts."""
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
    def test_an_unexpected_reply(self) -> None:
        """A reply that belongs to no command is a ProtocolError for the owner of the connection."""
        self.connect()
        reasons: list[Exception] = []
        self.patch(self.connection.owner, "connection_gone", lambda connection, reason, clean: reasons.append(reason))
        self.receive(b"+surprise\r\n")
        self.lose()
        self.assertIsInstance(reasons[0], ProtocolError)

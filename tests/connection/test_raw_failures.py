"""Raw requests that get error replies, that time out, or whose connection ends."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from tests.connection.raw_base import TABLE, RawBase
from tests.connection.wire import echoes, packed
from txvalkeycluster.connection.protocol import RESPProtocol
from txvalkeycluster.connection.raw_protocol import RawProtocol
from txvalkeycluster.errors import CommandTimeout, ConnectionLost, ProtocolError, ReplyError, TooManyPending
from txvalkeycluster.requests.raw_batch import RawBatch, RawReplyError
from txvalkeycluster.requests.target import ANY_NODE


class ErrorTests(RawBase):
    def test_errors_inside_of_a_batch(self) -> None:
        """A request with an error reply leaves its batch with the server's text and bytes. The others do not notice."""
        owner = self.own()
        frames = (b"-MOVED 7 h:2\r\n", b"-ASK 7 h:2\r\n", b"-ERR no\r\n", b"!8\r\nERR a\r\nb\r\n", b"-ERR \xff\r\n")
        words = [str(number) for number in range(10)]
        self.raw(*words)
        self.clock.advance(0)
        replies = [b"+%d\r\n" % number if number % 2 else frames[number // 2] for number in range(10)]
        self.receive(b"".join(replies))
        self.assertEqual(self.whole.came, [(word, replies[int(word)]) for word in words[1::2]])
        self.assertEqual(self.whole.delayed, words[::2])
        errors = [error for _, error in owner.failed]
        self.assertEqual([getattr(error, "frame", None) for error in errors], list(frames))
        texts = ["MOVED 7 h:2", "ASK 7 h:2", "ERR no", "ERR a\r\nb", "ERR �"]
        self.assertEqual([str(error) for error in errors], texts)
        self.assertEqual([request.payload for request, _ in owner.failed], [packed(("ECHO", w)) for w in words[::2]])
        self.assertEqual(self.connection.counters.errors, {"MOVED": 1, "ASK": 1, "ERR": 3})
        self.assertEqual((self.connection.pending, self.transport.aborted), (0, []))

    def test_errors_for_parsed_requests(self) -> None:
        """Requests that are not raw get an ordinary ReplyError, also for a bulk error, which hiredis cannot read."""
        call, internal, batch = self.send("1"), self.connection.call("PING"), self.parsed("2", "3")
        self.clock.advance(0)
        self.receive(b"!6\r\nERR no\r\n!8\r\nNOPERM x\r\n-ERR a\r\n!5\r\nERR b\r\n")
        for failed, text in ((call, "ERR no"), (internal, "NOPERM x")):
            error = self.failureResultOf(failed, ReplyError).value
            self.assertEqual((type(error), str(error)), (ReplyError, text))
        self.assertEqual(batch.came, [(0, ReplyError), (1, ReplyError)])

    def test_the_text_is_that_of_hiredis(self) -> None:
        """A program sees the same error with and without ``raw_replies``."""
        for frame in (b"-ERR \xff\xc3\xa9\r\n", b"-\r\n", b"-MOVED 1 h:1\r\n"):
            texts = []
            for kind in (RESPProtocol, RawProtocol):
                self.patch(type(self), "kind", kind)
                self.connect()
                call = self.send("1")
                self.clock.advance(0)
                self.receive(frame)
                texts.append(str(self.failureResultOf(call, ReplyError).value))
            self.assertEqual(texts[0], texts[1])

    def test_pickle(self) -> None:
        """The error of a raw reply can be pickled, as every error of this package."""
        for frame in (b"-ERR no\r\n", b"!6\r\nERR no\r\n"):
            error = pickle.loads(pickle.dumps(RawReplyError(frame)))
            self.assertEqual((type(error), error.frame, str(error)), (RawReplyError, frame, "ERR no"))

    def test_the_delay_is_told_before_earlier_replies(self) -> None:
        """The collector knows that a request is delayed before it can send others because of earlier replies."""
        order: list[str] = []
        self.whole.on_replies = lambda: order.append("replies")
        self.whole.on_delay = lambda: order.append("delay")
        self.own()
        self.raw("1", "2", "3")
        self.clock.advance(0)
        self.receive(b"+1\r\n-TRYAGAIN later\r\n")
        self.assertEqual((order, self.whole.delayed), (["delay", "replies"], ["2"]))
        self.receive(b"+3\r\n")
        self.assertEqual(self.whole.came, [("1", b"+1\r\n"), ("3", b"+3\r\n")])

    def test_what_leaves_a_batch(self) -> None:
        """A request that leaves its batch is parsed then: its slot, whether it may be repeated, its name."""
        owner = self.own()
        cases = [
            (packed(("GET", "key")), "GET", 12539, True),
            (packed(("set", "{key}1", "v")), "SET", 12539, False),
            (packed(("CLIENT", "GETNAME")), "CLIENT GETNAME", ANY_NODE, False),
            (packed(("EVAL", "return 1", "0")), "EVAL", ANY_NODE, False),
            (packed(("EVAL", "return 1", "1", "key")), "EVAL", 12539, False),
            (packed(("EVAL", "return 1", "x")), "EVAL", ANY_NODE, False),
            (packed(("UNKNOWN.COMMAND", "key")), "UNKNOWN.COMMAND", 7, False),
            (packed(("GET",)), "GET", ANY_NODE, True),
            (b"*1\r\n*0\r\n", "an unreadable request", 7, False),
            (b"*0\r\n", "an unreadable request", 7, False),
            (b"*1\r\n:1\r\n", "an unreadable request", 7, False),
            (b"no RESP", "an unreadable request", 7, False),
            (b"", "an unreadable request", 7, False),
        ]
        batch = RawBatch(self.whole, 7, TABLE)
        for number, (payload, *_) in enumerate(cases):
            batch.put(number, payload)
        batch.send_at(0.0, 10.0)
        self.connection.send_batch(batch)
        self.clock.advance(0)
        self.receive(b"-ERR no\r\n" * len(cases))
        found = [(r.payload, r.command.name, r.target, r.repeatable) for r, _ in owner.failed]
        self.assertEqual(found, cases)


class TimeTests(RawBase):
    def test_deadline(self) -> None:
        """Requests without a reply time out, and keep their places: their late replies reach nobody else."""
        batch = self.raw("1", "2", "3", timeout=1.0)
        after = self.send("4")
        self.raw("5")
        self.clock.advance(0)
        self.receive(b"+1\r\n+")
        self.clock.advance(1.1)
        self.assertEqual(self.whole.kinds(), [("1", b"+1\r\n"), ("2", CommandTimeout), ("3", CommandTimeout)])
        self.assertEqual([error.maybe_executed for _, error in self.whole.came[1:]], [True, True])
        self.assertEqual((self.whole.delayed, batch.called), (["2", "3"], True))
        self.receive(b"2\r\n!3\r\nERR\r\n+4\r\n+5\r\n")
        self.assertEqual((self.successResultOf(after), self.whole.came[3:]), (b"4", [("5", b"+5\r\n")]))
        self.assertEqual(self.connection.counters.timeouts, 2)

    def test_late_replies_are_not_parsed(self) -> None:
        """The late reply of a parsed request may even be one that hiredis cannot read."""
        call, after = self.send("1", timeout=1.0), self.send("2")
        self.clock.advance(1.1)
        self.failureResultOf(call, CommandTimeout)
        self.receive(b"%1\r\n*0\r\n+x\r\n+2\r\n")
        self.assertEqual(self.successResultOf(after), b"2")

    def test_unsent_requests_time_out(self) -> None:
        """Requests that were not written time out, say so, and are not written later."""
        self.connection.pauseProducing()
        self.raw("1", "2", timeout=1.0)
        after = self.send("3")
        self.clock.advance(1.1)
        self.assertEqual(self.whole.kinds(), [("1", CommandTimeout), ("2", CommandTimeout)])
        self.assertEqual([error.maybe_executed for _, error in self.whole.came], [False, False])
        self.connection.resumeProducing()
        self.assertEqual(self.transport.value(), echoes("3"))
        self.receive(b"+3\r\n")
        self.assertEqual(self.successResultOf(after), b"3")

    def test_cancelled_calls(self) -> None:
        """The reply to a cancelled call is dropped, between raw replies."""
        self.raw("1")
        cancelled = self.send("2", canceller=True)
        self.raw("3")
        self.clock.advance(0)
        cancelled.addErrback(lambda _: None)
        cancelled.cancel()
        self.receive(b"+1\r\n+2\r\n+3\r\n")
        self.assertEqual(self.whole.came, [("1", b"+1\r\n"), ("3", b"+3\r\n")])

    def test_too_many_pending(self) -> None:
        """A batch over the limit is refused as a whole, and in pieces it fits."""
        self.connect(max_pending=4)
        self.raw("1", "2")
        refused = RawBatch(self.whole, 7, TABLE)
        for word in "345":
            refused.put(word, packed(("ECHO", word)))
        refused.send_at(0.0, 10.0)
        self.assertRaises(TooManyPending, self.connection.send_batch, refused)
        pieces = refused.pieces(2)
        self.assertEqual(([len(piece) for piece in pieces], self.whole.waiting), ([2, 1], 2))
        self.assertEqual(self.whole.delayed, ["3", "4", "5"])
        for piece in pieces:
            self.clock.advance(0)
            self.connection.send_batch(piece)
            piece.waits_no_more()
            self.clock.advance(0)
            self.receive(b"+x\r\n" * self.connection.pending)
        self.assertEqual([tag for tag, _ in self.whole.came], ["1", "2", "3", "4", "5"])
        self.assertEqual((self.transport.value(), self.whole.waiting), (echoes("12345"), 0))
        # Each of them was told once.
        self.assertEqual(self.whole.delayed, ["3", "4", "5"])


class EndTests(RawBase):
    def test_a_lost_connection(self) -> None:
        """Requests with a complete reply have it. The others fail, and may have been executed."""
        self.raw("1", "2", "3")
        call = self.send("4")
        self.clock.advance(0)
        self.receive(b"+1\r\n$100\r\nabc")
        self.raw("5")
        self.lose()
        errors = dict(self.whole.came[1:])
        self.assertEqual(self.whole.came[0], ("1", b"+1\r\n"))
        self.assertEqual(
            {tag: error.maybe_executed for tag, error in errors.items()}, {"2": True, "3": True, "5": False}
        )
        self.assertEqual({type(error) for error in errors.values()}, {ConnectionLost})
        self.assertEqual(self.whole.delayed, ["5", "2", "3"])
        self.failureResultOf(call, ConnectionLost)

    def test_a_reply_without_a_request(self) -> None:
        """It ends the connection: the order of the replies is in doubt. The replies before it are given."""
        self.raw("1")
        self.clock.advance(0)
        self.receive(b"+1\r\n+2\r\n")
        self.assertEqual((self.whole.came, self.transport.aborted), ([("1", b"+1\r\n")], [True]))
        for reply in (b"+OK\r\n", b"-ERR no\r\n", b"|1\r\n+a\r\n+b\r\n+OK\r\n"):
            self.connect()
            self.receive(reply)
            self.assertEqual(self.transport.aborted, [True], repr(reply))

    def test_unreadable_bytes(self) -> None:
        """The replies before invalid bytes are given. The next request gets ProtocolError, the others are lost."""
        self.raw("1", "2", "3", "4")
        call = self.send("5")
        self.clock.advance(0)
        self.receive(b"+1\r\n+2\r\nHTTP/1.1 400\r\n")
        self.assertEqual(
            self.whole.kinds(), [("1", b"+1\r\n"), ("2", b"+2\r\n"), ("3", ProtocolError), ("4", ConnectionLost)]
        )
        self.failureResultOf(call, ConnectionLost)
        self.assertEqual((self.transport.aborted, self.connection.pending), ([True], 0))

    def test_an_unreadable_reply_behind_a_redirect(self) -> None:
        """The request that is redirected goes on: the unreadable reply is not its own."""
        for redirected in (self.send, self.raw):
            self.setUp()
            owner = self.own()
            first: Any = redirected("1")
            second = self.send("2")
            self.clock.advance(0)
            self.receive(b"-MOVED 7 h:2\r\n?\r\n")
            self.assertEqual(len(owner.failed), 1)
            self.assertFalse(owner.failed[0][0].called)
            self.failureResultOf(second, ProtocolError)
            if redirected == self.send:
                self.assertNoResult(first)

    def test_the_last_reply_of_a_batch_cannot_be_parsed(self) -> None:
        """That request fails, and not the next one."""
        batch, after = self.parsed("1", "2"), self.send("3")
        self.clock.advance(0)
        self.receive(b"+1\r\n%1\r\n*0\r\n+x\r\n+3\r\n")
        self.assertEqual(batch.came, [(0, b"1"), (1, ProtocolError)])
        self.failureResultOf(after, ConnectionLost)

    def test_a_push_that_raises(self) -> None:
        """An error in the handling of a push ends the connection, and every request."""

        def raising(push: list[Any]) -> None:
            raise ValueError(push)

        self.connection.on_push = raising
        self.raw("1", "2")
        self.clock.advance(0)
        self.receive(b"+1\r\n>1\r\n+a\r\n+2\r\n")
        self.assertEqual(self.whole.kinds(), [("1", b"+1\r\n"), ("2", ProtocolError)])
        self.assertEqual(self.transport.aborted, [True])

    def test_drain(self) -> None:
        """``drain`` waits for the replies to a batch."""
        self.raw("1", "2")
        self.connection.drain()
        self.receive(b"+1\r\n")
        self.assertFalse(self.transport.disconnecting)
        self.receive(b"+2\r\n")
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(len(self.whole.came), 2)
        self.clock.advance(self.options.close_timeout)
        self.lose()

    def test_callbacks_end_the_connection(self) -> None:
        """A callback may abort or drain the connection at any reply, and get nothing twice."""
        replies = b"+1\r\n-ERR 2\r\n+3\r\n+4\r\n>1\r\n+push\r\n+5\r\n+6\r\n-ERR 7\r\n+8\r\n"
        ends: list[Callable[[], object]] = [
            lambda: self.connection.abort(ConnectionLost("aborted")),
            lambda: self.connection.drain(),
        ]
        for end in ends:
            for at in range(1, 9):
                for pieces in (1, 2, len(replies)):
                    self.setUp()
                    seen = 0

                    def replied(end: Callable[[], object] = end, at: int = at) -> None:
                        nonlocal seen
                        if len(self.whole.came) >= at > seen:
                            seen = at
                            end()

                    self.whole.on_replies = replied
                    self.raw("1", "2", "3")
                    self.raw("4")
                    self.raw("5", "6", "7", "8")
                    self.clock.advance(0)
                    size = len(replies) // pieces + 1
                    for start in range(0, len(replies), size):
                        self.receive(replies[start : start + size])
                    if not self.transport.aborted:
                        self.connection.drain()
                    self.clock.advance(self.options.close_timeout)
                    self.lose()
                    self.assertEqual(sorted(tag for tag, _ in self.whole.came), list("12345678"), repr((at, pieces)))
                    right = [value for tag, value in self.whole.came if value == b"+%b\r\n" % tag.encode()]
                    self.assertEqual(len(right), len([v for _, v in self.whole.came if isinstance(v, bytes)]))
                    self.assertEqual(self.connection.pending, 0)

    def test_a_callback_sends_more(self) -> None:
        """Requests that a callback sends in the middle of a read go behind the others, in one write."""
        sent: list[str] = []

        def more() -> None:
            if len(sent) < 3:
                sent.append(str(len(sent) + 4))
                self.raw(sent[-1])

        self.whole.on_replies = more
        self.raw("1", "2")
        self.raw("3")
        self.clock.advance(0)
        self.transport.clear()
        self.receive(b"+1\r\n+2\r\n+3\r\n")
        self.assertEqual(self.transport.value(), echoes("45"))
        self.receive(b"+4\r\n+5\r\n")
        self.receive(b"+6\r\n")
        self.assertEqual(self.whole.came, [(str(number), b"+%d\r\n" % number) for number in range(1, 7)])

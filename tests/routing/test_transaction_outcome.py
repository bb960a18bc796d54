"""What the replies to MULTI, the commands and EXEC mean together."""

from __future__ import annotations

from typing import Any

from tests.cases import SynchronousTestCase
from txvalkeycluster import (
    ConnectionLost,
    ProtocolError,
    ReplyError,
    TransactionAborted,
    TransactionRefused,
    WatchError,
)
from txvalkeycluster.routing.transaction_outcome import outcome, queued_so_far

NOPERM = ReplyError("NOPERM no")
ABORT = ReplyError("EXECABORT Transaction discarded because of previous errors.")
UNSENT, SENT = ConnectionLost("gone"), ConnectionLost("gone", maybe_executed=True)


class OutcomeTests(SynchronousTestCase):
    def raised(self, kind: type[Exception], *replies: Any) -> Any:
        return self.assertRaises(kind, outcome, list(replies))

    def test_executed(self) -> None:
        """Errors of single commands are results of the transaction."""
        error = ReplyError("WRONGTYPE x")
        self.assertEqual(outcome([b"OK", b"QUEUED", b"QUEUED", [1, error]]), [1, error])
        self.assertEqual(outcome([b"OK", []]), [])

    def test_a_watched_key_has_changed(self) -> None:
        self.raised(WatchError, b"OK", b"QUEUED", None)

    def test_refused_when_it_was_queued(self) -> None:
        """The error has the texts of the refused commands, or the text of EXEC."""
        error = self.raised(TransactionAborted, b"OK", NOPERM, b"QUEUED", ABORT)
        self.assertEqual(error.refusals, ("NOPERM no",))
        error = self.raised(TransactionAborted, b"OK", b"QUEUED", ReplyError("EXECABORT x because of: OOM full"))
        self.assertEqual(error.refusals, ("OOM full",))

    def test_redirects_and_temporary_errors(self) -> None:
        """The server says that nothing was executed, and the result is its error."""
        for text in ("MOVED 1 h:1", "ASK 1 h:1", "TRYAGAIN x", "CLUSTERDOWN x", "LOADING x"):
            error = ReplyError(text)
            self.assertIs(self.raised(ReplyError, b"OK", NOPERM, error, ABORT), error)
            self.assertIs(self.raised(ReplyError, b"OK", b"QUEUED", error), error)
            found = self.raised(ReplyError, b"OK", b"QUEUED", ReplyError(f"EXECABORT x because of: {text}"))
            self.assertEqual(str(found), text)

    def test_multi_refused(self) -> None:
        """The commands may have run, whatever the other replies are."""
        for queued in (5, NOPERM, ReplyError("TRYAGAIN x"), ReplyError("MOVED 1 h:1"), SENT, UNSENT):
            for last in (ReplyError("ERR EXEC without MULTI"), ABORT, SENT, UNSENT):
                error = self.raised(TransactionRefused, NOPERM, queued, last)
                self.assertTrue(error.maybe_executed)
                self.assertEqual(error.results, (queued,))

    def test_executed_though_multi_was_accepted(self) -> None:
        """A reply other than QUEUED comes from a command that ran."""
        for replies in ((b"OK", 5, ReplyError("ERR EXEC without MULTI")), (b"QUEUED", b"QUEUED", b"QUEUED")):
            self.assertTrue(self.raised(TransactionRefused, *replies).maybe_executed)

    def test_queued_so_far(self) -> None:
        """Some replies show that nothing has run yet, others do not."""
        nothing_has_run: list[list[Any]] = [[], [b"OK"], [b"OK", b"QUEUED"], [b"OK", NOPERM, b"QUEUED"]]
        for replies in nothing_has_run:
            self.assertTrue(queued_so_far(replies), replies)
        something_may_have_run: list[list[Any]] = [
            [NOPERM],
            [b"QUEUED"],
            [None],
            [b"OK", 5],
            [b"OK", b"QUEUED", b"OK"],
        ]
        for replies in something_may_have_run:
            self.assertFalse(queued_so_far(replies), replies)

    def test_a_wrong_number_of_results(self) -> None:
        self.raised(ProtocolError, b"OK", b"QUEUED", [])
        self.raised(ProtocolError, b"OK", b"QUEUED", b"OK")

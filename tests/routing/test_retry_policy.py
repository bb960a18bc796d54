"""Every row of the design's table of replies and failures."""

from twisted.trial.unittest import SynchronousTestCase

from txvalkeycluster.address import Address
from txvalkeycluster.errors import ReplyError
from txvalkeycluster.routing.retry_policy import (
    IMMEDIATE_REDIRECTS,
    Action,
    Decision,
    Refresh,
    decide_on_loss,
    decide_on_reply,
    ends_transaction,
    proves_not_executed,
)

SENDER = Address("10.0.0.1", 7000)


def judge(text: str, from_replica: bool = False, redirects: int = 0) -> Decision:
    return decide_on_reply(ReplyError(text), SENDER, from_replica=from_replica, redirects=redirects)


class ReplyTests(SynchronousTestCase):
    def test_moved(self) -> None:
        """Split at the last colon; an empty host is the sender's; the sender itself means to dial anew."""
        for text, act, target in [
            ("MOVED 5 10.0.0.2:7001", Action.FOLLOW, Address("10.0.0.2", 7001)),
            ("MOVED 5 ::1:7200", Action.FOLLOW, Address("::1", 7200)),
            ("MOVED 5 :7001", Action.FOLLOW, Address("10.0.0.1", 7001)),
            ("MOVED 5 10.0.0.1:7000", Action.REDIAL, None),
            ("MOVED 5 :7000", Action.REDIAL, None),
            ("MOVED 5 ?:7000", Action.WAIT, None),
        ]:
            decision = judge(text)
            self.assertEqual((decision.action, decision.target, decision.refresh), (act, target, Refresh.SOON), text)
        self.assertEqual(judge("MOVED 5 h:1").slot, 5)

    def test_ask_leaves_the_map(self) -> None:
        """ASK asks for no refresh."""
        self.assertEqual(judge("ASK 5 h:1"), Decision(Action.ASK, target=Address("h", 1)))

    def test_malformed_redirects_are_the_callers(self) -> None:
        """What cannot be followed is an error reply like any other."""
        for text in [
            "MOVED", "MOVED 5", "MOVED 99999999 x:1", "MOVED -1 x:1", "MOVED 16384 x:1", "MOVED x y:1",
            "MOVED 5 h", "MOVED 5 h:0", "MOVED 5 h:70000", "ASK 5", "ASK 5 h:x", "MO", "",
        ]:  # fmt: skip
            self.assertEqual(judge(text).action, Action.FAIL, text)

    def test_redirects_without_end_slow_down(self) -> None:
        """After a few redirects in a row the command waits before the next."""
        self.assertEqual(judge("MOVED 5 h:1", redirects=IMMEDIATE_REDIRECTS - 1).action, Action.FOLLOW)
        self.assertEqual(judge("MOVED 5 h:1", redirects=IMMEDIATE_REDIRECTS).action, Action.WAIT)
        self.assertEqual(judge("ASK 5 h:1", redirects=IMMEDIATE_REDIRECTS).action, Action.WAIT)

    def test_states_of_the_server(self) -> None:
        """Each is waited for, and asks for the refresh that ends it."""
        for text, refresh in [
            ("TRYAGAIN Multiple keys", Refresh.NO),
            ("CLUSTERDOWN The cluster is down", Refresh.SOON),
            ("LOADING", Refresh.SOON),
            ("MASTERDOWN Link", Refresh.SOON),
            ("READONLY You can't write", Refresh.NOW),
        ]:
            self.assertEqual(judge(text), Decision(Action.WAIT, refresh))
        for text in ("LOADING x", "MASTERDOWN x"):
            self.assertEqual(judge(text, from_replica=True).action, Action.REROUTE)

    def test_other_errors_are_the_callers(self) -> None:
        """A code is compared whole."""
        for text in ("WRONGTYPE x", "ERR x", "NOPERM x", "LOADINGX", "moved 5 h:1"):
            self.assertEqual(judge(text), Decision(Action.FAIL))

    def test_a_primary_that_has_become_a_replica(self) -> None:
        """What it held up is sent again; what only a primary can confirm is not."""
        demoted = "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"
        self.assertEqual(judge(demoted), Decision(Action.WAIT, Refresh.NOW))
        self.assertEqual(judge("UNBLOCKED client unblocked via CLIENT UNBLOCK"), Decision(Action.FAIL))
        asked = "ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0"
        self.assertEqual(judge(asked), Decision(Action.FAIL, Refresh.NOW))


class ProofTests(SynchronousTestCase):
    def test_what_a_script_cannot_have_said(self) -> None:
        """Redirects of its own slots and the server's own texts, to the letter, are from before it ran."""
        for text, proof in [
            ("MOVED 5 h:1", True), ("ASK 6 h:1", True), ("MOVED 7 h:1", False), ("MOVED x h:1", False),
            ("CLUSTERDOWN Hash slot not served", True), ("CLUSTERDOWN says the script", False), ("ERR x", False),
        ]:  # fmt: skip
            self.assertEqual(proves_not_executed(ReplyError(text), {5, 6}), proof, text)

    def test_what_exec_leaves_behind(self) -> None:
        """A server that has refused EXEC for good has left the MULTI state; of any other error nobody knows."""
        for text, ended in [
            ("EXECABORT x", True), ("MOVED 5 h:1", True), ("CLUSTERDOWN x", True), ("ERR EXEC without MULTI", True),
            ("ERR x", False), ("NOPERM x", False),
        ]:  # fmt: skip
            self.assertEqual(ends_transaction(ReplyError(text)), ended, text)


class LossTests(SynchronousTestCase):
    def test_only_safe_commands_are_repeated(self) -> None:
        """Unwritten ones always, written ones if running twice does no harm."""
        for written, repeatable, act in [
            (False, False, Action.AGAIN),
            (False, True, Action.AGAIN),
            (True, True, Action.AGAIN),
            (True, False, Action.FAIL),
        ]:
            self.assertEqual(decide_on_loss(written=written, repeatable=repeatable), Decision(act, Refresh.SOON))

"""What each error reply and each lost connection means for a command."""

from tests.cases import SynchronousTestCase
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
        """The host ends at the last colon, and an empty host is that of the sender.

        A redirect to the sender means that the client makes a new connection.
        """
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

    def test_ask_causes_no_refresh(self) -> None:
        """ASK does not change the slot map."""
        self.assertEqual(judge("ASK 5 h:1"), Decision(Action.ASK, target=Address("h", 1)))

    def test_malformed_redirects_fail_the_command(self) -> None:
        """A redirect that cannot be followed is an error reply like any other."""
        for text in [
            "MOVED", "MOVED 5", "MOVED 99999999 x:1", "MOVED -1 x:1", "MOVED 16384 x:1", "MOVED x y:1",
            "MOVED 5 h", "MOVED 5 h:0", "MOVED 5 h:70000", "ASK 5", "ASK 5 h:x", "MO", "",
        ]:  # fmt: skip
            self.assertEqual(judge(text).action, Action.FAIL, text)

    def test_many_redirects_slow_down(self) -> None:
        """After a few redirects in a row the command waits before the next one."""
        self.assertEqual(judge("MOVED 5 h:1", redirects=IMMEDIATE_REDIRECTS - 1).action, Action.FOLLOW)
        self.assertEqual(judge("MOVED 5 h:1", redirects=IMMEDIATE_REDIRECTS).action, Action.WAIT)
        self.assertEqual(judge("ASK 5 h:1", redirects=IMMEDIATE_REDIRECTS).action, Action.WAIT)

    def test_temporary_states_of_the_server(self) -> None:
        """The command waits, and the state decides whether and when the slot map is refreshed."""
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

    def test_other_errors_fail_the_command(self) -> None:
        """A code counts only if it is the whole first word, in capital letters."""
        for text in ("WRONGTYPE x", "ERR x", "NOPERM x", "LOADINGX", "moved 5 h:1"):
            self.assertEqual(judge(text), Decision(Action.FAIL))

    def test_a_primary_that_has_become_a_replica(self) -> None:
        """An unblocked command is sent again. WAIT is not, because only the former primary could confirm its writes."""
        demoted = "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"
        self.assertEqual(judge(demoted), Decision(Action.WAIT, Refresh.NOW))
        self.assertEqual(judge("UNBLOCKED client unblocked via CLIENT UNBLOCK"), Decision(Action.FAIL))
        asked = "ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0"
        self.assertEqual(judge(asked), Decision(Action.FAIL, Refresh.NOW))


class ProofTests(SynchronousTestCase):
    def test_errors_that_a_script_cannot_forge(self) -> None:
        """Redirects for its own slots and the exact texts of the server prove that a script did not run."""
        for text, proof in [
            ("MOVED 5 h:1", True), ("ASK 6 h:1", True), ("MOVED 7 h:1", False), ("MOVED x h:1", False),
            ("CLUSTERDOWN Hash slot not served", True), ("CLUSTERDOWN says the script", False), ("ERR x", False),
        ]:  # fmt: skip
            self.assertEqual(proves_not_executed(ReplyError(text), {5, 6}), proof, text)

    def test_errors_of_exec_that_end_the_transaction(self) -> None:
        """After some errors of EXEC the server has left the MULTI state. After other errors this is unknown."""
        for text, ended in [
            ("EXECABORT x", True), ("MOVED 5 h:1", True), ("CLUSTERDOWN x", True), ("ERR EXEC without MULTI", True),
            ("ERR x", False), ("NOPERM x", False),
        ]:  # fmt: skip
            self.assertEqual(ends_transaction(ReplyError(text)), ended, text)


class LossTests(SynchronousTestCase):
    def test_only_safe_commands_are_repeated(self) -> None:
        """A lost command is sent again if it was not written, or if it may run twice."""
        for written, repeatable, act in [
            (False, False, Action.AGAIN),
            (False, True, Action.AGAIN),
            (True, True, Action.AGAIN),
            (True, False, Action.FAIL),
        ]:
            self.assertEqual(decide_on_loss(written=written, repeatable=repeatable), Decision(act, Refresh.SOON))

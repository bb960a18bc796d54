"""Damaged texts of MOVED and ASK: their parser, and a client that follows them."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock

from tests.cases import SynchronousTestCase
from tests.fuzz.inputs import damaged_text, for_inputs
from tests.fuzz.world import HostileTests
from txvalkeycluster import Address, CommandTimeout, ConnectionLost, ProtocolError, ReplyError, key_slot
from txvalkeycluster.connection.endpoints import endpoint_maker
from txvalkeycluster.options import Options
from txvalkeycluster.routing.retry_policy import Action, decide_on_reply, proves_not_executed
from txvalkeycluster.testing import DEFAULT_REPLY, ScriptedNode

SENDER = Address("10.0.0.9", 7000)
VALID = (
    "MOVED 866 10.0.0.1:7001", "MOVED 866 :7001", "ASK 866 ::1:7001", "ASK 866 host.example:7001", "MOVED 866 ?:7001",
    "ASK 16383 10.0.0.9:7000", "MOVED 0 10.0.0.9:7000",
)  # fmt: skip


class RedirectTests(SynchronousTestCase):
    def test_a_valid_target_or_an_error(self) -> None:
        """A damaged redirect is the error of the caller, or has a valid slot and a valid address."""
        for_inputs(10, "redirects", self.check)

    def check(self, random: Random) -> None:
        error = ReplyError(damaged_text(random, random.choice(VALID)))
        proves_not_executed(error, (866,))
        decision = decide_on_reply(error, SENDER, from_replica=random.random() < 0.2, redirects=random.randrange(8))
        if decision.action in (Action.FOLLOW, Action.ASK):
            assert decision.target is not None
            self.assertTrue(decision.target.host)
            self.assertTrue(0 < decision.target.port < 65536)
            self.assertTrue(decision.action is Action.ASK or 0 <= decision.slot < 16384)
            self.dial(decision.target)

    def dial(self, target: Address) -> None:
        """Connect to a target.  An exception for an invalid host counts as a failed connection attempt."""
        clock = MemoryReactorClock()  # type: ignore[no-untyped-call]
        dial = endpoint_maker(clock, Options(), None)
        try:
            connecting = dial(*target).connect(Factory.forProtocol(Protocol))
        except Exception:
            return
        connecting.addErrback(lambda _: None)


class FollowedTests(HostileTests):
    """One of three nodes answers with random redirects."""

    def test_the_client_goes_on(self) -> None:
        """Commands end by their deadline, the other nodes serve, and the client forgets the targets."""
        for_inputs(5, "followed", self.check)

    def check(self, random: Random) -> None:
        self.start(random, check_redirects=random.random() < 0.3)
        hostile = self.nodes[0]
        key = self.key_of(hostile)
        targets = [*map(str, (node.address for node in self.nodes)), ":7001", "?:1", "nowhere:1", "other:7000"]

        def script(node: ScriptedNode, words: list[bytes], _: Any) -> Any:
            if words[0] != b"GET" or words[1] != key.encode():
                return DEFAULT_REPLY
            text = f"{random.choice(('MOVED', 'ASK'))} {key_slot(key)} {random.choice(targets)}"
            text = damaged_text(random, text) if random.random() < 0.5 else text
            return b"-%b\r\n" % text.replace("\r\n", " ").encode()

        hostile.script = script
        commands = [self.world.get(key) for _ in range(5)]
        self.ends(commands, CommandTimeout, ConnectionLost, ProtocolError, ReplyError)
        self.others_serve()
        hostile.script = None
        self.recovers()

"""Random bytes in random pieces as the replies to the commands of one connection."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.python.failure import Failure

from tests.connection.test_batches import Collector
from tests.connection.wire import ECHO, Base
from tests.fuzz.inputs import any_reply, damaged_bytes, for_inputs, in_chunks
from txvalkeycluster.commands.encoder import pack
from txvalkeycluster.errors import CommandTimeout, ConnectionLost, ProtocolError, ReplyError
from txvalkeycluster.requests.batch import Batch

# The errors of a command with a random reply.
DOCUMENTED = (CommandTimeout, ConnectionLost, ProtocolError, ReplyError, UnicodeDecodeError)
COMMANDS = 6


class ReplyTests(Base):
    def test_every_command_ends_once(self) -> None:
        """Every command ends once, with a reply or a documented error, and leaves nothing on the connection."""
        for_inputs(25, "replies", self.check)

    def check(self, random: Random) -> None:
        self.connect(encoding=random.choice((None, None, "utf-8")))
        self.ended: list[Any] = []
        self.batched = Collector()
        places = self.ask(random)
        for chunk in in_chunks(random, self.replies(random)):
            self.receive(chunk)
        self.finish()
        self.assertEqual(len(self.ended), COMMANDS)
        self.assertEqual([place for place, _ in self.batched.by_place()], places)
        errors = [result.value for result in self.ended if isinstance(result, Failure)]
        self.assertEqual([error for error in errors if not isinstance(error, DOCUMENTED)], [])
        kinds = [kind for _, kind in self.batched.came if isinstance(kind, type)]
        self.assertEqual([kind for kind in kinds if not issubclass(kind, DOCUMENTED)], [])
        self.assertEqual((self.connection.pending, self.clock.getDelayedCalls()), (0, []))

    def ask(self, random: Random) -> list[int]:
        """Send commands, and sometimes a batch.  Return the numbers of the commands of the batch."""
        for _ in range(COMMANDS):
            self.send("w").addBoth(self.ended.append)
        places = list(range(random.choice((0, 0, 3))))
        if places:
            batch = Batch(self.batched, 0, 0.0, 10.0)
            for place in places:
                batch.add(place, pack(("ECHO", "w")), ECHO, 0)  # type: ignore[arg-type]
            batch.seal()
            self.connection.send_batch(batch)
        self.clock.advance(0)
        return places

    def replies(self, random: Random) -> bytes:
        whole = b"".join(any_reply(random) for _ in range(random.randrange(1, COMMANDS + 4)))
        return damaged_bytes(random, whole) if random.random() < 0.6 else whole

    def finish(self) -> None:
        """Send nothing until the client aborts the connection."""
        for _ in range(14):
            self.clock.advance(1.0)
        if not self.transport.aborted:
            self.connection.drain()
        self.lose()

"""A connection on a transport in memory, for tests to inherit."""

from collections.abc import Sequence
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from tests.cases import SynchronousTestCase
from txvalkeycluster.commands import Command
from txvalkeycluster.commands.encoder import Arg, pack
from txvalkeycluster.connection.handshake import handshake
from txvalkeycluster.connection.protocol import RESPProtocol
from txvalkeycluster.connection.write_scheduler import WriteScheduler
from txvalkeycluster.credentials import Credentials
from txvalkeycluster.options import Options
from txvalkeycluster.requests.request import Call
from txvalkeycluster.statistics import NodeStatistics

ECHO = Command("ECHO")


def packed(*commands: Sequence[Arg]) -> bytes:
    """Return the bytes of commands without large values."""
    parts: list[Any] = [pack(command) for command in commands]
    return b"".join(parts)


def echoes(words: str) -> bytes:
    """Return the bytes of one ECHO for each letter."""
    return packed(*(("ECHO", word) for word in words))


class Transport(StringTransport):
    """A transport in memory that records aborts."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.aborted: list[bool] = []

    def abortConnection(self) -> None:
        self.aborted.append(True)
        self.disconnecting = True


class Base(SynchronousTestCase):
    #: The class of the connection.
    kind: ClassVar[type[RESPProtocol]] = RESPProtocol

    def connect(self, **options: Any) -> None:
        self.clock = Clock()
        self.options = Options(**options)
        self.scheduler = WriteScheduler(self.clock)
        self.connection = self.kind(self.clock, self.options, self.scheduler, "h:1", NodeStatistics())
        self.transport: Any = Transport()
        self.connection.makeConnection(self.transport)  # type: ignore[no-untyped-call]

    def shake_hands(self) -> Any:
        """Begin the handshake, with the password of the options; return its Deferred."""
        given = self.options
        credentials = Credentials(given.username, given.password) if given.password is not None else None
        return Deferred.fromCoroutine(handshake(self.connection, given, credentials))

    def send(self, word: str, timeout: float = 10.0, canceller: bool = False) -> Any:
        now = self.clock.seconds()
        note = self.scheduler.cancels.note if canceller else None
        call = Call(pack(("ECHO", word)), ECHO, 0, now, now + timeout, canceller=note)
        self.connection.send(call)
        return call

    def receive(self, data: bytes) -> None:
        self.connection.dataReceived(data)

    def lose(self) -> None:
        self.connection.connectionLost(Failure(ConnectionDone()))  # type: ignore[no-untyped-call]

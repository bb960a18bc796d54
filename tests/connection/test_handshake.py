"""The first words on a connection."""

from typing import Any

from twisted.internet.defer import Deferred

from tests.connection.wire import Base
from txvalkeycluster.commands.encoder import pack
from txvalkeycluster.connection.handshake import handshake


class HandshakeTests(Base):
    def shake(self, **options: Any) -> Any:
        self.connect(**options)
        deferred = Deferred.fromCoroutine(handshake(self.connection, self.options))
        self.clock.advance(0)
        return deferred

    def test_one_write(self) -> None:
        """Everything that is to be said leaves at once; refused courtesies do no harm."""
        shaken = self.shake(username="u", password="pw", db=3)
        wire = self.transport.value()
        self.assertEqual(wire.count(b"*"), 5)
        self.receive(b"%2\r\n+proto\r\n:3\r\n+version\r\n+9.1.2\r\n-ERR x\r\n-NOPERM x\r\n+OK\r\n+OK\r\n")
        info = self.successResultOf(shaken)
        self.assertEqual((info.protocol, info.version), (3, "9.1.2"))

    def test_falls_back_without_hello(self) -> None:
        """A server without HELLO is spoken to in RESP2."""
        shaken = self.shake(password="pw", db=3)
        self.receive(b"-ERR unknown command `HELLO`\r\n" + b"-NOAUTH x\r\n" * 4)
        self.transport.clear()
        self.clock.advance(0)
        self.receive(b"+OK\r\n+OK\r\n")
        self.assertEqual(self.successResultOf(shaken).protocol, 2)

    def test_refusals_hold_no_secret(self) -> None:
        """A wrong password is told apart, and not repeated."""
        shaken = self.shake(password="pw-secret")
        self.receive(b"-WRONGPASS pw-secret is wrong\r\n" + b"+OK\r\n" * 3)
        failure = self.failureResultOf(shaken)
        self.assertEqual(failure.type.__name__, "AuthenticationFailed")
        self.assertNotIn("pw-secret", str(failure.value))

    def test_bare_protocol_2(self) -> None:
        """protocol=2 sends nothing but AUTH and SELECT."""
        shaken = self.shake(protocol=2, password="pw", db=1)
        wire = b"".join(pack(w) for w in (("AUTH", "pw"), ("SELECT", "1")))  # type: ignore[misc]
        self.assertEqual(self.transport.value(), wire)
        self.receive(b"+OK\r\n-ERR DB index is out of range\r\n")
        self.assertIn("refused SELECT 1", str(self.failureResultOf(shaken).value))

"""The handshake: the first commands on a connection."""

from typing import Any

from tests.connection.wire import Base, packed
from txvalkeycluster.errors import AuthenticationFailed, ConnectFailed


class HandshakeTests(Base):
    def shake(self, **options: Any) -> Any:
        self.connect(**options)
        deferred = self.shake_hands()
        self.clock.advance(0)
        return deferred

    def test_one_write(self) -> None:
        """All commands of the handshake leave in one write, and the server may refuse the optional ones."""
        shaken = self.shake(username="u", password="pw", db=3)
        wire = self.transport.value()
        self.assertEqual(wire.count(b"*"), 5)
        self.receive(b"%2\r\n+proto\r\n:3\r\n+version\r\n+9.1.2\r\n-ERR x\r\n-NOPERM x\r\n+OK\r\n+OK\r\n")
        info = self.successResultOf(shaken)
        self.assertEqual((info.protocol, info.version), (3, "9.1.2"))

    def test_falls_back_without_hello(self) -> None:
        """The handshake uses RESP2 with a server that does not have HELLO."""
        shaken = self.shake(password="pw", db=3)
        self.receive(b"-ERR unknown command `HELLO`\r\n" + b"-NOAUTH x\r\n" * 4)
        self.transport.clear()
        self.clock.advance(0)
        self.receive(b"+OK\r\n+OK\r\n")
        self.assertEqual(self.successResultOf(shaken).protocol, 2)

    def test_a_wrong_password(self) -> None:
        """A wrong password has its own error, which does not contain the password."""
        shaken = self.shake(password="pw-secret")
        self.receive(b"-WRONGPASS pw-secret is wrong\r\n" + b"+OK\r\n" * 3)
        error = self.failureResultOf(shaken, AuthenticationFailed).value
        self.assertNotIn("pw-secret", str(error))

    def test_protocol_2(self) -> None:
        """With ``protocol=2`` only AUTH and SELECT are sent."""
        shaken = self.shake(protocol=2, password="pw", db=1)
        self.assertEqual(self.transport.value(), packed(("AUTH", "pw"), ("SELECT", "1")))
        self.receive(b"+OK\r\n-ERR DB index is out of range\r\n")
        self.assertIn("refused SELECT 1", str(self.failureResultOf(shaken, ConnectFailed).value))

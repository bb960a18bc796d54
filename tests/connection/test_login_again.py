"""``reauthenticate()``: every connection logs in again, and no command suffers."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tests.connection.login_base import NEW, OLD, LoginTests
from tests.scripted.base import ask
from txvalkeycluster import AuthenticationFailed, ClusterClient, ConnectFailed
from txvalkeycluster.events import LoginFailed
from txvalkeycluster.testing import DEFAULT_REPLY


class AgainTests(LoginTests):
    """``reauthenticate()``."""

    def test_every_connection(self) -> None:
        """Every open connection sends AUTH with the new password, and the function is called for each."""
        client = self.connected()
        self.result_of(client.blpop(self.key_of(self.nodes[0]), timeout=1))
        self.asked.clear()
        self.current = NEW
        self.result_of(client.reauthenticate())
        expected = [(node, connection, "new-secret") for node, connection in ((0, 1), (0, 2), (1, 1), (2, 1))]
        self.assertEqual(sorted(self.again()), expected)
        self.assertEqual(len(self.asked), 4)

    def test_without_connections(self) -> None:
        """Before the first connection and after the end it does nothing."""
        client = self.made()
        self.successResultOf(client.reauthenticate())
        self.result_of(client.get("key"))
        self.result_of(client.close())
        self.asked.clear()
        self.successResultOf(client.reauthenticate())
        self.assertEqual(self.asked, [])

    def test_without_credentials(self) -> None:
        """A client that does not log in sends nothing, and no subscription has a gap."""
        for protocol in (2, 3):
            for node in self.nodes:
                node.script = None
            client = self.client(credentials=None, protocol=protocol)
            self.subscribed(client.subscribe("a", listener=self.items.append))
            self.result_of(client.reauthenticate())
            self.advance(1.0)
            self.assertEqual((self.items, self.cluster.count(b"AUTH")), ([], 0))
            client.abort()

    def test_views(self) -> None:
        """A view logs in the connections of its client."""
        client = self.connected()
        self.result_of(client.with_options(timeout=1.0).reauthenticate())
        self.assertEqual(len(self.again()), 3)

    def test_while_a_login_is_under_way(self) -> None:
        """Calls during a login cause exactly one more, since the password may have changed meanwhile."""
        client = self.client()
        given: list[Deferred[Any]] = []

        def later() -> Deferred[Any]:
            given.append(Deferred())
            return given[-1]

        self.current = later
        first = client.reauthenticate()
        others = [client.reauthenticate() for _ in range(5)]
        self.network.settle()
        self.assertEqual(len(given), 1)
        given[0].callback(OLD)
        self.network.settle()
        self.successResultOf(first)
        for other in others:
            self.assertNoResult(other)
        given[1].callback(NEW)
        self.network.settle()
        for other in others:
            self.successResultOf(other)
        self.assertEqual(len(given), 2)
        self.assertEqual([password for *_, password in self.again()], ["old-secret", "new-secret"])

    def dialled_with_old_credentials(self) -> tuple[ClusterClient[bytes], Deferred[Any]]:
        """Return a client that waits for the handshake of a node, which has the old password, and a command there."""
        client = self.connected()
        self.cut(self.nodes[1])
        self.holding = [self.nodes[1]]
        waiting = client.execute_on(self.nodes[1].address, "PING")
        self.network.settle()
        self.logins = self.logins[-1:]
        self.current = NEW
        return client, waiting

    def test_while_a_handshake_is_under_way(self) -> None:
        """A connection whose handshake has the old password logs in with the new one afterwards."""
        client, waiting = self.dialled_with_old_credentials()
        again = client.reauthenticate()
        self.network.settle()
        self.assertNoResult(again)
        self.release()
        self.result_of(waiting)
        self.result_of(again)
        self.assertEqual(self.passwords(self.nodes[1]), ["old-secret", "new-secret"])

    def test_while_the_function_is_asked_for_a_handshake(self) -> None:
        """The same if the function gives the old password for the handshake after the call."""
        client = self.connected()
        self.cut(self.nodes[1])
        given: Deferred[Any] = Deferred()
        self.current = given
        waiting = client.execute_on(self.nodes[1].address, "PING")
        self.network.settle()
        self.logins.clear()
        self.current = NEW
        again = client.reauthenticate()
        self.network.settle()
        given.callback(OLD)
        self.result_of(waiting)
        self.result_of(again)
        self.assertEqual(self.passwords(self.nodes[1]), ["old-secret", "new-secret"])

    def test_a_handshake_that_fails(self) -> None:
        """reauthenticate() does not wait for a connection whose handshake fails."""
        client, waiting = self.dialled_with_old_credentials()
        again = client.reauthenticate()
        self.advance(2.1)
        self.failureResultOf(waiting, ConnectFailed)
        self.successResultOf(again)

    def test_an_error(self) -> None:
        """It fails with the first error, after all connections have tried.  The others have the new login."""
        client = self.connected()
        self.current = NEW
        self.answers[b"AUTH"] = lambda node: b"-WRONGPASS wrong\r\n" if node is self.nodes[1] else b"+OK\r\n"
        error = self.error_of(client.reauthenticate(), AuthenticationFailed)
        self.assertIn("node:7001 refused AUTH", str(error))
        self.assertEqual(len(self.again()), 3)
        self.assertEqual([event.address for event in self.of(LoginFailed)], [self.nodes[1].address])

    def test_cancelled(self) -> None:
        """Cancelling reauthenticate() does not stop the logins."""
        client = self.client()
        given: Deferred[Any] = Deferred()
        self.current = given
        again = client.reauthenticate()
        again.addErrback(lambda _: None)
        again.cancel()
        given.callback(NEW)
        self.network.settle()
        self.assertEqual(self.passwords()[-1], "new-secret")

    def test_commands_around_it(self) -> None:
        """Commands before and after it go on, and none waits for it."""
        client = self.connected()
        self.current = Deferred()
        before = [client.get(self.key_of(self.nodes[0], number)) for number in range(3)]
        again = client.reauthenticate()
        after = [client.get(self.key_of(self.nodes[0], number)) for number in range(3)]
        self.network.settle()
        for command in before + after:
            self.successResultOf(command)
        self.assertNoResult(again)
        self.current.callback(NEW)
        self.network.settle()
        self.successResultOf(again)

    def test_between_the_parts_of_a_request(self) -> None:
        """AUTH never comes between MULTI and EXEC, nor between ASKING and its command."""
        client = self.connected()
        node = self.nodes[0]
        key = self.key_of(node)
        self.answers[b"GET"] = lambda at: ask(key, self.nodes[1].address) if at is node else DEFAULT_REPLY
        results: list[Deferred[Any]] = []
        for number in range(20):
            results.append(client.transaction().incr(key).incr(key).execute())
            results.append(client.get(key))
            if number % 3 == 0:
                results.append(client.reauthenticate())
            results.append(client.pipeline().incr(key).get(key).execute())
            if number % 4 == 0:
                self.network.step()
        for result in results:
            self.result_of(result)
        self.assertGreater(len(self.logins), 12)
        for at in self.nodes:
            words = [received[0] for _, received in at.received]
            for place, word in enumerate(words):
                if word == b"MULTI":
                    self.assertEqual(words[place : place + 4], [b"MULTI", b"INCR", b"INCR", b"EXEC"])
                if word == b"ASKING":
                    self.assertNotEqual(words[place + 1], b"AUTH")

    def test_wait(self) -> None:
        """A login again does not change what WAIT confirms."""
        client = self.connected()
        self.answers[b"WAIT"] = b":1\r\n"
        key = self.key_of(self.nodes[0])
        for _ in range(2):
            self.result_of(client.set(key, "v"))
            self.result_of(client.reauthenticate())
            self.assertEqual(self.result_of(client.wait(1, 1000)), 1)
        self.result_of(client.reauthenticate())
        # Without a write since then, a lost connection makes no write doubtful.
        self.cut(self.nodes[0])
        self.assertEqual(self.result_of(client.wait(1, 1000)), 1)

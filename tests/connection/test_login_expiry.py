"""Credentials that expire: connections log in again in time, and try again when that fails."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any

from twisted.internet.defer import Deferred

from tests.connection.login_base import NEW, OLD, LoginTests
from txvalkeycluster import AuthenticationFailed, CommandTimeout, ConnectFailed, Credentials
from txvalkeycluster.events import LoginFailed, LoginRestored
from txvalkeycluster.testing import SILENCE


class ExpiryTests(LoginTests):
    """Open connections log in again before the password expires."""

    def test_before_the_password_expires(self) -> None:
        """Each connection logs in again after 70 to 85% of the time, and so on, on the same connection."""
        self.current = Credentials("app", "old-secret", expires_in=100)
        client = self.connected(refresh_period=None)
        for period in range(3):
            self.logins.clear()
            self.current = Credentials("app", ["new-secret", "old-secret"][period % 2], expires_in=100)
            times = []
            for _ in range(100):
                before = len(self.logins)
                self.advance(1.0, step=0.5)
                times += [self.clock.seconds()] * (len(self.logins) - before)
                if len(self.logins) >= 3:
                    break
            self.assertEqual(len(self.again()), 3)
            self.assertEqual({password for *_, password in self.again()}, {self.current.password})
        self.assertEqual([node.accepted for node in self.nodes], [1, 1, 1])
        self.assertEqual((self.of(LoginFailed), self.of(LoginRestored)), ([], []))
        self.leaves_nothing(client, abort=False)

    def test_the_window(self) -> None:
        """No connection logs in before 70% of the time or after 85%, and not all at the same moment."""
        self.current = Credentials("app", "old-secret", expires_in=100)
        self.connected(refresh_period=None, random=Random(7))
        self.advance(69.0, step=1.0)
        self.assertEqual(self.again(), [])
        times = set()
        for _ in range(170):
            before = len(self.logins)
            self.advance(0.1, step=0.1)
            if len(self.logins) > before:
                times.add(self.clock.seconds())
        self.assertEqual(len(self.again()), 3)
        self.assertEqual(len(times), 3)

    def test_a_static_time(self) -> None:
        """`Credentials` with a time are used again when it is nearly over."""
        self.connected(credentials=Credentials("app", "old-secret", expires_in=10), refresh_period=None)
        self.advance(10.0, step=0.5)
        self.assertEqual(len(self.again()), 3)

    def test_from_when_the_credentials_came(self) -> None:
        """The time counts from when the function gave the credentials, not from the end of a slow handshake."""
        self.current = Credentials("app", "old-secret", expires_in=4)
        client = self.client(refresh_period=None)
        self.cut(self.nodes[0])
        self.get(client)
        self.cut(self.nodes[0])
        self.holding = [self.nodes[0]]
        waiting = client.get(self.key_of(self.nodes[0]))
        self.advance(1.5)
        self.logins.clear()
        self.release()
        self.result_of(waiting)
        self.advance(4 * 0.85 - 1.5)
        self.assertEqual([login[2] for login in self.logins if login[0] is self.nodes[0]], ["AUTH"])

    def test_very_short_times(self) -> None:
        """A connection logs in at most ten times a second, however soon a password expires."""
        self.current = Credentials("app", "old-secret", expires_in=0.001)
        client = self.client(refresh_period=None)
        connections = self.connections()
        self.logins.clear()
        self.advance(1.0, step=0.001)
        self.assertLessEqual(len(self.logins), 10 * connections)
        self.assertGreater(len(self.logins), 5 * connections)
        self.leaves_nothing(client, abort=False)

    def test_no_end(self) -> None:
        """Credentials without a time cause no timer."""
        self.current = Credentials("app", "old-secret", expires_in=50)
        client = self.connected(refresh_period=None)
        self.current = NEW
        self.result_of(client.reauthenticate())
        self.asked.clear()
        self.advance(100.0, step=1.0)
        self.assertEqual(self.asked, [])

    def test_refused(self) -> None:
        """A refused login leaves the old one.  It is tried again with a growing pause of at most 30 seconds."""
        self.current = Credentials("app", "old-secret", expires_in=10)
        client = self.client(refresh_period=None)
        (node,) = (node for node in self.nodes if node.connections)
        self.accepted = set()
        self.current = NEW
        times: list[float] = []
        for _ in range(400):
            before = len(self.logins)
            self.advance(1.0, step=0.25)
            self.get(client, node)
            times += [self.clock.seconds()] * (len(self.logins) - before)
        pauses = [later - earlier for earlier, later in pairwise(times)]
        self.assertLessEqual(max(pauses), 31.0)
        self.assertLess(pauses[0], 3.0)
        self.assertLess(len(pauses), 30)
        self.assertEqual(node.accepted, 1)
        failed = self.of(LoginFailed)
        self.assertEqual(len(failed), len(times))
        self.assertEqual({event.address for event in failed}, {node.address})
        self.assertIn("refused AUTH: WRONGPASS", str(failed[0].reason))
        self.assertEqual(self.of(LoginRestored), [])
        self.accepted = {b"new-secret"}
        self.advance(31.0, step=0.5)
        self.assertEqual(len(self.of(LoginRestored)), 1)
        self.leaves_nothing(client, abort=False)

    def test_the_function_fails(self) -> None:
        """The connection keeps its old login while the function fails or hangs; commands go on."""

        def broken() -> Any:
            raise ValueError("no file")

        self.current = Credentials("app", "old-secret", expires_in=10)
        client = self.client(refresh_period=None)
        (node,) = (node for node in self.nodes if node.connections)
        for current, text in ((broken, "ValueError: no file"), (Deferred, "gave no result within 2 s")):
            self.events.clear()
            self.current = current
            for _ in range(80):
                self.advance(0.5, step=0.25)
                self.get(client, node)
            self.assertGreater(len(self.of(LoginFailed)), 1)
            self.assertIn(text, str(self.of(LoginFailed)[0].reason))
            self.current = Credentials("app", "old-secret", expires_in=10)
            self.advance(31.0, step=0.5)
            self.assertEqual(len(self.of(LoginRestored)), 1)
        self.assertEqual(node.accepted, 1)
        self.current = Deferred
        self.advance(10.0, step=0.5)
        self.leaves_nothing(client, abort=False)

    def test_no_reply_to_auth(self) -> None:
        """AUTH without a reply is a failed login; the connection ends as any silent one does."""
        client = self.client(refresh_period=None)
        (node,) = (node for node in self.nodes if node.connections)
        self.answers[b"AUTH"] = SILENCE
        failed = client.reauthenticate()
        self.advance(2.0)
        self.failureResultOf(failed, CommandTimeout)
        self.assertEqual(len(self.of(LoginFailed)), 1)
        self.advance(4.0)
        self.get(client, node)
        self.assertEqual(node.accepted, 2)
        self.assertEqual(len(self.of(LoginRestored)), 1)

    def test_success_ends_the_pause_after_a_failure(self) -> None:
        """After a failed login and a successful one, the connection does not log in once more."""
        client = self.client(refresh_period=None)
        self.accepted = set()
        self.current = NEW
        self.error_of(client.reauthenticate(), AuthenticationFailed)
        self.accepted = {b"new-secret"}
        self.result_of(client.reauthenticate())
        self.logins.clear()
        self.advance(60.0, step=0.5)
        self.assertEqual(self.logins, [])

    def test_restored_when_no_connection_fails(self) -> None:
        """With several connections to a node, LoginRestored comes once, when the last of them has logged in."""
        client = self.client(refresh_period=None)
        node = self.nodes[0]
        self.get(client, node)
        self.result_of(client.blpop(self.key_of(node), timeout=1))
        shared, exclusive = node.connections
        self.current = NEW
        self.accepted = set()
        self.answers[b"AUTH"] = lambda _: b"-WRONGPASS wrong\r\n"
        self.error_of(client.reauthenticate(), AuthenticationFailed)
        self.assertEqual(len([event for event in self.of(LoginFailed) if event.address == node.address]), 2)
        # Now the shared connection succeeds and the other one fails.
        turn = [b"+OK\r\n", b"-WRONGPASS wrong\r\n"]
        self.answers[b"AUTH"] = lambda at: turn[self.logins[-1][1] != shared.number or at is not node]
        for _ in range(4):
            self.error_of(client.reauthenticate(), AuthenticationFailed)
        restored = [event for event in self.of(LoginRestored) if event.address == node.address]
        self.assertEqual(restored, [])
        self.answers[b"AUTH"] = b"+OK\r\n"
        self.result_of(client.reauthenticate())
        restored = [event for event in self.of(LoginRestored) if event.address == node.address]
        self.assertEqual(len(restored), 1)
        self.assertIn(exclusive, node.connections)

    def test_the_failing_connection_ends(self) -> None:
        """The next connection that logs in ends the failure of one that is gone."""
        client = self.client(refresh_period=None)
        (node,) = (node for node in self.nodes if node.connections)
        self.answers[b"AUTH"] = b"-WRONGPASS wrong\r\n"
        self.current = NEW
        self.error_of(client.reauthenticate(), AuthenticationFailed)
        self.cut(node)
        self.assertEqual(self.of(LoginRestored), [])
        self.get(client, node)
        self.assertEqual(len(self.of(LoginRestored)), 1)

    def test_the_connection_drains(self) -> None:
        """A connection that is being closed does not log in again."""
        self.current = Credentials("app", "old-secret", expires_in=2)
        client = self.client(refresh_period=None)
        node = self.nodes[0]
        self.get(client, node)
        self.answers[b"GET"] = SILENCE
        waiting = client.get(self.key_of(node))
        self.network.settle()
        owner = client._router.factory.nodes[node.address]
        # As if another machine had got the address.
        owner.redial(owner.protocol)
        self.asked.clear()
        self.advance(4.0)
        self.assertNotIn(node.address, self.asked)
        (connection,) = node.connections
        connection.write(b"$1\r\nv\r\n")
        self.assertEqual(self.result_of(waiting), b"v")
        self.leaves_nothing(client, abort=False)

    def test_the_client_closes(self) -> None:
        """While close() waits for a command, connections still log in again."""
        self.current = Credentials("app", "old-secret", expires_in=4)
        client = self.client(refresh_period=None)
        node = self.nodes[0]
        self.get(client, node)
        self.holding = [self.nodes[0]]
        waiting = client.get(self.key_of(node))
        self.network.settle()
        closed = client.close()
        self.advance(3.5)
        self.assertIn((0, 1, "old-secret"), self.again())
        self.release()
        self.network.settle()
        self.successResultOf(waiting)
        self.successResultOf(closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_connection_ends_meanwhile(self) -> None:
        """If a connection ends while the function is asked, what it gave is cancelled.  There is no error."""
        cancelled: list[Any] = []
        client = self.client(refresh_period=None)
        (node,) = (node for node in self.nodes if node.connections)
        self.current = lambda: Deferred(cancelled.append)
        again = client.reauthenticate()
        self.network.settle()
        self.cut(node)
        self.successResultOf(again)
        self.assertEqual(len(cancelled), 1)
        self.assertEqual(self.of(LoginFailed), [])

    def test_a_dial_whose_connection_ends(self) -> None:
        """If a new connection ends while the function is asked, the dial fails at once."""
        client = self.client(refresh_period=None)
        self.cut(self.nodes[1])
        self.current = Deferred
        failed = client.execute_on(self.nodes[1].address, "PING")
        self.network.settle()
        self.cut(self.nodes[1])
        error = self.failureResultOf(failed, ConnectFailed).value
        self.assertIn("ended before the login", str(error))

    def test_closed_while_the_function_is_asked(self) -> None:
        """Neither close() nor abort() waits for the function, or leaves a timer."""
        for abort in (True, False):
            self.current = Credentials("app", "old-secret", expires_in=2)
            client = self.connected(refresh_period=None)
            self.current = Deferred
            again = client.reauthenticate()
            self.network.settle()
            self.leaves_nothing(client, abort=abort)
            self.successResultOf(again)

    def test_closed_while_a_node_is_dialled(self) -> None:
        """The same while a node is dialled."""
        for abort in (True, False):
            self.current = OLD
            client = self.connected(refresh_period=None)
            self.cut(self.nodes[0])
            self.current = Deferred
            self.network.settle()
            waiting = client.execute_on(self.nodes[0].address, "PING")
            self.network.settle()
            ended = client.abort() if abort else client.close()
            # close() waits for the command, which fails when the function has had its time.
            self.advance(0.0 if abort else 2.1)
            self.failureResultOf(waiting)
            self.successResultOf(ended)
            self.assertEqual(self.clock.getDelayedCalls(), [])
            self.assertEqual(self.connections(), 0)

    def test_a_forked_child(self) -> None:
        """A copy of a client in a child process calls the function no more."""
        self.current = Credentials("app", "old-secret", expires_in=10)
        client = self.connected(refresh_period=None)
        client._router.factory.forked()
        self.asked.clear()
        self.clock.advance(100)
        self.assertEqual(self.asked, [])
        self.result_of(client.reauthenticate())
        self.assertEqual(self.asked, [])

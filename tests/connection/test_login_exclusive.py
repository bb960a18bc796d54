"""Connections for blocking commands and for WATCH log in again between their uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed

from tests.connection.login_base import NEW, OLD, LoginTests
from txvalkeycluster import ClusterClient, Credentials
from txvalkeycluster.events import LoginFailed
from txvalkeycluster.testing import SILENCE


class ExclusiveTests(LoginTests):
    """Connections that a caller has for itself; the first node has one of them at most."""

    def setUp(self) -> None:
        super().setUp()
        self.node = self.nodes[0]
        self.key = self.key_of(self.node)

    def connected(self, **options: Any) -> ClusterClient[bytes]:
        return super().connected(max_exclusive=1, refresh_period=None, **options)

    def words(self) -> list[str]:
        """Return the commands of the second connection to the first node; the password of each AUTH."""
        received = [words for connection, words in self.node.received if connection == 2]
        return [words[-1 if words[0] == b"AUTH" else 0].decode() for words in received if words[0] != b"CLIENT"][1:]

    def pops(self, client: ClusterClient[bytes], count: int) -> list[Deferred[Any]]:
        """Return BLPOP commands; the first one is blocked at the first node, and the others wait for it."""
        self.answers[b"BLPOP"] = SILENCE
        waiting = [client.blpop(self.key, timeout=0) for _ in range(count)]
        self.network.settle()
        return waiting

    def push(self) -> None:
        """Answer the BLPOP that is blocked."""
        (connection,) = (each for each in self.node.connections if each.number == 2)
        connection.write(b"*2\r\n$1\r\nk\r\n$1\r\nv\r\n")
        self.network.settle()

    def follows(self, give: Callable[[], Any]) -> None:
        """Check that AUTH comes between the command that is blocked and the next one."""
        client = self.connected()
        first, second, third = self.pops(client, 3)
        self.current = give
        self.result_of(client.reauthenticate())
        self.assertEqual(self.words(), ["BLPOP"])
        self.push()
        self.successResultOf(first)
        self.assertEqual(self.words(), ["BLPOP", "new-secret", "BLPOP"])
        self.push()
        self.successResultOf(second)
        self.assertEqual(self.words(), ["BLPOP", "new-secret", "BLPOP", "BLPOP"])
        # A later AUTH would have been refused after this time, because it is behind a blocked command.
        self.advance(5.0, step=0.5)
        self.assertNoResult(third)
        self.push()
        self.successResultOf(third)
        self.assertEqual((self.of(LoginFailed), self.node.accepted), ([], 2))
        self.leaves_nothing(client, abort=False)

    def test_blocked(self) -> None:
        """A blocked connection logs in when its command has ended, before the next command."""
        self.follows(lambda: NEW)

    def test_blocked_and_credentials_come_later(self) -> None:
        """The same with a function that needs time: it is asked while the command is blocked."""

        def later() -> Deferred[Credentials]:
            result: Deferred[Credentials] = Deferred()
            self.clock.callLater(0.1, result.callback, NEW)
            return result

        self.follows(later)

    def test_no_command_waits_for_the_function(self) -> None:
        """If the function is slow, the next command is sent with the old login, and AUTH follows it."""
        client = self.connected()
        first, second, third = self.pops(client, 3)
        given: Deferred[Any] = Deferred()
        self.current = given
        again = client.reauthenticate()
        self.push()
        self.successResultOf(first)
        self.assertEqual(self.words(), ["BLPOP", "BLPOP"])
        given.callback(NEW)
        self.result_of(again)
        self.assertEqual(self.words(), ["BLPOP", "BLPOP"])
        self.push()
        self.successResultOf(second)
        self.assertEqual(self.words(), ["BLPOP", "BLPOP", "new-secret", "BLPOP"])
        self.assertNoResult(third)
        third.addErrback(lambda _: None)

    def test_given_back_while_the_function_is_asked(self) -> None:
        """A connection that is free when the credentials come logs in at once."""
        client = self.connected()
        self.pops(client, 1)
        given: Deferred[Any] = Deferred()
        self.current = given
        again = client.reauthenticate()
        self.push()
        given.callback(NEW)
        self.result_of(again)
        self.assertEqual(self.words(), ["BLPOP", "new-secret"])

    def test_blocked_for_long(self) -> None:
        """While a connection is blocked, the function is asked again before its credentials expire."""
        client = self.connected()
        self.pops(client, 1)
        passwords = iter(f"secret-{number}" for number in range(100))
        self.current = lambda: Credentials("app", next(passwords), expires_in=10)
        self.result_of(client.reauthenticate())
        asked = len(self.asked)
        self.advance(100.0, step=0.5)
        self.assertGreater(len(self.asked), asked + 10)
        self.assertEqual((self.words(), self.of(LoginFailed)), (["BLPOP"], []))
        self.current = NEW
        self.advance(10.0, step=0.5)
        self.push()
        self.assertEqual(self.words(), ["BLPOP", "new-secret"])
        self.leaves_nothing(client, abort=False)

    def test_kept_credentials_that_are_refused(self) -> None:
        """If kept credentials have become invalid, the function is asked once more.  That is no failed login."""
        client = self.connected()
        first, second, third = self.pops(client, 3)
        self.current = Credentials("app", "between-secret")
        self.accepted = {b"new-secret", b"between-secret"}
        self.result_of(client.reauthenticate())
        self.accepted = {b"new-secret"}
        self.current = NEW
        self.push()
        self.assertEqual(self.words(), ["BLPOP", "between-secret", "BLPOP"])
        self.push()
        self.assertEqual(self.words(), ["BLPOP", "between-secret", "BLPOP", "new-secret", "BLPOP"])
        for each in (first, second):
            self.successResultOf(each)
        self.assertEqual(self.of(LoginFailed), [])
        third.addErrback(lambda _: None)

    def test_newer_credentials(self) -> None:
        """A second reauthenticate() replaces the credentials that were kept."""
        client = self.connected()
        self.pops(client, 1)
        self.current = OLD
        self.result_of(client.reauthenticate())
        self.current = NEW
        self.result_of(client.reauthenticate())
        self.push()
        self.assertEqual(self.words(), ["BLPOP", "new-secret"])

    def test_static_credentials(self) -> None:
        """With static credentials, a connection that was blocked logs in once."""
        client = self.connected(credentials=OLD)
        self.pops(client, 3)
        self.result_of(client.reauthenticate())
        for _ in range(3):
            self.push()
        self.assertEqual(self.words(), ["BLPOP", "old-secret", "BLPOP", "BLPOP"])

    def test_cancelled(self) -> None:
        """The connection of a cancelled command is closed; nothing of its login is left."""
        client = self.connected()
        (blocked,) = self.pops(client, 1)
        self.current = Credentials("app", "new-secret", expires_in=10)
        self.result_of(client.reauthenticate())
        blocked.addErrback(lambda _: None)
        blocked.cancel()
        self.network.settle()
        self.advance(30.0, step=0.5)
        self.assertEqual(self.words(), ["BLPOP"])
        self.leaves_nothing(client, abort=False)

    def test_closed_while_blocked(self) -> None:
        """close() and abort() end a blocked connection that is due to log in."""
        for abort in (False, True):
            self.current = OLD
            client = self.made(max_exclusive=1)
            self.answers[b"BLPOP"] = SILENCE
            blocked = client.blpop(self.key, timeout=0)
            self.network.settle()
            self.current = Credentials("app", "new-secret", expires_in=10)
            self.result_of(client.reauthenticate())
            blocked.addErrback(lambda _: None)
            self.leaves_nothing(client, abort=abort)

    def test_watch_sessions(self) -> None:
        """A session has no AUTH between WATCH and its end; the next session comes after AUTH."""
        client = self.connected()

        async def session(*, during: bool) -> Any:
            async with client.watch(self.key) as watching:
                if during:
                    await client.reauthenticate()
                await watching.get(self.key)
                if during:
                    await client.reauthenticate()
                return await watching.transaction().set(self.key, "v").execute()

        self.current = lambda: succeed(NEW)
        one = Deferred.fromCoroutine(session(during=True))
        other = Deferred.fromCoroutine(session(during=False))
        self.assertEqual((self.result_of(one), self.result_of(other)), ([b"OK"], [b"OK"]))
        each = ["WATCH", "GET", "MULTI", "SET", "EXEC", "UNWATCH"]
        self.assertEqual(self.words(), [*each, "new-secret", *each])
        self.assertEqual((self.node.accepted, self.of(LoginFailed)), (2, []))

    def test_idle(self) -> None:
        """An idle connection logs in at once, and serves the next command after that."""
        client = self.connected()
        self.pops(client, 1)
        self.push()
        self.current = NEW
        again = client.reauthenticate()
        self.pops(client, 1)
        self.result_of(again)
        self.assertEqual(self.words(), ["BLPOP", "new-secret", "BLPOP"])
        self.push()

    def test_idle_and_credentials_come_later(self) -> None:
        """A connection that is used again before the credentials come logs in after that use."""
        client = self.connected()
        self.pops(client, 1)
        self.push()
        given: Deferred[Any] = Deferred()
        self.current = given
        again = client.reauthenticate()
        self.pops(client, 1)
        given.callback(NEW)
        self.result_of(again)
        self.assertEqual(self.words(), ["BLPOP", "BLPOP"])
        self.push()
        self.assertEqual(self.words(), ["BLPOP", "BLPOP", "new-secret"])
        self.assertEqual((self.node.accepted, self.of(LoginFailed)), (2, []))

"""Credentials that change: how connections log in, log in again, and what failing functions do."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure

from tests.pubsub.base import SubscriptionTests
from tests.scripted.base import ask, moved, transactional
from txvalkeycluster import (
    Address,
    AuthenticationFailed,
    ClusterClient,
    CommandTimeout,
    ConnectFailed,
    Credentials,
    Lost,
    Options,
    Resubscribed,
)
from txvalkeycluster.events import LoginFailed, LoginRestored
from txvalkeycluster.testing import CLOSE, DEFAULT_REPLY, SILENCE, ScriptedNode

OLD, NEW = Credentials("app", "old-secret"), Credentials("app", "new-secret")


class LoginTests(SubscriptionTests):
    """Nodes that know passwords, and a function that gives one."""

    def setUp(self) -> None:
        super().setUp()
        #: The passwords that the nodes accept; None: all.
        self.accepted: set[bytes] | None = None
        #: Each login: the node, the number of its connection, the name of the command, the user and the password.
        self.logins: list[tuple[ScriptedNode, int, str, str, str]] = []
        #: Replies in place of the usual ones, by command.
        self.answers: dict[bytes, Any] = {}
        #: The nodes that hold their replies back, and the commands without a reply.
        self.holding: list[ScriptedNode] = []
        self.held: list[tuple[ScriptedNode, list[bytes], Any]] = []
        #: What the function gives, and the nodes that it was called for.
        self.current: Any = OLD
        self.asked: list[Address] = []
        self.events: list[Any] = []
        self.logged_in: set[Any] = set()
        for node in self.nodes:
            node.script = self.script

    def script(self, node: ScriptedNode, words: list[bytes], connection: Any) -> Any:
        name = words[0]
        pair: list[bytes] = []
        if name == b"HELLO":
            pair = words[words.index(b"AUTH") + 1 :][:2] if b"AUTH" in words else []
            connection.resp3 = True
        elif name == b"AUTH":
            pair = words[1:] if len(words) > 2 else [b"default", words[1]]
        if pair:
            user, password = (word.decode() for word in pair)
            self.logins.append((node, connection.number, name.decode(), user, password))
        if node in self.holding:
            self.held.append((node, words, connection))
            return SILENCE
        if name in self.answers:
            answer = self.answers[name]
            return answer(node) if callable(answer) else answer
        if pair and self.accepted is not None and pair[1] not in self.accepted:
            return b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
        if pair:
            self.logged_in.add(connection)
        elif connection not in self.logged_in:
            return b"-NOAUTH Authentication required.\r\n"
        return transactional(node, words, connection)

    def release(self) -> None:
        """Send the replies that were held back."""
        self.holding = []
        held, self.held = self.held, []
        seen = len(self.logins)
        for node, words, connection in held:
            connection.write(node.reply(words, connection))
        # They have been recorded when they came.
        del self.logins[seen:]

    def function(self, address: Address) -> Any:
        """Give the current credentials."""
        self.asked.append(address)
        return self.current() if callable(self.current) else self.current

    def made(self, **options: Any) -> ClusterClient[bytes]:
        """A client with the function, unless ``options`` say otherwise."""
        client = super().made(**{"credentials": self.function, **options})
        client.add_listener(self.events.append)
        return client

    def of(self, kind: type) -> list[Any]:
        """Return the events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def passwords(self, node: ScriptedNode | None = None) -> list[str]:
        """Return the passwords of all logins, or of those at one node."""
        return [password for at, *_, password in self.logins if node in (None, at)]

    def again(self) -> list[tuple[int, int, str]]:
        """Return each login on an open connection: the node, the connection and the password."""
        return [(node.index, number, password) for node, number, name, _, password in self.logins if name == "AUTH"]

    def get(self, client: Any, node: ScriptedNode | None = None) -> Any:
        """Return the result of a GET at a node."""
        return self.result_of(client.get(self.key_of(node or self.nodes[0])))

    def connected(self, **options: Any) -> ClusterClient[bytes]:
        """Return a client that is connected to every node."""
        client = self.client(**options)
        for node in self.nodes:
            self.get(client, node)
        return client

    def cut(self, node: ScriptedNode) -> None:
        """Close the connections of a node, and let the client notice it and wait until it may dial again."""
        self.network.cut(node)
        self.advance(0.1)

    def leaves_nothing(self, client: ClusterClient[bytes], *, abort: bool) -> None:
        """End the client; check that no timer is left and every connection is closed."""
        ended = client.abort() if abort else client.close()
        self.network.settle()
        self.successResultOf(ended)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.connections(), 0)


class FirstLoginTests(LoginTests):
    """The login of a new connection."""

    def test_static_credentials(self) -> None:
        """`Credentials` are used for every connection, as ``username`` and ``password`` are."""
        client = self.connected(credentials=OLD)
        self.assertEqual({login[2:] for login in self.logins}, {("HELLO", "app", "old-secret")})
        self.result_of(client.reauthenticate())
        self.assertEqual(len(self.again()), 3)

    def test_users(self) -> None:
        """None and the empty name both mean the user "default", at the first login and later, with both protocols."""
        for protocol in (2, 3):
            for name in (None, ""):
                self.logins.clear()
                client = self.connected(credentials=Credentials(name, "old-secret"), protocol=protocol)
                self.result_of(client.reauthenticate())
                self.assertEqual({user for *_, user, _ in self.logins}, {"default"})
                client.abort()

    def test_options_that_exclude_each_other(self) -> None:
        """``credentials`` is refused together with ``username`` or ``password``, also with those of a URL."""
        for options in ({"username": "u"}, {"password": "p"}, {"username": "u", "password": "p"}):
            error = self.assertRaises(ValueError, Options, credentials=OLD, **options)
            self.assertIn("together with username and password", str(error))
        for url in ("valkey://u:p@h", "valkey://u@h", "valkey://:p@h"):
            error = self.assertRaises(ValueError, Options.from_url, url, credentials=OLD)
            self.assertIn("together with username and password", str(error))
        error = self.assertRaises(ValueError, Options.from_url, "valkey://h?credentials=verysecret")
        self.assertNotIn("verysecret", str(error))
        for wrong in ("app:pw", ("app", "pw"), 5):
            self.assertRaises(TypeError, Options, credentials=wrong)

    def test_values(self) -> None:
        """Wrong values are refused.  No error repeats a password."""
        wrong: dict[type[Exception], list[Any]] = {
            TypeError: [
                ("u", None), ("u", b"verysecret"), (5, "verysecret"), ("u", "p", "verysecret"), ("u", "p", []),
            ],
            ValueError: [("u", "p", 0), ("u", "p", -1), ("u", "p", float("nan")), ("u", "verysecret\ud800")],
        }  # fmt: skip
        for kind, cases in wrong.items():
            for fields in cases:
                self.assertNotIn("verysecret", str(self.assertRaises(kind, Credentials, *fields)))
        self.assertNotIn("verysecret", repr(Credentials("u", "verysecret", 5)))

    def test_kinds_of_functions(self) -> None:
        """The function gives credentials at once, or as a Deferred or a coroutine.  It gets the address of the node."""

        async def coroutine() -> Credentials:
            await succeed(None)
            return OLD

        def later() -> Deferred[Credentials]:
            result: Deferred[Credentials] = Deferred()
            self.clock.callLater(0.5, result.callback, OLD)
            return result

        for current in (OLD, coroutine, later, lambda: succeed(OLD)):
            self.asked.clear()
            self.current = current
            client = self.connected()
            self.assertEqual(set(self.asked), {node.address for node in self.nodes})
            self.leaves_nothing(client, abort=False)

    def test_refused_once(self) -> None:
        """After a refused login, the function is called once more.  The connection is not replaced."""
        self.accepted = {b"new-secret"}
        answers = iter([OLD, NEW])
        self.current = lambda: next(answers, NEW)
        client = self.connected()
        self.assertEqual(self.passwords()[:2], ["old-secret", "new-secret"])
        self.assertEqual([node.accepted for node in self.nodes], [1, 1, 1])
        self.assertEqual(self.of(LoginFailed), [])
        self.leaves_nothing(client, abort=False)

    def test_refused_twice(self) -> None:
        """The second refusal is the error."""
        answers = iter([Credentials("app", "wrong-one"), Credentials("app", "wrong-two")] * 9)
        self.accepted = {b"old-secret"}
        client = self.client()
        self.current = lambda: next(answers)
        self.cut(self.nodes[1])
        self.logins.clear()
        error = self.error_of(client.execute_on(self.nodes[1].address, "PING"), AuthenticationFailed)
        self.assertEqual(self.passwords(), ["wrong-one", "wrong-two"])
        self.assertIn("node:7001 refused HELLO: WRONGPASS", str(error))

    def test_the_same_password_again(self) -> None:
        """A refused password is not sent twice, also if the function says another time for it."""
        times = iter(range(900, 0, -1))
        self.accepted = {b"old-secret"}
        client = self.client()
        self.current = lambda: Credentials("app", "wrong-one", expires_in=next(times))
        self.cut(self.nodes[1])
        self.logins.clear()
        self.error_of(client.execute_on(self.nodes[1].address, "PING"), AuthenticationFailed)
        self.assertEqual(self.passwords(), ["wrong-one"])

    def test_a_server_that_closes_after_the_refusal(self) -> None:
        """The error is the refusal, not the lost connection."""
        client = self.client()
        passwords = iter(["wrong-one", "wrong-two"] * 9)
        self.current = lambda: Credentials("app", next(passwords))
        refusals = iter([b"-WRONGPASS wrong\r\n", CLOSE] * 9)
        self.cut(self.nodes[1])
        self.answers[b"HELLO"] = lambda node: next(refusals)
        error = self.error_of(client.execute_on(self.nodes[1].address, "PING"), ConnectFailed)
        self.assertIsInstance(error, AuthenticationFailed)
        self.assertIn("WRONGPASS", str(error))

    def test_redirects(self) -> None:
        """Without TLS, the redirect check protects credentials as it protects a password."""
        client = self.client()
        target = Address("evil", 1)
        key = self.key_of(self.nodes[0])
        self.answers[b"GET"] = moved(key, target)
        waiting = client.get(key)
        self.advance(0.5)
        self.assertNotIn(target, [address for _, address in self.network.dials])
        self.assertNotIn(target, self.asked)
        waiting.addErrback(lambda _: None)
        waiting.cancel()


class BadFunctionTests(LoginTests):
    """Functions that raise, hang, or give nonsense."""

    def fails(self, current: Any, *texts: str) -> None:
        """Check that one node fails with a clear error, and the others serve commands."""
        self.current = OLD
        client = self.connected()
        bad, good = self.nodes[1], self.nodes[2]
        self.cut(bad)
        before = len(bad.connections)

        def function(address: Address) -> Any:
            return current() if address == bad.address else OLD

        self.current = lambda: function(self.asked[-1])
        self.cut(good)
        refused = client.execute_on(bad.address, "PING")
        self.get(client, good)
        self.advance(client.options.connect_timeout + 0.1)
        error = self.failureResultOf(refused, AuthenticationFailed).value
        for text in (f"{bad.address}: the function for credentials", *texts):
            self.assertIn(text, str(error))
        self.assertNotIn("secret", str(error))
        self.assertEqual(len(bad.connections), before)
        self.leaves_nothing(client, abort=False)

    def test_raises(self) -> None:
        """An exception of any kind is a failed login that names it, raised at once or later."""

        class Unprintable(Exception):
            def __str__(self) -> str:
                raise ValueError("no text")

        kinds = (ValueError("no file"), SystemExit("no file"), asyncio.CancelledError("no file"), Unprintable())
        for error in kinds:

            def at_once(error: BaseException = error) -> Any:
                raise error

            async def later(error: BaseException = error) -> Any:
                raise error

            for current in (at_once, later, lambda error=error: fail(error)):
                self.fails(current, f"raised {type(error).__name__}")

    def test_cancelled_by_the_application(self) -> None:
        """A Deferred that the application cancelled is no timeout."""
        self.fails(lambda: fail(CancelledError()), "raised CancelledError")

    def test_nonsense(self) -> None:
        """Anything but `Credentials` is a failed login.  The error has its type, not its value."""

        async def empty() -> None:
            return None

        async def generator() -> Any:
            yield OLD

        for current, name in (
            (lambda: None, "NoneType"),
            (empty, "NoneType"),
            (lambda: "secret", "str"),
            (lambda: ("app", "secret"), "tuple"),
            (lambda: {"app": "secret"}, "dict"),
            (lambda: succeed("secret"), "str"),
            (lambda: succeed([OLD]), "list"),
            (generator, "async_generator"),
        ):
            self.fails(current, f"gave {name}, not Credentials")

    def test_asyncio(self) -> None:
        """A future of asyncio cannot be awaited; the error says so."""
        loop = asyncio.new_event_loop()
        self.addCleanup(loop.close)
        self.fails(lambda: loop.create_future(), "raised RuntimeError: await wasn't used with future")

    def test_hangs(self) -> None:
        """The login fails after ``connect_timeout``, and what the function gave is cancelled."""
        cancelled: list[Any] = []
        self.fails(lambda: Deferred(cancelled.append), "gave no result within 2 s (connect_timeout)")
        self.assertTrue(cancelled)

        async def hanging() -> Any:
            try:
                await Deferred()
            finally:
                cancelled.append("coroutine")

        self.fails(hanging, "gave no result within 2 s (connect_timeout)")
        self.assertIn("coroutine", cancelled)

    def test_hangs_and_cannot_be_cancelled(self) -> None:
        """A coroutine that ignores that it is cancelled holds up nothing, not even the end of the client."""

        async def stubborn() -> Any:
            while True:
                with contextlib.suppress(CancelledError):
                    await Deferred()

        self.fails(stubborn, "gave no result within 2 s (connect_timeout)")

    def test_late_result(self) -> None:
        """Credentials that come after the time is over are not used."""
        late: list[Deferred[Any]] = []

        def pending() -> Deferred[Any]:
            late.append(Deferred(lambda _: None))
            return late[-1]

        self.fails(pending)
        self.logins.clear()
        for deferred in late:
            if not deferred.called:
                deferred.callback(NEW)
        self.assertEqual((self.logins, self.clock.getDelayedCalls()), ([], []))

    def test_one_deferred_for_several_logins(self) -> None:
        """Several logins can wait for one Deferred: all get the credentials."""
        shared: Deferred[Any] = Deferred()
        self.current = shared
        client = self.lazy_client()
        waiting = [client.execute_on(node.address, "PING") for node in self.nodes]
        self.network.settle()
        shared.callback(OLD)
        for each in waiting:
            self.result_of(each)
        self.assertEqual(len(self.asked), 3)
        # Those that come later get them too.
        self.cut(self.nodes[0])
        self.get(client)

    def test_one_deferred_that_fails(self) -> None:
        """Each login gets the error, and nothing is logged as an unhandled error."""
        shared: Deferred[Any] = Deferred()
        self.current = shared
        client = self.lazy_client()
        waiting = [client.execute_on(node.address, "PING") for node in self.nodes]
        self.network.settle()
        shared.errback(ValueError("no token"))
        for each in waiting:
            self.assertIn("ValueError: no token", str(self.error_of(each, AuthenticationFailed)))

    def test_one_of_several_gives_up(self) -> None:
        """A Deferred is cancelled only when no login waits for it any more."""
        cancelled: list[Any] = []
        shared: Deferred[Any] = Deferred(cancelled.append)
        client = self.connected()
        self.current = shared
        for node in self.nodes[1:]:
            self.cut(node)
        first = client.execute_on(self.nodes[1].address, "PING")
        self.advance(1.5)
        second = client.execute_on(self.nodes[2].address, "PING")
        self.advance(0.6)
        self.failureResultOf(first, AuthenticationFailed)
        self.assertEqual(cancelled, [])
        shared.callback(OLD)
        self.result_of(second)

    def test_the_function_closes_the_client(self) -> None:
        """A function may call close() or abort(), at the first login or later."""
        for first in (True, False):
            for abort in (True, False):
                client = self.made()
                ended: list[Deferred[None]] = []

                def end(client: Any = client, abort: bool = abort, ended: Any = ended) -> Credentials:
                    ended.append(client.abort() if abort else client.close())
                    return OLD

                if first:
                    self.current = end
                    client.get("key").addErrback(lambda _: None)
                else:
                    self.current = OLD
                    self.result_of(client.get("key"))
                    self.current = end
                    self.result_of(client.reauthenticate())
                self.advance(client.options.close_timeout + 2 * client.options.connect_timeout)
                self.assertTrue(ended)
                for each in ended:
                    self.successResultOf(each)
                self.assertEqual(self.clock.getDelayedCalls(), [])
                self.assertEqual(self.connections(), 0)

    def test_the_function_uses_the_client(self) -> None:
        """A function may use the client for a login again.  At the first login of a node, it waits for itself."""
        client = self.connected()

        async def by_command() -> Credentials:
            await client.get(self.key_of(self.nodes[0]))
            return NEW

        self.current = by_command
        self.result_of(client.reauthenticate())
        self.assertEqual(len(self.again()), 3)
        self.cut(self.nodes[0])
        waiting = client.execute_on(self.nodes[0].address, "PING")
        self.advance(2.1)
        self.assertIn("gave no result", str(self.failureResultOf(waiting, AuthenticationFailed).value))

    def test_the_function_logs_in_again(self) -> None:
        """A function that calls reauthenticate() does not call itself without end in one turn."""
        client = self.connected()
        calls: list[None] = []

        def again() -> Credentials:
            calls.append(None)
            if len(calls) < 10:
                client.reauthenticate().addErrback(lambda _: None)
            return NEW

        self.current = again
        self.result_of(client.reauthenticate())
        self.network.settle()
        self.assertLess(len(calls), 40)


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


class SubscriberTests(LoginTests):
    """Connections with subscriptions."""

    def test_resp3(self) -> None:
        """A connection with subscriptions logs in again without a gap."""
        client = self.client()
        self.subscribed(client.subscribe("a", listener=self.items.append))
        (node,) = (node for node in self.nodes if any(each.subscribed for each in node.connections))
        (connection,) = (each for each in node.connections if each.subscribed)
        self.current = NEW
        again = client.reauthenticate()
        self.publish("a", "1")
        self.result_of(again)
        self.publish("a", "2")
        self.assertIn((node.index, connection.number, "new-secret"), self.again())
        self.assertEqual([item.data for item in self.items], [b"1", b"2"])

    def test_resp2(self) -> None:
        """With RESP2 the connection is replaced, and the subscription reports the gap."""
        client = self.client(protocol=2)
        self.subscribed(client.subscribe("a", listener=self.items.append))
        self.publish("a", "1")
        self.current = NEW
        self.logins.clear()
        self.result_of(client.reauthenticate())
        self.advance(1.0)
        self.publish("a", "2")
        self.assertEqual([type(item) for item in self.items[1:3]], [Lost, Resubscribed])
        self.assertIn("had to be replaced to log in", self.items[1].detail)
        self.assertEqual([item.data for item in self.items[::3]], [b"1", b"2"])
        self.assertEqual(set(self.passwords()), {"new-secret"})

    def test_resp2_and_the_function_fails(self) -> None:
        """With RESP2 the connection is replaced only if there are credentials for the next one."""
        client = self.client(protocol=2)
        self.subscribed(client.subscribe("a", listener=self.items.append))
        self.current = None
        self.error_of(client.reauthenticate(), AuthenticationFailed)
        self.advance(1.0)
        self.publish("a", "1")
        self.assertEqual([item.data for item in self.items], [b"1"])

    def test_while_it_is_dialled(self) -> None:
        """reauthenticate() while the connection is made does not disturb the subscription, with both protocols."""
        for protocol in (2, 3):
            self.items.clear()
            self.current = OLD
            client = self.client(protocol=protocol)
            given: Deferred[Any] = Deferred()
            self.current = given
            subscription = client.subscribe("a", listener=self.items.append)
            self.advance(0.1)
            self.current = NEW
            again = client.reauthenticate()
            given.callback(OLD)
            self.subscribed(subscription)
            self.result_of(again)
            self.advance(2.0)
            self.publish("a", "1")
            self.assertEqual(self.items[-1].data, b"1")
            client.abort()
            self.network.settle()

    def test_not_read(self) -> None:
        """A connection that is not read, because a subscription is slow, logs in when it is read again."""
        client = self.client()
        slow = self.subscribed(client.subscribe("a", max_messages=2, overflow="pause"))
        for number in range(6):
            self.publish("a", str(number))
        (node,) = (node for node in self.nodes if any(each.subscribed for each in node.connections))
        (connection,) = (each for each in node.connections if each.subscribed)
        self.current = NEW
        self.result_of(client.reauthenticate())
        self.advance(6.0)
        self.assertNotIn((node.index, connection.number, "new-secret"), self.again())
        self.assertEqual(self.of(LoginFailed), [])
        for number in range(6):
            self.assertEqual(self.next_item(slow).data, b"%d" % number)
        self.network.settle()
        self.assertIn((node.index, connection.number, "new-secret"), self.again())

    def test_timers(self) -> None:
        """Nothing is left of the logins of connections with subscriptions."""
        for protocol in (2, 3):
            for abort in (False, True):
                self.current = Credentials("app", "old-secret", expires_in=10)
                client = self.client(protocol=protocol)
                self.subscribed(client.subscribe("a", listener=self.items.append))
                self.leaves_nothing(client, abort=abort)


class SecretTests(LoginTests):
    """No text of this package holds a password."""

    def test_texts(self) -> None:
        """Representations, errors, tracebacks, events and the log are without passwords, whatever goes wrong."""
        shown: list[str] = []

        def keep(failure: Failure) -> None:
            error: Any = failure.value
            shown.extend([str(error), repr(error), "".join(traceback.format_exception(error)), failure.getTraceback()])

        def quoting(_: ScriptedNode) -> bytes:
            name, user, password = self.logins[-1][2:]
            return f"-ERR wrong number of arguments for '{name}' {user} {password}\r\n".encode()

        self.current = Credentials("app", "old-secret", expires_in=5)
        with capturedLogs() as logged:
            client = self.connected()
            for current in (NEW, None, "new-secret", ("app", "new-secret"), Deferred, lambda: [NEW]):
                self.current = current
                self.answers[b"AUTH"] = quoting
                client.reauthenticate().addErrback(keep)
                self.advance(3.0, step=0.25)
                self.answers[b"HELLO"] = quoting
                self.cut(self.nodes[0])
                client.execute_on(self.nodes[0].address, "PING").addErrback(keep)
                client.refresh_topology().addErrback(keep)
                self.advance(3.0, step=0.25)
                del self.answers[b"HELLO"]
                for connection in client._router.factory._open:
                    shown += [repr(connection), repr(connection.login)]
                shown += [repr(client), repr(client.options), str(client.options), repr(client.with_options(timeout=1))]
            self.cut(self.nodes[0])
            client.abort()
        shown += map(repr, self.events)
        shown += [f"{formatEvent(event)} {event}" for event in logged]
        self.assertGreater(len(self.of(LoginFailed)), 5)
        self.assertGreater(len(logged), 1)
        for text in shown:
            self.assertNotIn("-secret", text)

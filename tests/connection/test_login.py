"""Credentials: how new connections log in, and that no text holds a password."""

from __future__ import annotations

import traceback
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure

from tests.connection.login_base import NEW, OLD, LoginTests
from tests.scripted.base import moved
from txvalkeycluster import Address, AuthenticationFailed, ConnectFailed, Credentials, Options
from txvalkeycluster.events import LoginFailed
from txvalkeycluster.testing import CLOSE, ScriptedNode


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

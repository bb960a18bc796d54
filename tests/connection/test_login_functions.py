"""Functions for credentials that raise, hang, give nonsense or use the client."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed

from tests.connection.login_base import NEW, OLD, LoginTests
from txvalkeycluster import Address, AuthenticationFailed, Credentials


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

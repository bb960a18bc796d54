"""`ClusterService` in memory, on a clock that only the test moves."""

from __future__ import annotations

import gc
from math import nan
from typing import Any
from weakref import ref

from twisted.application.service import Application, IService, MultiService, Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogEvent, formatEvent

from tests.logs import observe_log
from tests.memory import MemoryTests
from txvalkeycluster import ClientClosed, ClusterClient, ClusterService, ConnectionLost, Credentials
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE, ScriptedNode, Sentinel


class Child(Service):
    """A child that sends a command when it is to stop, and that stops when the test says so."""

    def __init__(self, cluster: ClusterService[bytes]) -> None:
        self.cluster = cluster
        self.running_at_start: object = None
        self.last: Deferred[Any] | None = None
        self.stopped: Deferred[None] = Deferred()

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self.running_at_start = self.cluster.running

    def stopService(self) -> Deferred[None]:
        super().stopService()  # type: ignore[no-untyped-call]
        self.last = self.cluster.client.set("last", "1")
        return self.stopped


def silent(node: ScriptedNode, words: list[bytes], connection: object) -> bytes | Sentinel:
    """Answer no GET and no BLPOP."""
    return SILENCE if words[0] in (b"GET", b"BLPOP") else DEFAULT_REPLY


class ServiceTests(MemoryTests):
    def setUp(self) -> None:
        super().setUp()
        self.events: list[LogEvent] = []
        observe_log(self, self.events.append)

    def service(self, **options: Any) -> ClusterService[bytes]:
        """Return a service that is not started."""
        seeds = ",".join(str(node.address) for node in self.nodes)
        options = {"seeds": seeds, "endpoint_for": self.network.endpoint_for, **options}
        service = ClusterService(self.clock, **options)
        self.addCleanup(lambda: service.client.abort())
        return service

    def ready(self, **options: Any) -> ClusterService[bytes]:
        """Return a service that is ready."""
        service = self.service(**options)
        service.startService()
        self.assertIs(self.result_of(service.whenReady()), service.client)
        return service

    def refuse_all(self) -> None:
        for node in self.nodes:
            self.network.refuse(node)

    def lines(self, namespace: str = "txvalkeycluster.service") -> list[str]:
        return [str(formatEvent(event)) for event in self.events if event["log_namespace"] == namespace]

    # ---- start

    def test_a_cluster_that_is_down(self) -> None:
        """It starts, tries again with growing pauses, and is ready when the cluster is up."""
        self.refuse_all()
        service = self.service()
        service.startService()
        ready = service.whenReady()
        self.advance(60)
        self.assertNoResult(ready)
        self.network.instead.clear()
        self.advance(2)
        self.assertIs(self.successResultOf(ready), service.client)
        # One line when it was down, and one when it came up.
        self.assertEqual(len(self.lines("txvalkeycluster.topology")), 2, self.lines("txvalkeycluster.topology"))

    def test_servers_without_a_slot_map(self) -> None:
        """Servers that refuse to give the slot map are soon asked only once in a second."""
        for node in self.nodes:
            node.script = lambda node, words, _: b"-NOPERM no\r\n" if words[0] == b"CLUSTER" else DEFAULT_REPLY
        service = self.service()
        service.startService()
        ready = service.whenReady()
        self.advance(60)
        self.assertNoResult(ready)
        refreshes = service.client.statistics.refreshes
        self.assertTrue(60 < refreshes < 180, refreshes)
        for node in self.nodes:
            node.script = None
        self.advance(2)
        self.successResultOf(ready)

    def test_a_cluster_that_refuses_the_login(self) -> None:
        """It tries again, also if the function of the credentials fails, and is ready when the login works."""
        calls = 0

        def credentials(address: object) -> Credentials:
            nonlocal calls
            calls += 1
            if calls < 20:
                raise LookupError("no password yet")
            return Credentials(None, "right" if calls > 40 else "wrong")

        def script(node: ScriptedNode, words: list[bytes], connection: object) -> bytes | Sentinel:
            if words[0] == b"HELLO" and b"right" not in words:
                return b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
            return DEFAULT_REPLY

        for node in self.nodes:
            node.script = script
        service = self.service(credentials=credentials)
        service.startService()
        ready = service.whenReady()
        self.advance(60)
        self.assertIs(self.successResultOf(ready), service.client)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_a_command_before_the_start(self) -> None:
        """The client is usable from the beginning."""
        service = self.service()
        self.assertEqual(self.result_of(service.client.set("key", "value")), b"OK")
        service.startService()
        self.assertIs(self.result_of(service.whenReady()), service.client)

    def test_start_twice(self) -> None:
        """A second start does nothing."""
        service = self.ready()
        client = service.client
        service.startService()
        self.assertIs(service.client, client)
        self.assertIs(self.successResultOf(service.whenReady()), client)

    def test_wrong_options(self) -> None:
        """Wrong options are errors when the service is made."""
        for error, options in (
            (TypeError, {"timeuot": 1.0}),
            (TypeError, {"password": b"bytes"}),
            (ValueError, {"seeds": "host:port"}),
            (ValueError, {"seeds": ""}),
            (ValueError, {"timeout": -1.0}),
            (ValueError, {"stop_timeout": -0.1}),
            (ValueError, {"stop_timeout": nan}),
            (TypeError, {"stop_timeout": "10"}),
        ):
            wrong: dict[str, Any] = options
            self.assertRaises(error, self.service, **wrong)
        self.assertRaises(ValueError, ClusterService, self.clock)
        self.assertRaises(TypeError, ClusterService, "valkey://node:7000")

    def test_application(self) -> None:
        """It starts and stops with an application, below a MultiService."""
        application: Any = Application("test")  # type: ignore[no-untyped-call]
        services: Any = MultiService()  # type: ignore[no-untyped-call]
        service = self.service()
        service.setServiceParent(services)  # type: ignore[no-untyped-call]
        services.setServiceParent(application)
        whole: Any = IService(application)
        whole.privilegedStartService()
        whole.startService()
        self.result_of(service.whenReady())
        self.result_of(whole.stopService())
        self.error_of(service.client.get("key"), ClientClosed)

    # ---- whenReady

    def test_when_ready(self) -> None:
        """It waits before the start and while connecting, fires at once when ready, and fails after the stop."""
        service = self.service()
        before = service.whenReady()
        self.network.settle()
        self.assertNoResult(before)
        service.startService()
        during, given_up = service.whenReady(), service.whenReady()
        given_up.cancel()
        self.failureResultOf(given_up, CancelledError)
        forgotten = ref(given_up)
        del given_up
        gc.collect()
        self.assertIsNone(forgotten())
        for ready in (before, during):
            self.assertIs(self.result_of(ready), service.client)
        self.assertIs(self.successResultOf(service.whenReady()), service.client)
        stopped = service.stopService()
        self.failureResultOf(service.whenReady(), ClientClosed)
        self.result_of(stopped)
        self.failureResultOf(service.whenReady(), ClientClosed)

    def test_stopped_by_the_first_waiter(self) -> None:
        """If a waiter stops the service, the next waiter fails."""
        service = self.service()
        stopped: list[Deferred[None]] = []
        service.whenReady().addCallback(lambda _: stopped.append(service.stopService()))
        second = service.whenReady()
        service.startService()
        self.error_of(second, ClientClosed)
        self.result_of(stopped[0])

    def test_restarted_by_the_first_waiter(self) -> None:
        """If a waiter starts the service again, the next waiters get the new client."""
        service = self.service()
        old = service.client
        later: list[Deferred[ClusterClient[bytes]]] = []

        def restart(client: ClusterClient[bytes]) -> None:
            service.stopService()
            service.startService()
            later.append(service.whenReady())

        service.whenReady().addCallback(restart)
        service.startService()
        self.error_of(service.whenReady(), ClientClosed)
        self.assertIs(self.result_of(later[0]), service.client)
        self.assertIsNot(service.client, old)

    # ---- stop

    def test_stop_while_it_connects(self) -> None:
        """It stops at once, and waiters fail.  Nothing is left that runs, and nothing is logged as an error."""
        for node in self.nodes:
            self.network.instead[node.address] = Deferred
        service = self.service()
        service.startService()
        ready = service.whenReady()
        self.advance(0.1)
        self.result_of(service.stopService())
        self.failureResultOf(ready, ClientClosed)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        # A Deferred that nobody has handled logs its error when it is collected.
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_stop_between_attempts(self) -> None:
        """It stops at once while it waits for the next attempt."""
        self.refuse_all()
        service = self.service(backoff_min=1.0)
        service.startService()
        self.advance(10)
        stopped = service.stopService()
        self.network.settle()
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_with_commands_that_wait(self) -> None:
        """Commands that wait for a cluster that is down fail after ``stop_timeout``."""
        self.refuse_all()
        service = self.service(timeout=None)
        service.startService()
        self.advance(10)
        command = service.client.get("key")
        stopped = service.stopService()
        self.advance(9.9)
        self.assertNoResult(stopped)
        self.advance(0.2)
        self.successResultOf(stopped)
        self.failureResultOf(command, ClientClosed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_without_start(self) -> None:
        """It stops, closes the first client, and can be started then."""
        service = self.service()
        first = service.client
        self.result_of(service.stopService())
        self.error_of(first.get("key"), ClientClosed)
        service.startService()
        self.assertIs(self.result_of(service.whenReady()), service.client)
        self.assertIsNot(service.client, first)

    def test_commands_end_first(self) -> None:
        """Commands that are under way get their replies, and only then is the client closed."""
        service = self.ready()
        node = self.nodes[0]
        node.script = silent
        command = service.client.get(self.key_of(node))
        self.network.settle()
        stopped = service.stopService()
        self.advance(5)
        self.assertNoResult(stopped)
        node.connections[-1].write(b"$2\r\nhi\r\n")
        self.assertEqual(self.result_of(command), b"hi")
        self.result_of(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.lines(), [])

    def test_stop_timeout(self) -> None:
        """After ``stop_timeout``, commands that have not ended fail, and the service has stopped."""
        service = self.ready(stop_timeout=3.0, timeout=None, unresponsive_after=1000.0)
        keys = [self.key_of(node, number) for node in self.nodes for number in range(5)]
        for node in self.nodes:
            node.script = silent
        commands: list[Deferred[Any]] = [service.client.blpop(key, 0) for key in keys]
        self.network.settle()
        for node in self.nodes:
            node.script = lambda *_: SILENCE
        commands += [service.client.get(key) for key in keys]
        self.network.settle()
        stopped = service.stopService()
        self.advance(2.99)
        self.assertNoResult(stopped)
        self.advance(0.02)
        self.successResultOf(stopped)
        for command in commands:
            self.failureResultOf(command, ClientClosed, ConnectionLost)
        (line,) = self.lines()
        self.assertRegex(
            line, r"within 3 s, .* (1[5-9]|[2-4][0-9]) commands wait, and the child services have stopped$"
        )
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_time_to_stop(self) -> None:
        """With ``stop_timeout=0``, commands fail at once."""
        service = self.ready(stop_timeout=0)
        self.nodes[0].script = silent
        command = service.client.get(self.key_of(self.nodes[0]))
        stopped = service.stopService()
        self.network.settle()
        self.failureResultOf(command, ClientClosed)
        self.successResultOf(stopped)

    def test_stop_twice(self) -> None:
        """A second stop waits for the same end."""
        service = self.ready()
        node = self.nodes[0]
        node.script = silent
        command = service.client.get(self.key_of(node))
        self.network.settle()
        both = [service.stopService(), service.stopService()]
        self.advance(1)
        for stopped in both:
            self.assertNoResult(stopped)
        node.connections[-1].write(b"$2\r\nhi\r\n")
        for stopped in both:
            self.result_of(stopped)
        self.assertEqual(self.result_of(command), b"hi")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    # ---- children

    def test_children(self) -> None:
        """Children start after the service, and the client is open until they have stopped."""
        service = self.service()
        child = Child(service)
        child.setServiceParent(service)  # type: ignore[no-untyped-call]
        service.startService()
        self.assertTrue(child.running_at_start)
        self.result_of(service.whenReady())
        stopped = service.stopService()
        assert child.last is not None
        self.assertEqual(self.result_of(child.last), b"OK")
        self.advance(5)
        self.assertNoResult(stopped)
        self.assertEqual(self.result_of(service.client.set("later", "1")), b"OK")
        child.stopped.callback(None)
        self.result_of(stopped)
        self.error_of(service.client.set("later", "1"), ClientClosed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_child_that_does_not_stop(self) -> None:
        """After ``stop_timeout`` the client is aborted, and the service has stopped without the child."""
        service = self.ready()
        child = Child(service)
        child.setServiceParent(service)  # type: ignore[no-untyped-call]
        stopped = service.stopService()
        self.advance(9.9)
        self.assertNoResult(stopped)
        self.advance(0.2)
        self.successResultOf(stopped)
        (line,) = self.lines()
        self.assertIn("0 commands wait, and the child services have not stopped", line)
        self.error_of(service.client.get("key"), ClientClosed)
        child.stopped.callback(None)

    def test_a_child_that_fails_to_stop(self) -> None:
        """The client is closed nevertheless."""
        service = self.ready()
        child = Child(service)
        child.setServiceParent(service)  # type: ignore[no-untyped-call]
        stopped = service.stopService()
        child.stopped.errback(ArithmeticError("does not stop"))
        self.result_of(stopped)
        self.failureResultOf(child.stopped, ArithmeticError)
        self.error_of(service.client.get("key"), ClientClosed)

    # ---- restart

    def test_restart(self) -> None:
        """A service that is started again has a new client, and connects again."""
        service = self.ready()
        clients: list[ClusterClient[bytes]] = []
        for _ in range(3):
            clients.append(service.client)
            self.result_of(service.stopService())
            service.startService()
            ready = service.whenReady()
            self.assertNoResult(ready)
            self.assertIs(self.result_of(ready), service.client)
            self.assertEqual(self.result_of(service.client.set("key", "value")), b"OK")
        self.assertEqual(len({id(client) for client in [*clients, service.client]}), 4)
        for client in clients:
            self.error_of(client.get("key"), ClientClosed)

    def test_restart_before_the_end(self) -> None:
        """The old client drains while the new one works; the limit of the old one does not touch the new one."""
        service = self.ready(stop_timeout=3.0)
        old, node = service.client, self.nodes[0]
        node.script = silent
        command = old.get(self.key_of(node))
        self.network.settle()
        stopped = service.stopService()
        service.startService()
        self.assertIs(self.result_of(service.whenReady()), service.client)
        self.assertEqual(self.result_of(service.client.set("key", "value")), b"OK")
        self.advance(4)
        self.successResultOf(stopped)
        self.failureResultOf(command, ClientClosed)
        self.assertEqual(self.result_of(service.client.set("key", "value")), b"OK")

    def test_repr(self) -> None:
        """The text says the state, and holds no password."""
        service = self.service(password="secretword")
        texts = [repr(service)]
        service.startService()
        texts.append(repr(service))
        self.result_of(service.whenReady())
        texts.append(repr(service))
        self.result_of(service.stopService())
        texts.append(repr(service))
        states = [text.split()[1] for text in texts]
        self.assertEqual(states, ["stopped", "connecting", "ready", "stopped"])
        self.assertNotIn("secretword", "".join(texts))

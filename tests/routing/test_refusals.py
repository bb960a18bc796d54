"""Commands that are refused fail in a later turn of the reactor, so that a caller's retry loop cannot block it."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from tests.memory import MemoryTests
from txvalkeycluster import ClientClosed, ClusterClient, PartialFailure, RoutingError, TooManyPending, ValkeyError
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE


class RefusalTests(MemoryTests):
    def refused(self, call: Callable[[], Deferred[Any]], kind: type[Exception]) -> None:
        """Check that a call fails, and only after it has returned."""
        refused = call()
        self.assertNoResult(refused)
        self.clock.advance(0)
        self.failureResultOf(refused, kind)

    def test_a_closed_client(self) -> None:
        client = self.client()
        key = self.key_of(self.nodes[0])
        session = self.result_of(Deferred.fromCoroutine(client.watch(key).__aenter__()))
        self.result_of(client.close())

        async def first_key() -> bytes:
            return await anext(client.scan_iter())

        calls: list[Callable[[], Deferred[Any]]] = [
            lambda: client.get(key),
            lambda: client.mget(key, self.key_of(self.nodes[1])),
            lambda: client.blpop(key, 0),
            lambda: client.dbsize(),
            lambda: client.wait(1, 0),
            lambda: client.execute_on(client.topology.nodes[0], "PING"),
            lambda: client.pipeline().get(key).execute(),
            lambda: client.pipeline().stream([("GET", key)], print),
            lambda: client.transaction().get(key).execute(),
            lambda: session.get(key),
            lambda: session.transaction().get(key).execute(),
            lambda: Deferred.fromCoroutine(client.watch(key).__aenter__()),
            lambda: client.refresh_topology(),
            lambda: client.script("return 1")(),
            lambda: Deferred.fromCoroutine(first_key()),
        ]
        for call in calls:
            self.refused(call, ClientClosed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_full_queue(self) -> None:
        client = self.client(max_pending=3)
        node = self.nodes[0]
        key = self.key_of(node)
        node.script = lambda node, words, _: SILENCE if words[0] == b"GET" else DEFAULT_REPLY
        for _ in range(3):
            client.get(key).addErrback(lambda _: None)
        self.network.settle()
        self.refused(lambda: client.get(key), TooManyPending)
        self.refused(lambda: client.mget(key, self.key_of(node, 1)), PartialFailure)
        self.refused(lambda: client.transaction().get(key).execute(), TooManyPending)

    def test_a_wrong_call(self) -> None:
        client = self.client()
        calls: list[tuple[Callable[[], Deferred[Any]], type[Exception]]] = [
            (lambda: client.execute(), TypeError),
            (lambda: client.execute([]), TypeError),  # type: ignore[arg-type]
            (lambda: client.execute("GET", None), TypeError),  # type: ignore[arg-type]
            (lambda: client.execute("SUBSCRIBE", "c"), RoutingError),
            (lambda: client.execute("MGET"), RoutingError),
            (lambda: client.execute_on(client.topology.nodes[0]), TypeError),
            (lambda: client.execute_on(client.topology.nodes[0], "MULTI"), RoutingError),
        ]
        for call, kind in calls[:4] + calls[5:]:
            self.refused(call, kind)

    def test_a_node_that_refuses_multi(self) -> None:
        client = self.client()
        key = self.key_of(self.nodes[0])
        self.nodes[0].script = lambda node, words, _: b"-NOPERM no\r\n" if words[0] == b"MULTI" else DEFAULT_REPLY
        self.error_of(client.transaction().get(key).execute(), ValkeyError)
        self.refused(lambda: client.transaction().get(key).execute(), ValkeyError)

    def test_cancelled_before_the_failure(self) -> None:
        client = self.client()
        self.result_of(client.close())
        for call in (lambda: client.get("k"), lambda: client.transaction().get("k").execute()):
            refused = call()
            refused.cancel()
            self.failureResultOf(refused, CancelledError)
            self.clock.advance(0)

    def test_no_reference_cycles(self) -> None:
        client = self.client()
        self.result_of(client.close())
        self.refuse(client)
        # The garbage of other tests may need several rounds.
        while gc.collect():
            pass
        gc.disable()
        self.addCleanup(gc.enable)
        for _ in range(100):
            self.refuse(client)
        self.assertLess(gc.collect(), 100)

    def refuse(self, client: ClusterClient[bytes]) -> None:
        client.get("k").addErrback(lambda _: None)
        client.pipeline().get("k").execute().addErrback(lambda _: None)
        self.clock.advance(0)


class UnexpectedErrorTests(MemoryTests):
    """An unexpected error in the client's own code ends the command that it concerns."""

    def setUp(self) -> None:
        super().setUp()
        self.node = self.nodes[0]
        self.key = self.key_of(self.node)

    def raising(self, where: str) -> None:
        """Replace a function by one that raises."""

        def fail(*_: Any, **__: Any) -> None:
            raise RuntimeError("injected")

        module, _, name = where.rpartition(".")
        holder: Any = __import__(f"txvalkeycluster.{module.split(':')[0]}", fromlist=["x"])
        for part in module.split(":")[1:]:
            holder = getattr(holder, part)
        self.patch(holder, name, fail)

    def answer_get(self, reply: Any) -> None:
        self.node.script = lambda node, words, _: reply if words[0] == b"GET" else DEFAULT_REPLY

    def test_after_an_error_reply(self) -> None:
        for where, reply in (
            ("routing.recovery.decide_on_reply", b"-MOVED 1 node:7001\r\n"),
            ("routing.recovery:Recovery._carry_out", b"-TRYAGAIN x\r\n"),
            ("routing.recovery:Recovery._redirected", b"-ASK 1 node:7001\r\n"),
            ("routing.recovery:Recovery._wait", b"-LOADING x\r\n"),
            ("routing.slot_map:SlotMap.destination_of", b"-MOVED 1 node:7000\r\n"),
            ("connection.node:NodeConnection.ask", b"-ASK 1 node:7001\r\n"),
        ):
            client = self.client()
            self.answer_get(reply)
            getting, other = client.get(self.key), client.set(self.key, "v")
            self.raising(where)
            self.assertEqual(str(self.error_of(getting, RuntimeError)), "injected")
            self.assertTrue(self.result_of(other))
            self._undo_patches()
            self.result_of(client.abort())

    def _undo_patches(self) -> None:
        for cleanup in reversed(self._cleanups):
            cleanup[0](*cleanup[1], **cleanup[2])
        self._cleanups.clear()

    def test_after_a_lost_connection(self) -> None:
        for where in ("routing.recovery.decide_on_loss", "routing.slot_map:SlotMap.destination_of"):
            client = self.client()
            self.answer_get(SILENCE)
            getting = [client.get(self.key) for _ in range(3)]
            self.network.settle()
            self.raising(where)
            self.network.cut(self.node)
            for deferred in getting:
                self.error_of(deferred, Exception)
            self._undo_patches()
            self.result_of(client.abort())

    def test_when_a_connection_is_ready(self) -> None:
        client = self.client()
        self.network.cut(self.node)
        self.network.settle()
        waiting = [client.get(self.key) for _ in range(3)]
        self.raising("connection.node:NodeConnection._give_waiting")
        for deferred in waiting:
            self.error_of(deferred, Exception)

    def test_at_a_retry(self) -> None:
        client = self.client()
        self.answer_get(b"-LOADING x\r\n")
        waiting = [client.get(self.key) for _ in range(3)]
        self.network.settle()
        self.raising("routing.slot_map:SlotMap.destination_of")
        for deferred in waiting:
            self.assertEqual(str(self.error_of(deferred, RuntimeError)), "injected")

    def test_when_an_exclusive_connection_is_lent(self) -> None:
        client = self.client()
        self.raising("connection.exclusive_pool:Lease.carry")
        self.error_of(client.blpop(self.key, 0), RuntimeError)

    def test_a_redirect_with_thousands_of_digits(self) -> None:
        client = self.client()
        for reply in (
            b"-MOVED %b node:7001\r\n",
            b"-MOVED 1 node:%b\r\n",
            b"-ASK %b node:7001\r\n",
            b"-ASK 1 node:%b\r\n",
        ):
            self.answer_get(reply % (b"9" * 5000))
            self.error_of(client.get(self.key), ValkeyError)

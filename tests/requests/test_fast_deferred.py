"""``FastDeferred`` behaves like ``Deferred``: the same operations have the same effects on both."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec, module_from_spec
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import defer
from twisted.internet.defer import (
    AlreadyCalledError,
    CancelledError,
    Deferred,
    inlineCallbacks,
    returnValue,
    setDebugging,
)
from twisted.python.failure import Failure

from tests.cases import SynchronousTestCase
from txvalkeycluster import acceleration
from txvalkeycluster.requests.fast_deferred import DIRECT, FastDeferred, PythonFastDeferred

Make = Callable[..., Deferred[Any]]


class Broken(Exception):
    """The error that callbacks raise."""


class Trace:
    """Applies operations to one Deferred and records their effects."""

    def __init__(self, make: Make, canceller: Any = None) -> None:
        self.subject = make(canceller)
        self.effects: list[Any] = []
        self.number = 0

    def note(self, *words: Any) -> None:
        self.effects.append(tuple(w.value.__class__ if isinstance(w, Failure) else w for w in words))

    # ---- the operations

    def await_(self) -> None:
        number = self._next()

        async def waiter() -> None:
            try:
                self.note(number, "awaited", await self.subject)
                # Await again, and add a callback, while the coroutine is being resumed.
                self.subject.addBoth(lambda result: self.note(number, "then", result))
                self.note(number, "again", await self.subject)
            except Exception as error:
                self.note(number, "raised", error.__class__)

        Deferred.fromCoroutine(waiter())

    def await_and_break(self) -> None:
        async def waiter() -> None:
            self.note("to break", await self.subject)
            raise Broken

        Deferred.fromCoroutine(waiter()).addErrback(lambda failure: self.note("broke", failure))

    def yield_(self) -> None:
        number = self._next()

        @inlineCallbacks
        def waiter() -> Any:
            try:
                self.note(number, "yielded", (yield self.subject))
            except Exception as error:
                self.note(number, "raised", error.__class__)

        waiter()

    def yield_and_return(self) -> None:
        @inlineCallbacks
        def waiter() -> Any:
            yield self.subject
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                returnValue("returned")

        waiter().addBoth(lambda result: self.note("to return", result))

    def await_another(self) -> None:
        number = self._next()

        async def inner() -> str:
            return "inner"

        async def waiter() -> None:
            try:
                await self.subject
                self.note(number, await Deferred.fromCoroutine(inner()))
                other = Deferred[str]()
                Deferred.fromCoroutine(inner()).addCallback(other.callback)
                self.note(number, await other)
            except Exception as error:
                self.note(number, "raised", error.__class__)

        Deferred.fromCoroutine(waiter())

    def await_and_cancel(self) -> None:
        number = self._next()

        async def waiter() -> None:
            try:
                self.note(number, "awaited", await self.subject)
            except CancelledError:
                self.note(number, "cancelled")

        waiting = Deferred.fromCoroutine(waiter())
        waiting.addErrback(lambda failure: self.note(number, "failed", failure))
        waiting.cancel()

    def add_callback(self) -> None:
        number = self._next()
        self.subject.addCallback(lambda result: self._noted(number, "callback", result))

    def add_raising(self) -> None:
        def broken(_: Any) -> None:
            raise Broken

        self.subject.addCallback(broken)

    def add_errback(self) -> None:
        number = self._next()
        self.subject.addErrback(lambda failure: self._noted(number, "errback", failure))

    def add_both(self) -> None:
        number = self._next()
        self.subject.addBoth(lambda result, word: self._noted(number, word, result), "both")

    def add_waiting(self) -> None:
        number, waited_for = self._next(), Deferred[Any]()
        self.subject.addCallback(lambda _: waited_for)
        self.subject.addCallback(lambda result: self._noted(number, "after another", result))
        waited_for.callback("another's")

    def chain(self) -> None:
        number, other = self._next(), Deferred[Any]()
        other.addCallback(lambda _: self.subject)
        other.addBoth(lambda result: self.note(number, "chained", result))
        other.callback(None)

    def pause(self) -> None:
        self.subject.pause()

    def unpause(self) -> None:
        if self.subject.paused:
            self.subject.unpause()

    def callback(self) -> None:
        self._fire(lambda: self.subject.callback("reply"))

    def callback_none(self) -> None:
        self._fire(lambda: self.subject.callback(None))

    def errback(self) -> None:
        self._fire(lambda: self.subject.errback(Broken()))

    def cancel(self) -> None:
        self._fire(self.subject.cancel)

    def _next(self) -> int:
        self.number += 1
        return self.number

    def _noted(self, number: int, word: str, result: Any) -> int:
        self.note(number, word, result)
        return number

    def _fire(self, how: Callable[[], None]) -> None:
        try:
            how()
            self.note("fired")
        except AlreadyCalledError as error:
            # In debug mode the error says where the Deferred was fired before.
            self.note("already called", "Invoker" in str(error))

    def end(self) -> list[Any]:
        """Return all effects and the final state."""
        while self.subject.paused and self.subject._chainedTo is None:
            self.subject.unpause()
        result = getattr(self.subject, "result", "none yet")
        self.note(bool(self.subject.called), result, self.subject._canceller)
        self.subject.addErrback(lambda _: None)
        return self.effects


OPERATIONS = [name for name in vars(Trace) if not name.startswith("_") and name not in ("note", "end")]


def effects_of(make: Make, operations: list[str], canceller: Any = None) -> list[Any]:
    trace = Trace(make, canceller)
    for operation in operations:
        getattr(trace, operation)()
    return trace.end()


def no_canceller(_: Any) -> None:
    """Leave the result to ``Deferred.cancel``."""


#: The version in C, if there is an extension, and the version in Python.
KINDS: list[type[Deferred[Any]]] = [FastDeferred, PythonFastDeferred]


class SameTests(SynchronousTestCase):
    @given(
        st.lists(st.sampled_from(OPERATIONS), max_size=8), st.sampled_from([None, no_canceller]), st.sampled_from(KINDS)
    )
    def test_any_operations(self, operations: list[str], canceller: Any, kind: Make) -> None:
        self.assertEqual(effects_of(kind, operations, canceller), effects_of(Deferred, operations, canceller))

    @given(st.lists(st.sampled_from(OPERATIONS), max_size=5), st.sampled_from(KINDS))
    def test_any_operations_in_debug_mode(self, operations: list[str], kind: Make) -> None:
        operations = [*operations, "callback"]
        setDebugging(True)
        try:
            self.assertEqual(effects_of(kind, operations), effects_of(Deferred, operations))
        finally:
            setDebugging(False)

    def test_all_pairs_of_waiters(self) -> None:
        """Coroutines, generators and callbacks have the same effects, in pairs, before and after the result."""
        waits = [operation for operation in OPERATIONS if operation.startswith(("await", "yield", "add", "chain"))]
        self.assertGreater(len(waits), 8)
        for end in ("callback", "callback_none", "errback", "cancel"):
            for first in waits:
                for second in waits:
                    for operations in (
                        [first, second, end, end],
                        [first, end, second],
                        [end, first, second],
                        [first, "pause", end, second, "unpause"],
                    ):
                        expected = effects_of(Deferred, operations)
                        for kind in KINDS:
                            self.assertEqual(effects_of(kind, operations), expected, operations)

    def test_a_coroutine_is_resumed_directly(self) -> None:
        """Where Twisted allows it, no callback is added for a coroutine that awaits."""
        for kind in KINDS:
            deferred: Deferred[str] = kind()

            async def waiter(deferred: Deferred[str] = deferred) -> str:
                return await deferred

            done = Deferred.fromCoroutine(waiter())
            if DIRECT:
                self.assertEqual(deferred._callbacks, [])
            deferred.callback("reply")
            self.assertEqual(self.successResultOf(done), "reply")

    def test_the_deferred_of_a_coroutine_keeps_every_error(self) -> None:
        """Even KeyboardInterrupt ends in the Deferred of the coroutine, as with ``Deferred``."""
        kinds: list[Make] = [*KINDS, Deferred]
        for make in kinds:
            deferred: Deferred[None] = make()

            async def waiter(deferred: Deferred[None] = deferred) -> None:
                await deferred
                raise KeyboardInterrupt

            done = Deferred.fromCoroutine(waiter())
            deferred.callback(None)
            self.failureResultOf(done, KeyboardInterrupt)
            self.assertIsNone(deferred.result)


class OtherTwistedTests(SynchronousTestCase):
    """If Twisted resumes coroutines in another way, ``FastDeferred`` only inherits from ``Deferred``."""

    def loaded(self) -> Any:
        """Import the module again, with Twisted as it is patched."""
        for name in ("fast", "why_not"):
            self.patch(acceleration, name, getattr(acceleration, name))
        spec = find_spec("txvalkeycluster.requests.fast_deferred")
        assert spec is not None and spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def check_general(self) -> None:
        module = self.loaded()
        self.assertFalse(module.DIRECT)
        self.assertIsNone(module.fast)
        for name in ("addBoth", "callback", "errback", "__iter__", "__await__"):
            self.assertNotIn(name, vars(module.FastDeferred))

        async def wait(deferred: Deferred[Any]) -> Any:
            return await deferred

        deferred = module.FastDeferred()
        done = Deferred.fromCoroutine(wait(deferred))
        deferred.callback(5)
        self.assertEqual(self.successResultOf(done), 5)

    def test_unpatched_twisted(self) -> None:
        self.assertEqual(self.loaded().DIRECT, DIRECT)

    def test_a_missing_function(self) -> None:
        for name in ("_inlineCallbacks", "_gotResultInlineCallbacks"):
            original = getattr(defer, name)
            delattr(defer, name)
            try:
                module = self.loaded()
            finally:
                setattr(defer, name, original)
            self.assertFalse(module.DIRECT)

    def test_a_function_with_other_arguments(self) -> None:
        resume = defer._inlineCallbacks

        def other(result: Any, gen: Any, status: Any, context: Any, more: int = 0) -> Any:
            return resume(result, gen, status, context)

        self.patch(defer, "_inlineCallbacks", other)
        self.check_general()

    def test_a_function_with_another_effect(self) -> None:
        """The function does nothing, or raises."""

        def nothing(result: Any, gen: Any, status: Any, context: Any) -> None:
            """Do nothing, with the arguments of Twisted's function."""

        def raises(result: Any, gen: Any, status: Any, context: Any) -> None:
            raise Broken

        for function in (nothing, raises):
            module = self.with_resume(function)
            self.assertFalse(module.DIRECT)

    def with_resume(self, function: Any) -> Any:
        original = defer._inlineCallbacks
        defer._inlineCallbacks = function
        try:
            return self.loaded()
        finally:
            defer._inlineCallbacks = original

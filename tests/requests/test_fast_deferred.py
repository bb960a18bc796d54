"""FastDeferred against Deferred: whatever is done to both, the same is seen."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec, module_from_spec
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import defer
from twisted.internet.defer import AlreadyCalledError, CancelledError, Deferred, inlineCallbacks, setDebugging
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from txvalkeycluster.requests.fast_deferred import DIRECT, FastDeferred

Make = Callable[..., Deferred[Any]]


class Broken(Exception):
    """What callbacks raise here."""


class Story:
    """Does things to one Deferred and writes down what comes of them."""

    def __init__(self, make: Make, canceller: Any = None) -> None:
        self.subject = make(canceller)
        self.told: list[Any] = []
        self.number = 0

    def tell(self, *words: Any) -> None:
        self.told.append(tuple(w.value.__class__ if isinstance(w, Failure) else w for w in words))

    # ---- what can be done

    def await_(self) -> None:
        number = self._next()

        async def waiter() -> None:
            try:
                self.tell(number, "awaited", await self.subject)
                # A second time, and another callback, while the first is being resumed.
                self.subject.addBoth(lambda result: self.tell(number, "then", result))
                self.tell(number, "again", await self.subject)
            except Exception as error:
                self.tell(number, "raised", error.__class__)

        Deferred.fromCoroutine(waiter())

    def await_and_break(self) -> None:
        async def waiter() -> None:
            self.tell("to break", await self.subject)
            raise Broken

        Deferred.fromCoroutine(waiter()).addErrback(lambda failure: self.tell("broke", failure))

    def yield_(self) -> None:
        number = self._next()

        @inlineCallbacks
        def waiter() -> Any:
            try:
                self.tell(number, "yielded", (yield self.subject))
            except Exception as error:
                self.tell(number, "raised", error.__class__)

        waiter()

    def await_and_cancel(self) -> None:
        number = self._next()

        async def waiter() -> None:
            try:
                self.tell(number, "awaited", await self.subject)
            except CancelledError:
                self.tell(number, "cancelled")

        waiting = Deferred.fromCoroutine(waiter())
        waiting.addErrback(lambda failure: self.tell(number, "failed", failure))
        waiting.cancel()

    def add_callback(self) -> None:
        number = self._next()
        self.subject.addCallback(lambda result: self.tell(number, "callback", result) or number)

    def add_raising(self) -> None:
        def broken(_: Any) -> None:
            raise Broken

        self.subject.addCallback(broken)

    def add_errback(self) -> None:
        number = self._next()
        self.subject.addErrback(lambda failure: self.tell(number, "errback", failure) or number)

    def add_both(self) -> None:
        number = self._next()
        self.subject.addBoth(lambda result, word: self.tell(number, word, result) or number, "both")

    def add_waiting(self) -> None:
        number, waited_for = self._next(), Deferred[Any]()
        self.subject.addCallback(lambda _: waited_for)
        self.subject.addCallback(lambda result: self.tell(number, "after another", result) or number)
        waited_for.callback("another's")

    def chain(self) -> None:
        number, other = self._next(), Deferred[Any]()
        other.addCallback(lambda _: self.subject)
        other.addBoth(lambda result: self.tell(number, "chained", result))
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

    def _fire(self, how: Callable[[], None]) -> None:
        try:
            how()
            self.tell("fired")
        except AlreadyCalledError as error:
            # While debugging it says who did it.
            self.tell("already called", "Invoker" in str(error))

    def end(self) -> list[Any]:
        """Everything that was seen, and the state at the end."""
        while self.subject.paused and self.subject._chainedTo is None:
            self.subject.unpause()
        result = getattr(self.subject, "result", "none yet")
        self.tell(bool(self.subject.called), result, "_canceller" in vars(self.subject) and self.subject._canceller)
        self.subject.addErrback(lambda _: None)
        return self.told


DEEDS = [name for name in vars(Story) if not name.startswith("_") and name not in ("tell", "end")]


def tell(make: Make, deeds: list[str], canceller: Any = None) -> list[Any]:
    story = Story(make, canceller)
    for deed in deeds:
        getattr(story, deed)()
    return story.end()


def no_canceller(_: Any) -> None:
    """Leaves it to Deferred.cancel to end it."""


class SameTests(SynchronousTestCase):
    @given(st.lists(st.sampled_from(DEEDS), max_size=8), st.sampled_from([None, no_canceller]))
    def test_whatever_is_done(self, deeds: list[str], canceller: Any) -> None:
        self.assertEqual(tell(FastDeferred, deeds, canceller), tell(Deferred, deeds, canceller))

    @given(st.lists(st.sampled_from(DEEDS), max_size=5))
    def test_while_debugging(self, deeds: list[str]) -> None:
        deeds = [*deeds, "callback"]
        setDebugging(True)
        try:
            self.assertEqual(tell(FastDeferred, deeds), tell(Deferred, deeds))
        finally:
            setDebugging(False)

    def test_the_deeds(self) -> None:
        """Coroutines, generators and callbacks, in every order of two, before and after the end."""
        waits = [deed for deed in DEEDS if deed.startswith(("await", "yield", "add", "chain"))]
        self.assertGreater(len(waits), 8)
        for end in ("callback", "callback_none", "errback", "cancel"):
            for first in waits:
                for second in waits:
                    for deeds in (
                        [first, second, end, end],
                        [first, end, second],
                        [end, first, second],
                        [first, "pause", end, second, "unpause"],
                    ):
                        self.assertEqual(tell(FastDeferred, deeds), tell(Deferred, deeds), deeds)

    def test_a_coroutine_is_resumed_directly(self) -> None:
        """Nothing is added to the list for it, where that is known to be right."""
        deferred: FastDeferred[str] = FastDeferred()

        async def waiter() -> str:
            return await deferred

        done = Deferred.fromCoroutine(waiter())
        if DIRECT:
            self.assertEqual(deferred._callbacks, [])
        deferred.callback("reply")
        self.assertEqual(self.successResultOf(done), "reply")

    def test_what_comes_through_coroutines_is_kept(self) -> None:
        """Even KeyboardInterrupt ends in the Deferred of the coroutine, as with Deferred."""
        for make in (FastDeferred, Deferred):
            deferred: Deferred[None] = make()

            async def waiter(deferred: Deferred[None] = deferred) -> None:
                await deferred
                raise KeyboardInterrupt

            done = Deferred.fromCoroutine(waiter())
            deferred.callback(None)
            self.failureResultOf(done, KeyboardInterrupt)
            self.assertIsNone(deferred.result)


class OtherTwistedTests(SynchronousTestCase):
    """With a Twisted that resumes coroutines otherwise, it is a Deferred and nothing else."""

    def loaded(self) -> Any:
        """The module as it is where Twisted is as it has been patched."""
        spec = find_spec("txvalkeycluster.requests.fast_deferred")
        assert spec is not None and spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def check_general(self) -> None:
        module = self.loaded()
        self.assertFalse(module.DIRECT)
        for name in ("addBoth", "callback", "errback", "__iter__", "__await__"):
            self.assertNotIn(name, vars(module.FastDeferred))

        async def wait(deferred: Deferred[Any]) -> Any:
            return await deferred

        deferred = module.FastDeferred()
        done = Deferred.fromCoroutine(wait(deferred))
        deferred.callback(5)
        self.assertEqual(self.successResultOf(done), 5)

    def test_as_it_is(self) -> None:
        self.assertEqual(self.loaded().DIRECT, DIRECT)

    def test_something_is_gone(self) -> None:
        for name in ("_inlineCallbacks", "_gotResultInlineCallbacks"):
            original = getattr(defer, name)
            delattr(defer, name)
            try:
                module = self.loaded()
            finally:
                setattr(defer, name, original)
            self.assertFalse(module.DIRECT)

    def test_other_arguments(self) -> None:
        resume = defer._inlineCallbacks

        def other(result: Any, gen: Any, status: Any, context: Any, more: int = 0) -> Any:
            return resume(result, gen, status, context)

        self.patch(defer, "_inlineCallbacks", other)
        self.check_general()

    def test_it_does_something_else(self) -> None:
        """Resuming does nothing, or raises."""

        def nothing(result: Any, gen: Any, status: Any, context: Any) -> None:
            """Twisted's own name and arguments."""

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

"""`Reply` as a future and as a coroutine, without servers."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from tests.cases import SynchronousTestCase
from txvalkeycluster.aio.reply import AsyncIteration, Reply, reply_by, reply_from
from txvalkeycluster.errors import WrongThread


class LoopTests(SynchronousTestCase):
    """Runs coroutines of asyncio."""

    def run_checked(self, main: Callable[[], Awaitable[Any]]) -> Any:
        """Run a coroutine function in debug mode; fail if the event loop has reported an error."""
        reported: list[dict[str, Any]] = []

        async def checked() -> Any:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
            result = await main()
            gc.collect()
            await asyncio.sleep(0)
            return result

        result = asyncio.run(checked(), debug=True)
        self.assertEqual(reported, [])
        return result

    def start(self) -> tuple[Reply[Any], Deferred[Any], list[object]]:
        """Return a reply, its Deferred, and what is added to when the Deferred is cancelled."""
        cancelled: list[object] = []
        deferred: Deferred[Any] = Deferred(cancelled.append)
        return reply_by(asyncio.get_running_loop(), lambda: deferred), deferred, cancelled


class ReplyTests(LoopTests):
    def test_awaited_often(self) -> None:
        """A reply can be awaited by several tasks, and again after its end."""

        async def main() -> list[Any]:
            reply, deferred, _ = self.start()

            async def wait() -> Any:
                return await reply

            first, second = asyncio.create_task(wait()), asyncio.create_task(wait())
            await asyncio.sleep(0)
            deferred.callback(1)
            return [await first, await second, await reply, await reply]

        self.assertEqual(self.run_checked(main), [1, 1, 1, 1])

    def test_tasks_of_replies(self) -> None:
        """Tasks can be made of a reply: several of them, before and after its end, with a result or an error."""

        async def main() -> None:
            reply, deferred, _ = self.start()
            early = [asyncio.create_task(reply), asyncio.create_task(reply)]
            await asyncio.sleep(0)
            self.assertIn("Reply", repr(early[0]))
            deferred.callback(1)
            self.assertEqual(await asyncio.gather(*early, asyncio.create_task(reply)), [1, 1, 1])
            failing, deferred, _ = self.start()
            tasks = [asyncio.create_task(failing), asyncio.create_task(failing)]
            await asyncio.sleep(0)
            deferred.errback(ValueError("x"))
            tasks.append(asyncio.create_task(failing))
            for task in tasks:
                with self.assertRaises(ValueError):  # type: ignore[call-arg, attr-defined]
                    await task

        self.run_checked(main)

    def test_task_cancelled(self) -> None:
        """A task that is cancelled before its first step or later cancels the command."""

        async def main() -> None:
            for steps in (0, 1, 2):
                reply, _, cancelled = self.start()
                task = asyncio.create_task(reply)
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                self.assertTrue(task.cancelled() and reply.cancelled())
                self.assertEqual(len(cancelled), 1)

        self.run_checked(main)

    def test_coroutine_closed(self) -> None:
        """close() and throw() cancel the command, as if a coroutine had never started."""

        async def main() -> None:
            reply, _, cancelled = self.start()
            reply.close()
            reply.close()
            self.assertTrue(reply.cancelled())
            self.assertEqual(len(cancelled), 1)
            reply, _, cancelled = self.start()
            self.assertRaises(KeyError, reply.throw, KeyError("x"))
            self.assertRaises(KeyError, reply.throw, KeyError)
            self.assertTrue(reply.cancelled())
            done, deferred, _ = self.start()
            deferred.callback(1)
            done.close()
            self.assertEqual(await done, 1)

        self.run_checked(main)

    def test_cancelled_after_the_end(self) -> None:
        """A reply that has ended cannot be cancelled, and its result is kept."""

        async def main() -> None:
            reply, deferred, cancelled = self.start()
            deferred.callback(1)
            self.assertFalse(reply.cancel())
            self.assertEqual((await reply, cancelled), (1, []))

        self.run_checked(main)

    def test_cancelled_source(self) -> None:
        """A reply is cancelled if its Deferred is cancelled, or fails with an error of cancellation."""

        async def main() -> None:
            for error in (CancelledError(), asyncio.CancelledError()):
                reply, deferred, _ = self.start()
                deferred.errback(error)
                self.assertTrue(reply.cancelled())

        self.run_checked(main)

    def test_stop_iteration(self) -> None:
        """StopIteration, which no future accepts, becomes RuntimeError."""

        async def main() -> None:
            reply, deferred, _ = self.start()
            deferred.errback(StopIteration(5))
            self.assertIn("StopIteration", str(reply.exception()))

        self.run_checked(main)

    def test_group_with_one_failure(self) -> None:
        """A task group whose task fails cancels the other commands."""

        async def main() -> None:
            failing, deferred, _ = self.start()
            other, _, cancelled = self.start()
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(failing)
                    group.create_task(other)
                    await asyncio.sleep(0)
                    deferred.errback(ValueError("x"))
            except* ValueError:
                pass
            self.assertTrue(other.cancelled())
            self.assertEqual(len(cancelled), 1)

        self.run_checked(main)

    def test_functions_of_asyncio(self) -> None:
        """gather, shield, wait_for, timeout and as_completed take replies; asyncio.wait needs tasks."""

        async def main() -> None:
            good, deferred, _ = self.start()
            bad, failing, _ = self.start()
            deferred.callback(1)
            failing.errback(ValueError("x"))
            results = await asyncio.gather(good, bad, return_exceptions=True)
            self.assertEqual((results[0], repr(results[1])), (1, "ValueError('x')"))
            shielded, deferred, cancelled = self.start()
            waits: list[Callable[[], Any]] = [
                lambda: asyncio.wait_for(asyncio.shield(shielded), 0.01),
                lambda: asyncio.wait_for(self.start()[0], 0.01),
                lambda: asyncio.wait_for(asyncio.create_task(self.start()[0]), 0.01),
            ]
            for wait in waits:
                try:
                    await wait()
                except TimeoutError:
                    continue
                raise AssertionError("no timeout")
            self.assertEqual(cancelled, [])
            deferred.callback(2)
            self.assertEqual([await each for each in asyncio.as_completed([shielded])], [2])
            self.assertRaises(TypeError, asyncio.wait([shielded]).send, None)
            done, _ = await asyncio.wait([asyncio.create_task(shielded)])
            self.assertEqual([task.result() for task in done], [2])

        self.run_checked(main)

    def test_never_retrieved(self) -> None:
        """An error that nobody retrieves is reported by asyncio, and not by Twisted."""

        async def main() -> list[str]:
            reported: list[str] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["message"]))
            reply, deferred, _ = self.start()
            deferred.errback(ValueError("x"))
            del reply, deferred
            gc.collect()
            return reported

        (message,) = asyncio.run(main())
        self.assertIn("never retrieved", message)
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_wrong_loop(self) -> None:
        """Outside of its event loop a reply cannot be made, and nothing is started."""
        started: list[int] = []

        def start() -> Deferred[None]:
            started.append(1)
            return Deferred()

        async def get_loop() -> asyncio.AbstractEventLoop:
            return asyncio.get_running_loop()

        async def other() -> None:
            error = self.assertRaises(WrongThread, reply_by, loop, start)
            self.assertIn("another event loop", str(error))

        loop = asyncio.run(get_loop())
        asyncio.run(other())
        error = self.assertRaises(WrongThread, reply_by, loop, start)
        self.assertIn("outside of an event loop", str(error))
        self.assertEqual(started, [])


class IterationTests(LoopTests):
    def iterate(self, steps: list[Deferred[Any]]) -> AsyncIteration[Any]:
        """Return an iteration whose items are the results of Deferreds."""

        async def items() -> Any:
            for step in steps:
                yield await step

        return AsyncIteration(asyncio.get_running_loop(), items())

    def test_cancelled_step(self) -> None:
        """A cancelled step ends the iteration, and the next call does not pretend that it was complete."""

        async def main() -> None:
            iteration = self.iterate([Deferred()])
            try:
                async with asyncio.timeout(0.01):
                    await anext(iteration)
            except TimeoutError:
                pass
            with self.assertRaises(RuntimeError):  # type: ignore[call-arg, attr-defined]
                await anext(iteration)
            await iteration.aclose()

        self.run_checked(main)

    def test_cancelled_after_the_step(self) -> None:
        """A task that is cancelled when its item is there loses nothing: the item belongs to the next call."""

        async def main() -> Any:
            steps: list[Deferred[Any]] = [Deferred(), Deferred()]
            iteration = self.iterate(steps)
            task = asyncio.ensure_future(anext(iteration))
            await asyncio.sleep(0)
            steps[0].callback(1)
            steps[1].callback(2)
            task.cancel()
            await asyncio.wait([task])
            self.assertTrue(task.cancelled())
            return [item async for item in iteration]

        self.assertEqual(self.run_checked(main), [1, 2])

    def test_two_tasks(self) -> None:
        """Only one task at a time can wait for the next item."""

        async def main() -> None:
            step: Deferred[Any] = Deferred()
            iteration = self.iterate([step])
            task = asyncio.ensure_future(anext(iteration))
            await asyncio.sleep(0)
            with self.assertRaises(RuntimeError):  # type: ignore[call-arg, attr-defined]
                await anext(iteration)
            step.callback(1)
            self.assertEqual(await task, 1)

        self.run_checked(main)

    def test_closed_early(self) -> None:
        """aclose() ends the iteration, also while a step is pending."""

        async def main() -> None:
            step: Deferred[Any] = Deferred()
            iteration = self.iterate([step])
            task = asyncio.ensure_future(anext(iteration))
            await asyncio.sleep(0)
            await iteration.aclose()
            await asyncio.wait([task])
            self.assertTrue(task.cancelled())

        self.run_checked(main)

    def test_error_of_a_step(self) -> None:
        """An error of the iterator comes once; then the iteration is at its end."""

        async def main() -> None:
            step: Deferred[Any] = Deferred()
            iteration = self.iterate([step])
            step.errback(ValueError("x"))
            with self.assertRaises(ValueError):  # type: ignore[call-arg, attr-defined]
                await anext(iteration)
            self.assertEqual([item async for item in iteration], [])

        self.run_checked(main)

    def test_of_a_coroutine(self) -> None:
        """reply_from() gives what the coroutine returns."""

        async def main() -> Any:
            async def work() -> int:
                return 7

            return await reply_from(asyncio.get_running_loop(), work)

        self.assertEqual(self.run_checked(main), 7)

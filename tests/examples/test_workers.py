"""The two workers: they end cleanly, and take over the jobs of workers that were killed."""

from __future__ import annotations

import signal
from typing import Any, ClassVar

from tests.cluster.command_line import Running
from tests.examples.base import EXAMPLES, ExampleTests

HANDLER = """
import os
from twisted.internet import reactor
from twisted.internet.task import deferLater

async def handle(client, job):
    name = (job if isinstance(job, bytes) else job[b"text"]).decode("latin-1")
    print("begins", name, flush=True)
    while name.startswith("hold") and not os.path.exists(os.path.join(os.environ["FOLDER"], name)):
        await deferLater(reactor, 0.01)
    if name.startswith("bad"):
        raise ValueError("a bad job")
    await client.sadd("done", name)
"""


class ListTests(ExampleTests):
    program = "worker_list.py"
    # The jobs that `prepare` leaves, and that the worker gives up.
    hopeless: ClassVar[list[str]] = []

    async def prepare(self) -> None:
        """Prepare the servers."""

    async def add(self, *names: str | bytes) -> None:
        """Add jobs."""
        await self.client.rpush("{jobs}:waiting", *names)

    async def left(self) -> list[str]:
        """Return the jobs that nobody has begun."""
        return await self.client.lrange("{jobs}:waiting", 0, -1)

    async def failed(self) -> list[str]:
        """Return the jobs that failed."""
        return await self.client.lrange("{jobs}:failed", 0, -1)

    async def remaining_time(self) -> int:
        """Return a number that falls with time, and rises when the worker says that it lives."""
        keys = [key async for key in self.client.scan_iter("{jobs}:lives:*")]
        return await self.client.pttl(keys[0]) if keys else 0

    async def traces(self) -> list[str]:
        """Return what workers have left on the servers."""
        kept = {"{jobs}:waiting", "{jobs}:failed"}
        return [key async for key in self.client.scan_iter("{jobs}:*") if key not in kept]

    def start_worker(self) -> Running:
        # The shortest lease that the workers accept.
        return self.start_example(str(EXAMPLES / self.program), "--handler=myhandler.handle", "--lease=3")

    async def until_done(self, names: set[str]) -> None:
        async def done() -> bool:
            return await self.client.smembers("done") >= names

        await self.until(done)

    async def test_two_workers(self) -> None:
        """A worker takes over the job of one that was killed.  After SIGTERM it ends its job, and begins no other.

        While it works on a job for long, it says that it lives.  A failed job is set aside.
        """
        (self.folder / "myhandler.py").write_text(HANDLER)
        self.environment["FOLDER"] = str(self.folder)
        await self.prepare()
        await self.add("hold-1")
        killed = self.start_worker()
        await killed.until_printed("begins hold-1")
        other = self.start_worker()
        names = {f"job-{number}" for number in range(20)}
        await self.add(*names)
        await self.until_done(names)
        killed.process.send_signal(signal.SIGKILL)
        await killed.ended()
        await other.until_printed("begins hold-1")
        self.assertIn("took over", other.out)
        (self.folder / "hold-1").touch()
        await self.until_done({"hold-1", *names})
        # Not valid as UTF-8.
        await self.add(b"bad\xff")
        failed = [*self.hopeless, "bad\\xff"]

        async def set_aside() -> bool:
            return await self.failed() == failed

        await self.until(set_aside)
        self.assertIn("ValueError: a bad job", other.out)
        self.assertEqual(await self.left(), [])

        await self.add("hold-2", "next")
        await other.until_printed("begins hold-2")
        times = [await self.remaining_time()]

        async def renewed() -> bool:
            times.append(await self.remaining_time())
            return times[-1] > times[-2]

        await self.until(renewed)
        other.process.send_signal(signal.SIGTERM)
        await other.until_printed("Received SIGTERM")
        (self.folder / "hold-2").touch()
        self.assertEqual(await other.ended(), 0)
        self.assertNotIn("Unhandled", other.out + other.err)
        self.assertEqual(await self.client.smembers("done"), {"hold-1", "hold-2", *names})
        self.assertEqual((await self.left(), await self.failed(), await self.traces()), (["next"], failed, []))


class StreamTests(ListTests):
    """The same for the worker on a stream."""

    program = "worker_stream.py"
    hopeless: ClassVar[list[str]] = ["hopeless"]

    async def prepare(self) -> None:
        """Add a job that was taken nine times, and was never done."""
        await self.add(*self.hopeless)
        await self.client.xgroup_create("jobs", "workers", "0")
        ((id, _),) = (await self.client.xreadgroup("workers", "ghost", {"jobs": ">"}))["jobs"]
        await self.client.xclaim("jobs", "workers", "ghost", 0, id, idle=1_000_000, retrycount=9)

    async def add(self, *names: str | bytes) -> None:
        for name in names:
            await self.client.xadd("jobs", "*", {"text": name})

    async def left(self) -> list[str]:
        return [job["text"] for _, job in await self.client.xrange("jobs", "-", "+") if job]

    async def failed(self) -> list[str]:
        return [job["text"] for _, job in await self.client.xrange("{jobs}:failed", "-", "+") if job]

    async def remaining_time(self) -> int:
        pending: Any = await self.client.xpending("jobs", "workers", start="-", end="+", count=1)
        ((_, _, idle, deliveries),) = pending
        self.assertEqual(deliveries, 1)
        return -int(idle)

    async def traces(self) -> list[str]:
        consumers = await self.client.xinfo_consumers("jobs", "workers")
        # The consumers of the ghost and of the worker that was killed are there, and have no jobs.
        return [str(consumer) for consumer in consumers if consumer["pending"] or len(consumers) > 2]

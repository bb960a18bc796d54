"""A worker that takes jobs from a stream, as a member of a consumer group.  Each job is done at least once.

    VALKEY_URL=valkey://10.0.0.1:7000 python examples/worker_stream.py --stream=jobs --handler=mymodule.handle
    valkey-cli -c XADD jobs '*' text 'some text'

Start as many as you need.  The server remembers which worker has which job.  A worker takes over the jobs of others
that have not given a sign for ``--lease`` seconds (XAUTOCLAIM).  So a job can be done twice: handlers must allow that.
After SIGTERM a worker ends the job in hand and takes no other.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import click
from twisted.application.service import Service
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger, globalLogBeginner, textFileLogObserver
from twisted.python.failure import Failure
from twisted.python.reflect import namedAny

from txvalkeycluster import ClientClosed, ClusterClient, ClusterService, ReplyError, TooManyPending, ValkeyError

log = Logger()
Job = dict[bytes, bytes]
Handler = Callable[[ClusterClient[bytes], Job], Awaitable[object]]
# A worker that waits for a job asks again after this many milliseconds, so that it notices that it is to stop.
BLOCK = 1000
# A job that workers took this often without an end has probably killed them.
MOST_DELIVERIES = 5


async def count_words(client: ClusterClient[bytes], job: Job) -> None:
    """Handle a job: count the words of a text.  Pass your own function with ``--handler``."""
    for word in job[b"text"].split():
        await client.hincrby("words", word, 1)


class Worker(Service):
    """Takes one job after the other."""

    def __init__(self, cluster: ClusterService[bytes], stream: str, group: str, handler: Handler, lease: float) -> None:
        self._cluster = cluster
        self._stream, self._group = stream, group
        self._handler = handler
        self._lease = int(lease * 1000)
        self._name = f"{socket.gethostname()}-{os.urandom(6).hex()}"
        self._in_hand: bytes | None = None
        self.exit_status = 0

    def startService(self) -> None:
        """Begin to work."""
        super().startService()
        self._signs = LoopingCall(self._keep)
        self._signs.start(self._lease / 3000, now=False).addErrback(self._broken)
        self._worked = Deferred.fromCoroutine(self._work()).addErrback(self._broken)

    def _broken(self, failure: Failure) -> None:
        # An error of this program.  Whatever has started it can start it again.
        log.failure("the worker ends because of an error", failure)
        self.exit_status = 1
        if self.running:
            reactor.stop()

    def stopService(self) -> Deferred[None]:
        """End the job in hand, and leave the group."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self._worked
        self._signs.stop()
        client = self._cluster.client
        with suppress(ValkeyError):
            # A consumer that is deleted takes its jobs with it.
            pending = await client.xpending(self._stream, self._group, start="-", end="+", count=1, consumer=self._name)
            if not pending:
                await client.xgroup_delconsumer(self._stream, self._group, self._name)
        log.info("the worker has stopped")

    async def _keep(self) -> None:
        """Claim the job in hand again, so that no other worker takes it over."""
        if self._in_hand is not None:
            try:
                await self._claim(self._cluster.client, self._in_hand)
            except ValkeyError as error:
                log.warn("the job in hand was not claimed again: {error}", error=error)

    def _claim(self, client: ClusterClient[bytes], id: bytes, idle: int = 0) -> Awaitable[object]:
        # JUSTID: it does not count as a delivery.
        return client.xclaim(self._stream, self._group, self._name, 0, id, idle=idle, justid=True)

    async def _work(self) -> None:
        client = self._cluster.client
        looked, own = 0.0, "0"
        while self.running:
            try:
                if own == "0":
                    await self._make_group(client)
                if reactor.seconds() - looked > self._lease / 2000:
                    looked = reactor.seconds()
                    await self._take_over(client)
                # With the id 0, the server gives the jobs that this worker has not acknowledged; there are such jobs
                # after an error.  With ">" it gives new ones.
                block = BLOCK if own == ">" else None
                read = await client.xreadgroup(self._group, self._name, {self._stream: own}, count=1, block=block)
                jobs = read.get(self._stream.encode(), [])
                own = "0" if jobs and own == "0" else ">"
                for id, job in jobs:
                    if self.running:
                        await self._do(client, id, job)
                    else:
                        # It came too late.  With this idle time, the others may take it over at once.
                        await self._claim(client, id, idle=self._lease)
            except (ValkeyError, ConnectionError, TimeoutError) as error:
                log.warn("the worker tries again in a second: {error}", error=error)
                own = "0"
                await deferLater(reactor, 1.0)

    async def _make_group(self, client: ClusterClient[bytes]) -> None:
        try:
            await client.xgroup_create(self._stream, self._group, "0", mkstream=True)
        except ReplyError as error:
            if error.code != "BUSYGROUP":
                raise

    async def _take_over(self, client: ClusterClient[bytes]) -> None:
        start: Any = b"0"
        while self.running:
            reply: Any = await client.xautoclaim(self._stream, self._group, self._name, self._lease, start, count=1)
            start, jobs, _ = reply
            for id, job in jobs:
                log.warn("took over the job {id}", id=id.decode())
                pending: list[Any] = await client.xpending(self._stream, self._group, start=id, end=id, count=1)
                await self._do(client, id, job, hopeless=bool(pending) and pending[0][3] > MOST_DELIVERIES)
            if start == b"0-0":
                return

    async def _do(self, client: ClusterClient[bytes], id: bytes, job: Job | None, *, hopeless: bool = False) -> None:
        self._in_hand = id
        # The tag puts the failed jobs into the slot of the stream, as the transaction needs it.
        transaction, failed = client.transaction(), f"{{{self._stream}}}:failed"
        try:
            if hopeless:
                raise RuntimeError(f"the job was taken {MOST_DELIVERIES} times, and never ended")
            if job is not None:  # It is None if the job was deleted from the stream.
                await self._handler(client, job)
        except (ClientClosed, TooManyPending, ConnectionError, TimeoutError):
            # It is not the fault of the job.  It stays pending, and is tried again.
            raise
        except Exception:
            log.failure("a job failed, and was moved to {failed}", failed=failed)
            transaction.xadd(failed, "*", job or {b"deleted": id})
        finally:
            self._in_hand = None
        await transaction.xack(self._stream, self._group, id).xdel(self._stream, id).execute(raise_first=True)


@click.command()
@click.option("--url", envvar="VALKEY_URL", required=True, help="URL of the cluster; better in VALKEY_URL.")
@click.option("--stream", envvar="WORKER_STREAM", default="jobs", show_default=True, help="Name of the stream.")
@click.option("--group", envvar="WORKER_GROUP", default="workers", show_default=True, help="Name of the group.")
@click.option("--handler", default="__main__.count_words", show_default=True, help="async function(client, job).")
@click.option("--lease", default=15.0, show_default=True, type=click.FloatRange(3.0), help="Seconds until it is dead.")
@click.option("--stop-timeout", default=30.0, show_default=True, help="How many seconds a job may take after SIGTERM.")
def main(url: str, stream: str, group: str, handler: str, lease: float, stop_timeout: float) -> None:
    """Take jobs from a stream and do them."""
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)])
    cluster = ClusterService(reactor, url, stop_timeout=stop_timeout, client_name="worker")
    worker = Worker(cluster, stream, group, namedAny(handler), lease)
    worker.setServiceParent(cluster)
    cluster.startService()
    reactor.addSystemEventTrigger("before", "shutdown", cluster.stopService)
    reactor.run()
    sys.exit(worker.exit_status)


if __name__ == "__main__":
    main()

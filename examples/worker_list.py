"""A worker that takes jobs from a list.  Each job is done at least once, also if workers are killed.

    VALKEY_URL=valkey://10.0.0.1:7000 python examples/worker_list.py --queue=jobs --handler=mymodule.handle
    valkey-cli -c RPUSH '{jobs}:waiting' 'some text'

Start as many as you need.  A worker moves a job to a list of its own while it works on it, and says that it lives with
a key that expires.  When the key is gone, the other workers move the jobs back.  So a job can be done twice: handlers
must allow that.  After SIGTERM a worker ends the job in hand and takes no other.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

import click
from twisted.application.service import Service
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger, globalLogBeginner, textFileLogObserver
from twisted.python.failure import Failure
from twisted.python.reflect import namedAny

from txvalkeycluster import ClientClosed, ClusterClient, ClusterService, TooManyPending, ValkeyError

log = Logger()
Handler = Callable[[ClusterClient[bytes], bytes], Awaitable[object]]
# A worker that waits for a job asks again after this many seconds, so that it notices that it is to stop.
BLOCK = 1.0
# KEYS: the sign of life and the list of a worker, the queue, the ids of all workers.  ARGV: the id of the worker.
TAKE_OVER = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local jobs = redis.call('LLEN', KEYS[2])
for _ = 1, jobs do redis.call('LMOVE', KEYS[2], KEYS[3], 'RIGHT', 'LEFT') end
if jobs == 0 then redis.call('SREM', KEYS[4], ARGV[1]) end
return jobs
"""


async def count_words(client: ClusterClient[bytes], job: bytes) -> None:
    """Handle a job: count the words of a text.  Pass your own function with ``--handler``."""
    for word in job.split():
        await client.hincrby("words", word, 1)


class Worker(Service):
    """Takes one job after the other."""

    def __init__(self, cluster: ClusterService[bytes], queue: str, handler: Handler, lease: float) -> None:
        self._cluster = cluster
        self._handler = handler
        self._lease = lease
        self._id = f"{socket.gethostname()}-{os.urandom(6).hex()}"
        # The tag puts all keys into one slot, as LMOVE, transactions and scripts need it.
        self._tag = f"{{{queue}}}"
        self._waiting, self._failed, self._workers = (
            f"{self._tag}:{what}" for what in ("waiting", "failed", "workers")
        )
        self._lives, self._taken = self._keys_of(self._id)
        self._last_sign = -lease
        # After an error, the server may have put a job into the list of this worker.
        self._uncertain = False
        self.exit_status = 0

    def _keys_of(self, worker: str) -> tuple[str, str]:
        return f"{self._tag}:lives:{worker}", f"{self._tag}:taken:{worker}"

    def startService(self) -> None:
        """Begin to work."""
        super().startService()
        self._signs = LoopingCall(self._live)
        self._signs.start(self._lease / 3).addErrback(self._broken)
        self._worked = Deferred.fromCoroutine(self._work()).addErrback(self._broken)

    def _broken(self, failure: Failure) -> None:
        # An error of this program.  Whatever has started it can start it again.
        log.failure("the worker ends because of an error", failure)
        self.exit_status = 1
        if self.running:
            reactor.stop()

    def stopService(self) -> Deferred[None]:
        """End the job in hand, and sign off."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self._worked
        self._signs.stop()
        if not self._uncertain:
            # Without this, others look into the list of this worker when its key has expired.
            with suppress(ValkeyError):
                await self._cluster.client.transaction().delete(self._lives).srem(self._workers, self._id).execute()
        log.info("the worker has stopped")

    async def _live(self) -> None:
        try:
            await self._give_sign()
            take_over = self._cluster.client.script(TAKE_OVER)
            for worker in await self._cluster.client.smembers(self._workers):
                if jobs := await take_over([*self._keys_of(worker.decode()), self._waiting, self._workers], worker):
                    log.warn("took over {jobs} jobs of the dead worker {worker}", jobs=jobs, worker=worker.decode())
        except ValkeyError as error:
            log.warn("no sign of life was given: {error}", error=error)

    async def _give_sign(self) -> None:
        expiry = int(self._lease * 1000)
        now = reactor.seconds()
        transaction = self._cluster.client.transaction()
        await transaction.set(self._lives, 1, px=expiry).sadd(self._workers, self._id).execute(raise_first=True)
        self._last_sign = now

    async def _work(self) -> None:
        client = self._cluster.client
        while self.running:
            try:
                if reactor.seconds() - self._last_sign > self._lease / 2:
                    # Others may believe that this worker is dead, and no longer look after its list.
                    await self._give_sign()
                job = await client.lindex(self._taken, 0) if self._uncertain else None
                self._uncertain = job is not None
                if job is None:
                    job = await client.blmove(self._waiting, self._taken, "LEFT", "RIGHT", BLOCK)
                if job is not None and self.running:
                    await self._do(client, job)
                elif job is not None:
                    await client.lmove(self._taken, self._waiting, "LEFT", "LEFT")
            except (ValkeyError, ConnectionError, TimeoutError) as error:
                log.warn("the worker tries again in a second: {error}", error=error)
                self._uncertain = True
                await deferLater(reactor, 1.0)

    async def _do(self, client: ClusterClient[bytes], job: bytes) -> None:
        try:
            await self._handler(client, job)
        except (ClientClosed, TooManyPending, ConnectionError, TimeoutError):
            # It is not the fault of the job.  It stays in the list, and is tried again.
            raise
        except Exception:
            log.failure("a job failed, and was moved to {failed}", failed=self._failed)
            await client.transaction().lrem(self._taken, 1, job).rpush(self._failed, job).execute()
        else:
            await client.lrem(self._taken, 1, job)


@click.command()
@click.option("--url", envvar="VALKEY_URL", required=True, help="URL of the cluster; better in VALKEY_URL.")
@click.option("--queue", envvar="WORKER_QUEUE", default="jobs", show_default=True, help="Name of the queue.")
@click.option("--handler", default="__main__.count_words", show_default=True, help="async function(client, job).")
@click.option("--lease", default=15.0, show_default=True, type=click.FloatRange(3.0), help="Seconds until it is dead.")
@click.option("--stop-timeout", default=30.0, show_default=True, help="How many seconds a job may take after SIGTERM.")
def main(url: str, queue: str, handler: str, lease: float, stop_timeout: float) -> None:
    """Take jobs from a list and do them."""
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)])
    cluster = ClusterService(reactor, url, stop_timeout=stop_timeout, client_name="worker")
    worker = Worker(cluster, queue, namedAny(handler), lease)
    worker.setServiceParent(cluster)
    cluster.startService()
    reactor.addSystemEventTrigger("before", "shutdown", cluster.stopService)
    reactor.run()
    sys.exit(worker.exit_status)


if __name__ == "__main__":
    main()

"""Several services that share one client of a Valkey cluster.

    VALKEY_URL=valkey://10.0.0.1:7000 twistd --nodaemon --python=examples/shared_services.py

The application is a MultiService.  It holds the ClusterService and what does not need the cluster.  The services that
need it are children of the ClusterService: it starts them after itself, and closes the client after they have stopped.
So ``Sampler`` can still write its last sample while it stops.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

from twisted.application.internet import TimerService
from twisted.application.service import Application, MultiService, Service
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from txvalkeycluster import ClusterClient, ClusterService, Lost, Message, ValkeyError

log = Logger()
HOST = socket.gethostname()
SAMPLES, ALARMS = f"samples:{HOST}", "alarms"
INTERVAL = float(os.environ.get("SAMPLE_INTERVAL", "1"))
LIMIT = float(os.environ.get("LOAD_LIMIT", "4"))


class Sampler(TimerService):
    """Writes the load of this machine to a stream, and publishes an alarm if it is high."""

    def __init__(self, cluster: ClusterService[str]) -> None:
        super().__init__(INTERVAL, self._sample)
        self._cluster = cluster

    async def _sample(self, state: str = "running") -> None:
        load, _, _ = os.getloadavg()
        client = self._cluster.client
        try:
            await client.xadd(
                SAMPLES, "*", {"load": f"{load:.2f}", "state": state}, strategy="MAXLEN", operator="~", threshold=10_000
            )
            if load >= LIMIT:
                await client.spublish(ALARMS, f"{HOST} has a load of {load:.1f}")
        except ValkeyError as error:
            # TimerService would stop for ever after an exception.
            log.warn("a sample is missing: {error}", error=error)

    def stopService(self) -> Deferred[None]:
        """Write the last sample after the timer has stopped."""
        stopped: Deferred[None] = super().stopService()
        return stopped.addCallback(lambda _: Deferred.fromCoroutine(self._sample("stopped")))


class Alarms(Service):
    """Logs the alarms of all machines."""

    def __init__(self, cluster: ClusterService[str]) -> None:
        self._cluster = cluster

    def startService(self) -> None:
        """Begin to listen."""
        super().startService()
        self._listening = Deferred.fromCoroutine(self._listen())

    def stopService(self) -> Deferred[None]:
        """Listen no more."""
        super().stopService()
        self._listening.cancel()
        return self._listening

    async def _listen(self) -> None:
        with suppress(CancelledError):
            while True:
                # A subscription fails after ``timeout``, as each command does.  This waits as long as it takes.
                client = await self._cluster.whenReady()
                try:
                    await self._log_alarms(client)
                except ValkeyError as error:
                    log.warn("cannot listen for alarms; the next attempt is in 5 s: {error}", error=error)
                await deferLater(reactor, 5.0)

    async def _log_alarms(self, client: ClusterClient[str]) -> None:
        async with client.ssubscribe(ALARMS) as subscription:
            async for item in subscription:
                if isinstance(item, Message):
                    log.info("alarm: {alarm}", alarm=item.data)
                elif isinstance(item, Lost):
                    log.warn("alarms may be missing: {reason}", reason=item.reason)


class Uptime(TimerService):
    """Logs how long the process has run.  It does not need the cluster, so it is beside the ClusterService."""

    def __init__(self) -> None:
        self._started = reactor.seconds()
        super().__init__(60, self._log)

    def _log(self) -> None:
        log.info("running for {seconds:.0f} s", seconds=reactor.seconds() - self._started)


def make_service(url: str) -> MultiService:
    """Return all services as one."""
    services = MultiService()
    cluster = ClusterService(reactor, url, encoding="utf-8", client_name="sampler")
    for child in (Sampler(cluster), Alarms(cluster)):
        child.setServiceParent(cluster)
    for service in (cluster, Uptime()):
        service.setServiceParent(services)
    return services


application = Application("sampler")
make_service(os.environ["VALKEY_URL"]).setServiceParent(application)

"""A rate limiter (token bucket) that all processes share, and a web server that answers 429 to too many requests.

    VALKEY_URL=valkey://10.0.0.1:7000 python examples/rate_limiter.py --rate=5 --burst=10
    curl -i http://127.0.0.1:8080/

Each caller has a bucket of ``burst`` tokens, which fills again at ``rate`` tokens in a second.  A Lua script changes
the bucket, so that two processes cannot take the same token.  It counts with the clock of the server.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from math import ceil

import click
from twisted.application import strports
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.logger import Logger, globalLogBeginner, textFileLogObserver
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from txvalkeycluster import ClusterClient, ClusterService, ValkeyError

log = Logger()
# KEYS: the bucket.  ARGV: tokens in a second, the most tokens, and how many to take.
# A full bucket is the same as none, so it expires when it is full.  Times are in seconds; replies have no fractions.
TAKE = """
local rate, burst, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = tonumber(bucket[1] or burst)
-- After a failover, the clock of the server can be behind.
tokens = math.min(burst, tokens + math.max(0, now - tonumber(bucket[2] or now)) * rate)
local wait = (cost - tokens) / rate
if wait <= 0 then
  tokens = tokens - cost
  wait = 0
end
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens), 'at', string.format('%.6f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil((burst - tokens) / rate * 1000) + 1000)
return {math.floor(tokens), math.ceil(wait * 1000)}
"""


@dataclass(frozen=True)
class Decision:
    """Whether a caller may go on."""

    allowed: bool
    #: How many whole tokens are left.
    remaining: int
    #: In how many seconds there are enough tokens; 0 if the caller may go on.
    retry_after: float


class RateLimiter:
    """Decides who may go on.

    Example:
        limiter = RateLimiter(client, "login", rate=0.1, burst=5)
        if not (await limiter.take(user)).allowed: ...
    """

    def __init__(self, client: ClusterClient[str], name: str, *, rate: float, burst: int, timeout: float = 0.5) -> None:
        if not (rate > 0 and burst >= 1):
            raise ValueError(f"rate is {rate!r} and burst is {burst!r}; rate must be above 0, and burst at least 1")
        # It is better to let a request pass than to let it wait for a node that is down.
        self._take = client.with_options(timeout=timeout).script(TAKE)
        self._name, self._rate, self._burst = name, rate, burst
        self._failing = False

    async def take(self, caller: str, cost: int = 1) -> Decision:
        """Take tokens of a caller, or none if there are not enough.  If the cluster does not answer, allow it."""
        try:
            remaining, wait = await self._take(f"limit:{self._name}:{caller}", [self._rate, self._burst, cost])
        except ValkeyError as error:
            if not self._failing:
                self._failing = True
                log.warn("the limiter {name} cannot count, and allows all: {error}", name=self._name, error=error)
            return Decision(True, 0, 0.0)
        if self._failing:
            self._failing = False
            log.info("the limiter {name} counts again", name=self._name)
        return Decision(wait == 0, remaining, wait / 1000)


class Limited(Resource):
    """A resource that each address may use only so often."""

    isLeaf = True

    def __init__(self, limiter: RateLimiter) -> None:
        super().__init__()
        self._limiter = limiter

    def render_GET(self, request: Request) -> int:
        """Begin to answer."""
        Deferred.fromCoroutine(self._answer(request)).addErrback(
            lambda failure: log.failure("a request got no answer", failure)
        )
        return NOT_DONE_YET

    async def _answer(self, request: Request) -> None:
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)
        decision = await self._limiter.take(request.getClientAddress().host)
        if gone:
            return
        request.setHeader(b"content-type", b"text/plain")
        if decision.allowed:
            request.write(b"%d more\n" % decision.remaining)
        else:
            request.setResponseCode(429)
            request.setHeader(b"retry-after", b"%d" % ceil(decision.retry_after))
            request.write(b"too many requests\n")
        request.finish()


@click.command()
@click.option("--url", envvar="VALKEY_URL", required=True, help="URL of the cluster; better in VALKEY_URL.")
@click.option("--listen", default="tcp:8080:interface=127.0.0.1", show_default=True, help="Endpoint to listen on.")
@click.option("--rate", default=5.0, show_default=True, help="Requests in a second.")
@click.option("--burst", default=10, show_default=True, help="Requests at once, after a pause.")
def main(url: str, listen: str, rate: float, burst: int) -> None:
    """Serve a page that each address may use only so often."""
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)])
    cluster = ClusterService(reactor, url, encoding="utf-8", client_name="limiter")
    site = Site(Limited(RateLimiter(cluster.client, "web", rate=rate, burst=burst)))
    strports.service(listen, site).setServiceParent(cluster)
    cluster.startService()
    reactor.addSystemEventTrigger("before", "shutdown", cluster.stopService)
    reactor.run()


if __name__ == "__main__":
    main()

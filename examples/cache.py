"""A cache whose values do not all expire at once, and which lets one caller compute a value while the others wait.

    VALKEY_URL=valkey://10.0.0.1:7000 python examples/cache.py --readers=100

This runs many readers of one value that takes a second to compute, and says how often it was computed.

A value is fresh for ``ttl`` seconds, more or less by ``jitter``.  After that, the first caller gets the lock and
computes it again.  The others get the old value meanwhile; if there is none, they wait.  The lock expires, so that a
caller that died blocks nobody.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from random import Random

import click
from twisted.internet.defer import ensureDeferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater, react
from twisted.logger import Logger

from txvalkeycluster import ClusterClient, ValkeyError, connect

log = Logger()
# All scripts have KEYS: the entry and its lock.  Times are in milliseconds, by the clock of the server.
NOW = "local time = redis.call('TIME') local now = time[1] * 1000 + math.floor(time[2] / 1000)"
# ARGV: a token of the caller, how long the lock holds.  Returns the value, and whether the caller is to compute it.
LOOK = f"""{NOW}
local entry = redis.call('HMGET', KEYS[1], 'value', 'fresh_until')
if entry[1] and now < tonumber(entry[2]) then return {{entry[1], 0}} end
local mine = redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2])
return {{entry[1], mine and 1 or 0}}
"""
# ARGV: the token, the value, how long it is fresh, and how long it is kept to be used while it is computed again.
# A caller that lost the lock was too slow, and must not replace a newer value.
STORE = f"""{NOW}
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'value', ARGV[2], 'fresh_until', string.format('%.0f', now + ARGV[3]))
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', ARGV[3] + ARGV[4]))
redis.call('DEL', KEYS[2])
return 1
"""
# ARGV: the token.
UNLOCK = "if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end"


class Cache:
    """Keeps text that is expensive to compute.

    Example:
        cache = Cache(reactor, client, "pages", ttl=60)
        page = await cache.get_or_compute("home", lambda: render("home"))
    """

    def __init__(
        self,
        reactor: IReactorTime,
        client: ClusterClient[str],
        name: str,
        *,
        ttl: float,
        jitter: float = 0.1,
        keep: float = 60.0,
        lock: float = 10.0,
    ) -> None:
        """Make a cache.

        Args:
            reactor: The Twisted reactor.
            client: The client, with an ``encoding``.
            name: What the keys begin with.
            ttl: How long a value is fresh, in seconds.
            jitter: The part of ``ttl`` by which this time varies at most.
            keep: How long an old value is kept beyond ``ttl``, to be used while it is computed again.
            lock: How long a computation may take before another caller begins one.
        """
        self._reactor = reactor
        self._name, self._ttl, self._jitter, self._keep, self._lock = name, ttl, jitter, keep, lock
        self._look, self._store, self._unlock = map(client.script, (LOOK, STORE, UNLOCK))
        # Not math.random of Lua: it gives the same numbers in each run of a script.
        self._random = Random()

    async def get_or_compute(self, key: str, compute: Callable[[], Awaitable[str]]) -> str:
        """Return a value.

        If the cluster does not answer, the value is computed and not kept.  What ``compute`` raises is raised, unless
        there is an old value.
        """
        token = os.urandom(12).hex()
        # The tag puts both keys into one slot.
        entry = f"{{{self._name}:{key}}}"
        keys = [entry, f"{entry}:lock"]
        while True:
            try:
                value, mine = await self._look(keys, [token, int(self._lock * 1000)])
            except ValkeyError as error:
                log.warn("the cache {name} cannot be used: {error}", name=self._name, error=error)
                return await compute()
            if mine:
                return await self._computed(keys, token, value, compute)
            if value is not None:
                return str(value)
            await deferLater(self._reactor, self._random.uniform(0.02, 0.08))

    async def _computed(
        self, keys: list[str], token: str, old: str | None, compute: Callable[[], Awaitable[str]]
    ) -> str:
        try:
            value = await compute()
        except Exception:
            await self._kept(self._unlock(keys, token))
            if old is None:
                raise
            log.failure("the cache {name} gives an old value", name=self._name)
            return old
        fresh = self._ttl * self._random.uniform(1 - self._jitter, 1 + self._jitter)
        await self._kept(self._store(keys, [token, value, int(fresh * 1000), int(self._keep * 1000)]))
        return value

    async def _kept(self, stored: Awaitable[object]) -> None:
        try:
            await stored
        except ValkeyError as error:
            log.warn("the cache {name} did not keep a value: {error}", name=self._name, error=error)


async def show(reactor: IReactorTime, url: str, readers: int) -> None:
    """Let many readers want the same value at once."""
    computed = 0

    async def compute() -> str:
        nonlocal computed
        computed += 1
        await deferLater(reactor, 1.0)
        return "a value"

    async with await connect(reactor, url, encoding="utf-8") as client:
        cache = Cache(reactor, client, "example", ttl=5.0)
        values = await gatherResults([ensureDeferred(cache.get_or_compute("key", compute)) for _ in range(readers)])
        click.echo(f"{len(values)} readers got {set(values)}; this process computed it {computed} times")


@click.command()
@click.option("--url", envvar="VALKEY_URL", required=True, help="URL of the cluster; better in VALKEY_URL.")
@click.option("--readers", default=100, show_default=True, type=click.IntRange(1), help="How many readers there are.")
def main(url: str, readers: int) -> None:
    """Let many readers want the same value at once, and say how often it was computed."""
    react(show, (url, readers))


if __name__ == "__main__":
    main()

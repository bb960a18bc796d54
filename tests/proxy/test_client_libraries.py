"""Locks, transactions, blocking commands, subscriptions and caches of unmodified libraries, through a changing cluster.

With TXVALKEYCLUSTER_PROXY_SEEN=FILE, what each program has seen is appended to a file, as rows of the table in
docs/proxy.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import redis
from django.core.cache.backends.redis import RedisCache
from flask import Flask
from flask_caching import Cache as FlaskCache
from kombu.connection import Connection
from twisted.internet.threads import deferToThread

from tests.cases import TestCase
from tests.proxy.client_libraries.blocking_commands import Pops
from tests.proxy.client_libraries.cache import Cache
from tests.proxy.client_libraries.libraries import PATIENCE, Loop, Pool, Threads
from tests.proxy.client_libraries.messages import Messages
from tests.proxy.client_libraries.transactions import Lock, Transactions
from tests.proxy.client_libraries.twisted_library import TwistedLibrary
from tests.proxy.client_libraries.workers import Workers
from tests.proxy.programs import HOST, ProxyTests, in_doubt, note, single_server, tags_in, until

Kinds = Sequence[type[Workers]]
KINDS: Kinds = (Lock, Transactions, Pops, Messages, Cache, TwistedLibrary)


class Programs(TestCase):
    """Starts and stops programs, and checks what they have seen."""

    timeout = 180

    def started(self, port: int, tags: Iterator[str], others: Sequence[str], kinds: Kinds) -> list[Workers]:
        """Start the programs.

        Args:
            port: The port of the server or proxy.
            tags: Hash tags of the keys of each program.
            others: Two hash tags of slots at other servers.
            kinds: Which programs.
        """
        threads, loop, pool = Threads(port), Loop(port), Pool(port)
        for library in (threads, loop, pool):
            self.addCleanup(library.close)
        url, options = f"redis://{HOST}:{port}", {"socket_timeout": PATIENCE}
        config = {"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": url, "CACHE_OPTIONS": options}
        flask = FlaskCache(Flask("test"), config={**config, "CACHE_KEY_PREFIX": "flask:"})
        django, together = (RedisCache(url, {"OPTIONS": options, "KEY_PREFIX": prefix}) for prefix in ("django", "{x}"))
        makers: dict[type[Workers], Callable[[], list[Workers]]] = {
            Lock: lambda: [Lock(library, next(tags)) for library in (threads, loop)],
            Transactions: lambda: [Transactions(library, next(tags)) for library in (threads, loop)],
            Pops: lambda: [Pops(library, next(tags), others) for library in (threads, loop)],
            Messages: lambda: [Messages(library, next(tags)) for library in (threads, loop)],
            Cache: lambda: [
                Cache("Flask-Caching, RedisCache", threads, flask, flask),
                Cache("Django, RedisCache", threads, django, together),
            ],
            TwistedLibrary: lambda: [TwistedLibrary(pool, next(tags))],
        }
        programs = [each for kind in kinds for each in makers[kind]()]
        for each in programs:
            self.addCleanup(each.stopping.set)
        return programs

    async def worked(self, programs: Sequence[Workers], rounds: int = 30) -> None:
        """Wait until each worker has done some more rounds, or something was wrong."""
        goals = [{name: count + rounds for name, count in each.counts.items()} for each in programs]
        for each, goal in zip(programs, goals, strict=True):
            await until(lambda e=each, g=goal: e.wrong or all(e.counts[name] >= g[name] for name in g))  # type: ignore[misc]
            self.assertEqual(each.wrong, [], each.name)

    async def stopped(self, programs: Sequence[Workers], port: int) -> None:
        """Stop the programs, and check what they have seen and left."""
        for each in programs:
            each.stopping.set()
        for each in programs:
            await each.stop()
            self.assertEqual(each.wrong, [], each.name)
        with redis.Redis(HOST, port) as client:
            for each in programs:
                await deferToThread(each.check, client)

    def seen(self, programs: Sequence[Workers], change: str, allowed: Callable[[str], bool]) -> None:
        """Note what the programs have seen, and check that it holds no other errors than those that are allowed."""
        for each in programs:
            texts = note(each.name + each.seen, change, each.errors, each.longest)
            self.assertEqual([text for text in texts if not allowed(text)], [], each.name)
            each.errors, each.longest = [], 0.0


class SingleServerTests(Programs):
    """The programs themselves are right."""

    async def test_single_server(self) -> None:
        """A single server shows them no error and nothing wrong."""
        port = await single_server(self)
        programs = self.started(port, tags_in(set(range(16_384))), ("one", "two"), KINDS)
        await self.worked(programs)
        await self.stopped(programs, port)
        self.seen(programs, "none", lambda text: False)
        self.assertEqual([each.refused for each in programs if isinstance(each, TwistedLibrary)], [0])


class FaultTests(Programs, ProxyTests):
    """A failover shows the programs no error, and a SIGKILL only what was under way."""

    timeout = 180

    async def test_failover_and_sigkill(self) -> None:
        """Nothing is lost or done twice, unless an error has said that it may be so."""
        port = (await self.proxy_process()).port
        first, *others = await self.cluster.primaries()
        tags = [next(tags_in(await self.slots_of(each))) for each in others]
        programs = self.started(port, tags_in(await self.slots_of(first)), tags, KINDS)
        await self.worked(programs)
        [replica] = await self.cluster.replicas_of(first)
        await self.cluster.failover(replica)
        await self.cluster.wait_until_whole()
        await self.worked(programs)
        self.seen(programs, "failover", lambda text: False)
        await self.lossless_kill(replica, lambda: [each.still for each in programs])
        await self.worked(programs)
        self.seen(programs, "SIGKILL", in_doubt)
        await self.end_subscriptions()
        await self.worked(programs)
        self.seen(programs, "CLIENT KILL TYPE PUBSUB", lambda text: False)
        self.assertTrue(all(each.log.gaps for each in programs if isinstance(each, Messages | TwistedLibrary)))
        await self.stopped(programs, port)
        self.seen(programs, "the end", lambda text: False)


class SeveralKeysTests(ProxyTests):
    """Programs that use several keys in one transaction: what docs/proxy.md says about them."""

    options: ClassVar[dict[str, Any]] = {"replicas": 0}

    async def test_kombu_and_django(self) -> None:
        """They get an error that names the keys and slots, or work if a hash tag is the prefix of all keys."""
        url = f"redis://{HOST}:{(await self.proxy_process()).port}"
        wrong = r"'(celery\x06\x163|:1:b)' is in slot \d+, but the transaction is in slot \d+ \('(celery|:1:a)'\)"
        for work in (_use_queue, _use_cache):
            error = await self.assertFailure(deferToThread(work, url, ""), redis.ResponseError)
            self.assertRegex(str(error), wrong)
            self.assertEqual(await deferToThread(work, url, "{tag}"), [1, 2])


def _use_queue(url: str, prefix: str) -> list[Any]:
    """Send and receive two messages with kombu, which Celery uses."""
    connect: Any = Connection
    with connect(url, transport_options={"global_keyprefix": prefix}) as connection:
        queue = connection.SimpleQueue("celery")
        for number in (1, 2):
            queue.put(number)
        messages = [queue.get(timeout=10) for _ in range(2)]
        for each in messages:
            each.ack()
        queue.close()
        return [each.payload for each in messages]


def _use_cache(url: str, prefix: str) -> list[Any]:
    cache = RedisCache(url, {"KEY_PREFIX": prefix})
    cache.set_many({"a": 1, "b": 2})
    return list(cache.get_many(["a", "b"]).values())

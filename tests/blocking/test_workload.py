"""The verified workload from 32 threads, while the cluster changes."""

from __future__ import annotations

import threading
from collections import Counter
from random import Random
from time import monotonic
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.blocking.base import in_threads
from tests.cluster.base import ClusterTests
from txvalkeycluster import MaybeExecuted, ValkeyError, blocking, key_slot
from txvalkeycluster.blocking import background

THREADS = 32
_KEYS = 20


class Key:
    """What a thread knows of one of its keys, as in `txvalkeycluster.testing.Workload`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.slot = key_slot(name)
        self.acknowledged = -1
        self.doubtful: set[int] = set()
        self.was_killed = False


class ThreadWorkload:
    """Threads that write and read keys of their own and check every value: `Workload` with plain calls."""

    def __init__(self, client: blocking.BlockingClient[bytes]) -> None:
        self.commands = [0] * THREADS
        self.wrong: list[str] = []
        self.errors: Counter[str] = Counter()
        self.longest = 0.0
        self.keys = [[Key(f"threads:{t}:{k}") for k in range(_KEYS)] for t in range(THREADS)]
        self._client = client
        self._stopping = threading.Event()
        self.threads = in_threads(self._work, THREADS)

    def primary_killed(self, slots: set[int]) -> None:
        """Accept one older value of each key in these slots."""
        for key in (key for keys in self.keys for key in keys):
            if key.slot in slots:
                key.was_killed = True

    def stop(self) -> list[str]:
        """Stop; return the names of threads that hang."""
        self._stopping.set()
        for thread in self.threads:
            thread.join(20)
        return [thread.name for thread in self.threads if thread.is_alive()]

    def _work(self, thread: int) -> None:
        random = Random(thread)
        number = 0
        while not self._stopping.is_set():
            self._timed(thread, self._write, random.choice(self.keys[thread]), number)
            self._timed(thread, self._read, random.choice(self.keys[thread]))
            number += 1

    def _timed(self, thread: int, call: Any, key: Key, *number: int) -> None:
        begun = monotonic()
        call(key, *number)
        self.commands[thread] += 1
        self.longest = max(self.longest, monotonic() - begun)

    def _write(self, key: Key, number: int) -> None:
        try:
            self._client.set(key.name, number)
        except ValkeyError as error:
            in_doubt = isinstance(error, MaybeExecuted) and error.maybe_executed
            if in_doubt:
                key.doubtful.add(number)
            self.errors[f"SET: {type(error).__name__}{', maybe executed' if in_doubt else ''}"] += 1
        else:
            key.acknowledged = number
            key.doubtful.clear()

    def _read(self, key: Key) -> None:
        try:
            found = self._client.get(key.name)
        except ValkeyError as error:
            self.errors[f"GET: {type(error).__name__}"] += 1
            return
        value = -1 if found is None else int(found)
        was_killed, key.was_killed = key.was_killed, False
        if value in key.doubtful:
            key.doubtful.clear()
        elif value != key.acknowledged and not (was_killed and value < key.acknowledged):
            self.wrong.append(f"{key.name} is {value}, not {key.acknowledged} or {sorted(key.doubtful)}")
        key.acknowledged = value


class WorkloadTests(ClusterTests):
    async def test_sigkill_failover_and_resharding(self) -> None:
        """The result is the same as with Deferreds, and nothing is left after close()."""
        # The client runs a reactor of its own, as in a program without Twisted.
        self.patch(background, "_shared_reactor", lambda: None)
        before = set(threading.enumerate())
        url = self.cluster.url
        client: blocking.BlockingClient[bytes] = await deferToThread(blocking.connect, url)
        load = ThreadWorkload(client)
        await self.advance(load)
        # A failover.
        await self.cluster.failover(self.cluster.servers[3])
        await self.cluster.wait_until_whole()
        await self.advance(load)
        # A resharding: slots with keys move to another primary and back.
        one, other = self.cluster.servers[1:3]
        slots = (await self.cluster.ranges_of(one))[0][:200]
        await self.cluster.migrate_by_key(slots, one, other)
        await self.cluster.migrate_by_key(slots, other, one)
        await self.advance(load)
        self.assertEqual(dict(load.errors), {})
        # A SIGKILL.
        victim = self.cluster.servers[1]
        load.primary_killed(await self.slots_of(victim))
        await self.cluster.kill(victim)
        await self.cluster.wait_for_takeover(victim)
        await self.advance(load)
        self.assertEqual(await deferToThread(load.stop), [])
        self.assertEqual(load.wrong, [])
        self.assertLessEqual(set(load.errors), {"SET: ConnectionLost, maybe executed"})
        self.assertLessEqual(sum(load.errors.values()), THREADS)
        await deferToThread(client.close)
        left = {thread.name for thread in set(threading.enumerate()) - before}
        self.assertEqual({name for name in left if not name.startswith("PoolThread-twisted.internet.reactor")}, set())
        self.assertEqual(sum(node.open.shared for node in client.statistics.nodes.values()), 0)

    async def slots_of(self, server: Any) -> set[int]:
        """Return the slots of a primary."""
        return {slot for owned in await self.cluster.ranges_of(server) for slot in owned}

    async def advance(self, load: ThreadWorkload) -> None:
        """Wait until the threads have done 3000 more commands."""
        goal = sum(load.commands) + 3000
        while sum(load.commands) < goal:
            await deferLater(reactor, 0.01)

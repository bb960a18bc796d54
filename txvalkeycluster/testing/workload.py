"""A workload that writes and reads, checks every value, and counts the commands that never end."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.interfaces import IReactorTime

from ..client import ClusterClient
from ..errors import ClientClosed, MaybeExecuted, ValkeyError
from ..slots import key_slot

_KEYS_PER_WORKER = 20
_DELETED_AT_ONCE = 1000


@dataclass
class Report:
    """What a workload has seen.  The values change while it runs."""

    #: How many commands have ended.
    commands: int = 0
    #: How many values have been read and checked.
    verified: int = 0
    #: A text for each wrong value, with the key, the value, and the values that were expected.
    wrong: list[str] = field(default_factory=list)
    #: How many reads gave an older value after a primary was killed: a write was acknowledged, but not replicated yet.
    #: These do not count as wrong.
    older: int = 0
    #: How many errors the client gave to its caller, by command and kind of error.
    errors: Counter[str] = field(default_factory=Counter)
    #: How many Deferreds of commands never fired.
    unfired: int = 0
    #: The longest time that one command took, in seconds.
    longest_stall: float = 0.0
    #: When that command was issued, in seconds from the start.
    longest_stall_at: float = 0.0
    #: How long the workload ran, in seconds; set at the end.
    seconds: float = 0.0

    @property
    def sound(self) -> bool:
        """Whether every value was right and every Deferred fired."""
        return not self.wrong and not self.unfired


class _Key:
    """What a worker knows of one of its keys; no other worker uses the key."""

    __slots__ = ("acknowledged", "doubtful", "name", "slot", "was_killed")

    def __init__(self, name: str) -> None:
        self.name = name
        self.slot = key_slot(name)
        #: The last value that the server acknowledged; -1: none.
        self.acknowledged = -1
        #: The values that were written since then without a reply: they may have been stored.
        self.doubtful: set[int] = set()
        #: Whether its primary was killed since it was last read.
        self.was_killed = False


class Workload:
    """Workers that write and read keys of their own, and check what they read.

    Each worker awaits a command before it issues the next one.  The workers end at `stop`, or if the client is closed.

    Example:
        load = Workload(reactor, client, workers=10)
        load.start()
        await cluster.failover(cluster.servers[3])
        report = await load.stop()
        assert report.sound, report
    """

    def __init__(
        self, reactor: IReactorTime, client: ClusterClient, *, workers: int = 50, prefix: str = "workload"
    ) -> None:
        """Make a workload; `start` starts it.

        Args:
            reactor: The Twisted reactor.
            client: The client to use.
            workers: How many workers there are, and so how many commands are under way at the same time.
            prefix: What the names of all keys begin with.
        """
        #: What the workload has seen so far.
        self.report = Report()
        self._reactor = reactor
        self._client = client
        self._random = client.options.random
        self._keys = [[_Key(f"{prefix}:{w}:{k}") for k in range(_KEYS_PER_WORKER)] for w in range(workers)]
        self._running: list[Deferred[None]] = []
        self._waiting: set[Deferred[Any]] = set()
        self._stopping = False
        self._started_at = 0.0

    def start(self) -> None:
        """Start the workers."""
        self._started_at = self._reactor.seconds()
        self._running = [Deferred.fromCoroutine(self._work(keys)) for keys in self._keys]

    def primary_killed(self, slots: range | set[int]) -> None:
        """Accept one older value of each key in these slots, since a write may not have been replicated.

        Args:
            slots: The slots of a primary that is killed.
        """
        for key in self._all_keys():
            if key.slot in slots:
                key.was_killed = True

    async def stop(self) -> Report:
        """Stop the workers, each after its present command.

        A command that has not ended 5 s after its timeout counts as ``unfired``.

        Returns:
            The report.
        """
        self._stopping = True
        patience = (self._client.options.timeout or 0.0) + 5.0
        timer = self._reactor.callLater(patience, self._give_up)
        results: Any = await DeferredList(self._running, consumeErrors=True)
        if timer.active():
            timer.cancel()
        self.report.seconds = self._reactor.seconds() - self._started_at
        for success, result in results:
            if not success and not self.report.unfired:
                result.raiseException()
        return self.report

    async def remove_keys(self) -> None:
        """Delete all keys of the workload."""
        names = iter([key.name for key in self._all_keys()])
        while batch := list(islice(names, _DELETED_AT_ONCE)):
            await gatherResults([self._client.execute("DEL", name) for name in batch], consumeErrors=True)

    def _all_keys(self) -> list[_Key]:
        return [key for keys in self._keys for key in keys]

    def _give_up(self) -> None:
        self.report.unfired = len(self._waiting)
        for deferred in list(self._waiting):
            deferred.cancel()

    async def _work(self, keys: list[_Key]) -> None:
        number = 0
        # With a closed client every command fails in the next turn of the reactor: the worker must end.
        with suppress(ClientClosed):
            while not self._stopping:
                await self._write(self._random.choice(keys), number)
                await self._read(self._random.choice(keys))
                number += 1

    async def _write(self, key: _Key, number: int) -> None:
        try:
            await self._timed(self._client.execute("SET", key.name, number))
        except ValkeyError as error:
            if isinstance(error, MaybeExecuted) and error.maybe_executed:
                key.doubtful.add(number)
            self._note("SET", error)
        else:
            key.acknowledged = number
            key.doubtful.clear()

    async def _read(self, key: _Key) -> None:
        try:
            value = await self._timed(self._client.execute("GET", key.name))
        except ValkeyError as error:
            self._note("GET", error)
            return
        self._verify(key, -1 if value is None else int(value))

    def _verify(self, key: _Key, value: int) -> None:
        was_killed, key.was_killed = key.was_killed, False
        if value in key.doubtful:
            key.doubtful.clear()
        elif value < key.acknowledged and was_killed:
            self.report.older += 1
        elif value != key.acknowledged:
            expected = ", ".join(map(str, (key.acknowledged, *sorted(key.doubtful))))
            self.report.wrong.append(f"{key.name} is {value}, not {expected}")
        key.acknowledged = value
        self.report.verified += 1

    async def _timed(self, deferred: Deferred[Any]) -> Any:
        issued = self._reactor.seconds()
        self._waiting.add(deferred)
        try:
            return await deferred
        finally:
            self._waiting.discard(deferred)
            self.report.commands += 1
            took = self._reactor.seconds() - issued
            if took > self.report.longest_stall:
                self.report.longest_stall = took
                self.report.longest_stall_at = issued - self._started_at

    def _note(self, command: str, error: ValkeyError) -> None:
        doubt = ", maybe executed" if isinstance(error, MaybeExecuted) and error.maybe_executed else ""
        self.report.errors[f"{command}: {type(error).__name__}{doubt}"] += 1
        if isinstance(error, ClientClosed):
            raise error

"""SCAN over the whole cluster, with cursors as of one server.

A scan misses no key that exists from its beginning to its end, also while slots move (`ClusterClient.scan_iter`).
Therefore it has a state, which the proxy keeps: a cursor is the number of a scan and of its step.  The last step of a
scan can be asked for again, for clients that have lost a reply.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from typing import Any

from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime

_MOST = 1000
_KEPT = 600.0
_STEPS = 1 << 20
_WORKERS = 1 << 12
_NUMBERS = 1 << 31


class _Scan:
    def __init__(self, owner: object, words: tuple[bytes, ...], keys: AsyncIterator[Any], now: float) -> None:
        self.owner = owner
        self.words = words
        self.keys = keys
        self.used_at = now
        self.step = 0
        self.last: tuple[int, list[bytes]] = (0, [])
        self.ended = False
        self.lock: DeferredLock = DeferredLock()


class UnknownCursor(ValueError):
    """There is no scan with this cursor."""


class Scans:
    """The scans that are under way: a limited number, which expire."""

    def __init__(self, clock: IReactorTime, worker: int = 0) -> None:
        """Make a holder without scans.

        Args:
            clock: Measures time.
            worker: The number of this worker.  The cursors tell which worker has the scan.
        """
        self._worker = worker % _WORKERS
        self._clock = clock
        self._scans: OrderedDict[int, _Scan] = OrderedDict()
        self._random = random.SystemRandom()

    def __len__(self) -> int:
        return len(self._scans)

    def begin(self, owner: object, words: tuple[bytes, ...], keys: AsyncIterator[Any]) -> int:
        """Begin a scan.

        Args:
            owner: Who may continue it.
            words: The arguments after the cursor, which must stay the same.
            keys: Gives the keys.

        Returns:
            Its first cursor.
        """
        self._expire()
        number = self._random_number()
        while number in self._scans:
            number = self._random_number()
        self._scans[number] = _Scan(owner, words, keys, self._clock.seconds())
        return number * _STEPS

    def _random_number(self) -> int:
        return self._random.randrange(1, _NUMBERS) * _WORKERS + self._worker

    def owner_among(self, workers: Sequence[int], cursor: int) -> int | None:
        """Return the one of these workers that has the scan of a cursor; None if none of them has it."""
        mine = cursor // _STEPS % _WORKERS
        return next((worker for worker in workers if worker % _WORKERS == mine != self._worker), None)

    async def step(self, owner: object, cursor: int, words: tuple[bytes, ...], count: int) -> tuple[int, list[bytes]]:
        """Return the next cursor, 0 at the end, and the next keys.

        Args:
            owner: Who continues the scan.
            cursor: The cursor.
            words: The arguments after the cursor.
            count: How many keys to return at most.

        Raises:
            UnknownCursor: There is no such scan, or it belongs to somebody else or to other arguments.
            Exception: As `ClusterClient.scan_iter`.
        """
        number, step = divmod(cursor, _STEPS)
        scan = self._scans.get(number)
        if scan is None or scan.owner != owner or scan.words != words:
            raise UnknownCursor
        await scan.lock.acquire()
        try:
            if step == scan.step - 1:
                return scan.last
            if step != scan.step or scan.ended:
                raise UnknownCursor
            self._scans.move_to_end(number)
            scan.used_at = self._clock.seconds()
            found: list[bytes] = []
            try:
                while len(found) < count:
                    found.append(await anext(scan.keys))
            except StopAsyncIteration:
                scan.ended = True
            except BaseException:
                self._scans.pop(number, None)
                raise
            scan.step += 1
            scan.last = (0 if scan.ended else number * _STEPS + scan.step, found)
            return scan.last
        finally:
            scan.lock.release()

    def _expire(self) -> None:
        old = self._clock.seconds() - _KEPT
        while self._scans:
            first = next(iter(self._scans.values()))
            if len(self._scans) < _MOST and first.used_at >= old:
                return
            self._scans.popitem(last=False)

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

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime

_MOST = 1000
_KEPT = 600.0
# The most keys that all scans together keep, for clients that ask for a step again.
_MOST_KEYS = 1 << 20
# A cursor has the number of the scan, that of the worker and that of the step; after the last step comes 0 again.  All
# of them fit into 53 bits, since some programs read cursors as floating-point numbers.
_STEPS = 1 << 8
_WORKERS = 1 << 12
_NUMBERS = 1 << 33


class _Scan:
    """A scan that goes on, or has ended and keeps the keys of its last step."""

    def __init__(self, owner: object, words: tuple[bytes, ...], keys: AsyncIterator[Any], now: float) -> None:
        self.owner = owner
        self.words = words
        self.used_at = now
        self.step = 0
        #: The reply to the last step; None before the first one.
        self.last: tuple[int, list[bytes]] | None = None
        self.ended = False
        # One step at a time.
        self.lock: DeferredLock = DeferredLock()
        self._keys: Any = keys
        self._dropped = False

    @property
    def kept(self) -> int:
        """How many keys it keeps."""
        return len(self.last[1]) if self.last is not None else 0

    async def take(self, count: int) -> list[bytes]:
        """Return the next keys."""
        found: list[bytes] = []
        try:
            while len(found) < count:
                found.append(await anext(self._keys))
        except StopAsyncIteration:
            self.ended = True
        return found

    def drop(self) -> None:
        """Forget the scan."""
        self._dropped = True
        if not self.lock.locked:
            self._close()

    def release(self) -> None:
        """End a step."""
        self.lock.release()
        if self._dropped and not self.lock.locked:
            self._close()

    def _close(self) -> None:
        """End the iterator, which no step uses."""
        Deferred.fromCoroutine(self._keys.aclose()).addErrback(lambda _: None)


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
        # The keys that all scans keep.
        self._keys = 0
        self._random = random.SystemRandom()

    def __len__(self) -> int:
        return sum(not scan.ended for scan in self._scans.values())

    def begin(self, owner: object, words: tuple[bytes, ...], keys: AsyncIterator[Any]) -> int:
        """Begin a scan.

        Args:
            owner: Who may continue it.
            words: The arguments after the cursor, which must stay the same.
            keys: Gives the keys: an asynchronous generator.

        Returns:
            Its first cursor.
        """
        self.expire()
        while len(self._scans) >= _MOST:
            self._drop(next(iter(self._scans)))
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
            if scan.last is not None and step == (scan.step - 1) % _STEPS:
                return scan.last
            if step != scan.step or scan.ended or self._scans.get(number) is not scan:
                raise UnknownCursor
            self._used(number, scan)
            try:
                found = await scan.take(count)
            except BaseException:
                self._drop(number)
                raise
            before = scan.kept
            scan.step = (scan.step + 1) % _STEPS
            scan.last = (0 if scan.ended else number * _STEPS + scan.step, found)
            if self._scans.get(number) is scan:
                self._keys += scan.kept - before
                self._used(number, scan)
                self._keep_less(scan)
            return scan.last
        finally:
            scan.release()

    def expire(self) -> None:
        """Forget the scans that were not used for some time."""
        old = self._clock.seconds() - _KEPT
        while self._scans:
            number, scan = next(iter(self._scans.items()))
            if scan.used_at >= old:
                return
            self._drop(number)

    def _used(self, number: int, scan: _Scan) -> None:
        scan.used_at = self._clock.seconds()
        self._scans.move_to_end(number)

    def _keep_less(self, used: _Scan) -> None:
        """If all scans together keep too many keys, forget those of the scans that were used least recently."""
        for number, scan in list(self._scans.items()):
            if self._keys <= _MOST_KEYS:
                return
            if scan.ended and scan is not used:
                self._drop(number)
            elif scan is not used:
                # It goes on, but its last step cannot be repeated.
                self._keys -= scan.kept
                scan.last = None

    def _drop(self, number: int) -> None:
        scan = self._scans.pop(number, None)
        if scan is not None:
            self._keys -= scan.kept
            scan.drop()

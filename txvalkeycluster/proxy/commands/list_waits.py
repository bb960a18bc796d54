"""Waits until lists have elements, and takes nothing: BLMOVE of a list onto itself.

All clients that wait for the same list share one such command.  It changes nothing that a reader of the list can see,
but it is a write: it is replicated, and makes keyspace events.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterable
from functools import partial
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from ...client import ClusterClient
from ...slots import key_slot
from .blocking import Endable, end_safely, is_empty

_log = Logger()
# Seconds until clients try by themselves, if the server cannot wait for them.
_PAUSE = 0.05


class ListWaits:
    """The lists for which clients wait, with one login to the cluster."""

    def __init__(self, client: ClusterClient[bytes], reactor: IReactorTime) -> None:
        """Make it without waits.

        Args:
            client: Sends the commands.
            reactor: Measures time.
        """
        self.client = client
        #: Returns a Deferred that fires after some seconds.
        self.delay: Callable[[float], Deferred[None]] = partial(deferLater, reactor)
        # As many connections wait.
        self._waits: dict[bytes, _ListWait] = {}
        #: Gives the place in the queue of each client that begins to wait.
        self.places = count()

    def __len__(self) -> int:
        return len(self._waits)

    def wait(self, keys: Iterable[bytes], place: int) -> Deferred[None]:
        """Wait until one of some lists may have an element.

        For each element, only the client that waits for the longest time is told.

        Args:
            keys: The lists.
            place: One of `places`, which a client that has tried in vain keeps.

        Returns:
            A Deferred that fires with None, and can be cancelled.
        """
        waiter = _Waiter(self, dict.fromkeys(keys), place)
        for key in waiter.keys:
            if key not in self._waits:
                self._waits[key] = _ListWait(self, key)
            self._waits[key].add(waiter)
        return waiter

    def drop(self, key: bytes) -> None:
        """Forget a list for which nobody waits."""
        self._waits.pop(key, None)

    def remove(self, waiter: _Waiter) -> None:
        """Let a client wait no more."""
        for key in waiter.keys:
            self._waits[key].remove(waiter)


class _Waiter(Deferred[None]):
    """A client that waits for some lists."""

    def __init__(self, owner: ListWaits, keys: Collection[bytes], place: int) -> None:
        super().__init__(lambda _: owner.remove(self))
        self.keys = keys
        self.place = place
        self._owner = owner

    def wake(self) -> None:
        """Tell the client that it can try, and let it wait no more."""
        self._owner.remove(self)
        self.callback(None)


def _place_of(waiter: _Waiter) -> int:
    return waiter.place


class _ListWait:
    """One list, and who waits for it."""

    def __init__(self, owner: ListWaits, key: bytes) -> None:
        self._owner = owner
        self._key = key
        # In the order in which they came.
        self._waiters: list[_Waiter] = []
        self._call: Endable | None = None
        self._pause: Deferred[None] | None = None

    def add(self, waiter: _Waiter) -> None:
        """Let a client wait."""
        insort(self._waiters, waiter, key=_place_of)
        self._go_on()

    def remove(self, waiter: _Waiter) -> None:
        """Let a client wait no more."""
        del self._waiters[bisect_left(self._waiters, waiter.place, key=_place_of)]
        if self._waiters:
            return
        if self._pause is not None:
            self._pause.cancel()
        elif self._call is not None:
            end_safely(self._call, self._owner.delay)

    def _go_on(self) -> None:
        if self._call is not None or self._pause is not None:
            return
        if not self._waiters:
            self._owner.drop(self._key)
            return
        words = [b"BLMOVE", self._key, self._key, b"LEFT", b"LEFT", b"0"]
        call: Any = self._owner.client.submit_blocking(words, key_slot(self._key), timeout=None)
        self._call = call
        call.addCallbacks(self._replied, lambda _: self._poll()).addErrback(_unexpected)

    def _replied(self, reply: bytes) -> None:
        if reply.startswith(b"-"):
            self._poll()
            return
        self._call = None
        if self._waiters and not is_empty(reply):
            self._waiters[0].wake()
        # If the next command is faster than this client, one more client tries in vain.
        self._go_on()

    def _poll(self) -> None:
        """Let all clients try after a pause: the server cannot wait for them."""
        self._call = None
        self._pause = self._owner.delay(_PAUSE)
        self._pause.addBoth(self._paused).addErrback(_unexpected)

    def _paused(self, _: object) -> None:
        self._pause = None
        for waiter in list(self._waiters):
            waiter.wake()
        self._go_on()


def _unexpected(failure: Failure) -> None:
    _log.failure("waiting for a list failed", failure)

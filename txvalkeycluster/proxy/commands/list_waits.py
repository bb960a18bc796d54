"""Waits until lists have elements, and takes nothing: BLMOVE of a list onto itself.

All clients that wait for the same list share one such command.  It changes nothing that a reader of the list can see,
but it is a write: it is replicated, and makes keyspace events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
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
        self._waits: dict[bytes, _ListWait] = {}

    def __len__(self) -> int:
        return len(self._waits)

    def wait(self, keys: Iterable[bytes]) -> Deferred[None]:
        """Wait until one of some lists may have an element.

        For each element, only the client that waits for the longest time is told.

        Args:
            keys: The lists.

        Returns:
            A Deferred that fires with None, and can be cancelled.
        """
        waiter: Deferred[None] = Deferred(self._forget)
        for key in dict.fromkeys(keys):
            if key not in self._waits:
                self._waits[key] = _ListWait(self, key)
            self._waits[key].add(waiter)
        return waiter

    def wake(self, waiter: Deferred[None]) -> None:
        """Tell a client that it can try, and let it wait no more."""
        self._forget(waiter)
        waiter.callback(None)

    def drop(self, key: bytes) -> None:
        """Forget a list for which nobody waits."""
        self._waits.pop(key, None)

    def _forget(self, waiter: Deferred[None]) -> None:
        for wait in list(self._waits.values()):
            wait.remove(waiter)


class _ListWait:
    """One list, and who waits for it."""

    def __init__(self, owner: ListWaits, key: bytes) -> None:
        self._owner = owner
        self._key = key
        # In the order in which they came.
        self._waiters: dict[Deferred[None], None] = {}
        self._call: Endable | None = None
        self._pausing = False

    def add(self, waiter: Deferred[None]) -> None:
        """Let a client wait."""
        self._waiters[waiter] = None
        self._go_on()

    def remove(self, waiter: Deferred[None]) -> None:
        """Let a client wait no more."""
        self._waiters.pop(waiter, None)
        if not self._waiters and self._call is not None:
            Deferred.fromCoroutine(end_safely(self._call, self._owner.delay)).addErrback(_unexpected)

    def _go_on(self) -> None:
        if self._call is not None or self._pausing:
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
            self._owner.wake(next(iter(self._waiters)))
        # If the next command is faster than this client, one more client tries in vain.
        self._go_on()

    def _poll(self) -> None:
        """Let all clients try after a pause: the server cannot wait for them."""
        self._call = None
        self._pausing = True
        self._owner.delay(_PAUSE).addCallback(self._paused).addErrback(_unexpected)

    def _paused(self, _: object) -> None:
        self._pausing = False
        for waiter in list(self._waiters):
            self._owner.wake(waiter)
        self._go_on()


def _unexpected(failure: Failure) -> None:
    _log.failure("waiting for a list failed", failure)

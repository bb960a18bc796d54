"""What all programs share: workers, and what they note."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

import redis
from twisted.internet.defer import DeferredList

from tests.proxy.client_libraries.libraries import done
from tests.proxy.programs import Progress

# Seconds that a blocking command waits.
BLOCK = 1
Turn = Callable[[int], Awaitable[object]]


class Workers(Progress):
    """A program with workers."""

    #: Workers that do something while the node of the tag of the program does not.
    elsewhere: tuple[str, ...] = ()

    def __init__(self, name: str, library: Any) -> None:
        super().__init__(f"{library.name}: {name}")
        self.library = library
        self.client = library.client
        #: What must not happen.
        self.wrong: list[str] = []
        self.counts: Counter[str] = Counter()

    def start(self, **turns: Turn) -> None:
        """Start workers, each of which calls its function with the numbers from 1."""
        self.counts.update(dict.fromkeys(turns, 0))
        workers = [self.library.start(self._work(name, turn)) for name, turn in turns.items()]
        self.ended = DeferredList(workers, fireOnOneErrback=True, consumeErrors=True)

    async def _work(self, name: str, turn: Turn) -> None:
        number = 0
        while not self.stopping.is_set():
            number += 1
            await self.round(name, turn(number))
            await done(self.library.pause())

    async def round(self, name: str, turn: Awaitable[object]) -> None:
        """Do one round; note how long it took and what it raised."""
        begun = monotonic()
        try:
            await turn
        except self.library.errors as error:
            self.errors.append(f"{type(error).__name__}: {error}")
        except Exception:
            self.wrong.append(f"{name}: {traceback.format_exc()}")
        self.counts[name] += 1
        self.took(begun)

    @property
    def still(self) -> list[tuple[str, int]]:
        """What does not change while the node of the tag does nothing."""
        return sorted(each for each in self.counts.items() if each[0] not in self.elsewhere)

    @property
    def seen(self) -> str:
        """What the program has seen that was no error, as text to be added to its name."""
        return ""

    def check(self, client: redis.Redis) -> None:
        """Compare what is at the server with what the workers know, after they have stopped."""

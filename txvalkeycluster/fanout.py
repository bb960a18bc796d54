"""One command on many nodes: its parts go out side by side, and their outcomes come back as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from .errors import PartialFailure

#: What became of one part: where it went, and the reply or the error.
Ending = tuple[str, Any]


class FanOut:
    """Gathers the outcomes of the parts of one command."""

    def __init__(
        self, name: str, finish: Callable[[list[Ending]], Any], note_cancel: Callable[[Deferred[Any]], None]
    ) -> None:
        """``finish`` makes the result out of the parts' endings, all of them good, in the order they were added."""
        self.deferred: Deferred[Any] = Deferred(note_cancel)
        #: Whether one good ending is enough.
        self.one_suffices = False
        self._name = name
        self._finish = finish
        self._endings: list[Ending] = []
        self._failed: set[int] = set()
        self._left = 0

    def part(self, where: str) -> PartOutcome:
        """The outcome of one more part; all parts are to be made before any can end."""
        self._endings.append((where, None))
        self._left += 1
        return PartOutcome(self, len(self._endings) - 1)

    def ended(self, index: int, value: Any, *, failed: bool) -> None:
        """Take the ending of a part; the last one ends the whole."""
        self._endings[index] = self._endings[index][0], value
        if failed:
            self._failed.add(index)
        self._left -= 1
        if self._left or self.deferred.called:
            return
        endings = self._endings
        if self.one_suffices and len(self._failed) < len(endings):
            endings = [ending for place, ending in enumerate(endings) if place not in self._failed]
        elif self._failed:
            self._fail()
            return
        try:
            result = self._finish(endings)
        except Exception:
            # Replies of a kind that the command's policy cannot put together.
            self.deferred.errback()
        else:
            self.deferred.callback(result)

    def _fail(self) -> None:
        if len(self._endings) == 1:
            self.deferred.errback(self._endings[0][1])
            return
        failures = ", ".join(where for place, (where, _) in enumerate(self._endings) if place in self._failed)
        text = f"{self._name} failed for {len(self._failed)} of {len(self._endings)} parts: {failures}"
        self.deferred.errback(PartialFailure(text, self._endings))


class PartOutcome:
    """What the request of one part fires."""

    __slots__ = ("_done", "_index", "_whole")

    def __init__(self, whole: FanOut, index: int) -> None:
        self._whole = whole
        self._index = index
        self._done = False

    @property
    def called(self) -> bool:
        """Whether it has ended, or nobody waits for the whole any more."""
        return self._done or bool(self._whole.deferred.called)

    def callback(self, result: Any) -> None:
        """End the part with a reply."""
        self._done = True
        self._whole.ended(self._index, result, failed=False)

    def errback(self, fail: Any = None) -> None:
        """End the part with an error."""
        self._done = True
        self._whole.ended(self._index, fail.value if isinstance(fail, Failure) else fail, failed=True)

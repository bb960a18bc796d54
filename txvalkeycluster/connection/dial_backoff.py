"""DialBackoff: when a node may be dialled again."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from ..options import Options
from .exclusive_pool import LIVED


class DialBackoff:
    """When a node may be dialled again, after dials that failed and connections that did not last."""

    def __init__(self, clock: IReactorTime, options: Options) -> None:
        self._clock = clock
        self._options = options
        self._failures = 0
        self._not_before = 0.0

    @property
    def failing(self) -> bool:
        """Whether the last dial failed, or its connection did not last."""
        return self._failures > 0

    @property
    def delay(self) -> float:
        """The seconds to wait before the next dial."""
        return max(self._not_before - self._clock.seconds(), 0.0)

    def failed(self) -> None:
        """Note a dial that failed."""
        self._failures += 1
        self._not_before = self._clock.seconds() + self._options.backoff(self._failures)

    def ended(self, connected_at: float) -> None:
        """Note the end of a connection; one that did not last counts as a failure."""
        if self._clock.seconds() - connected_at >= LIVED:
            self._failures = 0
        else:
            self.failed()

"""The check of the messages that a subscriber has received."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


class MessageLog:
    """What was published to some channels, and what a subscriber has received.  None is a gap."""

    def __init__(self, channels: Sequence[str]) -> None:
        self.channels = channels
        self._sent: dict[str, list[int]] = {channel: [] for channel in channels}
        self._maybe: dict[str, set[int]] = {channel: set() for channel in channels}
        self._seen: dict[str, list[int | None]] = {channel: [] for channel in channels}
        self.gaps = 0
        self.events = 0
        self._ends: set[str] = set()

    @property
    def subscribed(self) -> bool:
        return all(self._seen.values())

    @property
    def summary(self) -> str:
        """How often a channel was subscribed anew, and how many messages are missing so far."""
        missing = sum(len(set(self._sent[channel]) - set(self._seen[channel])) for channel in self.channels)
        return f"; {self.gaps} times subscribed anew; {missing} messages missing"

    def sent(self, channel: str, number: int) -> None:
        self._sent[channel].append(number)

    def maybe(self, channel: str, number: int) -> None:
        self._maybe[channel].add(number)

    @property
    def ended(self) -> bool:
        """Whether a last message, 0, has come on each channel."""
        return len(self._ends) == len(self.channels)

    def received(self, channel: str, number: int) -> None:
        if number == 0:
            self._ends.add(channel)
            return
        self.events += 1
        self._seen[channel].append(number)

    def gap(self, channel: str) -> None:
        self.events += 1
        self.gaps += bool(self._seen[channel])
        self._seen[channel].append(None)

    def check(self) -> None:
        """No message came twice or too late, and those that are missing are in gaps."""
        for channel, seen in self._seen.items():
            came = [number for number in seen if number is not None]
            assert came == sorted(set(came)), f"{channel}: wrong order, or messages that came twice: {came}"
            assert set(came) <= {*self._sent[channel], *self._maybe[channel]}, channel
            missing = sorted(set(self._sent[channel]) - set(came))
            gaps = list(_gaps(seen))
            lost = [number for number in missing if not any(first < number < last for first, last in gaps)]
            assert not lost, f"{channel}: {lost} are missing without a gap; gaps: {gaps}"


def _gaps(seen: Sequence[int | None]) -> Iterator[tuple[float, float]]:
    """Find the numbers before and after each gap."""
    for index, number in enumerate(seen):
        if number is None:
            before = [each for each in seen[:index] if each is not None]
            after = [each for each in seen[index:] if each is not None]
            yield (before[-1] if before else 0, after[0] if after else float("inf"))

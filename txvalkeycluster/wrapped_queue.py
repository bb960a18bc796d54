"""WrappedQueue: a pipeline or a transaction for another interface, such as that to asyncio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, Self, TypeVar

from .commands.converters import Convert
from .commands.encoder import Arg
from .commands.method_support import Text
from .commands.queued import QueuedCommands
from .pipeline import Pipeline
from .transaction import Transaction

_Queue = TypeVar("_Queue", bound=Pipeline[Any] | Transaction[Any])


class WrappedQueue(QueuedCommands[Text], Generic[_Queue, Text]):
    """Queues commands in a pipeline or a transaction; a subclass executes them."""

    def __init__(self, queue: _Queue) -> None:
        """Wrap a queue.

        Args:
            queue: A `Pipeline` or a `Transaction`.
        """
        self._queue = queue

    def __len__(self) -> int:
        return len(self._queue)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)} commands>"

    def add(self, *args: Arg) -> Self:
        """As `Pipeline.add` or `Transaction.add`."""
        self._queue.add(*args)
        return self

    def _run(self, words: Sequence[Any], convert: Convert | None = None) -> Any:
        self._queue._run(words, convert)
        return self

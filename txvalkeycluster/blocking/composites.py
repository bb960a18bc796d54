"""Several commands together, for threads: pipelines, transactions, watch sessions, scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from twisted.internet.defer import Deferred

from ..client import ClusterClient
from ..commands.blocking_commands import BlockingCommands
from ..commands.converters import Convert
from ..commands.encoder import Arg
from ..commands.method_support import Key, Text
from ..pipeline import Pipeline
from ..scripting import Function, Keys, Script, Values
from ..transaction import Transaction, WatchSession
from ..wrapped_queue import WrappedQueue
from .connection import Link

if TYPE_CHECKING:
    from .client import BlockingClient

# The most commands of a stream that are sent at once.
_STREAMED = 4096


class BlockingPipeline(WrappedQueue[Pipeline[Any], Text]):
    """A `Pipeline` for threads; `BlockingClient.pipeline` makes one.  Only one thread may use it at a time."""

    def __init__(self, link: Link, pipeline: Pipeline[Any]) -> None:
        super().__init__(pipeline)
        self._link = link

    def execute(self, *, raise_first: bool = False) -> list[Any]:
        """As `Pipeline.execute`."""
        results: list[Any] = self._link.bridge.run(partial(self._queue.execute, raise_first=raise_first))
        return results

    def stream(self, commands: Iterable[Sequence[Arg]], each: Callable[[int, Any], object]) -> int:
        """As `Pipeline.stream`; ``commands`` and ``each`` run in the calling thread, 4096 commands at a time."""
        count, left = 0, iter(commands)
        while chunk := list(islice(left, _STREAMED)):
            results: list[Any] = [None] * len(chunk)
            self._link.bridge.run(partial(self._queue.stream, chunk, results.__setitem__))
            for result in results:
                each(count, result)
                count += 1
        return count


class BlockingTransaction(WrappedQueue[Transaction[Any], Text]):
    """A `Transaction` for threads; `BlockingClient.transaction` makes one.  Only one thread may use it at a time."""

    def __init__(self, link: Link, transaction: Transaction[Any]) -> None:
        super().__init__(transaction)
        self._link = link

    def execute(self, *, raise_first: bool = True) -> list[Any]:
        """As `Transaction.execute`."""
        results: list[Any] = self._link.bridge.run(partial(self._queue.execute, raise_first=raise_first))
        return results


class BlockingWatchSession(BlockingCommands[Text]):
    """A `WatchSession` for threads; `BlockingClient.watch` makes one.  Only one thread may use it at a time."""

    def __init__(self, link: Link, session: WatchSession[Any]) -> None:
        self._link = link
        self._session = session

    def __repr__(self) -> str:
        return f"<BlockingWatchSession slot={self._session.slot}>"

    def _run(self, words: Sequence[Any], convert: Convert | None = None) -> Any:
        return self._link.bridge.run(partial(self._session._run, words, convert))

    def execute(self, *args: Arg) -> Any:
        """As `WatchSession.execute`."""
        return self._link.bridge.run(partial(self._session.execute, *args))

    def watch(self, *keys: Key) -> None:
        """As `WatchSession.watch`."""
        self._link.bridge.run(partial(self._session.watch, *keys))

    def transaction(self) -> BlockingTransaction[Text]:
        """As `WatchSession.transaction`."""
        return BlockingTransaction(self._link, self._session.transaction())

    def __enter__(self) -> Self:
        self._link.bridge.run(lambda: Deferred.fromCoroutine(self._session.__aenter__()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._link.bridge.run(lambda: Deferred.fromCoroutine(self._session.__aexit__(kind, error, trace)))


class BlockingScript:
    """A `Script` or a `Function` for threads; `BlockingClient.script` and `BlockingClient.function` make one."""

    def __init__(
        self, client: BlockingClient[Any], make: Callable[[ClusterClient[Any]], Script[Any] | Function[Any]]
    ) -> None:
        self._client = client
        self._make = make

    def __repr__(self) -> str:
        return f"<BlockingScript of {self._client!r}>"

    def __call__(self, keys: Keys = (), args: Values = (), *, read_only: bool = False) -> Any:
        """As a call of `Script` or `Function`."""
        return self._client._do(lambda client: self._make(client)(keys, args, read_only=read_only))

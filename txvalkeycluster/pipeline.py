"""`Pipeline`: many commands that are sent together, with one Deferred for all results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Self

from twisted.internet.defer import Deferred

from .acceleration import fast
from .commands.converters import Convert, converted
from .commands.encoder import Arg
from .commands.method_support import Text
from .commands.queued import QueuedCommands
from .errors import ProtocolError
from .routing.pipeline_run import PipelineRun
from .routing.results_in_order import ResultsInOrder
from .routing.router import Router


class CommandList:
    """The commands that are queued.  `_fast` has the same class in C."""

    _calls: list[Sequence[Arg]]

    def add(self, *args: Arg) -> Self:
        """Queue any command; its result is the reply as the server sends it.

        A wrong argument is reported in the results of `execute`, not here.

        Args:
            *args: The name of the command and its arguments.

        Returns:
            This pipeline.
        """
        self._calls.append(args)
        return self


#: The version in Python.
PythonCommandList = CommandList
if fast is not None and not TYPE_CHECKING:
    CommandList = fast.CommandList


class Pipeline(CommandList, QueuedCommands[Text]):
    """A queue of commands that are sent together.  `ClusterClient.pipeline` makes one.

    It has the methods of the client.  Each queues its command and returns the pipeline, so calls can be chained.

    All nodes get their commands at the same time.  Commands for one key are sent in the order in which they were
    queued; a command that is redirected or has to be retried can be executed after the next one.

    A pipeline is not a transaction.  Commands of other clients can be executed in between, and a command that fails
    does not stop the others.

    Example:
        pipeline = client.pipeline()
        for key in keys:
            pipeline.get(key)
        values = await pipeline.execute()
    """

    def __init__(self, router: Router, timeout: float | None) -> None:
        """Make an empty pipeline.

        Args:
            router: The router of the client.
            timeout: Seconds for each command.  None: no limit.
        """
        self._router = router
        self._timeout = timeout
        self._calls = []
        # The key is the index of the call.
        self._converts: dict[int, Convert] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def __repr__(self) -> str:
        return f"<Pipeline of {len(self._calls)} commands>"

    def execute(self, *, raise_first: bool = False) -> Deferred[list[Any]]:
        """Send the queued commands.  The pipeline is empty afterwards, and can be used again.

        Args:
            raise_first: False puts the error of a command into the list of results.  True makes the Deferred fail with
                the first error in the list, after all commands have ended.

        Returns:
            A Deferred that fires with a list of results, one for each command, in the order in which they were queued.
            A result is a reply, or one of the errors that `ClusterClient.execute` lists.

        Raises:
            ClientClosed: Through the Deferred: the client was closed before, or is aborted meanwhile.

        Example:
            results = await client.pipeline().incr("visits").get("page").execute(raise_first=True)
        """
        calls, self._calls = self._calls, []
        converts, self._converts = self._converts, {}
        results: list[Any] = [None] * len(calls)
        done = PipelineRun(self._router, calls, self._timeout, results, to_the_end=True).done
        if self._router.observation is not None:
            done = self._router.observation.watch(done, "PIPELINE", (call[0] if call else b"" for call in calls))

        def finish(_: object) -> list[Any]:
            for place, convert in converts.items():
                if not isinstance(results[place], Exception):
                    results[place] = _converted(convert, results[place])
            if raise_first:
                for result in results:
                    if isinstance(result, Exception):
                        raise result
            return results

        return done.addCallback(finish)

    def stream(self, commands: Iterable[Sequence[Arg]], each: Callable[[int, Any], object]) -> Deferred[int]:
        """Send the commands of an iterable, and give each result to a function.

        The pipeline takes a command from the iterable only when it can be sent, so memory holds only the commands that
        are not answered yet, at most 4096.  Commands that are queued in this pipeline are not part of the stream.

        Args:
            commands: Commands, each a sequence of the name and the arguments.
            each: Called with the index of a command, from 0, and its reply or error.  The replies of one node come in
                order; replies of several nodes are mixed.  If it is a coroutine function, each call is awaited before
                the next one begins.

        Returns:
            A Deferred that fires with the number of commands, after ``each`` has had all results.  It fails with the
            errors below, after the commands that were sent have ended.

        Raises:
            ClientClosed: The client was closed; ``each`` gets the results of the commands that were sent before.
            BaseException: Whatever ``commands`` or ``each`` raises.  After an error of ``commands``, ``each`` gets the
                results of the commands that were taken before.  After an error of ``each``, it is not called again.

        Example:
            def each(index, result):
                if isinstance(result, Exception):
                    failed.append((index, result))

            rows = (("HSET", f"user:{n}", "name", name) for n, name in enumerate(names))
            count = await client.pipeline().stream(rows, each)
        """
        if iscoroutinefunction(each):
            done = ResultsInOrder(self._router, commands, self._timeout, each).done
        else:
            done = PipelineRun(self._router, commands, self._timeout, each, to_the_end=False).done
        if self._router.observation is not None:
            done = self._router.observation.watch(done, "PIPELINE", ())
        return done

    def _run(self, words: Sequence[Any], convert: Convert | None = None) -> Any:
        if convert is not None:
            self._converts[len(self._calls)] = convert
        self._calls.append(words)
        return self


def _converted(convert: Convert, reply: Any) -> Any:
    try:
        return converted(reply, convert)
    except ProtocolError as error:
        return error

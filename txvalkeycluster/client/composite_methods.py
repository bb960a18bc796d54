"""The methods for several commands together: pipelines, transactions, scripts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from ..commands.encoder import Arg
from ..commands.method_support import Key, Text
from ..commands.methods import Commands
from ..options import DEFAULT
from ..pipeline import Pipeline
from ..scripting import Function, Script
from ..transaction import Transaction, WatchSession, optimistically
from .base import ClientBase

_T = TypeVar("_T")


class CompositeMethods(ClientBase[Text], Commands[Text]):
    """Sends several commands as a pipeline, as a transaction, or as a script."""

    def pipeline(self, *, timeout: float | None = DEFAULT) -> Pipeline[Text]:
        """Return a queue of commands that are sent together.  They can have keys in any slots.

        Args:
            timeout: Seconds for each command.  None: no limit.  If not given, the option ``timeout`` applies.

        Returns:
            A `Pipeline`.  It has the client's methods; each queues its command and returns the pipeline.

        Example:
            visits, page = await client.pipeline().incr("visits").get("page").execute()
        """
        return Pipeline(self._router, self._given(timeout))

    def stream(
        self,
        commands: Iterable[Sequence[Arg]],
        each: Callable[[int, Any], object],
        *,
        timeout: float | None = DEFAULT,
    ) -> Deferred[int]:
        """Send the commands of an iterable, and give each result to a function.

        The same as ``client.pipeline(timeout=timeout).stream(commands, each)``; see `Pipeline.stream`.

        Args:
            commands: Commands, each a sequence of the name and the arguments.  The client takes them only as fast as
                it can send them, so millions need little memory.
            each: Called with the index of a command, from 0, and its reply or error.
            timeout: Seconds for each command.  None: no limit.  If not given, the option ``timeout`` applies.

        Returns:
            A Deferred that fires with the number of commands.  It fails as `Pipeline.stream` does.

        Example:
            def each(index, result):
                if isinstance(result, Exception):
                    failed.append((index, result))

            count = await client.stream((("SET", f"key:{n}", n) for n in range(1_000_000)), each)
        """
        return self.pipeline(timeout=timeout).stream(commands, each)

    def transaction(self, *, timeout: float | None = DEFAULT) -> Transaction[Text]:
        """Return a queue of commands that the server executes as one transaction (MULTI, EXEC).

        All keys must be in one slot; a common ``{hash tag}`` puts them there.
        Source: https://valkey.io/topics/transactions

        Args:
            timeout: Seconds for the whole transaction.  None: no limit.  If not given, the option ``timeout`` applies.

        Returns:
            A `Transaction`.  It has the client's methods; each queues its command and returns the transaction.

        Example:
            items, length = await client.transaction().incr("{cart}items").rpush("{cart}list", "apple").execute()
        """
        return Transaction(self._router, self._given(timeout))

    def watch(self, *keys: Key, timeout: float | None = DEFAULT) -> WatchSession[Text]:
        """Return a session that watches keys (WATCH), for a transaction that depends on what they hold.

        Use the session with ``async with``.  It has a connection of its own.  `optimistically` repeats such a session
        until its transaction succeeds.

        Args:
            *keys: At least one key; all of them in one slot.
            timeout: Seconds for each command of the session.  None: no limit.  If not given, the option ``timeout``
                applies.

        Returns:
            A `WatchSession`.

        Raises:
            RoutingError: The keys are in several slots.
            ValueError: There is no key.

        Example:
            async with client.watch("stock") as session:
                left = int(await session.get("stock"))
                if left:
                    await session.transaction().set("stock", left - 1).execute()
        """
        return WatchSession(self._router, keys, self._given(timeout))

    def optimistically(
        self,
        function: Callable[[WatchSession[Text]], Awaitable[_T]],
        *keys: Key,
        attempts: int | None = None,
        timeout: float | None = DEFAULT,
    ) -> Deferred[_T]:
        """Run a function with a session that watches keys; run it again while it fails with WatchError.

        Between attempts there is a random pause of at most 60 ms.

        Args:
            function: An async function.  It is called with a new `WatchSession` for each attempt, and should end with
                a transaction of this session.
            *keys: At least one key; all of them in one slot.
            attempts: How many times to run the function at most.  None: no limit.
            timeout: Seconds after which no new attempt begins.  None: no limit.  If not given, the option ``timeout``
                applies.

        Returns:
            A Deferred that fires with what the function returns.  It fails with the errors below, and with any other
            error of the function or of the session, which ends the attempts.

        Raises:
            WatchError: Every attempt failed with it; this is the error of the last attempt.
            ValueError: There is no key, or ``attempts`` is below 1.
            RoutingError: The keys are in several slots.

        Example:
            async def take_one(session):
                left = int(await session.get("stock"))
                return await session.transaction().set("stock", left - 1).execute()

            await client.optimistically(take_one, "stock")
        """
        router = self._router
        patience = self._given(timeout)
        return Deferred.fromCoroutine(
            optimistically(router.clock, self.options.random, lambda: self.watch(*keys), function, attempts, patience)
        )

    def script(self, source: str | bytes) -> Script[Text]:
        """Return a Lua script as a callable.

        The client sends the SHA-1 of the script, and the whole script only to a node that does not have it.
        Source: https://valkey.io/topics/eval-intro

        Args:
            source: The Lua code.

        Returns:
            A `Script`.  A call runs it on the node of its keys, and returns a Deferred.

        Example:
            greet = client.script("return ARGV[1] .. KEYS[1]")
            print(await greet("world", ["hello "]))
        """
        return Script(self, source, repeats=self.options.repeat_scripts)

    def function(self, name: str, library: str | bytes | None = None) -> Function[Text]:
        """Return a server-side function as a callable.

        Source: https://valkey.io/topics/functions-intro

        Args:
            name: The name of the function.
            library: The code of the library that holds it.  If a node does not have the function, the client loads the
                library into every primary, and calls the function again.  None: nothing is loaded.

        Returns:
            A `Function`.  A call runs it on the node of its keys, and returns a Deferred.

        Example:
            add = client.function("add", Path("lib.lua").read_text())
            print(await add("counter", [5]))
        """
        return Function(self, name, library, repeats=self.options.repeat_scripts)

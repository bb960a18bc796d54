"""A client with a listener of commands, and checks of what it gets, for tests to inherit."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from twisted.internet.defer import Deferred

from tests.memory import MemoryTests
from txvalkeycluster import Address, ClusterClient, FinishedCommand
from txvalkeycluster.testing import DEFAULT_REPLY, ScriptedNode

NUMBER: ContextVar[int] = ContextVar("NUMBER", default=0)


class ListenerTests(MemoryTests):
    """A client with a listener; `finished` has what the listener got."""

    def setUp(self) -> None:
        super().setUp()
        self.node, self.other = self.nodes[0], self.nodes[1]
        self.key, self.key_of_other = self.key_of(self.node), self.key_of(self.other)
        self.finished: list[FinishedCommand] = []

    def observed(self, **options: Any) -> ClusterClient[bytes]:
        """Return a client that has the slot map and a listener."""
        client = self.client(**options)
        client.add_command_listener(self.finished.append)
        return client

    def answer(self, name: bytes, reply: Any, node: ScriptedNode | None = None) -> None:
        """Let a node, by default the first, answer a command with a reply."""
        (node or self.node).script = lambda node, words, connection: reply if words[0] == name else DEFAULT_REPLY

    def the_only(self) -> FinishedCommand:
        """Return the only record since the last call."""
        (finished,) = self.finished
        self.finished.clear()
        return finished

    def check(
        self,
        name: str,
        node: Address | None,
        *,
        attempts: int = 1,
        error: type[BaseException] | None = None,
        commands: int = 1,
        seconds: float | None = None,
    ) -> None:
        """Check that there is one record, and what it says.  ``seconds`` None: any time."""
        finished = self.the_only()
        kind = None if finished.error is None else type(finished.error)
        self.assertEqual(
            (finished.name, finished.node, finished.attempts, kind, finished.commands),
            (name, node, attempts, error, commands),
        )
        if seconds is not None:
            self.assertLess(abs(finished.seconds - seconds), 0.015, finished)

    def numbers(self, call: Callable[[], Deferred[Any]]) -> list[int]:
        """Call with a number in the context, end the command without it, and return the numbers in the records."""
        token = NUMBER.set(7)
        done = call()
        NUMBER.reset(token)
        done.addErrback(lambda _: None)
        self.result_of(done)
        finished, self.finished[:] = list(self.finished), []
        return [each.context[NUMBER] for each in finished]

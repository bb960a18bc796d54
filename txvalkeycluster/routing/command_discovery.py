"""Asks a server about commands that are not in the table.  The commands wait for its reply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from ..commands import Command, CommandTable
from ..commands.command_info import read_reply
from ..connection.node import NodeConnection
from ..errors import ProtocolError, ReplyError
from ..requests.request import Request
from ..requests.retry_queue import RetryQueue
from ..requests.timer import Timer

# Seconds between a failed query and the next one.
_PAUSE = 0.05


class CommandDiscovery:
    """Sends COMMAND INFO for the unknown commands that wait in a queue."""

    def __init__(
        self,
        clock: IReactorTime,
        table: CommandTable,
        queue: Callable[[Callable[[], None]], RetryQueue],
        any_node: Callable[[], NodeConnection | None],
    ) -> None:
        """Make the queue.

        Args:
            clock: Measures time.
            table: The table that the commands are added to.
            queue: Makes a retry queue that calls the given function when a command enters it.
            any_node: Returns a node to ask, or None if there is none at the moment.
        """
        self._table = table
        self.queue = queue(self.ask)
        self._any_node = any_node
        self._asking = False
        self._timer = Timer(clock, self.ask)

    def ask(self) -> None:
        """Send a query for the waiting commands, unless one is pending or there is no node to ask."""
        waiting = self.queue.everything()
        if self._asking or not waiting:
            return
        node = self._any_node()
        if node is None:
            return
        self._asking = True
        names = sorted({request.command.name for request in waiting if request.command is not None})
        asked: Deferred[Any] = node.call("COMMAND", "INFO", *names)
        asked.addCallbacks(self._answered, self._failed, callbackArgs=(names,), errbackArgs=(names,))

    def close(self) -> list[Request]:
        """Send no further queries, and return the waiting commands."""
        self._timer.stop()
        return self.queue.take_all()

    def _answered(self, reply: object, names: list[str]) -> None:
        try:
            commands = read_reply(reply)
        except ProtocolError as error:
            self._asking = False
            error.maybe_executed = False
            for request in self.queue.take_all():
                request.fail(error)
            return
        self._learnt(names, commands)

    def _failed(self, failure: Failure, names: list[str]) -> None:
        if isinstance(failure.value, ReplyError):
            # The user may not use COMMAND, or the server is too old.  The commands go to any node and follow MOVED.
            self._learnt(names, [])
            return
        self._asking = False
        if self.queue and not self._timer.running:
            self._timer.start(_PAUSE)

    def _learnt(self, names: list[str], commands: list[Command]) -> None:
        self._asking = False
        # Ignore other commands: a node must not redefine a command such as GET.
        asked = frozenset(names)
        told = {command.name: command for command in commands if command.name in asked}
        self._table.learn(told.get(name) or Command(name) for name in names)
        # Commands that were queued during the query enter the queue again and start a new query.
        self.queue.release()

"""Commands that no table holds: the server is asked once what they mean, and they wait for its answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from ..commands import Command, CommandTable
from ..commands.command_info import read_reply
from ..connection.node import NodeConnection
from ..errors import ProtocolError, ReplyError
from ..requests.request import Request
from ..requests.retry_queue import RetryQueue
from ..requests.timer import Timer

# The next node is asked this long after one could not be.
_PAUSE = 0.05


class CommandDiscovery:
    """Asks COMMAND INFO for the names that wait in a queue."""

    def __init__(
        self,
        clock: IReactorTime,
        table: CommandTable,
        queue: Callable[[Callable[[], None]], RetryQueue],
        any_node: Callable[[], NodeConnection | None],
    ) -> None:
        """``queue`` makes the retry queue, given what is to be called when one enters."""
        self._table = table
        self.queue = queue(self.ask)
        self._any_node = any_node
        self._asking = False
        self._timer = Timer(clock, self.ask)

    def ask(self) -> None:
        """Ask for the names of those that wait, unless that is under way or nobody is there to be asked."""
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
        """Ask nobody any more; hand over what waits."""
        self._timer.stop()
        return self.queue.take_all()

    def _answered(self, reply: Any, names: list[str]) -> None:
        try:
            commands = read_reply(reply)
        except ProtocolError as error:
            self._asking = False
            error.maybe_executed = False
            for request in self.queue.take_all():
                request.fail(error)
            return
        self._learnt(names, commands)

    def _failed(self, failure: Any, names: list[str]) -> None:
        if failure.check(ReplyError):
            # It may not be asked, or is too old: the commands go anywhere, and MOVED tells where they belong.
            self._learnt(names, [])
            return
        self._asking = False
        if self.queue and not self._timer.running:
            self._timer.start(_PAUSE)

    def _learnt(self, names: list[str], commands: list[Command]) -> None:
        self._asking = False
        # Nobody asked about others: a node must not say what GET means.
        asked = frozenset(names)
        told = {command.name: command for command in commands if command.name in asked}
        self._table.learn(told.get(name) or Command(name) for name in names)
        # Commands that were queued meanwhile enter again, and start a new query.
        self.queue.release()

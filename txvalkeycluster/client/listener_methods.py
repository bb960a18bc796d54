"""The methods for functions that are called with events, or with every command."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from ..commands.method_support import Text
from ..events import Closed, Event
from ..log import ClusterLog
from ..routing.observation import CommandListener
from .base import ClientBase

_log = Logger()


class ListenerMethods(ClientBase[Text]):
    """Calls listeners."""

    _listeners: list[Callable[[Event], object]]
    _cluster_log: ClusterLog

    def add_listener(self, listener: Callable[[Event], object]) -> None:
        """Call a function with every event of the client, from now on.

        Args:
            listener: Called with one event (`Event` lists the kinds).  It should return quickly, since commands wait
                meanwhile.  An exception that it raises is logged.

        Example:
            client.add_listener(lambda event: print(event))
        """
        self._listeners.append(listener)

    def remove_listener(self, listener: Callable[[Event], object]) -> None:
        """Stop calling a listener.

        Args:
            listener: A function that was given to `add_listener`.

        Raises:
            ValueError: The listener was not added, is removed already, or the client has closed.
        """
        self._listeners.remove(listener)

    def add_command_listener(self, listener: CommandListener) -> None:
        """Call a function with every command that is called from now on, when it has ended; for metrics and traces.

        A pipeline and a transaction are one command each.  Commands of the client itself are not reported.  As long as
        there is no such listener, it costs nothing.

        Args:
            listener: Called with one `FinishedCommand`, before the caller of the command gets the result.  It must
                return quickly: it is part of the time of every command.  An exception that it raises is logged.

        Example:
            def slow(finished):
                if finished.seconds > 0.1:
                    print(finished.name, finished.node, finished.seconds)

            client.add_command_listener(slow)
        """
        self._router.observe(listener)

    def remove_command_listener(self, listener: CommandListener) -> None:
        """Stop calling a listener of commands.

        Args:
            listener: A function that was given to `add_command_listener`.

        Raises:
            ValueError: The listener was not added, or is removed already.
        """
        self._router.stop_observing(listener)

    def _emit(self, event: Event) -> None:
        if isinstance(event, Closed):
            listeners, self._listeners = self._listeners, []
        else:
            listeners = [*([self._cluster_log.note] if self.options.log else []), *self._listeners]
        for listener in listeners:
            try:
                listener(event)
            except BaseException:
                # SystemExit too must not prevent the client from closing.  The reactor also logs it and goes on.
                # Without the content of the event: channels can be secret.
                _log.failure("a listener raised an exception for {event}", event=type(event).__name__)

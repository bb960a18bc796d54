"""Subscribers: the subscribers of one node, one for each group that has subscriptions there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from ..errors import ConnectionLost
from ..options import Options
from ..requests.request import Request
from ..requests.subscribe import SubscribeCall
from ..requests.waits import Waits
from .dial_backoff import DialBackoff
from .subscriber import Node, Subscriber
from .subscriber_group import SubscriberGroup
from .subscriber_protocol import SubscriberProtocol


class Subscribers:
    """The subscribers of one node: one for each group that has subscriptions there."""

    def __init__(
        self,
        clock: IReactorTime,
        options: Options,
        waits: Waits,
        establish: Callable[[], Deferred[tuple[SubscriberProtocol, Any]]],
        node: Node,
    ) -> None:
        """Start without subscribers; the arguments are those of `Subscriber`."""
        self._arguments = (clock, options, waits, establish, node, DialBackoff(clock, options))
        self._node = node
        self._by_group: dict[SubscriberGroup, Subscriber] = {}
        self._closed = False

    @property
    def in_use(self) -> bool:
        """Whether the node has any subscriber."""
        return bool(self._by_group)

    def send(self, request: Request) -> None:
        """Send a request on the connection of its group."""
        assert isinstance(request, SubscribeCall)
        if self._closed:
            request.fail_unanswered(ConnectionLost, f"{self._node.address}: the connection was closed")
            return
        subscriber = self._by_group.get(request.group)
        if subscriber is None:
            subscriber = self._by_group[request.group] = Subscriber(*self._arguments, request.group, self._remove)
        subscriber.send(request)

    def waiting(self) -> list[Request]:
        """Return the requests that wait for a connection."""
        return [request for subscriber in self._by_group.values() for request in subscriber.waiting()]

    def take_waiting(self, wanted: Callable[[Request], bool]) -> list[Request]:
        """Remove and return those waiting requests for which ``wanted`` returns true."""
        return [request for subscriber in self._by_group.values() for request in subscriber.take_waiting(wanted)]

    def redial(self, connection: Any) -> None:
        """End ``connection``, whose address now belongs to another machine, if a subscriber uses it."""
        for subscriber in list(self._by_group.values()):
            subscriber.redial(connection)

    def close(self) -> None:
        """Close every subscriber, because the node has left the cluster or the client closes."""
        for subscriber in self._take():
            subscriber.close()

    def abort(self, reason: Exception) -> list[Request]:
        """End every subscriber at once.

        Args:
            reason: Why.

        Returns:
            The requests that waited for a connection.
        """
        return [request for subscriber in self._take() for request in subscriber.abort(reason)]

    def _take(self) -> list[Subscriber]:
        self._closed = True
        taken, self._by_group = list(self._by_group.values()), {}
        return taken

    def _remove(self, subscriber: Subscriber) -> None:
        self._by_group = {group: each for group, each in self._by_group.items() if each is not subscriber}

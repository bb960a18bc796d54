"""Sends the requests that subscribe and unsubscribe, and sends them again until a server has confirmed them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..address import Address
from ..connection.node import NodeConnection, State
from ..connection.subscriber import Subscriber
from ..connection.subscriber_group import SubscriberGroup
from ..errors import ClientClosed, ReplyError
from ..requests.subscribe import PATTERN, Kind, SubscribeCall
from ..requests.target import ANY_NODE, THIS_NODE, Target
from ..requests.timer import Timer
from ..routing.router import Router
from .placement import Scope
from .upstream import Part

if TYPE_CHECKING:
    from .hub import SubscriptionHub

_log = Logger()
# Seconds between two tries to subscribe what a node does not take now, or has refused to subscribe again.
_RETRY, _LONGEST_RETRY = 0.05, 1.0


class SubscribeRequests:
    """The requests of one client about its subscriptions."""

    def __init__(self, hub: SubscriptionHub, router: Router) -> None:
        """Make it without requests.

        Args:
            hub: Decides what is subscribed, and where.
            router: The router of the client.
        """
        self._hub = hub
        self._router = router
        # The parts that wait until they are asked for again.
        self._retries: dict[Part, Timer] = {}

    def stop(self) -> None:
        """Ask for nothing again."""
        for timer in self._retries.values():
            timer.stop()
        self._retries.clear()

    def subscribe(self, parts: Iterable[Part]) -> None:
        """Send requests for parts that are not subscribed: one for each slot, node, kind and scope."""
        batches: dict[tuple[SubscriberGroup, Kind, Scope, Target, Address | None], list[Part]] = {}
        for part in parts:
            if part.where is None and part.call is None and part not in self._retries and self._is_wanted(part):
                key = (part.upstream.group, part.kind, part.upstream.scope, _target(part), part.node)
                batches.setdefault(key, []).append(part)
        for batch in batches.values():
            self._send(batch)

    def _send(self, parts: Sequence[Part]) -> None:
        first = parts[0]
        group, target = first.upstream.group, _target(first)
        call = SubscribeCall(first.kind, parts, group, target, self._router.clock.seconds(), self._router.note_cancel)
        for part in parts:
            part.call = call
        call.addCallbacks(self._answered, self._failed, callbackArgs=(call, parts), errbackArgs=(call, parts))
        node: NodeConnection | None = None
        if first.node is not None:
            node = self._router.factory.node_at(first.node)
        elif target is ANY_NODE:
            node = self._home(group)
        if node is None:
            self._router.send(call)
        else:
            destination = node
            self._router.give(call, lambda: call.give_to(destination))

    def _home(self, group: SubscriberGroup) -> NodeConnection | None:
        """The node that has the classic channels.  Each client chooses one at random, so that no node has them all."""
        home: NodeConnection | None = group.home
        if home is None or home.state is State.CLOSED or home.failing:
            chosen = self._router.recovery.slot_map.destination_of(ANY_NODE)
            home = group.home = chosen if isinstance(chosen, NodeConnection) else None
        return home

    def _answered(self, _: object, call: SubscribeCall, parts: Sequence[Part]) -> None:
        """The server has processed a request; what it has not confirmed is asked for again."""
        self._try_later(self._without_call(call, parts))

    def _failed(self, failure: Failure, call: SubscribeCall, parts: Sequence[Part]) -> None:
        left = self._without_call(call, parts)
        if isinstance(failure.value, CancelledError) or self._hub.closed is not None:
            return
        if isinstance(failure.value, ClientClosed):
            # The client of a forked child process.
            self._hub.close(failure.value)
        elif not isinstance(failure.value, ReplyError):
            self._try_later(left)
        elif len(left) > 1:
            # The server does not say which of them it has refused.
            for part in left:
                self.subscribe([part])
        else:
            for part in left:
                self._refused(part, failure.value)

    @staticmethod
    def _without_call(call: SubscribeCall, parts: Sequence[Part]) -> list[Part]:
        left = [part for part in parts if part.call is call]
        for part in left:
            part.call = None
        return left

    def _refused(self, part: Part, error: ReplyError) -> None:
        for acknowledgement in list(part.upstream.acknowledgements):
            acknowledgement.refuse(error)
        if part.upstream.feeds and not part.refused:
            part.refused = True
            _log.warn(
                "{node} refused to subscribe {channel} again: {error}; the client goes on trying",
                node=part.node or "a node",
                channel=part.upstream.text,
                error=error,
            )
        self._try_later([part])

    def _try_later(self, parts: Iterable[Part]) -> None:
        for part in parts:
            if self._is_wanted(part) and self._hub.closed is None:
                timer = self._retries[part] = Timer(self._router.clock, lambda part=part: self._try_again(part))  # type: ignore[misc]
                timer.start(min(_RETRY * 2**part.failures, _LONGEST_RETRY))
                part.failures += 1

    def _try_again(self, part: Part) -> None:
        del self._retries[part]
        self.subscribe([part])

    @staticmethod
    def _is_wanted(part: Part) -> bool:
        upstream = part.upstream
        return bool(upstream.feeds) and upstream.parts.get(part.node) is part

    def unsubscribe(self, parts: Iterable[Part]) -> Deferred[None]:
        """Unsubscribe parts; the Deferred fires when no server has them any more."""
        batches: dict[tuple[Subscriber, Kind, int | None], list[Part]] = {}
        for part in parts:
            timer = self._retries.pop(part, None)
            if timer is not None:
                timer.stop()
            where = part.leave()
            call, part.call = part.call, None
            if call is not None:
                where = call.where
                call.parts.pop(part.name, None)
                if not call.parts:
                    call.cancel()
            if where is not None:
                batches.setdefault((where, part.kind, part.upstream.slot), []).append(part)
        ends = [where.unsubscribe(batch, self._have_twins(batch)) for (where, _, _), batch in batches.items()]
        done: Deferred[None] = Deferred()
        DeferredList(ends).addCallback(lambda _: done.callback(None))
        return done

    def _have_twins(self, parts: Sequence[Part]) -> bool:
        """Whether one of some patterns is wanted in another scope, too, perhaps on the same connection."""
        return any(
            self._hub.wants((part.upstream.group, part.kind, scope, part.name))
            for part in parts
            if part.kind is PATTERN
            for scope in Scope
        )


def _target(part: Part) -> Target:
    if part.node is not None:
        return THIS_NODE
    return part.upstream.slot if part.upstream.slot is not None else ANY_NODE

"""Checks redirects to addresses that the slot map does not list.

Without TLS, the client sends its password to such an address only if another node confirms the address.  Otherwise a
hostile node, or an attacker who can change its replies, could make the client send its password to any server.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from ..address import Address
from ..connection.factory import ClusterFactory
from ..connection.node import NodeConnection
from ..errors import TopologyError
from ..options import Options
from ..requests.request import Request
from ..requests.retry_queue import RetryQueue
from ..topology.nodes_parser import lists_address
from .refresh import Inquiry

# Seconds for which an address stays denied that no other node listed.
_DENIED = 1.0


class RedirectCheck:
    """Asks other nodes about the targets of redirects.  The commands wait for the answer and are then sent again."""

    def __init__(
        self, clock: IReactorTime, options: Options, factory: ClusterFactory, queue: Callable[[str], RetryQueue]
    ) -> None:
        """Make an empty check.

        Args:
            clock: Measures time.
            options: The options of the client.
            factory: Knows the nodes.
            queue: Makes a retry queue, given what its commands wait for.
        """
        self._clock = clock
        self._factory = factory
        self._queue = queue
        self._seeds = frozenset(options.seeds)
        self._wanted = options.check_redirects and options.logs_in and not options.tls
        #: The waiting commands by target.
        self.queues: dict[Address, RetryQueue] = {}
        self._confirmed: set[Address] = set()
        # Until when each target is denied.
        self._denied: dict[Address, float] = {}
        self._inquiries: set[Inquiry[bool]] = set()

    def allows(self, target: Address) -> bool:
        """Tell whether the client may log in to a target."""
        if not self._wanted or target in self._seeds or target in self._confirmed:
            return True
        known = self._factory.nodes.get(target)
        return known is not None and known.listed

    def denies(self, target: Address) -> bool:
        """Tell whether, within the last second, no other node knew a target."""
        now = self._clock.seconds()
        self._denied = {address: until for address, until in self._denied.items() if now < until}
        return target in self._denied

    def hold(self, request: Request, target: Address, sender: NodeConnection) -> None:
        """Let a command wait until another node was asked about the target of its redirect.

        Args:
            request: The redirected command.
            target: The target of the redirect.
            sender: The node that sent the redirect.
        """
        queue = self.queues.get(target)
        if queue is not None:
            queue.send(request)
            return
        queue = self.queues[target] = self._queue(f"a node other than {sender.address} to confirm the address {target}")
        queue.send(request)
        self.confirm(target, sender).addCallback(lambda _: self.queues.pop(target).release())

    def confirm(self, target: Address, sender: NodeConnection) -> Deferred[bool]:
        """Ask other nodes whether they know an address.

        Args:
            target: The address.
            sender: The node that named the address.  It is asked only if there is no other node.

        Returns:
            A Deferred that fires with whether a node knows the address.
        """
        known = [node for node in self._factory.candidates() if node.listed or node.address in self._seeds]
        others = [node for node in known if node is not sender] or known
        inquiry = Inquiry(self._clock, others, lambda node: Deferred.fromCoroutine(self._ask(node, target)))
        self._inquiries.add(inquiry)
        answered: Deferred[Any] = inquiry.answered
        return answered.addBoth(self._answered, target, inquiry)

    def close(self) -> None:
        """Cancel all pending questions."""
        for inquiry in list(self._inquiries):
            inquiry.answered.cancel()

    async def _ask(self, node: NodeConnection, target: Address) -> bool:
        if not lists_address(await node.call("CLUSTER", "NODES"), node.address, target):
            raise TopologyError(f"{node.address} does not know {target}")
        return True

    def _answered(self, result: Any, target: Address, inquiry: Inquiry[bool]) -> bool:
        self._inquiries.discard(inquiry)
        if isinstance(result, tuple):
            self._confirmed.add(target)
        else:
            self._denied[target] = self._clock.seconds() + _DENIED
        return isinstance(result, tuple)

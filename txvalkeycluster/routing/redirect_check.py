"""Redirects to addresses that no slot map lists: without TLS, another node has to know them before we log in there.

Else one hostile node, or whoever can change its replies, could have the password sent anywhere.
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

# For how many seconds an address that nobody else lists is not asked about again.
_DENIED = 1.0


class RedirectCheck:
    """Asks other nodes about the targets of redirects; the commands wait for the answer, and are sent again then."""

    def __init__(
        self, clock: IReactorTime, options: Options, factory: ClusterFactory, queue: Callable[[str], RetryQueue]
    ) -> None:
        """``queue`` makes a retry queue, given what is waited for."""
        self._clock = clock
        self._factory = factory
        self._queue = queue
        self._seeds = frozenset(options.seeds)
        self._wanted = options.check_redirects and options.password is not None and not options.tls
        #: By target, the commands that wait.
        self.queues: dict[Address, RetryQueue] = {}
        self._confirmed: set[Address] = set()
        # Until when a target is not asked about again.
        self._denied: dict[Address, float] = {}
        self._inquiries: set[Inquiry] = set()

    def allows(self, target: Address) -> bool:
        """Whether a target may be logged in to."""
        if not self._wanted or target in self._seeds or target in self._confirmed:
            return True
        known = self._factory.nodes.get(target)
        return known is not None and known.listed

    def denies(self, target: Address) -> bool:
        """Whether nobody else knew a target just now."""
        now = self._clock.seconds()
        self._denied = {address: until for address, until in self._denied.items() if now < until}
        return target in self._denied

    def hold(self, request: Request, target: Address, sender: NodeConnection) -> None:
        """Have a command wait until another node than ``sender`` has told of ``target``, or has not."""
        queue = self.queues.get(target)
        if queue is not None:
            queue.send(request)
            return
        queue = self.queues[target] = self._queue(f"another node than {sender.address} to know {target}")
        queue.send(request)
        self.confirm(target, sender).addCallback(lambda _: self.queues.pop(target).release())

    def confirm(self, target: Address, sender: NodeConnection) -> Deferred[bool]:
        """Ask another node than ``sender``, if there is one; fires with whether it knows ``target``."""
        known = [node for node in self._factory.candidates() if node.listed or node.address in self._seeds]
        others = [node for node in known if node is not sender] or known
        inquiry = Inquiry(self._clock, others, lambda node: Deferred.fromCoroutine(self._ask(node, target)))
        self._inquiries.add(inquiry)
        answered: Deferred[Any] = inquiry.answered
        return answered.addBoth(self._answered, target, inquiry)

    def close(self) -> None:
        """Ask nobody any more."""
        for inquiry in list(self._inquiries):
            inquiry.answered.cancel()

    async def _ask(self, node: NodeConnection, target: Address) -> bool:
        if not lists_address(await node.call("CLUSTER", "NODES"), node.address, target):
            raise TopologyError(f"{node.address} does not know {target}")
        return True

    def _answered(self, result: Any, target: Address, inquiry: Inquiry) -> bool:
        self._inquiries.discard(inquiry)
        if isinstance(result, tuple):
            self._confirmed.add(target)
        else:
            self._denied[target] = self._clock.seconds() + _DENIED
        return isinstance(result, tuple)

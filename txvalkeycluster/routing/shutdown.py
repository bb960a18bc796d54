"""Ends a client: after all commands have ended (close), or at once (abort)."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from ..connection.factory import ClusterFactory
from ..errors import ClientClosed
from ..requests.drain import Drain
from ..requests.exclusive import ExclusiveCall
from ..requests.later_calls import LaterCalls
from ..requests.request import Call, Request, live
from .recovery import Recovery
from .replica_wait import ReplicaWait
from .transaction_request import TransactionRequest


class Shutdown:
    """Ends everything that is pending in a router."""

    def __init__(
        self,
        clock: IReactorTime,
        factory: ClusterFactory,
        recovery: Recovery,
        replica_wait: ReplicaWait,
        retries: LaterCalls,
    ) -> None:
        self._clock = clock
        self._factory = factory
        self._recovery = recovery
        self._replica_wait = replica_wait
        self._retries = retries
        self._drain: Drain | None = None
        # Pending calls that are in no queue, as keys: a dict keeps their order.
        self._watched: dict[Call, None] = {}

    def watch(self, call: Call) -> None:
        """Let `close` wait for a call that is in no queue, and let `abort` fail it."""
        self._watched[call] = None
        call.addBoth(self._call_ended, call)

    def _call_ended(self, result: Any, call: Call) -> Any:
        self._watched.pop(call, None)
        return result

    def cancelled(self) -> None:
        """Check again what to wait for, because a command was cancelled."""
        if self._drain is not None:
            self._drain.look_again()

    def close(self) -> Deferred[None]:
        """Wait for the pending commands, then close all connections.

        Returns:
            A Deferred that fires with None when all connections are closed.
        """
        self._drain = Drain(self._clock, self._everything())
        self._replica_wait.closed = True
        self._recovery.refresher.draining = True
        self._factory.unblock()
        for queue in (self._recovery.unserved, self._recovery.discovery.queue):
            # Ordinary commands are still sent if possible.  Blocking commands and transactions are not started.
            for request in queue.take_where(lambda r: isinstance(r, (ExclusiveCall, TransactionRequest))):
                request.fail_unanswered(ClientClosed, "the client was closed")
        self._retries.call_now()
        return self._drain.finished.addCallback(lambda _: self._shut_when_all_have_ended())

    def _shut_when_all_have_ended(self) -> Deferred[None]:
        """Close all connections if nothing is pending.  Otherwise wait for the commands that have left a batch."""
        left = self._everything()
        if not left:
            return self._shut()
        self._drain = Drain(self._clock, left)
        return self._drain.finished.addCallback(lambda _: self._shut_when_all_have_ended())

    def abort(self) -> Deferred[None]:
        """Fail all pending commands with ClientClosed, and close all connections at once.

        Returns:
            A Deferred that fires with None when all connections are closed.
        """
        for call in list(self._watched):
            call.fail_unanswered(ClientClosed, "the client was aborted")
        waiting = self._recovery.close()
        more, gone = self._factory.abort(ClientClosed("the client was aborted"))
        for request in live([*waiting, *more]):
            request.fail_unanswered(ClientClosed, "the client was aborted")
        if self._drain is not None:
            self._drain.give_up()
        self._retries.call_now()
        return gone

    def _shut(self) -> Deferred[None]:
        # Only cancelled requests are left in the queues.
        self._recovery.close()
        self._retries.call_now()
        return self._factory.close()

    def _everything(self) -> list[Request]:
        """Return all pending requests of callers."""
        found = [*self._factory.everything(), *self._watched]
        for queue in self._recovery.queues():
            found += queue.everything()
        return [request for request in live(found) if not request.internal]

"""`RelayLease`: a connection to the owner of a slot for one caller alone."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ..address import Address
from ..commands import Command
from ..commands.encoder import pack
from ..connection.exclusive_pool import Lease
from ..errors import ConnectionLost, ReplyError
from ..options import DEFAULT
from ..requests.exclusive import ExclusiveCall
from ..requests.raw_batch import RawCall, RawReplyError
from ..requests.target import THIS_NODE
from ..routing.router import Router


class RelayLease:
    """A connection to the owner of a slot, for one caller alone: for MULTI, WATCH and blocking commands.

    It must be released.  `RelayMethods.lease` makes it.
    """

    def __init__(self, router: Router, call: ExclusiveCall) -> None:
        """Take over the connection of a call.

        Args:
            router: The router of the client.
            call: A call that has ended and kept its connection.
        """
        assert isinstance(call.lease, Lease)
        self._router = router
        self._lease: Lease | None = call.lease

    def __repr__(self) -> str:
        return f"<RelayLease {self._lease.address if self._lease is not None else 'released'}>"

    @property
    def address(self) -> Address:
        """The node of the connection.

        Raises:
            RuntimeError: It is released.
        """
        return self._held().address

    def send(self, payload: bytes, command: Command, *, timeout: float | None = DEFAULT) -> Deferred[Any]:
        """Send an encoded request.  Redirects are replies; nothing is sent again.

        Args:
            payload: The encoded request: one RESP array of bulk strings.  It is not checked.
            command: The command, for the texts of errors.
            timeout: Seconds until it fails with CommandTimeout.  None: no limit.

        Returns:
            A Deferred that fires with the reply, as for `RelayMethods.submit`: an error reply is a reply, too.

        Raises:
            CommandTimeout: Through the Deferred: the deadline passed.
            ConnectionLost: Through the Deferred: the connection ended before the reply.
            ProtocolError: Through the Deferred: the reply cannot be read.
            ClientClosed: Through the Deferred: the client was closed before, or is aborted meanwhile.
            RuntimeError: It is released.
        """
        lease = self._held()
        router = self._router
        now, deadline = router.clock.seconds(), router.deadline_of(timeout)
        call = RawCall(payload, command, THIS_NODE, now, deadline, canceller=router.note_cancel)
        call.admit()
        router.give(call, lambda: lease.send(call))
        return call.addErrback(as_reply)

    def release(self, *, dirty: bool = False) -> None:
        """Give the connection back.  Only the first call has an effect.

        Args:
            dirty: Whether the connection is in a transaction, watches keys, or has another state; it is closed then.  A
                connection with pending replies is closed in any case.
        """
        lease, self._lease = self._lease, None
        if lease is not None:
            if dirty:
                lease.connection.abort(ConnectionLost(f"{lease.address}: the connection was used up"))
            lease.give_back()

    def _held(self) -> Lease:
        if self._lease is None:
            raise RuntimeError("the lease is released")
        return self._lease


async def lease(router: Router, slot: int, timeout: float | None) -> RelayLease:
    """Lease a connection to the owner of a slot, as `RelayMethods.lease`."""
    now, deadline = router.clock.seconds(), router.deadline_of(timeout)
    # A lease begins with a command, which shows that the connection works.
    call = ExclusiveCall(pack(("PING",)), _PING, slot, now, deadline, True, router.note_cancel, keeps_lease=True)
    await router.send(call)
    return RelayLease(router, call)


def as_reply(failure: Failure) -> Any:
    """Return an error reply as a reply; pass on any other error."""
    error = failure.value
    if isinstance(error, RawReplyError):
        return error.frame
    return error if isinstance(error, ReplyError) else failure


_PING = Command("PING", frozenset(["readonly"]))

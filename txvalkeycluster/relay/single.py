"""Relayed requests that are no part of a batch: transactions, and commands that can block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from ..requests.exclusive import RawBlockingCall
from ..requests.target import ANY_NODE, THIS_NODE
from ..routing.planned_commands import time_left
from ..routing.raw_transaction import RawTransactionRequest
from ..routing.router import Router
from .lease import as_reply

if TYPE_CHECKING:
    from ..transaction import WatchSession


def transaction(
    router: Router,
    requests: Sequence[bytes],
    slot: int | None,
    repeatable: bool,
    watch: WatchSession[Any] | None,
    timeout: float | None,
) -> Deferred[Any]:
    """Send a transaction, as `RelayMethods.submit_transaction`."""
    request = RawTransactionRequest(
        requests,
        THIS_NODE if watch is not None else ANY_NODE if slot is None else slot,
        router.clock.seconds,
        router.deadline_of(timeout),
        repeatable,
        router.note_cancel,
    )
    if watch is not None:
        watch.send(request)
    else:
        router.send(request)
    return request.deferred


def blocking(router: Router, words: Sequence[bytes], slot: int, timeout: float | None) -> RawBlockingCall:
    """Send a command that can block, as `RelayMethods.submit_blocking`."""
    command = router.commands[words[0]].resolve(words)
    now = router.clock.seconds()
    left = time_left(now, router.deadline_of(timeout))
    call = RawBlockingCall(tuple(words), command, slot, now, left, command.repeatable, router.note_cancel)
    router.send(call)
    call.addErrback(as_reply)
    return call

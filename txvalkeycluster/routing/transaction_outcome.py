"""What the replies to MULTI, the queued commands and EXEC say together: a pure function.

Nothing is taken for granted but what was answered.  Unless MULTI was answered with OK, the commands behind it may have
run one by one: a user without the right to MULTI is refused it, and each command after it is executed at once.
"""

from __future__ import annotations

from typing import Any

from ..errors import (
    ConnectionLost,
    MaybeExecuted,
    ProtocolError,
    ReplyError,
    TransactionAborted,
    TransactionRefused,
    WatchError,
)
from .retry_policy import NOT_HERE_OR_NOT_NOW

_OK = (b"OK", "OK")
_QUEUED = (b"QUEUED", "QUEUED")
# What stands before the reason why EXEC itself was refused.
_BECAUSE = "because of: "


def outcome(replies: list[Any]) -> list[Any]:
    """The replies of the executed commands, from the replies or errors of MULTI, the commands and EXEC.

    Raises the error that the transaction as a whole has met: a `ReplyError` that says that it does not belong here or
    has to wait (nothing was executed), `TransactionAborted`, `WatchError`, `TransactionRefused`, or the error that the
    connection ended with.
    """
    multi, *queued, executed = replies
    lost = [error for error in replies if isinstance(error, Exception) and not isinstance(error, ReplyError)]
    if isinstance(multi, ReplyError) or (not lost and (multi not in _OK or not all(map(_is_queued, queued)))):
        refused = isinstance(multi, ReplyError)
        what = f"MULTI was refused: {multi}" if refused else "the server did not queue the commands behind MULTI"
        text = f"{what}; they ran one by one, not as a transaction"
        raise TransactionRefused(text, queued, maybe_executed=True) from (multi if refused else None)
    if lost:
        raise _lost(multi, queued, executed, lost)
    if not isinstance(executed, ReplyError):
        if executed is None:
            raise WatchError("a watched key has changed")
        if not isinstance(executed, list) or len(executed) != len(queued):
            raise ProtocolError(f"EXEC of {len(queued)} commands answered {executed!r:.60}")
        return executed
    errors = [error for error in queued if isinstance(error, ReplyError)]
    for error in (*errors, _reason(executed)):
        if error.code in NOT_HERE_OR_NOT_NOW:
            raise error
    refusals = [str(error) for error in errors] or [str(_reason(executed))]
    raise TransactionAborted("; ".join(refusals), refusals)


def _is_queued(reply: Any) -> bool:
    return reply in _QUEUED or isinstance(reply, ReplyError)


def _lost(multi: Any, queued: list[Any], executed: Any, lost: list[Exception]) -> Exception:
    """The error of a transaction whose replies were lost."""
    last = executed if isinstance(executed, Exception) else lost[-1]
    if multi in _OK and all(_is_queued(reply) for reply in queued if reply not in lost):
        # The server executes nothing before EXEC: whether that was written decides.
        return last
    # Nobody knows whether MULTI was accepted: any command that was written may have been executed.
    written = any(isinstance(error, MaybeExecuted) and error.maybe_executed for error in lost)
    if isinstance(last, MaybeExecuted) and last.maybe_executed == written:
        return last
    worse = ConnectionLost(str(last), maybe_executed=written)
    worse.__cause__ = last
    return worse


def _reason(executed: ReplyError) -> ReplyError:
    """Why EXEC was refused, where the server tells."""
    _, found, reason = str(executed).partition(_BECAUSE)
    return ReplyError(reason) if executed.code == "EXECABORT" and found else executed

"""What the replies to MULTI, the queued commands and EXEC say together: a pure function.

Nothing is taken for granted but what was answered.  Unless MULTI was answered with OK, the commands behind it may have
run one by one: a user without the right to MULTI is refused it, and each command after it is executed at once.
"""

from __future__ import annotations

from reprlib import repr as shown
from typing import Any

from ..errors import ProtocolError, ReplyError, TransactionAborted, TransactionRefused, WatchError
from .retry_policy import NOT_HERE_OR_NOT_NOW

# What stands before the reason why EXEC itself was refused.
_BECAUSE = "because of: "


def outcome(replies: list[Any]) -> list[Any]:
    """The replies of the executed commands, from the replies or errors of MULTI, the commands and EXEC.

    Raises the error that the transaction as a whole has met: a `ReplyError` that says that it does not belong here or
    has to wait (nothing was executed), `TransactionAborted`, `WatchError` or `TransactionRefused`.
    """
    multi, *queued, executed = replies
    if not queued_so_far(replies[:-1]):
        refused = isinstance(multi, ReplyError)
        what = f"MULTI was refused: {multi}" if refused else "the server did not queue the commands behind MULTI"
        text = f"{what}; they ran one by one, not as a transaction"
        raise TransactionRefused(text, queued, maybe_executed=True) from (multi if refused else None)
    if not isinstance(executed, ReplyError):
        if executed is None:
            raise WatchError("a watched key has changed")
        if not isinstance(executed, list) or len(executed) != len(queued):
            raise ProtocolError(f"EXEC of {len(queued)} commands answered {shown(executed):.60}")
        return executed
    errors = [error for error in queued if isinstance(error, ReplyError)]
    for error in (*errors, _reason(executed)):
        if error.code in NOT_HERE_OR_NOT_NOW:
            raise error
    refusals = [str(error) for error in errors] or [str(_reason(executed))]
    raise TransactionAborted("; ".join(refusals), refusals)


def queued_so_far(replies: list[Any]) -> bool:
    """Whether MULTI was accepted, and every command behind it queued or refused, as far as there are replies."""
    return replies[:1] in ([], [b"OK"]) and all(r == b"QUEUED" or isinstance(r, ReplyError) for r in replies[1:])


def _reason(executed: ReplyError) -> ReplyError:
    """Why EXEC was refused, where the server tells."""
    _, found, reason = str(executed).partition(_BECAUSE)
    return ReplyError(reason) if executed.code == "EXECABORT" and found else executed

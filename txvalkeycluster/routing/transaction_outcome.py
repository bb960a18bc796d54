"""Interprets the replies to MULTI, the queued commands and EXEC.

It relies only on the replies.  If the reply to MULTI is not OK, the server may have executed the commands one by one:
if a user has no right to use MULTI, the server refuses it, and executes each command after it at once.
"""

from __future__ import annotations

from reprlib import repr as shown
from typing import Any

from ..errors import ProtocolError, ReplyError, TransactionAborted, TransactionRefused, WatchError
from .retry_policy import NOT_HERE_OR_NOT_NOW

# The text before the reason in an EXECABORT error.
_BECAUSE = "because of: "


def outcome(replies: list[Any]) -> list[Any]:
    """Return the replies of the executed commands, or raise the error of the whole transaction.

    Args:
        replies: The replies or errors of MULTI, of each command, and of EXEC.

    Returns:
        The replies of the commands.

    Raises:
        ReplyError: The transaction was not executed, and must be sent to another node or later.
        TransactionAborted: The server refused a command or EXEC.
        TransactionRefused: The server refused MULTI.
        WatchError: A watched key has changed.
        ProtocolError: The reply to EXEC is not valid.
    """
    multi, *queued, executed = replies
    if not queued_so_far(replies[:-1]):
        refused = isinstance(multi, ReplyError)
        what = f"MULTI was refused: {multi}" if refused else "the server did not queue the commands after MULTI"
        text = f"{what}; the commands were executed one by one, not as a transaction"
        raise TransactionRefused(text, queued, maybe_executed=True) from (multi if refused else None)
    if not isinstance(executed, ReplyError):
        if executed is None:
            raise WatchError("a watched key has changed")
        if not isinstance(executed, list) or len(executed) != len(queued):
            raise ProtocolError(f"the reply to EXEC of {len(queued)} commands is {shown(executed):.60}")
        return executed
    errors = [error for error in queued if isinstance(error, ReplyError)]
    for error in (*errors, _reason(executed)):
        if error.code in NOT_HERE_OR_NOT_NOW:
            raise error
    refusals = [str(error) for error in errors] or [str(_reason(executed))]
    raise TransactionAborted("; ".join(refusals), refusals)


def queued_so_far(replies: list[Any]) -> bool:
    """Tell whether, as far as there are replies, MULTI was accepted and each command was queued or refused."""
    return replies[:1] in ([], [b"OK"]) and all(r == b"QUEUED" or isinstance(r, ReplyError) for r in replies[1:])


def _reason(executed: ReplyError) -> ReplyError:
    """Return the reason why EXEC was refused, if the error has one, else the error itself."""
    _, found, reason = str(executed).partition(_BECAUSE)
    return ReplyError(reason) if executed.code == "EXECABORT" and found else executed

"""Every error this package raises, all of them picklable and free of secrets."""

from __future__ import annotations

from collections.abc import Sequence


class ValkeyError(Exception):
    """Base of every error of this package."""


class ReplyError(ValkeyError):
    """The server answered a command with an error.

    ``str(error)`` is the server's text to the letter, ``error.code`` its first word (``WRONGTYPE``, ``NOPERM``).
    """

    @property
    def code(self) -> str:
        """First word of the server's text, the part programs may compare."""
        return str(self).partition(" ")[0]


class MaybeExecuted(ValkeyError):
    """A command that ended without its reply.

    ``maybe_executed`` is false only if the server cannot have seen the command, so that repeating it is safe.
    """

    def __init__(self, message: str, *, maybe_executed: bool = False) -> None:
        super().__init__(message)
        self.maybe_executed = maybe_executed


class ConnectionLost(MaybeExecuted, ConnectionError):
    """The connection ended before the reply came, and the command is not one to repeat unasked."""


class WritesUnconfirmed(ConnectionLost):
    """WAIT or WAITAOF cannot confirm all writes since the last one that succeeded.

    A connection that may have carried some of them was replaced, or leads to a node that is no primary any more.
    """


class CommandTimeout(MaybeExecuted, TimeoutError):
    """The deadline passed; the text says node, attempts, last reply and the state of the queue."""


class ClientClosed(MaybeExecuted):
    """The client was closed or aborted before the command was answered."""


class TransactionAborted(ReplyError):
    """The server accepted MULTI, but refused to execute the transaction: no command ran.

    ``refusals`` holds the server's texts.
    """

    def __init__(self, message: str, refusals: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.refusals = tuple(refusals)


class TransactionRefused(MaybeExecuted):
    """The server refused MULTI, so the commands are not a transaction.

    If they were sent, they ran one by one: ``maybe_executed`` is true, and ``results`` holds the reply or the error of
    each.  If the refusal was known before, nothing was sent: ``maybe_executed`` is false, and ``results`` is empty.
    """

    def __init__(self, message: str, results: Sequence[object] = (), *, maybe_executed: bool = False) -> None:
        super().__init__(message, maybe_executed=maybe_executed)
        self.results = tuple(results)


class WatchError(ValkeyError):
    """A watched key has changed, or the watch was ``lost`` with its slot; nothing of the transaction was executed."""

    def __init__(self, message: str, *, lost: bool = False) -> None:
        super().__init__(message)
        self.lost = lost


class TooManyPending(ValkeyError):
    """A connection holds as many unanswered commands or unsent bytes as it may; nothing was sent."""


class ProtocolError(MaybeExecuted):
    """The server sent what is no reply to this command; where it leaves the order of replies in doubt, it was cut off.

    The command was sent, so ``maybe_executed`` is true unless it says otherwise.
    """

    def __init__(self, message: str, *, maybe_executed: bool = True) -> None:
        super().__init__(message, maybe_executed=maybe_executed)


class RoutingError(ValkeyError):
    """A command that cannot be sent the way it was asked for; nothing was sent."""


class PartialFailure(ValkeyError):
    """A command that went to several nodes or slots failed for some of them.

    ``outcomes`` holds what became of each, as pairs of where (an address, or a slot) and the reply or the error.
    """

    def __init__(self, message: str, outcomes: Sequence[tuple[str, object]] = ()) -> None:
        super().__init__(message)
        self.outcomes = tuple(outcomes)

    def __str__(self) -> str:
        failed = [f"  {where}: {what}" for where, what in self.outcomes if isinstance(what, Exception)]
        return "\n".join([str(self.args[0]), *failed])


class TopologyError(ValkeyError):
    """A slot map reply that cannot be believed; the text names the place in the reply."""


class ConnectFailed(ValkeyError, ConnectionError):
    """One node could not be reached, or refused the handshake."""


class AuthenticationFailed(ConnectFailed):
    """The server refused the user name or the password."""


class TLSFailed(ConnectFailed):
    """The TLS handshake failed: an untrusted certificate, a wrong name, or no TLS at the other end."""


class ClusterUnavailable(ValkeyError, ConnectionError):
    """No node gave a slot map.

    ``attempts`` holds what happened at each address asked, as pairs of address and reason, in the order asked.
    """

    def __init__(self, message: str, attempts: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.attempts = tuple(attempts)

    def __str__(self) -> str:
        lines = [str(self.args[0])]
        lines += [f"  {address}: {reason}" for address, reason in self.attempts]
        return "\n".join(lines)

"""All errors of this package.

Each error can be pickled.  No error text contains a password.
"""

from __future__ import annotations

from collections.abc import Sequence


class ValkeyError(Exception):
    """Base class of all errors of this package."""


class ReplyError(ValkeyError):
    """The server answered a command with an error.

    Raised for every error reply that the client does not handle itself.  The client handles redirects and temporary
    errors such as ``LOADING``.

    A command of Valkey changed nothing: Valkey checks a command before it writes.  A script, a function or a command of
    a module can write first and fail then.

    ``str(error)`` is the server's text, unchanged.

    Example:
        ::

            try:
                await client.incr("key")
            except ReplyError as error:
                if error.code != "WRONGTYPE":
                    raise
    """

    @property
    def code(self) -> str:
        """The first word of the server's text, such as ``WRONGTYPE`` or ``NOPERM``.  Programs may compare it."""
        return str(self).partition(" ")[0]


class MaybeExecuted(ValkeyError):
    """Base class of the errors of commands that ended without a usable reply.

    Attributes:
        maybe_executed: False only if the server cannot have executed the command.  Then it is safe to repeat the
            command.
    """

    def __init__(self, message: str, *, maybe_executed: bool = False) -> None:
        super().__init__(message)
        self.maybe_executed = maybe_executed


class ConnectionLost(MaybeExecuted, ConnectionError):
    """The connection ended before the reply came.

    Raised for a command that the client does not repeat by itself: a write without ``repeatable=True``.  Reads and
    commands that were not sent yet are sent again instead.  ``maybe_executed`` says whether the server may have
    executed the command.
    """


class WritesUnconfirmed(ConnectionLost):
    """WAIT or WAITAOF cannot confirm all writes since the last successful wait.

    Raised by ``wait()`` and ``waitaof()`` if a connection that may have carried such writes was replaced, or if its
    node is no longer a primary.  The writes may be lost.  ``maybe_executed`` is true.
    """


class CommandTimeout(MaybeExecuted, TimeoutError):
    """The command had no reply before its deadline.

    Raised when the ``timeout`` of a command has passed, over all attempts together.  The text names the node, the
    number of attempts, the result of the last attempt, and what the command was waiting for.  ``maybe_executed`` says
    whether the server may have executed the command.
    """


class ClientClosed(MaybeExecuted):
    """The client was closed before the command was answered.

    Raised for a command that was issued after ``close()``, for a command that ``abort()`` ended, and for every command
    of a client in a forked child process.  ``maybe_executed`` says whether the server may have executed the command.
    """


class TransactionAborted(ReplyError):
    """The server accepted MULTI, but refused to execute the transaction.

    Raised by ``Transaction.execute()`` if the server refused one of the commands, or EXEC.  No command was executed.

    Attributes:
        refusals: The server's texts, one for each refused command.
    """

    def __init__(self, message: str, refusals: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.refusals = tuple(refusals)


class TransactionRefused(MaybeExecuted):
    """The server refused MULTI, so the commands are not a transaction.

    Raised by ``Transaction.execute()``, for example if the user has no right to use MULTI.  The server then executes
    each command by itself: ``maybe_executed`` is true.  For ten seconds after a refusal, the client sends no other
    transaction to that node: ``maybe_executed`` is false, and nothing was sent.

    Attributes:
        results: The reply or the error of each command.  Empty if nothing was sent.
    """

    def __init__(self, message: str, results: Sequence[object] = (), *, maybe_executed: bool = False) -> None:
        super().__init__(message, maybe_executed=maybe_executed)
        self.results = tuple(results)


class WatchError(ValkeyError):
    """The transaction was not executed because of its watched keys.

    Raised if a watched key has changed, or if the watch was lost because its slot moved to another node.  No command of
    the transaction was executed.

    Attributes:
        lost: True if the watch was lost, false if a watched key has changed.
    """

    def __init__(self, message: str, *, lost: bool = False) -> None:
        super().__init__(message)
        self.lost = lost


class TooManyPending(ValkeyError):
    """A queue or a connection is full.

    Raised when a command would exceed the option ``max_pending`` or ``max_unsent_bytes``.  The command was not sent.
    """


class ProtocolError(MaybeExecuted):
    """The server sent a reply that is not valid for this command.

    Raised if a reply cannot be read, or does not have the form of the command's replies.  If the client can no longer
    tell which command the next replies belong to, it also closes the connection.  The command was sent, so
    ``maybe_executed`` is true, except where the error says otherwise.
    """

    def __init__(self, message: str, *, maybe_executed: bool = True) -> None:
        super().__init__(message, maybe_executed=maybe_executed)


class RoutingError(ValkeyError):
    """The command cannot be routed as it was called.

    Raised for keys in several slots, for commands that a client must not send, and for nodes without an address.  The
    command was not sent.
    """


class PartialFailure(ValkeyError):
    """A command for several nodes or slots failed for some of them.

    The command was executed where ``outcomes`` has a reply.  Where it has an error, that error says whether the command
    may have been executed.

    Attributes:
        outcomes: One pair for each part: where it was sent (``host:port`` or ``slot N``), and its reply or error.
    """

    def __init__(self, message: str, outcomes: Sequence[tuple[str, object]] = ()) -> None:
        super().__init__(message)
        self.outcomes = tuple(outcomes)

    def __str__(self) -> str:
        failed = [f"  {where}: {what}" for where, what in self.outcomes if isinstance(what, Exception)]
        return "\n".join([str(self.args[0]), *failed])


class TopologyError(ValkeyError):
    """A server sent a slot map that is wrong or that cannot be trusted.

    Raised by ``refresh_topology()``, and found in the event ``TopologyRefreshFailed``.  The text names the place in the
    reply.  No command of the caller was sent.
    """


class ConnectFailed(ValkeyError, ConnectionError):
    """A node could not be reached, or refused the handshake.

    Raised for commands that only this node can answer: those of ``execute_on()`` and ``wait()``, and commands for every
    node.  Other commands wait until a node can be reached.  The command was not sent.
    """


class WrongThread(ValkeyError, RuntimeError):
    """The client was used in another thread than that of its reactor.

    Raised at the call, and only if the client notices it: it looks when it begins to write, not at every command.
    """


class AuthenticationFailed(ConnectFailed):
    """The server refused the user name or the password.  The command was not sent."""


class TLSFailed(ConnectFailed):
    """The TLS handshake failed.  The command was not sent.

    The certificate is not trusted, the certificate is for another name, or the server does not use TLS.
    """


class ClusterUnavailable(ValkeyError, ConnectionError):
    """No node gave a slot map.

    Raised by ``connect()`` and ``refresh_topology()``.  No command of the caller was sent.

    Attributes:
        attempts: One pair for each address that was asked, in that order: the address and why it gave no slot map.
    """

    def __init__(self, message: str, attempts: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.attempts = tuple(attempts)

    def __str__(self) -> str:
        lines = [str(self.args[0])]
        lines += [f"  {address}: {reason}" for address, reason in self.attempts]
        return "\n".join(lines)

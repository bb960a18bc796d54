"""MULTI, the commands and EXEC as one request: written at once, and redirected or repeated as a whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ..address import Address
from ..commands import Command
from ..commands.encoder import Packed, pack
from ..connection.node import NodeConnection
from ..connection.protocol import RESPProtocol
from ..errors import ConnectionLost, MaybeExecuted, ReplyError, TooManyPending, TransactionRefused
from ..requests.interfaces import Connection, Destination
from ..requests.request import MultiRequest, Request
from ..requests.target import Target
from .retry_policy import ends_transaction
from .transaction_outcome import outcome, queued_so_far

_EXEC = Command("EXEC")
_MULTI_BYTES, _EXEC_BYTES = pack(("MULTI",)), pack(("EXEC",))
# Seconds for which no transaction is sent to a node that has refused MULTI.
_REFUSAL_KEPT = 10.0


class Node(Protocol):
    """The part of a node that transactions use."""

    #: The address of the node.
    address: Address
    #: When it last refused MULTI, and its error text; None if it has not.
    multi_refusal: tuple[float, str] | None

    def send_batch(self, batch: MultiRequest) -> None:
        """Send a request with several replies on the shared connection."""


class TransactionRequest(MultiRequest):
    """One pending transaction.

    While replies are due, it handles them even if the caller has cancelled it.  The reason: if EXEC fails in a way that
    leaves the transaction open, the connection must be closed.
    """

    __slots__ = ("_connection", "_node", "_note_cancel", "_owed", "_packed", "_replies", "_seconds", "deferred")

    notes_write = True
    # Except for that of EXEC, the replies are texts of the server, to which the option encoding does not apply.
    raw = True

    def __init__(
        self,
        commands: Sequence[Packed],
        target: Target,
        seconds: Callable[[], float],
        deadline: float,
        repeatable: bool,
        note_cancel: Callable[[Deferred[Any]], None],
    ) -> None:
        """Make a transaction.

        Args:
            commands: The packed commands, without MULTI and EXEC.
            target: Where to send it.
            seconds: Returns the time.
            deadline: The time when the transaction ends.
            repeatable: Whether all of its commands may be repeated.
            note_cancel: The canceller of its Deferred.
        """
        super().__init__(b"", _EXEC, target, seconds(), deadline, repeatable)
        #: Fires with a list of the replies of the commands.  An error reply is an item of the list.  Fails with
        #: the errors of `transaction_outcome.outcome`, and those of other commands.
        self.deferred: Deferred[list[Any]] = Deferred(note_cancel)
        self._packed: list[Packed] = [_MULTI_BYTES, *commands, _EXEC_BYTES]
        self.payload = _joined(self._packed)
        self._seconds = seconds
        self._note_cancel = note_cancel
        self._node: Node | None = None
        self._connection: Connection | None = None
        self._owed = False
        self._replies: list[Any] = []

    def __len__(self) -> int:
        return len(self._packed)

    @property
    def called(self) -> bool:
        """Whether the caller has its result or has cancelled it, and no replies are due."""
        return bool(self.deferred.called) and not self._owed

    @property
    def address(self) -> Address | None:
        """The node to which the transaction was given last."""
        return self._node.address if self._node is not None else None

    # ---- sending

    def give_to(self, destination: Destination) -> None:
        """Give the transaction to a destination.

        Args:
            destination: A node, a connection or a queue.

        Raises:
            TooManyPending: The queue is full.
            TransactionRefused: The node has refused MULTI within the last ten seconds.
        """
        if isinstance(destination, NodeConnection):
            self.give_to_node(destination, partial(super().give_to, destination))
        else:
            super().give_to(destination)

    def give_to_node(self, node: Node, give: Callable[[], None]) -> None:
        """Send the transaction to a node, unless the node refuses MULTI.

        Args:
            node: The node.
            give: Sends the transaction to it.

        Raises:
            TooManyPending: The queue is full.
            TransactionRefused: The node has refused MULTI within the last ten seconds.
        """
        self._node = node
        if node.multi_refusal is None:
            give()
            return
        refused_at, _ = node.multi_refusal
        if self._seconds() - refused_at < _REFUSAL_KEPT:
            raise _refusal(node)
        # Not on the connection of a watch session: even an empty transaction ends the watch.
        node.send_batch(_Probe(self, node, give))

    def _probed(self, error: BaseException | None, node: Node, give: Callable[[], None]) -> None:
        if isinstance(error, TransactionRefused):
            self.fail(_refusal(node))
        elif isinstance(error, MaybeExecuted):
            # The error belongs to the probe.  Nothing of this transaction was written.
            self.fail_unanswered(type(error), str(error), cause=error)
        elif error is not None:
            self.fail(error)
        else:
            node.multi_refusal = None
            try:
                give()
            except TooManyPending as full:
                self.fail(full)

    def written_on(self, connection: Connection) -> None:
        """Note the connection on which the transaction is written."""
        self._connection = connection
        self._owed = True

    def _rewind(self) -> list[Any]:
        """Prepare to be written again; return the replies that have come."""
        replies, self._replies, self._owed = self._replies, [], False
        self.payload = _joined(self._packed)
        return replies

    # ---- its replies

    def answer(self, reply: Any) -> None:
        """Take one of the replies.

        A retry queue is not released: the reply to MULTI does not prove that the node serves other commands.
        """
        self._end(self.callback, reply)

    def callback(self, result: Any) -> None:
        """Take one of the replies."""
        self._replies.append(result)
        if len(self._replies) == len(self):
            self._completed()

    def refused(self, connection: Connection, error: Any) -> None:
        """Take an error as one of the replies."""
        self.answer(error)

    def _completed(self) -> None:
        assert self._connection is not None
        replies, connection = self._rewind(), self._connection
        executed = replies[-1]
        if isinstance(executed, ReplyError) and not ends_transaction(executed):
            # The transaction is still open.  The server would queue the commands of other callers in it.
            connection.abort(ConnectionLost(f"EXEC was refused: {executed}"))
        if self.called:
            self._ended()
            return
        try:
            result = self._result(replies, connection)
        except ReplyError as error:
            connection.owner.reply_failed(connection, self, error)
        except Exception as error:
            self._note_refusal(error)
            self.fail(error)
        else:
            self.payload = b""
            self._replied()
            self.deferred.callback(result)
            self._ended()

    def _result(self, replies: list[Any], connection: Connection) -> Any:
        """Return the result of all replies, or raise as `transaction_outcome.outcome`."""
        return outcome([*replies[:-1], connection.decoded(replies[-1])])

    def _note_refusal(self, error: Exception) -> None:
        if isinstance(error, TransactionRefused) and self._node is not None:
            self._node.multi_refusal = self._seconds(), str(error.__cause__ or error)

    # ---- its end without replies

    def dissolve(self) -> Sequence[Request]:
        """Return the transaction, to be sent again as a whole; nothing if it has ended.

        If MULTI was refused before the connection ended, it fails with TransactionRefused.
        """
        replies = self._rewind()
        if not queued_so_far(replies) and not self.called:
            # The server may have executed each written command by itself.
            lost = ConnectionLost("the connection ended before the reply", maybe_executed=True)
            try:
                outcome([*replies, *[lost] * (len(self) - len(replies))])
            except TransactionRefused as error:
                self._note_refusal(error)
                self.fail(error)
        return () if self.called else (self,)

    def settle(self) -> None:
        """Report the end of the transaction, if it has ended."""
        if self.called:
            self._ended()

    def errback(self, fail: Any = None) -> None:
        """Fail the transaction with an error."""
        if not self.deferred.called:
            self.deferred.errback(fail)

    def time_out(self, now: float, where: str, *, written: bool) -> None:
        """Fail the transaction with CommandTimeout.  Its replies may still come, without a deadline."""
        super().time_out(now, where, written=written)
        self.deadline = inf


def _refusal(node: Node) -> TransactionRefused:
    _, why = node.multi_refusal or (0.0, "")
    return TransactionRefused(f"the transaction was not sent because {node.address} refuses MULTI: {why}")


class _Probe(TransactionRequest):
    """Sends an empty transaction, to find out whether a node still refuses MULTI."""

    __slots__ = ("_asker", "_give")

    def __init__(self, asker: TransactionRequest, node: Node, give: Callable[[], None]) -> None:
        super().__init__((), asker.target, asker._seconds, asker.deadline, True, asker._note_cancel)
        self._asker: TransactionRequest | None = asker
        self._node = node
        self._give = give
        if not asker.is_new:
            self.admit()
        self.deferred.addBoth(self._told, node)

    def give_to(self, destination: Destination) -> None:
        """Go to a connection and be written.  Give any other destination the transaction that waits for the probe."""
        if isinstance(destination, RESPProtocol):
            super().give_to(destination)
        elif self._asker is not None:
            if not self._asker.called:
                self._asker.give_to(destination)
            self._asker = None
            self.deferred.callback([])

    def _told(self, result: Any, node: Node) -> None:
        asker, self._asker = self._asker, None
        if asker is not None and not asker.called:
            asker._probed(result.value if isinstance(result, Failure) else None, node, self._give)


def _joined(packed: Sequence[Packed]) -> Packed:
    """Join several payloads into one.  A large payload stays a list of parts."""
    parts: list[bytes] = []
    for payload in packed:
        parts += payload if isinstance(payload, list) else [payload]
    return b"".join(parts) if all(isinstance(payload, bytes) for payload in packed) else parts

"""The interfaces between a connection and its owner, and between a node and what listens to all nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from ..errors import ConnectionLost, ReplyError, ValkeyError
from ..requests.request import Request
from ..statistics import Purpose

if TYPE_CHECKING:
    from .node import NodeConnection
    from .protocol import RESPProtocol


class ConnectionListener:
    """Base class for the owner of a connection.  This default owner fails every request."""

    @property
    def occupied(self) -> bool:
        """Whether the connection cannot log in again now: a caller has it for itself, or it is not read."""
        return False

    def reply_failed(self, connection: RESPProtocol, request: Request, error: ReplyError) -> None:
        """Handle an error reply.

        Args:
            connection: The connection on which the reply came.
            request: The request; it belongs to the owner now.
            error: The error of the server.
        """
        request.fail(error)

    def connection_ended(
        self, connection: RESPProtocol, unsent: Sequence[Request], sent: Sequence[Request], reason: Exception
    ) -> None:
        """Handle the end of a connection, which accepts and answers no more requests.

        Args:
            connection: The connection; its socket may still be open.
            unsent: Requests that were not written.  They belong to the owner now.
            sent: Requests that were written and not answered.  They belong to the owner now.
            reason: Why the connection ended.
        """
        for written, requests in ((True, sent), (False, unsent)):
            for request in requests:
                request.fail(ConnectionLost(str(reason), maybe_executed=written))

    def connection_gone(self, connection: RESPProtocol, reason: Exception, *, clean: bool) -> None:
        """Handle the closing of the socket.  No other call follows for this connection.

        Args:
            connection: The connection.
            reason: Why the connection ended.
            clean: Whether this client closed the connection and every reply had come.
        """


class NodeListener(Protocol):
    """The listener of a node.  It decides what happens to requests that the node cannot complete."""

    def reply_failed(self, node: NodeConnection, connection: RESPProtocol, request: Request, error: ReplyError) -> None:
        """Handle an error reply to a routed request."""

    def lost(self, node: NodeConnection, unsent: Sequence[Request], sent: Sequence[Request], reason: Exception) -> None:
        """Handle requests whose connection ended before their replies came."""

    def dial_failed(self, node: NodeConnection, stranded: list[Request], reason: ValkeyError, purpose: Purpose) -> None:
        """Handle a failed dial.  The ``stranded`` requests cannot wait in this node for the next dial."""

    def writes_lost(self, node: NodeConnection, why: str) -> None:
        """Note that no WAIT can confirm the earlier writes on the shared connection any more."""

    def connected(self, node: NodeConnection, purpose: Purpose) -> None:
        """Handle the end of a successful handshake.

        Of connections that are not shared, only the first one after a failed dial is reported.
        """

    def login_failed(self, node: NodeConnection, reason: Exception) -> None:
        """Handle that an open connection could not log in again."""

    def login_restored(self, node: NodeConnection) -> None:
        """Handle that every open connection has logged in again after `login_failed`."""

    def tls_reloaded(self, error: Exception | None) -> None:
        """Handle that certificates were read again, or that they could not be used."""

    def disconnected(self, node: NodeConnection, reason: Exception, clean: bool, unanswered: int) -> None:
        """Handle the end of a connection whose socket was open."""

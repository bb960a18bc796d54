"""The interface between a connection and its owner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import ConnectionLost, ReplyError
from ..requests.request import Request

if TYPE_CHECKING:
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

"""What a connection tells its owner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import ConnectionLost, ReplyError
from ..requests.request import Request


class ConnectionListener:
    """The owner of a connection.  This default owner fails every request."""

    def reply_failed(self, connection: Any, request: Request, error: ReplyError) -> None:
        """An error reply came; the request belongs to the owner now."""
        request.fail(error)

    def connection_ended(
        self, connection: Any, unsent: Sequence[Request], sent: Sequence[Request], reason: Exception
    ) -> None:
        """The connection takes and answers nothing any more; its requests belong to the owner now."""
        for written, requests in ((True, sent), (False, unsent)):
            for request in requests:
                request.fail(ConnectionLost(str(reason), maybe_executed=written))

    def connection_gone(self, connection: Any, reason: Exception, *, clean: bool) -> None:
        """Its socket is closed, the last thing heard of it."""

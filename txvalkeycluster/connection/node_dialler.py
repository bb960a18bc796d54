"""NodeDialler: makes the connections to one node, for any purpose, and follows their logins."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from ..errors import ConnectionLost
from ..options import Options
from ..statistics import Purpose
from .connect_errors import connect_error
from .handshake import ServerInfo
from .listener import NodeListener
from .login import Login
from .protocol import RESPProtocol

if TYPE_CHECKING:
    from .node import NodeConnection


class NodeDialler:
    """Makes connections to one node."""

    def __init__(
        self,
        node: NodeConnection,
        dial: Callable[..., Deferred[Any]],
        clock: IReactorTime,
        options: Options,
        listener: NodeListener,
    ) -> None:
        """Make a dialler.

        Args:
            node: The node.
            dial: Makes a connection to an address, for a purpose.
            clock: The reactor.
            options: The options of the client.
            listener: Hears of connections and logins.
        """
        self._node = node
        self._dial = dial
        self._clock = clock
        self._options = options
        self._listener = listener
        # The logins of open connections that could not log in again.
        self._failing_logins: set[Login] = set()
        # The kinds of connections, other than the shared one, whose last dial failed.
        self._failing: set[Purpose] = set()

    def establish(self, purpose: Purpose) -> Deferred[tuple[Any, ServerInfo]]:
        """Connect and complete the handshake within ``connect_timeout``; fail with an error of this package.

        Args:
            purpose: What the connection is for.
        """
        made: Deferred[Any] = Deferred.fromCoroutine(self._connect(purpose))
        made.addTimeout(self._options.connect_timeout, self._clock)
        made.addErrback(self._explain)
        return made

    def failed(self, purpose: Purpose) -> None:
        """Note that the last dial for a purpose, other than the shared connection, has failed."""
        self._failing.add(purpose)

    async def _connect(self, purpose: Purpose) -> tuple[RESPProtocol, ServerInfo]:
        address = self._node.address
        connection: RESPProtocol = await self._dial(address, purpose)
        try:
            connection.login = Login(self._clock, self._options, address, connection, self._login_changed)
            info = await connection.login.begin()
        except BaseException as error:
            connection.abort(error if isinstance(error, Exception) else ConnectionLost("connecting was cancelled"))
            raise
        self._node.counters.connections.count(purpose)
        self._login_changed(connection.login, None)
        if purpose in self._failing:
            self._failing.discard(purpose)
            self._listener.connected(self._node, purpose)
        return connection, info

    def _login_changed(self, login: Login, error: Exception | None) -> None:
        """Report that an open connection could not log in again, and the first login after which none of them fails."""
        if error is not None:
            self._failing_logins.add(login)
            self._listener.login_failed(self._node, error)
        elif self._failing_logins:
            self._failing_logins = {each for each in self._failing_logins if each.failing}
            if not self._failing_logins:
                self._listener.login_restored(self._node)

    def _explain(self, failure: Failure) -> Failure:
        return Failure(connect_error(self._node.address, failure, self._options))  # type: ignore[no-untyped-call]

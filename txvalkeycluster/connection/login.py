"""Login: how a connection logs in, and logs in again before its password expires.

A server accepts AUTH on a connection that is in use.  Commands before it run with the old rights, commands after it
with the new ones.  If AUTH is refused, the old login stays valid.
Source: https://valkey.io/commands/auth/
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime

from ..address import Address
from ..credentials import Credentials, CredentialsFunction
from ..errors import AuthenticationFailed, ConnectionLost, MaybeExecuted
from ..options import Options
from ..requests.timer import Timer
from .handshake import ServerInfo, authenticate, handshake
from .protocol import RESPProtocol

# A connection logs in again when this part of the time is over in which its password is valid.
_EARLY, _LATE = 0.7, 0.85
# The shortest and the longest time before a failed login is tried again, in seconds.
_AGAIN = 1.0, 30.0

_T = TypeVar("_T")


class Login:
    """The login of one connection."""

    def __init__(
        self,
        clock: IReactorTime,
        options: Options,
        address: Address,
        connection: RESPProtocol,
        changed: Callable[[Exception | None], None],
    ) -> None:
        """Make the login of a connection that has just been made.

        Args:
            clock: Measures time.
            options: The options of the client.
            address: The node.
            connection: The connection.
            changed: Called when logging in again has failed, with the error, and with None when it has worked.
        """
        self._clock = clock
        self._options = options
        self._given: Credentials | CredentialsFunction | None = options.credentials
        if self._given is None and options.password is not None:
            self._given = Credentials(options.username, options.password)
        self._address = address
        self._connection = connection
        self._changed = changed
        self._protocol = 0
        self._timer = Timer(clock, self._expires)
        self._failures = 0
        self._renewing: Deferred[None] | None = None
        # Whether the connection must log in again as soon as no caller uses it.
        self._due = False

    async def begin(self) -> ServerInfo:
        """Make the handshake.

        Returns:
            Facts about the server.

        Raises:
            AuthenticationFailed: There are no credentials, or the server refused them, also those that were given after
                the first ones had been refused.
            ConnectFailed: As for `handshake`.
            MaybeExecuted: As for `handshake`.
        """
        info = await self._with_credentials(lambda now: handshake(self._connection, self._options, now))
        self._protocol = info.protocol
        return info

    def renew(self) -> Deferred[None]:
        """Log in again, now or as soon as no caller uses the connection.

        Returns:
            A Deferred that fires with None when the server has accepted the new login, or the login is put off, or the
            connection has ended.  It fails with AuthenticationFailed or CommandTimeout.
        """
        waiter: Deferred[None] = Deferred()
        if self._renewing is None:
            renewing = Deferred.fromCoroutine(self._renew())
            if not renewing.called:
                self._renewing = renewing
            renewing.addBoth(self._renewed)
            renewing.chainDeferred(waiter)
        else:
            self._renewing.addBoth(lambda _: self.renew()).chainDeferred(waiter)
        return waiter

    def connection_is_free(self) -> None:
        """Log in again if that was put off."""
        if self._due:
            self._expires()

    def stop(self) -> None:
        """Do not log in again, because the connection has ended."""
        self._timer.stop()

    def _renewed(self, result: object) -> object:
        self._renewing = None
        return result

    def _expires(self) -> None:
        # Every error has been reported.
        self.renew().addErrback(lambda _: None)

    async def _renew(self) -> None:
        connection = self._connection
        if connection.ended:
            return
        self._due = connection.owner.lent
        if self._due:
            return
        if connection.purpose == "subscriber" and self._protocol == 2:
            # With RESP2, a connection that has subscriptions accepts no AUTH.
            connection.abort(ConnectionLost(f"{connection.peer}: a connection with RESP2 had to be replaced to log in"))
            return
        try:
            await self._with_credentials(lambda now: authenticate(connection, now))
        except (AuthenticationFailed, MaybeExecuted) as error:
            if connection.ended:
                # The next connection logs in anew.
                return
            self._failures += 1
            self._timer.start(min(_AGAIN[0] * 2.0 ** min(self._failures, 10), _AGAIN[1]))
            self._changed(error)
            raise
        self._failures = 0
        self._changed(None)

    async def _with_credentials(self, log_in: Callable[[Credentials | None], Awaitable[_T]]) -> _T:
        """Log in; if it is refused, do it once more with other credentials."""
        credentials = await self._credentials()
        try:
            result = await log_in(credentials)
        except AuthenticationFailed:
            refused, credentials = credentials, await self._credentials()
            if credentials == refused:
                raise
            # They have been replaced meanwhile.
            result = await log_in(credentials)
        if credentials is not None and credentials.expires_in is not None and not self._connection.ended:
            # At random, so that not all connections log in at the same time.
            self._timer.start(credentials.expires_in * self._options.random.uniform(_EARLY, _LATE))
        return result

    async def _credentials(self) -> Credentials | None:
        """Return the credentials for the node; None if the client does not log in."""
        if not callable(self._given):
            return self._given
        what = f"{self._address}: the function for credentials"
        limit = self._options.connect_timeout
        try:
            answer: Any = self._given(self._address)
            if isawaitable(answer):
                answer = await Deferred.fromCoroutine(_wait_for(answer)).addTimeout(limit, self._clock)
        except (CancelledError, DeferredTimeout):
            raise AuthenticationFailed(f"{what} gave no result within {limit:g} s (connect_timeout)") from None
        except Exception as error:
            # It is code of the application.  Its error is a failed login.
            raise AuthenticationFailed(f"{what} raised {type(error).__name__}: {error}") from error
        if not isinstance(answer, Credentials):
            # Without the value, which may be a password.
            raise AuthenticationFailed(f"{what} gave {type(answer).__name__}, not Credentials")
        return answer


async def _wait_for(answer: Awaitable[Any]) -> Any:
    return await answer

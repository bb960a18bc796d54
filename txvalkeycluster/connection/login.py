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
from twisted.python.failure import Failure
from twisted.python.reflect import safe_str

from ..address import Address
from ..credentials import Credentials, CredentialsFunction
from ..errors import AuthenticationFailed, ConnectionLost, MaybeExecuted
from ..options import Options
from ..requests.timer import Timer
from .handshake import ServerInfo, authenticate, handshake
from .protocol import RESPProtocol

# A connection logs in again when this part of the time is over in which its password is valid.
_EARLY, _LATE = 0.7, 0.85
# The shortest time between a login and the next one, in seconds, however soon the password expires.
_SHORTEST = 0.1
# The wait after the first failed login, in seconds; it doubles with each failure up to the second number.
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
        changed: Callable[[Login, Exception | None], None],
    ) -> None:
        """Make the login of a connection that has just been made.

        Args:
            clock: Measures time.
            options: The options of the client.
            address: The node.
            connection: The connection.
            changed: Called with this login when logging in again has failed, with the error, and with None when it has
                worked.
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
        # One login at a time: a later one must have later credentials.
        self._under_way = True
        self._waiters: list[Deferred[None]] = []
        # The function's answer, while it is waited for.
        self._answer: Deferred[Any] | None = None
        # Credentials that came while the connection was occupied.  The timer is set for them.
        self._kept: Credentials | None = None
        self._stopped = False

    @property
    def failing(self) -> bool:
        """Whether the connection is open and could not log in again."""
        return self._failures > 0 and not self._ended

    @property
    def _ended(self) -> bool:
        return self._stopped or self._connection.ended

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
        self._under_way = False
        if self._waiters:
            # In the next turn, because the connection has no owner yet.
            self._timer.start(0)
        return info

    def renew(self) -> Deferred[None]:
        """Log in again, now or as soon as the connection is free.

        Returns:
            A Deferred that fires with None when the server has accepted the new login, the login has to wait until the
            connection is free, or the connection has ended.  It fails with AuthenticationFailed or CommandTimeout.
        """
        self._kept = None
        return self._renew_soon()

    def connection_is_free(self) -> None:
        """Log in with the credentials that were kept.  AUTH is queued before this method returns."""
        if self._kept is not None:
            self._renew_soon().addErrback(_ignore)

    def stop(self) -> None:
        """Do not log in again, because the connection ends."""
        self._stopped = True
        self._timer.stop()
        if self._answer is not None:
            self._answer.cancel()
        self._tell(None)

    def _expires(self) -> None:
        # Every error has been reported.
        self.renew().addErrback(_ignore)

    def _renew_soon(self) -> Deferred[None]:
        waiter: Deferred[None] = Deferred()
        self._waiters.append(waiter)
        if self._ended:
            self._tell(None)
        elif not self._under_way:
            Deferred.fromCoroutine(self._renew_while_wanted())
        return waiter

    def _tell(self, error: Exception | None) -> None:
        waiters, self._waiters = self._waiters, []
        _fire(waiters, error)

    async def _renew_while_wanted(self) -> None:
        self._under_way = True
        while self._waiters:
            waiters, self._waiters = self._waiters, []
            error: Exception | None = None
            try:
                await self._renew()
            except Exception as raised:
                error = raised
            _fire(waiters, error)
        self._under_way = False

    async def _renew(self) -> None:
        if self._given is None or self._ended:
            return
        try:
            logged_in = await self._with_credentials(self._authenticate)
        except (AuthenticationFailed, MaybeExecuted) as error:
            if self._ended:
                # The next connection logs in anew.
                return
            self._failures += 1
            wait = min(_AGAIN[0] * 2.0 ** min(self._failures - 1, 10), _AGAIN[1])
            self._timer.start(self._options.random.uniform(wait / 2, wait))
            self._changed(self, error)
            raise
        if logged_in:
            self._failures = 0
            self._changed(self, None)

    async def _authenticate(self, credentials: Credentials | None) -> bool:
        """Log in again; return False if that has to wait, or the connection ends."""
        connection = self._connection
        if self._ended:
            return False
        if connection.owner.occupied:
            self._kept = credentials
            return False
        if connection.purpose == "subscriber" and self._protocol == 2:
            # With RESP2, a connection that has subscriptions accepts no AUTH.
            connection.abort(ConnectionLost(f"{connection.peer}: a connection with RESP2 had to be replaced to log in"))
            return False
        try:
            await authenticate(connection, credentials)
        except MaybeExecuted:
            if self._ended or not connection.owner.occupied:
                raise
            # The reply may be behind much else.
            self._kept = credentials
            return False
        return not self._ended

    async def _with_credentials(self, log_in: Callable[[Credentials | None], Awaitable[_T]]) -> _T:
        """Log in; if it is refused, do it once more with other credentials."""
        refusal: AuthenticationFailed | None = None
        refused: Credentials | None = None
        while True:
            credentials, since = await self._credentials()
            if refusal is not None and _are_same(credentials, refused):
                raise refusal
            try:
                result = await log_in(credentials)
            except AuthenticationFailed as error:
                if refusal is not None or self._ended:
                    raise
                # The credentials may have been replaced meanwhile.
                refusal, refused = error, credentials
            except MaybeExecuted:
                if refusal is None:
                    raise
                # The server has closed the connection after it had refused the login.
                raise refusal from None
            else:
                self._set_timer(credentials, since)
                return result

    def _set_timer(self, credentials: Credentials | None, since: float | None) -> None:
        if since is None:
            return
        self._timer.stop()
        if credentials is not None and credentials.expires_in is not None and not self._ended:
            # At random, so that not all connections log in at the same time.
            at = since + credentials.expires_in * self._options.random.uniform(_EARLY, _LATE)
            self._timer.start(max(at - self._clock.seconds(), _SHORTEST))

    async def _credentials(self) -> tuple[Credentials | None, float | None]:
        """Return the credentials for the node, and when they came.

        The credentials are None if the client does not log in.  The time is None if the timer is set for them.
        """
        if self._kept is not None:
            kept, self._kept = self._kept, None
            return kept, None
        if not callable(self._given):
            return self._given, self._clock.seconds()
        what = f"{self._address}: the function for credentials"
        try:
            answer: Any = self._given(self._address)
        except BaseException as error:
            # It is code of the application.  Its error is a failed login.
            raise _raised(what, error) from error
        if isawaitable(answer):
            answer = await self._awaited(answer, what)
        if not isinstance(answer, Credentials):
            # Without the value, which may be a password.
            raise AuthenticationFailed(f"{what} gave {type(answer).__name__}, not Credentials")
        return answer, self._clock.seconds()

    async def _awaited(self, answer: Awaitable[Any], what: str) -> Any:
        """Return the result of an answer that comes later."""
        limit = self._options.connect_timeout
        self._answer = _answers.wait_for(answer)
        try:
            [result] = await self._answer.addTimeout(limit, self._clock)
        except (CancelledError, DeferredTimeout):
            if self._ended:
                raise ConnectionLost(f"{self._connection.peer}: the connection ended before the login") from None
            raise AuthenticationFailed(f"{what} gave no result within {limit:g} s (connect_timeout)") from None
        finally:
            self._answer = None
        if isinstance(result, Failure):
            error = result.value
            assert error is not None
            raise _raised(what, error) from error
        return result


class _Answers:
    """The Deferreds and coroutines that functions for credentials have returned, and the logins that wait for them.

    A function may return one Deferred to several logins.  It is cancelled when no login waits for it any more.
    """

    def __init__(self) -> None:
        self._waiters: dict[Deferred[Any], list[Deferred[Any]]] = {}

    def wait_for(self, answer: Awaitable[Any]) -> Deferred[list[Any]]:
        """Wait for an answer.

        Returns:
            A Deferred that fires with a list that holds the result, or the Failure.  If it is cancelled, it fails at
            once, even if the code of the application ignores that.
        """
        source = answer if isinstance(answer, Deferred) else Deferred.fromCoroutine(_wait_for(answer))
        waiter: Deferred[list[Any]] = Deferred(lambda waiter: self._give_up(source, waiter))
        waiters = self._waiters.get(source)
        if waiters is None:
            self._waiters[source] = [waiter]
            source.addBoth(self._answered, source)
        else:
            waiters.append(waiter)
        return waiter

    def _answered(self, result: Any, source: Deferred[Any]) -> Any:
        for waiter in self._waiters.pop(source, []):
            if not waiter.called:
                waiter.callback([result])
        # The logins report a failure.
        return None if isinstance(result, Failure) else result

    def _give_up(self, source: Deferred[Any], waiter: Deferred[Any]) -> None:
        waiters = self._waiters.get(source, [])
        if waiter in waiters:
            waiters.remove(waiter)
            if not waiters:
                del self._waiters[source]
                source.cancel()


_answers = _Answers()


async def _wait_for(answer: Awaitable[Any]) -> Any:
    return await answer


def _are_same(one: Credentials | None, other: Credentials | None) -> bool:
    """Return whether two credentials log in the same way, whenever they expire."""
    if one is None or other is None:
        return one is other
    return (one.username, one.password) == (other.username, other.password)


def _raised(what: str, error: BaseException) -> AuthenticationFailed:
    return AuthenticationFailed(f"{what} raised {type(error).__name__}: {safe_str(error)}")


def _fire(waiters: list[Deferred[None]], error: Exception | None) -> None:
    for waiter in waiters:
        if error is None:
            waiter.callback(None)
        else:
            waiter.errback(error)


def _ignore(failure: Failure) -> None:
    """Do nothing: the error has been reported."""

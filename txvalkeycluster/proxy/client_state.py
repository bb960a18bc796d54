"""What one client has agreed with the proxy: its login, its modes, its transaction and its subscriptions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from .client_connection import ClientConnection
from .commands.blocking import Blocked
from .commands.subscriptions import ClientSubscriptions
from .commands.transactions import QueuedTransaction, Watch
from .request_framer import RequestFramer
from .upstream import Upstream

if TYPE_CHECKING:
    from .server import ProxyServer

_log = Logger()


class ClientState(ClientConnection):
    """The state of one client."""

    #: The name and the library that the client has given.
    name = b""
    library = b""
    library_version = b""
    #: The version of RESP.
    protocol = 2
    #: The user that has logged in; None if there was no login.
    user: str | None = None
    password: str | None = None
    #: Whether replies are sent: "on", "off", or "skip" for the next one.
    reply_mode = "on"
    #: The transaction that the client queues; None if it does not.
    transaction: QueuedTransaction | None = None
    #: The keys that the client watches.
    watch: Watch | None = None
    #: The subscriptions of the client; None if it had none yet.
    subscriptions: ClientSubscriptions | None = None
    #: The command of the client that waits; None if none does.
    blocked: Blocked | None = None
    # Whether every request is one of many that are started in the same way: no transaction is queued, and so on.
    _plain = True
    #: Why this session ends; empty as long as it does not.
    ending = ""
    # The connection is closed when all requests are answered.
    _finishing = False

    def __init__(self, server: ProxyServer, number: int) -> None:
        """Make the state of a client whose connection is made now.

        Args:
            server: What all clients share.
            number: The number of the client.
        """
        super().__init__(server)
        self.number = number
        self.begun = server.seconds()
        #: Whether the client may send commands.
        self.known = server.lets_everybody_in
        self._framer = RequestFramer(server.known_limits if self.known else server.unknown_limits)
        #: Sends the requests; None before the login.
        self.upstream: Upstream | None = None
        # Messages that wait for the end of the turn.
        self._pushes: list[bytes] = []

    def cut(self, reason: str) -> None:
        """End the connection at once."""
        raise NotImplementedError

    def end_because(self, reason: str) -> None:
        """Close the connection when the replies are written."""
        raise NotImplementedError

    def _read_or_not(self) -> None:
        """Read from the client, or not any more."""
        raise NotImplementedError

    @property
    def flags(self) -> bytes:
        """What CLIENT LIST shows about the state of the client."""
        states = (b"P", self.subscriptions), (b"x", self.transaction is not None), (b"b", self.blocked is not None)
        return b"".join([flag for flag, there in states if there]) or b"N"

    @property
    def restricted(self) -> bool:
        """Whether the client may only send commands about its subscriptions."""
        return self.protocol == 2 and bool(self.subscriptions)

    # ---- the login

    def use(self, upstream: Upstream | None) -> None:
        """Send the further requests with another upstream; None for none."""
        if self.upstream is not None:
            self.upstream.sessions -= 1
            self.upstream.unused_since = self.server.seconds()
        if self.watch is not None and upstream is not self.upstream:
            # Its connection is that of the other login, or has the other version of RESP.
            self.watch.lost = True
        self.upstream = upstream
        if upstream is not None:
            upstream.sessions += 1

    def let_in(self, upstream: Upstream, user: str | None, password: str | None) -> None:
        """Note that the client has logged in."""
        if self.subscriptions and user != self.user:
            # They belong to the other login, whose rights new channels must not have.
            self.end_because("it has logged in as another user while it has subscriptions")
        self.use(upstream)
        self.user, self.password = user, password
        self.known = True
        self._framer.limits = self.server.known_limits

    def leave_out(self) -> None:
        """Note that the client must log in again."""
        self.use(None)
        self.user = self.password = None
        self.known = False
        self._framer.limits = self.server.unknown_limits

    def speak(self, version: int) -> bool:
        """Change the version of RESP; return whether that is possible now."""
        if self.upstream is not None and version != self.protocol:
            upstream = self.server.upstreams.of(version, self.server.upstream_user(self.user), self.password)
            if upstream is None:
                return False
            self.use(upstream)
        self.flush_pushes()
        self.protocol = version
        self.change_mode()
        return True

    def change_mode(self, **changed: Any) -> None:
        """Set attributes that change how requests are handled; without any, note that one of them has changed."""
        for name, value in changed.items():
            setattr(self, name, value)
        self._plain = self.reply_mode == "on" and self.transaction is None and not self.restricted

    @contextmanager
    def blocking(self, blocked: Blocked) -> Iterator[None]:
        """Note that a command of the client waits, as long as the context lasts."""
        self.blocked = blocked
        if self.closed or self._finishing:
            blocked.end()
        self._read_or_not()
        try:
            yield
        finally:
            self.blocked = None
            self._read_or_not()

    def forget_transaction(self) -> None:
        """End a transaction that is queued, and the watch."""
        if self.transaction is not None:
            self.transaction.clear()
        self.change_mode(transaction=None)
        watch, self.watch = self.watch, None
        if watch is not None:
            watch.end().addErrback(_log_unexpected)

    def forget_subscriptions(self) -> None:
        """End all subscriptions; the messages that have come are sent before."""
        self.flush_pushes()
        subscriptions, self.subscriptions = self.subscriptions, None
        if subscriptions is not None:
            subscriptions.close()
            self.change_mode()

    # ---- messages

    def flush_pushes(self) -> None:
        """Send now what is no reply."""
        pushes, self._pushes = self._pushes, []
        if pushes and not self.closed:
            self.send(b"".join(pushes))
            if self.paused and self.unread > self.server.settings.max_unread_messages:
                self.cut("it does not read its messages")


def _log_unexpected(failure: Failure) -> None:
    _log.failure("the end of a watch failed", failure)

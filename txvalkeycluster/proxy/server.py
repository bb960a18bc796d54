"""What all clients of a proxy share: limits, logins, and the end of each turn of the reactor."""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IReactorFDSet, IReactorTime
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from ..client import ClusterClient
from ..statistics import NodeStatistics
from ..topology.model import Topology
from .commands.client_list import ClientFilter, describe
from .commands.connection import Answer
from .commands.handling import handle
from .commands.scans import Scans
from .commands.subscriptions import MessageFrames
from .poller import ClientPoller
from .process.peers import Peers
from .request_framer import Request, RequestLimits
from .session import ClientSession
from .settings import ProxySettings
from .slowlog import SlowLog
from .snapshot import Snapshot
from .upstream import Cell, Upstream, Upstreams
from .users import Users
from .web.cluster_watch import ClusterWatch
from .web.history import History

_log = Logger()
# How often clients that do not read, do not send or are idle are looked for, in seconds.
_SWEEP = 1.0
# So few replies of a node are written at once.  More are written at the end of the turn, with those of other nodes.
_FEW = 8
# So many requests of all clients are under way together; beyond that, each client has one.  It is enough to keep the
# nodes busy, and limits the replies that can come at once, whose sizes nobody knows before.
_TOGETHER = 1024


class ProxyServer(Factory):
    """The factory of the sessions, with everything that they share."""

    noisy = False

    def __init__(self, reactor: IReactorTime, settings: ProxySettings, peers: Peers | None = None) -> None:
        """Make a server without clients.

        Args:
            reactor: The reactor.
            settings: The settings.
            peers: The other workers; None if this is the only process.

        Raises:
            ValueError: The file of users is not valid.
            OSError: The file of users cannot be read.
        """
        self.settings = settings
        self.reactor = reactor
        self.seconds = reactor.seconds
        self.wall_clock = time.time
        self.begun = reactor.seconds()
        self.own_version = version("txvalkeycluster")
        #: The version of the servers, for HELLO.
        self.version = "8.0.0"
        self.version_known = False
        self.users = Users(Path(settings.users)) if settings.users else None
        self.passes_logins_through = settings.pass_through
        self.known_limits = RequestLimits(settings.max_request)
        self.unknown_limits = RequestLimits(settings.max_request, known=False)
        self.most_pending = settings.max_pending
        #: What ended sessions have done, and what belongs to no session.
        self.counters = Snapshot()
        self.sessions: dict[int, ClientSession] = {}
        #: The requests that are under way.
        self.cells_under_way = 0
        #: The bytes of the requests that are under way.
        self.under_way = 0
        #: The sessions whose clients do not read.
        self.slow: set[ClientSession] = set()
        self.peers = peers
        self.message_frames = MessageFrames()
        self.scans = Scans(reactor, peers.number if peers is not None else 0)
        self.history = History()
        self.watch = ClusterWatch(reactor.seconds, time.time, self.history)
        connect = self.watch.followed(self.connect)
        self.upstreams = Upstreams(reactor, connect, self.wake, self._replied, settings.max_logins)
        self.slowlog = SlowLog(settings.slowlog_max_len, self.wall_clock)
        self._slower_than = settings.slowlog_slower_than / 1e6
        self._number = 0
        self._touched: set[ClientSession] = set()
        self._awake = False
        #: Reads from the clients in place of the reactor.
        self.poller: ClientPoller | None = None
        self._sweeping = LoopingCall(self._sweep)
        self._sweeping.clock = reactor
        self._emptied: Deferred[None] | None = None
        self._stopping = False

    @property
    def lets_everybody_in(self) -> bool:
        """Whether a client need not log in."""
        return self.users is None and not self.passes_logins_through

    @property
    def stopping(self) -> bool:
        """Whether it accepts no more clients."""
        return self._stopping

    @property
    def topology(self) -> Topology:
        """The current slot map."""
        upstream: Upstream | None = next(iter(self.upstreams), None)
        return upstream.client.topology if upstream is not None else Topology(0, ())

    @property
    def room(self) -> int:
        """How many more requests of clients may be under way that have one under way already."""
        return _TOGETHER - self.cells_under_way

    @property
    def fair_share(self) -> int:
        """How many bytes of requests one client may have under way."""
        settings = self.settings
        if self.under_way <= settings.max_total_bytes:
            return settings.max_pending_bytes
        return min(settings.max_pending_bytes, settings.max_total_bytes // max(len(self.sessions), 1))

    def upstream_user(self, user: str | None) -> str | None:
        """Return the user of the cluster for a user of the proxy; None for the proxy's own."""
        return user if self.passes_logins_through else None

    def connect(self, protocol: int, user: str | None, password: str | None) -> ClusterClient[bytes]:
        """Make a client of the cluster.

        Args:
            protocol: The version of RESP.
            user: The user; None is that of the proxy.
            password: The password of the user.
        """
        # Everybody can try passwords; that must not fill the log.
        login: dict[str, Any] = {} if user is None else {"username": user, "password": password, "log": False}
        if user == "default":
            login["username"] = None
        options: dict[str, Any] = {"protocol": protocol, "raw_replies": True, "timeout": self.settings.timeout, **login}
        # The clients get bytes, whatever the URL says.
        options["encoding"] = None
        if "max_exclusive=" not in self.settings.cluster:
            # Each client may wait for a blocking command, or watch keys.
            options["max_exclusive"] = self.settings.max_clients
        return ClusterClient(self.reactor, self.settings.cluster, **options)

    # ---- clients

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        """Make the session of a new client."""
        if len(self.sessions) >= self.settings.max_clients or self._stopping:
            self.counters.clients_refused += 1
            return _Refusal(b"-ERR max number of clients reached\r\n")
        self._number += 1
        # The numbers of clients differ between workers.
        return ClientSession(self, self._number if self.peers is None else self._number << 12 | self.peers.number)

    def joined(self, session: ClientSession) -> None:
        """Note a new client."""
        self.counters.clients_accepted += 1
        self.sessions[session.number] = session
        if not self._sweeping.running:
            self._sweeping.start(_SWEEP, now=False)

    def left(self, session: ClientSession) -> None:
        """Note the end of a client."""
        self.sessions.pop(session.number, None)
        _count_session(self.counters, session)
        self.slow.discard(session)
        self._touched.discard(session)
        if not self.sessions and self._emptied is not None:
            emptied, self._emptied = self._emptied, None
            emptied.callback(None)

    def address_of(self, transport: Any, which: str) -> str:
        """Return the address of one end of a connection as text."""
        address = getattr(transport, which)() if transport is not None else None
        host, port = getattr(address, "host", None), getattr(address, "port", None)
        if host is not None:
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        name = getattr(address, "name", None) or b"/unixsocket"
        return f"{name.decode() if isinstance(name, bytes) else name}:0"

    def has_user(self, name: str) -> bool:
        """Tell whether there may be a user with this name."""
        if self.passes_logins_through:
            return True
        return name == "default" if self.users is None else name in self.users

    def client_lines(self, wanted: ClientFilter, asking: ClientSession | None = None) -> bytes:
        """Return the lines of CLIENT LIST.

        Args:
            wanted: Which clients are shown.
            asking: The client that asks.
        """
        return b"".join(describe(self, session) for session in self._selected(wanted, asking))

    def kill(self, wanted: ClientFilter, asking: ClientSession | None = None) -> int:
        """End clients.

        Args:
            wanted: Which clients are ended.
            asking: The client that asks; it gets its reply before it is ended.

        Returns:
            The number of clients.
        """
        found = self._selected(wanted, asking)
        for session in found:
            if session is asking:
                session.end("killed")
            else:
                session.cut("killed by CLIENT KILL")
        return len(found)

    async def unblock(self, number: int, with_error: bool) -> int:
        """End the command of a client that waits.

        Args:
            number: The number of the client.
            with_error: Whether its reply is an error; otherwise it is that of a command whose time is over.

        Returns:
            1; 0 if there is no such client, or it waits for nothing.
        """
        session = self.sessions.get(number)
        blocked = session.blocked if session is not None else None
        return await blocked.unblock(error=with_error) if blocked is not None else 0

    def _selected(self, wanted: ClientFilter, asking: ClientSession | None) -> list[ClientSession]:
        return [
            session
            for session in self.sessions.values()
            if wanted.selects(session) and not (wanted.skip_me and session is asking)
        ]

    def snapshot(self) -> Snapshot:
        """Return all numbers of this proxy."""
        snapshot = Snapshot()
        snapshot.add(self.counters)
        for session in self.sessions.values():
            _count_session(snapshot, session)
        snapshot.clients = len(self.sessions)
        snapshot.logins = len(self.upstreams)
        snapshot.request_bytes = self.under_way
        snapshot.requests_slow = self.slowlog.count
        snapshot.scans = len(self.scans)
        total = NodeStatistics()
        total.add(self.upstreams.ended)
        for upstream in self.upstreams:
            total.add(upstream.client.statistics)
        snapshot.pending_commands = total.pending
        snapshot.node_connections = total.open.shared + total.open.exclusive + total.open.subscriber
        snapshot.commands_repeated, snapshot.commands_put_off = total.repeated, total.put_off
        snapshot.commands_timed_out, snapshot.moved, snapshot.asked = total.timeouts, total.moved, total.asked
        snapshot.errors = dict(total.errors)
        return snapshot

    # ---- requests

    def handle(self, session: ClientSession, request: Request) -> Answer:
        """Handle a request that is not simply passed on."""
        return handle(self, session, request)

    # ---- the end of a turn

    def touch(self, session: ClientSession) -> None:
        """Write the replies of a session at the end of this turn of the reactor."""
        self._touched.add(session)
        self.wake()

    def wake(self) -> None:
        """Send and write everything at the end of this turn of the reactor."""
        if not self._awake:
            self._awake = True
            if self.poller is None or not self.poller.reading:
                self.reactor.callLater(0, self._end_of_turn)

    def _replied(self, started: float, cells: Sequence[Cell]) -> None:
        self._touched.update([cell[1] for cell in cells])
        if not self._awake and len(cells) > _FEW:
            self.wake()
        took = self.seconds() - started
        self.counters.add_time(took, len(cells))
        if took >= self._slower_than:
            self.slowlog.note(took, cells)
        if not self._awake:
            # Clients wait for these replies.
            self._awake = True
            self._end_of_turn()

    def _reads_done(self) -> None:
        """Do at once what was to be done at the end of the turn, because the clients have been read."""
        if self._awake:
            self._end_of_turn()

    def _end_of_turn(self) -> None:
        if not self._awake:
            return
        self._awake = False
        touched, self._touched = self._touched, set()
        for session in touched:
            try:
                session.flush()
            except Exception:
                _log.failure("{session!r} is cut, because its replies cannot be written", session=session)
                session.cut("its replies cannot be written")
        if self.upstreams.begun:
            self.upstreams.submit(self.seconds())

    # ---- limits

    def _sweep(self) -> None:
        now = self.seconds()
        settings = self.settings
        for session in list(self.slow):
            if session.is_stuck(now, settings.output_timeout):
                session.cut("it has not read its replies")
        unread = {session: session.unread for session in self.slow}
        total = sum(unread.values())
        for session in sorted(unread, key=lambda session: session.stuck_since):
            if total <= settings.max_output:
                break
            total -= unread[session]
            session.cut("the replies that wait for clients need too much memory")
        for session in list(self.sessions.values()):
            if session.is_late(now, settings.request_timeout):
                session.cut("it did not complete its request")
            elif settings.idle_timeout and session.is_idle(now, settings.idle_timeout):
                session.cut("it was idle")
            elif session.blocked is not None and session.has_left():
                session.cut("it has left")
        self.upstreams.expire()
        self.scans.expire()

    # ---- start and end

    def start(self) -> None:
        """Connect to the cluster."""
        if self.poller is None and hasattr(select, "epoll") and IReactorFDSet.providedBy(self.reactor):
            self.poller = ClientPoller(self.reactor, self._reads_done)
        upstream = self.upstreams.of(2)
        assert upstream is not None
        if not self.passes_logins_through:
            upstream.client.refresh_topology().addErrback(lambda _: None)

    def stop(self) -> Deferred[None]:
        """Accept no more clients; close the connections when their requests have ended.

        Returns:
            A Deferred that fires with None when there are no clients any more.
        """
        self._stopping = True
        for session in list(self.sessions.values()):
            session.finish()
        if not self.sessions:
            return succeed(None)
        self._emptied = Deferred()
        return self._emptied

    def abort(self) -> None:
        """End all requests and connections at once."""
        self.upstreams.abort()
        for session in list(self.sessions.values()):
            session.cut("the proxy stops, and its requests have not ended in time")

    def close(self) -> Deferred[Any]:
        """End everything that is left."""
        for session in list(self.sessions.values()):
            session.cut("the proxy stops")
        if self._sweeping.running:
            self._sweeping.stop()
        if self.poller is not None:
            self.poller.close()
            self.poller = None
        return self.upstreams.close()


def _count_session(snapshot: Snapshot, session: ClientSession) -> None:
    snapshot.requests += session.commands
    snapshot.received_bytes += session.bytes_in
    snapshot.sent_bytes += session.bytes_out


class _Refusal(Protocol):
    """Tells a client why it is refused, and closes."""

    def __init__(self, text: bytes) -> None:
        self._text = text

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self._text)
        self.transport.loseConnection()

"""One client of the proxy: its requests in, the replies in the same order out.

A request gets a cell, which waits for its reply in `ClientSession.cells`.  Replies can come in any order; they are
written from the first cell on.  Requests that cannot be started yet wait in a queue, and the session reads nothing more
until the queue is empty.  That is so while

- a command runs that must not overlap with others of this client, such as AUTH or DBSIZE;
- a command is delayed by a redirect or a failover: the next one could be executed before it;
- as many requests are under way as the window allows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..slots import key_slot
from . import replies
from .client_state import ClientState
from .commands.mget import parts_of
from .request_framer import Request
from .upstream import Cell

if TYPE_CHECKING:
    from ..relay import RelayBatch
    from .server import ProxyServer

_log = Logger()
# The replies that the requests under way may have together, as far as earlier replies tell, in bytes.
_WINDOW_BYTES = 1 << 20
_FIRST_WINDOW, _LEAST_WINDOW = 4, 2
# Replies of the proxy, and of servers, to requests that were perhaps not executed begin with these.
_NOT_EXECUTED = (b"-CLUSTERDOWN ", b"-TRYAGAIN ", b"-TIMEOUT ", b"-CONNLOST ", b"-BUSY ", b"-LOADING ", b"-MASTERDOWN ")
# Requests of fewer bytes do not count as much.
_UNCOUNTED = 1 << 16


class _Muted(list[Any]):
    """The cell of a request whose reply the client does not want (CLIENT REPLY)."""

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(index, b"" if index == 0 else value)


class ClientSession(ClientState):
    """What one client does."""

    # A command runs that must not overlap with others.
    _alone = False

    def __init__(self, server: ProxyServer, number: int) -> None:
        """Make a session for a connection that is made now.

        Args:
            server: What all sessions share.
            number: The number of the client.
        """
        super().__init__(server, number)
        # Whatever nearly every client sets is set here.  A client that sets an attribute which the first ones have not
        # set needs 1 to 2 KB more.
        self.heard_at = server.seconds()
        self.commands = 0
        self.bytes_in = 0
        self.last_command = b""
        self.cells: deque[Cell] = deque()
        #: The cells of requests that are delayed, and their batches.
        self.delayed: list[tuple[Cell, RelayBatch]] = []
        self._queue: deque[Request] = deque()
        # The number of requests that may be under way.  It grows as long as requests wait for it and replies are small.
        # It begins low, because nobody knows the size of a reply before it comes.
        self._window = min(_FIRST_WINDOW, server.most_pending)
        # Whether requests wait because of it.
        self._narrow = False
        # The bytes of the requests since no request was under way.
        self._under_way = 0
        # When the client began its request that is not complete.
        self._partial_since = 0.0

    def __repr__(self) -> str:
        return f"<ClientSession {self.number} {self.peer} pending={len(self.cells)} queued={len(self._queue)}>"

    # ---- the transport

    def connectionMade(self) -> None:
        """Start to read."""
        self.open()
        if self.known:
            self.use(self.server.upstreams.of(2))
        self.server.joined(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget the requests.  Those that were sent to the cluster go on there."""
        self.ended()
        self._count_down()
        self._drop_cells()
        self._queue.clear()
        self.delayed = []
        self.forget_transaction()
        self.forget_subscriptions()
        if self.blocked is not None:
            self.blocked.end()
        self.use(None)
        self.server.left(self)

    @property
    def partial(self) -> int:
        """The number of bytes of the request that is not complete."""
        return self._framer.partial

    def is_late(self, now: float, patience: float) -> bool:
        """Tell whether the client has not completed a request for some time, although the proxy reads from it."""
        return self.reading and bool(self._framer.partial) and now - self._partial_since > patience

    def is_idle(self, now: float, patience: float) -> bool:
        """Tell whether the client has sent nothing for some time, and waits for nothing, also not for messages."""
        return now - self.heard_at > patience and not self.cells and not self.subscriptions

    def cut(self, reason: str) -> None:
        """End the connection at once.

        Args:
            reason: Why, for the log.
        """
        if not self.closed:
            self.ending = reason
            self.server.counters.clients_cut += 1
            _log.info("the connection of client {peer} is cut: {reason}", peer=self.peer, reason=reason)
            # Nothing more is written.
            self._drop_cells()
            self._queue.clear()
            self.transport.abortConnection()  # type: ignore[union-attr]

    def writable(self, possible: bool) -> None:
        """Start nothing more as long as the client does not read its replies."""
        if possible:
            self.server.slow.discard(self)
            self._advance()
        else:
            self.server.slow.add(self)
            self._read_or_not()

    def _read_or_not(self) -> None:
        # While a command of the client waits, the proxy reads on, to notice when the client leaves.
        full = self._queue and (self.blocked is None or self._under_way > _UNCOUNTED)
        wanted = not (full or self.paused or self._finishing or self._framer.waits)
        if wanted != self.reading and not self.closed:
            self._partial_since = self.server.seconds()
            self.read(wanted)

    # ---- requests in

    def dataReceived(self, data: bytes) -> None:
        """Start the requests that are complete with ``data``."""
        server = self.server
        self.heard_at = server.seconds()
        size = len(data)
        self.bytes_in += size
        self._under_way += size
        server.under_way += size
        framer = self._framer
        if self._plain and not self._queue and not self._blocked:
            requests = framer.feed_simple(data)
            if requests:
                self._start_simple(requests)
                return
        if not framer.partial:
            self._partial_since = self.heard_at
        requests = framer.feed(data)
        if requests:
            self._partial_since = self.heard_at
        if self.ending:
            return
        if self._queue:
            self._queue += requests
        else:
            self._start(requests)
        if framer.error:
            self._queue.append((b"", b"", None))
            self._advance()
        self._read_or_not()

    def _start_simple(self, requests: list[Request]) -> None:
        """Start requests that have one key each, all at once if that is possible."""
        upstream, server, count = self.upstream, self.server, len(requests)
        if upstream is not None and count <= self._window - len(self.cells) and count <= server.room:
            routes = upstream.routes
            frames: Sequence[bytes]
            # Requests of these shapes have a key.
            keys: Sequence[Any]
            if count == 1:
                # The same as below, with fewer objects.
                frame, name, key = requests[0]
                fits = routes[name] is not None
                cells: list[Cell] = [[None, self, frame]]
                keys, frames = (key,), (frame,)
            else:
                frames, names, keys = zip(*requests, strict=True)
                name = names[-1]
                fits = all(map(routes.__getitem__, set(names)))
                cells = [[None, self, frame] for frame in frames]
            if fits:
                self.cells += cells
                server.cells_under_way += count
                self.commands += count
                self.last_command = name
                upstream.add_keyed(cells, keys, frames)
                return
        self._start(requests)
        self._read_or_not()

    def _start(self, requests: list[Request]) -> None:
        """Start requests until one must wait; queue this one and those behind it."""
        self._queue.extendleft(reversed(requests))
        self._advance()

    @property
    def _blocked(self) -> bool:
        if self._alone or self.delayed or self.paused or self.closed or self.ending:
            return True
        return self._under_way > _UNCOUNTED and bool(self.cells) and self._under_way > self.server.fair_share

    def _advance(self) -> None:
        """Start queued requests until one must wait."""
        framer = self._framer
        self._start_queued()
        while framer.waits and not self._queue and not self._blocked:
            # A login is answered.  The bytes behind it are read with the limits that apply now.
            self._queue += framer.go_on()
            if framer.error:
                self._queue.append((b"", b"", None))
            self._start_queued()
        self._read_or_not()

    def _start_queued(self) -> None:
        queue = self._queue
        while queue and not self._blocked and len(self.cells) < self._window:
            if self.cells and self.server.room <= 0:
                # Only one request of this client, which gives every client its turn.
                break
            request = queue.popleft()
            frame, name, key = request
            if not frame:
                # It stands for the invalid bytes behind the last request.
                self.reply(replies.error(self._framer.error))
                self.end("invalid request")
                return
            self.commands += 1
            self.last_command = name
            if self._plain and key is not None and self.upstream is not None and self.upstream.routes[name] is not None:
                self.relay(frame, key_slot(key))
                continue
            try:
                answer = self.server.handle(self, request)
            except Exception as error:
                _log.failure("a request of {session!r} failed", session=self)
                answer = replies.error(f"ERR the proxy failed: {type(error).__name__}")
            if isinstance(answer, bytes):
                self.reply(answer)
            elif answer is not None:
                if self.cells:
                    # It must not overlap with earlier requests.  It starts when their replies have come.
                    self.commands -= 1
                    queue.appendleft(request)
                    break
                self._run_alone(answer, request)
        self._narrow = bool(queue) and len(self.cells) >= self._window

    def _run_alone(self, start: Callable[[], Coroutine[Any, Any, bytes]], request: Request) -> None:
        self._alone = True
        cell = self.cell(request[0])
        running: Deferred[bytes] = Deferred.fromCoroutine(start())
        running.addErrback(self._failed_alone)

        def ended(reply: bytes) -> None:
            self._alone = False
            cell[0] = reply
            self.server.touch(self)

        running.addCallback(ended)

    def _failed_alone(self, failure: Failure) -> bytes:
        if not isinstance(failure.value, replies.EXPECTED):
            _log.failure("a request of {session!r} failed", failure, session=self)
            return replies.error(f"ERR the proxy failed: {type(failure.value).__name__}")
        return replies.error_frame(failure.value)

    def relay(self, frame: bytes, slot: int) -> None:
        """Send a request to the owner of a slot."""
        assert self.upstream is not None
        self.upstream.add(self.cell(frame), slot, frame)

    # ---- replies out

    def cell(self, frame: bytes) -> Cell:
        """Add a cell for a request, and return it."""
        cell: Cell
        if self.reply_mode == "on":
            cell = [None, self, frame]
        else:
            cell = _Muted((None, self, frame))
            if self.reply_mode == "skip":
                self.change_mode(reply_mode="on")
        self.add(cell)
        return cell

    def add(self, cell: Cell) -> None:
        """Add a cell."""
        self.cells.append(cell)
        self.server.cells_under_way += 1

    def _drop_cells(self) -> None:
        self.server.cells_under_way -= len(self.cells)
        self.cells.clear()

    def reply(self, data: bytes) -> None:
        """Answer the request that is being handled."""
        self.cell(b"")[0] = data
        self.server.touch(self)

    def push(self, data: bytes) -> None:
        """Send what is no reply at the end of this turn."""
        if not self.closed and not self.ending:
            self._pushes.append(data)
            self.server.touch(self)

    def end_because(self, reason: str) -> None:
        """End all subscriptions, send the messages that have come, and close the connection."""
        if self.closed or self.ending:
            return
        _log.info("the connection of client {peer} is closed: {reason}", peer=self.peer, reason=reason)
        self.server.counters.clients_cut += 1
        self.forget_subscriptions()
        self.end(reason)

    def end(self, reason: str) -> None:
        """Close the connection when the replies are written."""
        self.ending = reason
        self._queue.clear()
        if self.blocked is not None:
            self.blocked.end()
        self.server.touch(self)

    def finish(self) -> None:
        """Close the connection when all requests that were read have their replies."""
        self._finishing = True
        if self.blocked is not None:
            self.blocked.end()
        self._read_or_not()
        self.server.touch(self)

    def flush(self) -> None:
        """Write the replies that have come, and start requests that waited for that."""
        cells = self.cells
        if self.delayed and len(cells) > 1:
            self._keep_order()
        ready: list[bytes] = []
        while cells and (reply := cells[0][0]) is not None:
            ready.append(reply)
            cells.popleft()
        self.server.cells_under_way -= len(ready)
        if not cells:
            self._count_down()
        if self.delayed:
            self.delayed = [each for each in self.delayed if each[0][0] is None]
        if self.closed:
            return
        if ready:
            self._write(ready)
        if self._pushes:
            self.flush_pushes()
        if self._queue or self._framer.waits:
            self._advance()
        if not cells and (self.ending or (self._finishing and not self._queue)):
            self.transport.loseConnection()  # type: ignore[union-attr]

    def _keep_order(self) -> None:
        """Give up delayed requests that a server has refused, if it has executed later ones for the same slot."""
        upstream = self.upstream
        if upstream is None:
            return
        delayed = {id(cell): (cell, batch) for cell, batch in self.delayed if cell[0] is None}
        too_late: list[tuple[Cell, RelayBatch]] = []
        executed: set[int] = set()
        for cell in reversed(self.cells):
            for part in parts_of(cell):
                if part[0] is not None:
                    if not part[0].startswith(_NOT_EXECUTED):
                        executed |= upstream.slots_of(part[2])
                elif executed and id(part) in delayed and executed & upstream.slots_of(part[2]):
                    too_late.append(delayed[id(part)])
        # Their callbacks can change the cells.
        for part, batch in too_late:
            batch.give_up(part)

    def _count_down(self) -> None:
        self.server.under_way -= self._under_way
        self._under_way = 0

    def _write(self, ready: list[bytes]) -> None:
        data = b"".join(ready)
        room = _WINDOW_BYTES * len(ready) // (len(data) + 1)
        if self._narrow or room < self._window:
            window = 2 * self._window if self._narrow else self._window
            self._window = max(_LEAST_WINDOW, min(window, room, self.server.most_pending))
        self.send(data)

"""The way from the clients to the cluster: one `ClusterClient` for each login and version of RESP."""

from __future__ import annotations

import hmac
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime

from ..client import ClusterClient
from ..commands.encoder import pack
from ..relay import RelayBatch
from ..slots import key_slot
from ..statistics import ByKind, NodeStatistics
from .commands.dispatch import Routes
from .commands.list_waits import ListWaits
from .replies import error_frame
from .request_framer import words_of

if TYPE_CHECKING:
    from .session import ClientSession

#: A request of a client on its way: its reply, the session, and the request.  The reply is None until it comes.
Cell = list[Any]

# A login that no client uses is forgotten after this time, in seconds.
_KEPT = 60.0


class Upstream:
    """Sends the requests of many sessions with one client.  All requests of a turn of the reactor leave together."""

    def __init__(
        self,
        client: ClusterClient[bytes],
        reactor: IReactorTime,
        begun: Callable[[Upstream], None],
        replied: Callable[[float, Sequence[Cell]], None],
    ) -> None:
        """Begin to use a client.

        Args:
            client: The client, with the option ``raw_replies``.
            reactor: Measures time.
            begun: Called with this at the first request of a turn, so that `submit` is called at its end.
            replied: Called with the time when requests were sent, and their cells, which have their replies now.
        """
        self.client = client
        #: The commands whose only key is their first argument.
        self.routes = Routes(client.commands)
        #: How many sessions use it, and when the last one left.
        self.sessions = 0
        self.unused_since = 0.0
        #: Whether the servers have accepted its login.
        self.accepted = False
        self._begun = begun
        self._replied = replied
        self._batch: RelayBatch | None = None
        #: The lists for which clients wait.
        self.list_waits = ListWaits(client, reactor)
        #: How many connections wait for streams, for keys in several slots.
        self.stream_waits = 0

    def __repr__(self) -> str:
        return f"<Upstream sessions={self.sessions} {self.client!r}>"

    def add(self, cell: Cell, slot: int, payload: bytes) -> None:
        """Add a request to the batch of this turn."""
        batch = self._batch if self._batch is not None else self._begin()
        batch.add(cell, slot, payload)

    def ask(self, session: ClientSession, words: Sequence[bytes], slot: int) -> Deferred[bytes]:
        """Send a request of the proxy for a client; return a Deferred that fires with the bytes of the reply."""
        payload = pack(words)
        cell = _AwaitedCell(session, payload if isinstance(payload, bytes) else b"".join(payload))
        self.add(cell, slot, cell[2])
        return cell.replied

    def add_keyed(self, cells: list[Cell], keys: Sequence[bytes], payloads: Sequence[bytes]) -> None:
        """Add requests with one key each to the batch of this turn."""
        batch = self._batch if self._batch is not None else self._begin()
        batch.add_keyed(cells, keys, payloads)

    def _begin(self) -> RelayBatch:
        self._batch = self.client.relay_batch()
        self._begun(self)
        return self._batch

    def submit(self, now: float) -> None:
        """Send the requests of this turn.

        Args:
            now: The current time.
        """
        batch, self._batch = self._batch, None
        if batch is not None:
            self.client.submit(batch, partial(self._on_replies, now), on_delay=partial(_delayed, batch))

    def slots_of(self, frame: bytes) -> set[int]:
        """Return the slots of the keys of a request; an empty one is one that the proxy has answered."""
        if not frame:
            return set()
        words = words_of(frame)
        return {key_slot(words[place]) for place in self.client.commands[words[0]].resolve(words).places(words)}

    def _on_replies(self, started: float, cells: Sequence[Cell], replies: Sequence[Any]) -> None:
        for cell, reply in zip(cells, replies, strict=True):
            cell[0] = reply if reply.__class__ is bytes else error_frame(reply)
        self._replied(started, cells)


class _AwaitedCell(list[Any]):
    """The cell of a request whose reply a coroutine waits for."""

    def __init__(self, session: ClientSession, frame: bytes) -> None:
        super().__init__((None, session, frame))
        self.replied: Deferred[bytes] = Deferred()

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(index, value)
        self.replied.callback(value)


def _delayed(batch: RelayBatch, cell: Cell) -> None:
    cell[1].delayed.append((cell, batch))


class Upstreams:
    """All upstreams of the proxy: a limited number, of which the unused ones expire."""

    def __init__(
        self,
        reactor: IReactorTime,
        make: Callable[[int, str | None, str | None], ClusterClient[bytes]],
        wake: Callable[[], None],
        replied: Callable[[float, Sequence[Cell]], None],
        most: int,
    ) -> None:
        """Make a holder without upstreams.

        Args:
            reactor: Measures time.
            make: Makes a client for a version of RESP, a user and a password; None means those of the proxy.
            wake: Called with the first request of a turn, so that `submit` is called at its end.
            replied: As for `Upstream`.
            most: How many logins there may be at the same time, beside that of the proxy.
        """
        self._reactor = reactor
        self._make = make
        self._wake = wake
        self._replied = replied
        self._most = most
        # Passwords are keys only in a form that cannot be read from a dump.
        self._secret = os.urandom(32)
        self._found: OrderedDict[tuple[int, str | None, bytes], Upstream] = OrderedDict()
        #: Those with requests of this turn.
        self.begun: list[Upstream] = []
        #: What the clients have done that are closed.
        self.ended = NodeStatistics()

    def __iter__(self) -> Any:
        return iter(list(self._found.values()))

    def __len__(self) -> int:
        return len(self._found)

    def of(self, protocol: int, user: str | None = None, password: str | None = None) -> Upstream | None:
        """Return the upstream for a login, which may be new; None if there are too many.

        Args:
            protocol: The version of RESP.
            user: The user; None is the user of the proxy.
            password: The password of the user.
        """
        digest = hmac.digest(self._secret, (password or "").encode("utf-8", "surrogateescape"), "sha256")
        key = (protocol, user, digest)
        upstream = self._found.get(key)
        if upstream is None:
            self.expire()
            if user is not None and not self._has_room(key[1:]):
                return None
            client = self._make(protocol, user, password)
            upstream = self._found[key] = Upstream(client, self._reactor, self._begin, self._replied)
            upstream.unused_since = self._reactor.seconds()
        self._found.move_to_end(key)
        return upstream

    def expire(self) -> None:
        """Close the clients of logins that have not been used for some time."""
        old = self._reactor.seconds() - _KEPT
        for key, upstream in list(self._found.items()):
            if not upstream.sessions and upstream.unused_since < old and key[1] is not None:
                self._close(key)

    def drop(self, upstream: Upstream) -> None:
        """Close the client of a login that was refused."""
        for key, each in list(self._found.items()):
            if each is upstream and not upstream.sessions:
                self._close(key)

    def _has_room(self, login: tuple[str | None, bytes]) -> bool:
        """Return whether a login can be added; for that, forget the unused one that was used least recently."""
        used: dict[tuple[str | None, bytes], int] = {}
        for (_, user, digest), upstream in self._found.items():
            if user is not None:
                used[user, digest] = used.get((user, digest), 0) + upstream.sessions
        if login in used or len(used) < self._most:
            return True
        unused = next((other for other, sessions in used.items() if not sessions), None)
        if unused is None:
            return False
        for key in [key for key in self._found if key[1:] == unused]:
            self._close(key)
        return True

    def _close(self, key: tuple[int, str | None, bytes]) -> None:
        client = self._found.pop(key).client
        self.ended.add(client.statistics)
        self.ended.pending, self.ended.open = 0, ByKind()
        client.close()

    def _begin(self, upstream: Upstream) -> None:
        self.begun.append(upstream)
        self._wake()

    def submit(self, now: float) -> None:
        """Send the requests of this turn."""
        begun, self.begun = self.begun, []
        for upstream in begun:
            upstream.submit(now)

    def close(self) -> Deferred[Any]:
        """Close all clients when their commands have ended."""
        return DeferredList([upstream.client.close() for upstream in self._found.values()])

    def abort(self) -> None:
        """End all clients at once."""
        for upstream in self._found.values():
            upstream.client.abort()

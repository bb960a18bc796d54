"""MULTI, EXEC, DISCARD, WATCH and UNWATCH.

The proxy queues the commands of a transaction itself, and sends them together with EXEC.  So a transaction follows its
slot as any other request, and needs no connection of its own.  Watched keys need one, which is that of a
`WatchSession`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from ...commands import Command
from ...errors import ConnectionLost, RoutingError, TransactionAborted, WatchError
from ...slots import key_slot
from ...transaction import WatchSession
from ..replies import OK, error, error_frame
from .connection import Answer
from .dispatch import Way, misuse, refusal, way_of

if TYPE_CHECKING:
    from ..server import ProxyServer
    from ..session import ClientSession

#: Commands that a server executes at once also after MULTI.
AT_ONCE = frozenset(["MULTI", "EXEC", "DISCARD", "WATCH", "QUIT", "RESET"])
_QUEUED = b"+QUEUED\r\n"
_ABORTED = error("EXECABORT Transaction discarded because of previous errors.")
# The reply to EXEC if a watched key has changed, by the version of RESP.
_CHANGED = {2: b"*-1\r\n", 3: b"_\r\n"}
# Commands that the proxy answers itself, which the node of a transaction answers as well.
_OF_ANY_NODE = frozenset(["PING", "ECHO", "TIME", "UNWATCH"])
# An error shows so many bytes of a key.
_SHOWN = 64
# What a queued request needs beside its bytes.
_OVERHEAD = 64


class QueuedTransaction:
    """The commands of a client since MULTI."""

    def __init__(self, server: ProxyServer) -> None:
        """Make an empty transaction.

        Args:
            server: Counts the bytes of all clients.
        """
        self._server = server
        self.requests: list[bytes] = []
        #: Whether a command was refused, so that EXEC will be.
        self.refused = False
        #: Whether all commands may be repeated.
        self.repeatable = True
        #: The bytes of the requests.
        self.size = 0
        #: The first key; None if no command has one.
        self.key: bytes | None = None

    @property
    def slot(self) -> int | None:
        """The slot of all keys."""
        return key_slot(self.key) if self.key is not None else None

    def add(self, frame: bytes, command: Command, key: bytes | None) -> None:
        """Queue a command."""
        self.requests.append(frame)
        self.size += len(frame) + _OVERHEAD
        self._server.under_way += len(frame) + _OVERHEAD
        self.repeatable &= command.repeatable
        if self.key is None:
            self.key = key

    def refuse(self) -> None:
        """Note that a command was refused; the others are not needed any more."""
        self.refused = True
        self.clear()

    def clear(self) -> None:
        """Forget the commands."""
        self._server.under_way -= self.size
        self.requests = []
        self.size = 0


class Watch:
    """The watched keys of a client."""

    def __init__(self, session: WatchSession[bytes], keys: Sequence[bytes]) -> None:
        """Begin with a session that watches the keys."""
        self.session = session
        self.keys = list(keys)
        #: Whether nobody knows if the keys have changed, so that EXEC must not be executed.
        self.lost = False

    async def add(self, keys: Sequence[bytes]) -> None:
        """Watch more keys of the same slot."""
        self.keys += keys
        try:
            await self.session.watch(*keys)
        except (ConnectionLost, WatchError):
            self.lost = True

    def end(self) -> Deferred[None]:
        """End the watch.

        Returns:
            A Deferred that fires with None when the servers do not watch the keys any more.
        """
        return Deferred.fromCoroutine(self.session.__aexit__(None, None, None))


def multi(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """MULTI."""
    if session.transaction is not None:
        session.transaction.refuse()
        return _not_allowed("MULTI")
    session.change_mode(transaction=QueuedTransaction(server))
    return OK


def discard(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """DISCARD."""
    if session.transaction is None:
        return error("ERR DISCARD without MULTI")
    return partial(_discard, session, session.transaction)


async def _discard(session: ClientSession, queued: QueuedTransaction) -> bytes:
    queued.clear()
    session.change_mode(transaction=None)
    return await _unwatch(session)


def unwatch(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """UNWATCH."""
    return OK if session.watch is None else partial(_unwatch, session)


async def _unwatch(session: ClientSession) -> bytes:
    watch, session.watch = session.watch, None
    if watch is not None:
        await watch.end()
    return OK


def watch(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """WATCH."""
    if session.transaction is not None:
        session.transaction.refuse()
        return _not_allowed("WATCH")
    keys = words[1:]
    first = session.watch.keys[0] if session.watch is not None else keys[0]
    wrong = _elsewhere(keys, first, "the watched keys are")
    return wrong or partial(_watch, session, keys)


async def _watch(session: ClientSession, keys: list[bytes]) -> bytes:
    upstream = session.upstream
    assert upstream is not None
    if session.watch is not None:
        await session.watch.add(keys)
        return OK
    watching = upstream.client.watch(*keys)
    await watching.__aenter__()
    begun = Watch(watching, keys)
    if session.closed:
        await begun.end()
    else:
        session.watch = begun
    return OK


def exec_(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """EXEC."""
    if session.transaction is None:
        return error("ERR EXEC without MULTI")
    return partial(_execute, session, session.transaction)


async def _execute(session: ClientSession, queued: QueuedTransaction) -> bytes:
    upstream, protocol = session.upstream, session.protocol
    assert upstream is not None
    session.change_mode(transaction=None)
    watch, session.watch = session.watch, None
    try:
        if queued.refused:
            return _ABORTED
        if watch is not None and watch.lost:
            return _CHANGED[protocol]
        reply: bytes = await upstream.client.submit_transaction(
            queued.requests,
            queued.slot,
            repeatable=queued.repeatable and watch is None,
            watch=watch.session if watch is not None else None,
        )
    except WatchError:
        return _CHANGED[protocol]
    except TransactionAborted as reason:
        return error(f"EXECABORT Transaction discarded because of: {reason}")
    except ConnectionLost as reason:
        # Nobody knows whether the watched keys have changed.  Nothing was executed.
        return _CHANGED[protocol] if watch is not None and not reason.maybe_executed else error_frame(reason)
    finally:
        queued.clear()
        if watch is not None:
            await watch.end()
    return reply


def queue(server: ProxyServer, session: ClientSession, frame: bytes, command: Command, words: list[bytes]) -> bytes:
    """Queue a command of a transaction.

    Args:
        server: The proxy.
        session: The client, after MULTI.
        frame: The request.
        command: Its command.
        words: Its words.

    Returns:
        The reply.
    """
    transaction = session.transaction
    assert transaction is not None
    places = command.places(words)
    wrong = misuse(command, words) or _misfit(command, words)
    if not wrong and places:
        first = transaction.key if transaction.key is not None else _first_watched(session)
        keys = [words[place] for place in places]
        wrong = _elsewhere(keys, first if first is not None else keys[0], "the transaction is")
    most, usual = server.fair_share, server.settings.max_pending_bytes
    if not wrong and transaction.size + len(frame) > most:
        limit = "max_pending_bytes" if most == usual else "a share of max_total_bytes"
        wrong = error(f"ERR the transaction is larger than {most} bytes ({limit})")
    if wrong:
        transaction.refuse()
        return wrong
    if not transaction.refused:
        transaction.add(frame, command, words[places[0]] if places else None)
    return _QUEUED


def misused(session: ClientSession, command: Command) -> None:
    """Note a wrong call of a command that is executed at once."""
    if session.transaction is None:
        return
    if command.name == "EXEC":
        session.forget_transaction()
    else:
        session.transaction.refuse()


def _not_allowed(name: str) -> bytes:
    return error(f"ERR Command '{name.lower().replace(' ', '|')}' not allowed inside a transaction")


def _first_watched(session: ClientSession) -> bytes | None:
    return session.watch.keys[0] if session.watch is not None else None


def _misfit(command: Command, words: list[bytes]) -> bytes:
    """Return the error for a command that cannot be part of a transaction; empty if it can."""
    name = command.name
    way = way_of(command)
    if "no_multi" in command.flags:
        return _not_allowed(name)
    if name in _OF_ANY_NODE:
        return b""
    if way is Way.REFUSED:
        return refusal(command)
    if way is Way.PROXY:
        return error(f"ERR {name} is answered by the proxy, and cannot be part of a transaction")
    try:
        command.check_allowed(words)
    except RoutingError as reason:
        return error(f"ERR {reason}")
    if way is Way.CLUSTER and command.request_policy is not None:
        return error(f"ERR {name} is for the whole cluster, and cannot be part of a transaction")
    return b""


def _elsewhere(keys: Sequence[bytes], first: bytes, what: str) -> bytes:
    """Return the error for keys that are not in the slot of another key; empty if they are."""
    slot = key_slot(first)
    for key in keys:
        if key_slot(key) != slot:
            return error(
                f"CROSSSLOT Keys in request don't hash to the same slot: {_shown(key)} is in slot {key_slot(key)}, "
                f"but {what} in slot {slot} ({_shown(first)})"
            )
    return b""


def _shown(key: bytes) -> str:
    text = key[:_SHOWN].decode("utf-8", "backslashreplace")
    return f"'{text}'" + ("..." if len(key) > _SHOWN else "")

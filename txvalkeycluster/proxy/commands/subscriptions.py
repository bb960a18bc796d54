"""SUBSCRIBE, PSUBSCRIBE, SSUBSCRIBE, and the commands that end them.

Each client has subscriptions of its own at the client of the cluster, which subscribes a channel only once for all of
them.  Events of keys are subscribed at every primary, as if there was one server.  If messages may be missing, the
client is disconnected, as it would be by a server that ends, so that it can look for what it has missed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from ...messages import Lost, Message, Resubscribed
from ...pubsub.subscription import Subscription
from ..replies import encode
from .connection import Answer

if TYPE_CHECKING:
    from ..server import ProxyServer
    from ..session import ClientSession
    from ..upstream import Upstream

_log = Logger()
#: What a client with RESP2 may send while it has subscriptions.
ALLOWED = frozenset(
    [
        *("SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"),
        *("PING", "QUIT", "RESET"),
    ]
)
# The events of keys have channels that begin with this.  Nodes do not pass them on to each other.
_OF_KEYS = b"__key"
_EVENTS = (b"__keyspace@", b"__keyevent@")
# A pattern as far as it has no special character.
_LITERAL = re.compile(rb"[^\\*?\[]*")
_SPECIAL = re.compile(rb"([\\*?\[\]])")


@dataclass(frozen=True, slots=True)
class _Kind:
    """One of the three kinds of subscriptions."""

    #: The first words of what a client receives when it has subscribed, or not any more, and of a message.
    subscribe: bytes
    unsubscribe: bytes
    message: bytes


_CHANNELS = _Kind(b"subscribe", b"unsubscribe", b"message")
_PATTERNS = _Kind(b"psubscribe", b"punsubscribe", b"pmessage")
_SHARDED = _Kind(b"ssubscribe", b"sunsubscribe", b"smessage")
_KINDS = {
    "SUBSCRIBE": _CHANNELS,
    "PSUBSCRIBE": _PATTERNS,
    "SSUBSCRIBE": _SHARDED,
    "UNSUBSCRIBE": _CHANNELS,
    "PUNSUBSCRIBE": _PATTERNS,
    "SUNSUBSCRIBE": _SHARDED,
}


def _places(kind: _Kind, name: bytes) -> tuple[bool, ...]:
    """Return where a name is subscribed: at one node (False), at every primary (True), or both."""
    if kind is _SHARDED:
        return (False,)
    if name.startswith(_OF_KEYS):
        return (True,)
    if kind is _PATTERNS:
        match = _LITERAL.match(name)
        assert match is not None
        if match[0] != name and _OF_KEYS.startswith(match[0]):
            # It matches events of keys, and perhaps other channels.
            return (False, True)
    return (False,)


def push(words: Sequence[Any], protocol: int) -> bytes:
    """Write what a client receives that is no reply: a push with RESP3, else an array."""
    array = encode(words, protocol)
    return b">" + array[1:] if protocol == 3 else array


class MessageFrames:
    """The bytes of the last message, because all subscribers of a channel get a message one after the other."""

    def __init__(self) -> None:
        """Begin without a message."""
        self._message: Message[bytes] | None = None
        self._frames: dict[tuple[bytes, int], bytes] = {}

    def of(self, message: Message[bytes], kind: bytes, protocol: int) -> bytes:
        """Return the bytes of a message.

        Args:
            message: The message.
            kind: The word with which it begins.
            protocol: The version of RESP.
        """
        if message is not self._message:
            self._message = message
            self._frames = {}
        frame = self._frames.get((kind, protocol))
        if frame is None:
            pattern = (message.pattern,) if kind == _PATTERNS.message else ()
            words = (kind, *pattern, message.channel, message.data)
            frame = self._frames[kind, protocol] = push(words, protocol)
        return frame


class ClientSubscriptions:
    """The subscriptions of one client."""

    def __init__(self, server: ProxyServer, session: ClientSession, upstream: Upstream) -> None:
        """Make it without channels.

        Args:
            server: The proxy.
            session: The client.
            upstream: Subscribes.
        """
        self._server = server
        self._session = session
        self._upstream = upstream
        # It must not be closed meanwhile.
        upstream.sessions += 1
        #: The channels or patterns by kind, without those that are not acknowledged; and where they are subscribed.
        self.names: dict[_Kind, dict[bytes, tuple[bool, ...]]] = {_CHANNELS: {}, _PATTERNS: {}, _SHARDED: {}}
        # By kind, and whether they are for events of keys.
        self._held: dict[tuple[_Kind, bool], Subscription[bytes]] = {}
        self._closed = False

    def __len__(self) -> int:
        return sum(map(len, self.names.values()))

    def count(self, kind: _Kind) -> int:
        """Return the number that a client gets with each acknowledgement."""
        if kind is _SHARDED:
            return len(self.names[_SHARDED])
        return len(self.names[_CHANNELS]) + len(self.names[_PATTERNS])

    async def add(self, kind: _Kind, names: Sequence[bytes]) -> bytes:
        """Subscribe, and return what the client receives for it.

        Raises:
            ValkeyError: The servers have not acknowledged all of them; then none is subscribed.
        """
        new = {name: _places(kind, name) for name in names if name not in self.names[kind]}
        added: list[tuple[Subscription[bytes], list[bytes]]] = []
        try:
            for which in (False, True):
                wanted = [name for name, places in new.items() if which in places]
                if wanted:
                    upstream_names = [_upstream_name(kind, name) if which else name for name in wanted]
                    subscription = self._subscription(kind, which)
                    await subscription.add(*upstream_names)
                    added.append((subscription, upstream_names))
        except BaseException:
            for subscription, taken_back in added if not self._closed else []:
                _forget(subscription.remove(*taken_back))
            raise
        frames: list[bytes] = []
        for name in names:
            self.names[kind].setdefault(name, new.get(name, ()))
            frames.append(self._acknowledged(kind.subscribe, name, self.count(kind)))
        return b"".join(frames)

    def remove(self, kind: _Kind, names: Sequence[bytes]) -> bytes:
        """End subscriptions, all of a kind if there are no names; return what the client receives for it."""
        held = self.names[kind]
        gone: dict[bool, list[bytes]] = {False: [], True: []}
        frames: list[bytes] = []
        for name in names or list(held):
            for which in held.pop(name, ()):
                gone[which].append(_upstream_name(kind, name) if which else name)
            frames.append(self._acknowledged(kind.unsubscribe, name, self.count(kind)))
        for which, upstream_names in gone.items():
            if upstream_names:
                _forget(self._held[kind, which].remove(*upstream_names))
        return b"".join(frames) or self._acknowledged(kind.unsubscribe, None, self.count(kind))

    def close(self) -> None:
        """End all subscriptions."""
        if not self._closed:
            self._closed = True
            for held in self.names.values():
                held.clear()
            for subscription in self._held.values():
                _forget(subscription.close())
            self._upstream.sessions -= 1
            self._upstream.unused_since = self._server.seconds()

    def _acknowledged(self, word: bytes, name: bytes | None, count: int) -> bytes:
        return push((word, name, count), self._session.protocol)

    def _subscription(self, kind: _Kind, of_keys: bool) -> Subscription[bytes]:
        held = self._held.get((kind, of_keys))
        if held is None:
            client = self._upstream.client
            listener = partial(self._received, kind, of_keys)
            if of_keys:
                held = client.psubscribe(at_every_primary=True, listener=listener)
            elif kind is _CHANNELS:
                held = client.subscribe(listener=listener)
            else:
                held = (client.psubscribe if kind is _PATTERNS else client.ssubscribe)(listener=listener)
            self._held[kind, of_keys] = held
        return held

    def _received(self, kind: _Kind, of_keys: bool, item: Message[bytes] | Lost | Resubscribed) -> None:
        if isinstance(item, Message):
            # The channel of an event of keys, too: its pattern matches only this channel.
            name: Any = item.pattern if kind is _PATTERNS else item.channel
            places = self.names[kind].get(name, ())
            if len(places) == 1 or (places and of_keys == item.channel.startswith(_EVENTS)):
                self._session.push(self._server.message_frames.of(item, kind.message, self._session.protocol))
        elif isinstance(item, Lost):
            self._missed(item)

    def _missed(self, lost: Lost) -> None:
        """Handle that messages may be missing."""
        self._server.counters.subscription_gaps += 1
        if self._server.settings.subscription_gaps == "disconnect" and len(self):
            # What came before is still sent, and nothing behind the gap.
            self._session.end_because(f"messages of its subscriptions may be missing: {lost.reason}")


def _upstream_name(kind: _Kind, name: bytes) -> bytes:
    """Return the pattern with which events of keys are subscribed."""
    return _SPECIAL.sub(rb"\\\1", name) if kind is _CHANNELS else name


def _forget(ending: Any) -> None:
    """Log an error of a Deferred that nobody waits for."""
    ending.addErrback(_unexpected)


def _unexpected(failure: Failure) -> None:
    _log.failure("the end of a subscription failed", failure)


def subscribe(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """SUBSCRIBE, PSUBSCRIBE or SSUBSCRIBE."""
    change = partial(_subscribe, server, session, _kind_of(words), words[1:])
    return partial(_acknowledge, session, session.reply_mode, change)


async def _acknowledge(
    session: ClientSession, reply_mode: str, change: Callable[[], Coroutine[Any, Any, bytes]]
) -> bytes:
    """Change subscriptions; return what the client receives for it."""
    acknowledged = await change()
    if reply_mode == "on":
        return acknowledged
    # CLIENT REPLY is only about replies, and this is none.
    session.push(acknowledged)
    return b""


async def _subscribe(server: ProxyServer, session: ClientSession, kind: _Kind, names: list[bytes]) -> bytes:
    if not session.subscriptions:
        # The client may have logged in as another user since the last one.
        session.forget_subscriptions()
        assert session.upstream is not None
        session.subscriptions = ClientSubscriptions(server, session, session.upstream)
    reply = await session.subscriptions.add(kind, names)
    session.change_mode()
    return reply


def unsubscribe(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """UNSUBSCRIBE, PUNSUBSCRIBE or SUNSUBSCRIBE."""
    # Earlier requests, such as PUBLISH, end before it.
    change = partial(_unsubscribe, session, _kind_of(words), words[1:])
    return partial(_acknowledge, session, session.reply_mode, change)


async def _unsubscribe(session: ClientSession, kind: _Kind, names: list[bytes]) -> bytes:
    # Messages that have come are written before the acknowledgement.
    session.flush_pushes()
    if session.subscriptions is None:
        none: Iterable[bytes | None] = names or [None]
        return b"".join([push((kind.unsubscribe, name, 0), session.protocol) for name in none])
    reply = session.subscriptions.remove(kind, names)
    session.change_mode()
    return reply


def _kind_of(words: list[bytes]) -> _Kind:
    return _KINDS[words[0].upper().decode()]

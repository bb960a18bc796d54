"""Commands that can block, with keys in several slots.

The proxy tries the keys in their order with a command that does not block, until one has an element.  Between two
attempts it waits.  What it waits with takes nothing, so nothing is lost if the client leaves:

- lists: BLMOVE of the list onto itself (`ListWaits`), which all clients share;
- streams: XREAD BLOCK;
- sorted sets, and XREADGROUP: nothing like that exists, so it tries again after some milliseconds.  It does so with
  lists and XREAD, too, if many connections wait already.
"""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater

from ...commands import Command
from ...commands.overrides import block_time, place_of_block
from ...errors import ProtocolError, ReplyError
from ...slots import key_slot
from ..numbers import integer
from ..replies import error
from .blocking import UNBLOCKED, end_safely, nothing, received
from .connection import Answer

if TYPE_CHECKING:
    from ..server import ProxyServer
    from ..session import ClientSession
    from ..upstream import Upstream

# Seconds between two attempts, for keys on which nothing can wait.
_PAUSE = 0.05
# So many connections of a login wait for lists, and as many for streams.
MOST_WAITS = 1000
_LISTS = frozenset(["BLPOP", "BRPOP", "BLMPOP"])
_STREAMS = frozenset(["XREAD", "XREADGROUP"])
#: The commands for which keys can be in several slots.
COMMANDS = frozenset([*_LISTS, *_STREAMS, "BZPOPMIN", "BZPOPMAX", "BZMPOP"])
_EMPTY = frozenset([b"$-1\r\n", b"*-1\r\n", b"_\r\n", b"*0\r\n"])
# The longest timeout of a server: its milliseconds are a signed number of 64 bits.
_LONGEST = (1 << 63) / 1000
# No pending entry of a stream is behind this one.  (The greatest number of all means ">" to a server.)
_LAST = b"18446744073709551615-18446744073709551614"
# The IDs of XREADGROUP that are right for certain.
_USUAL_ID = re.compile(rb">|\d{1,19}(-\d{1,19})?").fullmatch

# Tries the keys once, and returns the reply, or None if there is nothing.
_Try = Callable[[bool], Awaitable[bytes | None]]


def block(
    server: ProxyServer, session: ClientSession, command: Command, words: list[bytes], keys: list[bytes]
) -> Answer:
    """Run a command whose keys are in several slots, and which can block."""
    seconds = _seconds(command, words)
    if isinstance(seconds, bytes):
        return seconds
    return partial(_run, server, session, command, words, keys, seconds)


def _seconds(command: Command, words: list[bytes]) -> float | bytes:
    """Return how long a command may block, infinity if it has no limit; or an error as of a server."""
    if not command.blocks(words):
        return 0.0
    found = block_time(command.name, words)
    assert found is not None
    place, unit = found
    if unit == 1.0:
        try:
            text = words[place].decode()
            seconds = float.fromhex(text) if text[:2].lower() == "0x" else float(text)
        except ValueError:
            seconds = math.nan
        if math.isnan(seconds) or words[place] != words[place].strip() or b"_" in words[place]:
            return error("ERR timeout is not a float or out of range")
        if seconds > _LONGEST:
            return error("ERR timeout is out of range")
    else:
        number = integer(words[place])
        if number is None:
            return error("ERR timeout is not an integer or out of range")
        seconds = number / unit
    if seconds < 0:
        return error("ERR timeout is negative")
    return seconds or math.inf


class _Waiting:
    """A command that waits between two attempts."""

    def __init__(self) -> None:
        self.ended = False
        #: The reply that ends the command; None as long as it goes on.
        self.answer: bytes | None = None
        self._pause: Deferred[None] | None = None

    async def pause(self, waiting: Deferred[None]) -> None:
        """Wait until a Deferred has a result, or the command is ended; cancel the Deferred then."""
        pause: Deferred[None] = Deferred()
        self._pause = pause
        waiting.addBoth(lambda _: _fire(pause))
        await pause
        self._pause = None
        waiting.cancel()

    def unblock(self, *, error: bool) -> Deferred[int]:
        """End it as CLIENT UNBLOCK does."""
        if self._pause is None or self._pause.called:
            return succeed(0)
        self.answer = UNBLOCKED if error else b""
        _fire(self._pause)
        return succeed(1)

    def end(self) -> None:
        """End it because nobody wants the reply."""
        self.ended = True
        self.answer = b""
        if self._pause is not None:
            _fire(self._pause)


def _fire(waiting: Deferred[None]) -> None:
    if not waiting.called:
        waiting.callback(None)


async def _run(
    server: ProxyServer,
    session: ClientSession,
    command: Command,
    words: list[bytes],
    keys: list[bytes],
    seconds: float,
) -> bytes:
    upstream = session.upstream
    assert upstream is not None
    deadline = server.seconds() + seconds
    empty = nothing(command, session.protocol)
    waiting, place = _Waiting(), next(upstream.list_waits.places)
    with session.blocking(waiting):
        if command.name in _STREAMS:
            words = await _with_last_ids(upstream, command, words, keys)
            attempt: _Try = partial(_read, session, upstream, command, words, keys)
        else:
            attempt = partial(_take, session, upstream, _takers(command, words, keys))
        first = True
        while waiting.answer is None:
            reply = await attempt(first)
            if reply is not None:
                return received(server, session, command, reply, waiting)
            left = deadline - server.seconds()
            if left <= 0:
                return empty
            if waiting.answer is None:
                await waiting.pause(_wait(server, upstream, command, words, keys, place, left))
            first = False
    return b"" if waiting.ended else waiting.answer or empty


def _wait(
    server: ProxyServer,
    upstream: Upstream,
    command: Command,
    words: list[bytes],
    keys: list[bytes],
    place: int,
    left: float,
) -> Deferred[None]:
    """Return a Deferred that fires when another attempt is worthwhile, at the latest when the time is over."""
    if command.name in _LISTS and len(upstream.list_waits) + len(keys) <= MOST_WAITS:
        waiting = upstream.list_waits.wait(keys, place)
    elif command.name == "XREAD" and upstream.stream_waits + len(keys) <= MOST_WAITS:
        waiting = _wait_for_streams(server, upstream, words, keys)
    else:
        return deferLater(server.reactor, min(_PAUSE, left))
    return waiting.addTimeout(left, server.reactor) if left < math.inf else waiting


# ---- lists and sorted sets


def _takers(command: Command, words: list[bytes], keys: list[bytes]) -> list[tuple[bytes, list[bytes], bytes, int]]:
    """Return for each key: the key, the command that takes from it, and how its reply becomes that of the command.

    The last two are what is put before the reply, and how many of its bytes are left out.
    """
    if command.name in ("BLMPOP", "BZMPOP"):
        # BLMPOP timeout count key... LEFT [COUNT n]
        rest = words[3 + len(keys) :]
        return [(key, [words[0][1:], b"1", key, *rest], b"", 0) for key in keys]
    bulk = {key: b"$%d\r\n%b\r\n" % (len(key), key) for key in keys}
    if command.name in ("BLPOP", "BRPOP"):
        return [(key, [words[0][1:], key], b"*2\r\n" + bulk[key], 0) for key in keys]
    # The reply of ZPOPMIN begins with *2, and has the member and the score.
    return [(key, [words[0][1:], key], b"*3\r\n" + bulk[key], 4) for key in keys]


async def _take(
    session: ClientSession, upstream: Upstream, takers: list[tuple[bytes, list[bytes], bytes, int]], first: bool
) -> bytes | None:
    for key, words, before, left_out in takers:
        if session.closed:
            return None
        reply = await upstream.ask(session, words, key_slot(key))
        if reply in _EMPTY:
            continue
        if not reply.startswith(b"-"):
            return before + reply[left_out:]
        # A server that is blocked already does not look at a key of another type.
        if first or not reply.startswith(b"-WRONGTYPE "):
            return reply
    return None


# ---- streams


async def _with_last_ids(upstream: Upstream, command: Command, words: list[bytes], keys: list[bytes]) -> list[bytes]:
    """Return the words of XREAD with the ID of the last entry in place of ``$``."""
    if command.name != "XREAD":
        return words
    words = list(words)
    for place in range(len(words) - len(keys), len(words)):
        if words[place] == b"$":
            words[place] = await _last_id(upstream, words[place - len(keys)])
    return words


async def _last_id(upstream: Upstream, key: bytes) -> bytes:
    try:
        about: Any = await upstream.client.execute("XINFO", "STREAM", key)
    except ReplyError as reason:
        if "no such key" in str(reason):
            return b"0-0"
        raise
    facts = about if isinstance(about, dict) else dict(zip(about[::2], about[1::2], strict=True))
    found = facts.get(b"last-generated-id")
    if not isinstance(found, bytes):
        raise ProtocolError("the server's reply to XINFO STREAM has no last-generated-id")
    return found


def _streams(words: list[bytes], keys: list[bytes], wanted: Sequence[int], *, blocks: bool) -> list[bytes]:
    """Return XREAD or XREADGROUP for some of its keys, with or without BLOCK."""
    before = words[: len(words) - 2 * len(keys) - 1]
    # There can be several.  One that is left would block the connection that all clients share.
    while place := place_of_block(before):
        before = before[:place] + before[place + 2 :]
    if blocks:
        # The proxy measures the time.
        before = [before[0], b"BLOCK", b"0", *before[1:]]
    ids = words[len(words) - len(keys) :]
    return [*before, b"STREAMS", *[keys[n] for n in wanted], *[ids[n] for n in wanted]]


async def _read(
    session: ClientSession, upstream: Upstream, command: Command, words: list[bytes], keys: list[bytes], first: bool
) -> bytes | None:
    if first and command.name == "XREADGROUP":
        # If one of them is wrong, nothing is delivered from the others.  This delivers nothing.
        before, ids = words[: len(words) - len(keys)], words[len(words) - len(keys) :]
        checks = [*before, *[_LAST if _USUAL_ID(each) else each for each in ids]]
        wrong = _first_error(await _each(session, upstream, checks, keys))
        if wrong:
            return wrong
        if session.closed:
            return None
    replies = await _each(session, upstream, words, keys)
    found = [reply for reply in replies if reply not in _EMPTY and not reply.startswith(b"-")]
    wrong = _first_error(replies)
    if not found or (wrong and command.name == "XREAD"):
        return wrong or None
    # Each is an array, or with RESP3 a map, of one stream.
    kind = found[0][:1]
    return b"%b%d\r\n" % (kind, len(found)) + b"".join([each.partition(b"\r\n")[2] for each in found])


async def _each(session: ClientSession, upstream: Upstream, words: list[bytes], keys: list[bytes]) -> list[bytes]:
    """Read from every stream by itself, without waiting."""
    asked = [
        upstream.ask(session, _streams(words, keys, [number], blocks=False), key_slot(key))
        for number, key in enumerate(keys)
    ]
    return [await each for each in asked]


def _first_error(replies: list[bytes]) -> bytes:
    return next((reply for reply in replies if reply.startswith(b"-")), b"")


def _wait_for_streams(server: ProxyServer, upstream: Upstream, words: list[bytes], keys: list[bytes]) -> Deferred[None]:
    by_slot: dict[int, list[int]] = {}
    for number, key in enumerate(keys):
        by_slot.setdefault(key_slot(key), []).append(number)
    waiting: Deferred[None] = Deferred(lambda _: None)
    delay = partial(deferLater, server.reactor)

    calls = [
        upstream.client.submit_blocking(_streams(words, keys, numbers, blocks=True), slot)
        for slot, numbers in by_slot.items()
    ]
    upstream.stream_waits += len(calls)
    for call in calls:
        call.addCallbacks(lambda _: _fire(waiting), lambda _: delay(_PAUSE).addCallback(lambda _: _fire(waiting)))

    def end(result: object) -> object:
        upstream.stream_waits -= len(calls)
        for call in calls:
            end_safely(call, delay)
        return result

    return waiting.addBoth(end)

"""Starts one request: finds out what the proxy does with its command, and does it."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha1
from typing import TYPE_CHECKING

from ...commands import Command, CommandTable
from ...errors import RoutingError
from ...slots import key_slot
from ..replies import error
from ..request_framer import Request, words_of
from . import blocking, connection, several_slots, subscriptions, transactions, whole_cluster
from .connection import Answer
from .dispatch import REFUSED, Way, misuse, refusal, unknown_command, way_of
from .mget import SplitCell, send_mget

if TYPE_CHECKING:
    from ..server import ProxyServer
    from ..session import ClientSession

_NOT_KNOWN = error("NOAUTH Authentication required.")
_BEFORE_LOGIN = frozenset(["AUTH", "HELLO", "QUIT", "RESET", "POST", "HOST:"])
_HANDLERS: dict[str, Callable[[ProxyServer, ClientSession, list[bytes]], Answer]] = {
    "PING": connection.ping,
    "ECHO": connection.echo,
    "QUIT": connection.quit_,
    "SELECT": connection.select,
    "RESET": connection.reset,
    "AUTH": connection.auth,
    "HELLO": connection.hello,
    "CLIENT": connection.client,
    "READONLY": connection.ok,
    "READWRITE": connection.ok,
    "CLUSTER": whole_cluster.cluster,
    "ROLE": whole_cluster.role,
    "SCAN": whole_cluster.scan,
    "INFO": whole_cluster.info,
    "CONFIG": whole_cluster.config,
    "SLOWLOG": whole_cluster.slowlog,
    "TIME": whole_cluster.time,
    **dict.fromkeys(["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"], subscriptions.subscribe),
    **dict.fromkeys(["UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"], subscriptions.unsubscribe),
    "MULTI": transactions.multi,
    "EXEC": transactions.exec_,
    "DISCARD": transactions.discard,
    "WATCH": transactions.watch,
    "UNWATCH": transactions.unwatch,
}
# The commands of Valkey, for clients without a login.
_COMMANDS = CommandTable()
# What happens to each command, by its name.  The client's table, and so this, has a limited number of commands.
_ways: dict[str, Way] = {}


def handle(server: ProxyServer, session: ClientSession, request: Request) -> Answer:
    """Handle a request that is not simply passed on.

    Args:
        server: The proxy.
        session: The client.
        request: Its request.

    Returns:
        As of a handler.
    """
    frame, spelled, _ = request
    name = spelled.upper().decode("utf-8", "replace")
    if not session.known and name not in _BEFORE_LOGIN:
        return _NOT_KNOWN
    if name in ("POST", "HOST:"):
        return connection.no_http(session)
    words = words_of(frame)
    commands = session.upstream.client.commands if session.upstream is not None else _COMMANDS
    command = commands[spelled]
    if session.restricted and name not in subscriptions.ALLOWED:
        return _restricted(command, words)
    if not command.known and name not in REFUSED:
        return lambda: whole_cluster.run_unknown(server, session, frame, words)
    command = command.resolve(words)
    if session.transaction is not None and command.name not in transactions.AT_ONCE:
        return transactions.queue(server, session, frame, command, words)
    if not command.known:
        return error(f"ERR {REFUSED[name]}")
    way = _ways.get(command.name)
    if way is None:
        way = _ways[command.name] = way_of(command)
    if way is Way.KEYS:
        return _by_keys(server, session, frame, command, words)
    if way in (Way.PROXY, Way.REFUSED):
        session.last_command = command.name.replace(" ", "|").encode()
        wrong = misuse(command, words)
        if wrong:
            transactions.misused(session, command)
        return wrong or _answer(server, session, frame, command, words)
    if way is Way.ANY_NODE or command.request_policy is None:
        return _anywhere(session, frame, command, words)
    return misuse(command, words) or (lambda: whole_cluster.run(session, command, words))


def _restricted(command: Command, words: list[bytes]) -> bytes:
    """Return the error for a command that is not allowed while there are subscriptions."""
    if not command.known:
        return unknown_command(words)
    command = command.resolve(words)
    wrong = misuse(command, words)
    if wrong:
        return wrong
    name = command.name.lower().replace(" ", "|")
    allowed = "(P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET"
    return error(f"ERR Can't execute '{name}': only {allowed} are allowed in this context")


def _answer(server: ProxyServer, session: ClientSession, frame: bytes, command: Command, words: list[bytes]) -> Answer:
    """Answer a command that is not sent to the cluster."""
    if command.name.endswith(" HELP") and command.name != "CLUSTER HELP" and session.upstream is not None:
        return _anywhere(session, frame, command, words)
    handler = _HANDLERS.get(command.name.partition(" ")[0])
    return handler(server, session, words) if handler is not None else refusal(command)


def _anywhere(session: ClientSession, frame: bytes, command: Command, words: list[bytes]) -> Answer:
    """Send a command to one node.  Calls with the same first argument, or script, go to the same node, in order."""
    try:
        command.check_allowed(words)
    except RoutingError as reason:
        return misuse(command, words) or error(f"ERR {reason}")
    same = words[1] if len(words) > 1 else b"%d" % session.number
    if command.name in ("EVALSHA", "EVALSHA_RO"):
        same = same.lower()
    elif command.name in ("EVAL", "EVAL_RO"):
        # EVALSHA finds a script where EVAL has left it.
        same = sha1(same, usedforsecurity=False).hexdigest().encode()
    session.relay(frame, key_slot(same))
    return None


def _by_keys(server: ProxyServer, session: ClientSession, frame: bytes, command: Command, words: list[bytes]) -> Answer:
    places = command.places(words)
    if not places:
        # A call without keys, or a wrong one: any node has the right reply.
        return _anywhere(session, frame, command, words)
    slot = key_slot(words[places[0]])
    blocks = command.blocks(words)
    if not any(key_slot(words[place]) != slot for place in places[1:]):
        if blocks:
            return misuse(command, words) or blocking.block(server, session, command, words, slot)
        session.relay(frame, slot)
        return None
    wrong = misuse(command, words)
    if wrong:
        return wrong
    if command.name in several_slots.COMMANDS:
        return several_slots.block(server, session, command, words, [words[place] for place in places])
    if command.name == "MGET" and session.reply_mode == "on":
        upstream = session.upstream
        assert upstream is not None
        cell = SplitCell(session, frame)
        session.add(cell)
        send_mget(cell, upstream, words[1:])
        return None
    return lambda: whole_cluster.run(session, command, words)

"""ClusterLog: writes the changes in the state of a cluster to Twisted's log, each once.

Nothing is written for a single command or a single attempt to connect.  If very much changes, the log counts what it
leaves out.  No line holds a password, a key or a value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import ILogObserver, Logger, LogLevel

from .address import Address
from .errors import AuthenticationFailed
from .events import (
    CommandsResumed,
    CommandsWaiting,
    Event,
    LoginFailed,
    LoginRestored,
    NodeConnected,
    NodeConnectFailed,
    NodeDisconnected,
    TLSReloaded,
    TLSReloadFailed,
    TopologyRefreshFailed,
    TopologyRefreshRestored,
    TopologyUpdated,
)
from .statistics import Purpose
from .topology.model import Shard, Topology

#: The namespaces of the lines.
NODES, TOPOLOGY, COMMANDS = (f"txvalkeycluster.{what}" for what in ("nodes", "topology", "commands"))
# At most this many lines are written at once; then one more after each of these times, in seconds.
_BURST, _PAUSE = 50, 1.0
# The most nodes whose state is kept.
_NODES = 20_000
# The most characters of an error in a line.
_LONGEST = 600
_PURPOSES = {
    "shared": "",
    "exclusive": " for blocking commands and watch sessions",
    "subscriber": " for subscriptions",
}


class ClusterLog:
    """Follows the events of one client."""

    def __init__(self, seconds: Callable[[], float], client: str, observer: ILogObserver | None = None) -> None:
        """Make a log.

        Args:
            seconds: Returns the time.
            client: The name of the client; it is in the field ``client`` of each line.
            observer: Gets the lines; by default everybody who reads Twisted's log.
        """
        self._seconds = seconds
        self._client = client
        self._loggers = {namespace: Logger(namespace, observer=observer) for namespace in (NODES, TOPOLOGY, COMMANDS)}
        self._bucket = float(_BURST)
        self._filled_at = seconds()
        self._left_out = 0
        # The state of each node by what the connection is for, as far as it has been written.
        self._nodes: dict[tuple[Address, Purpose], str] = {}
        self._topology: Topology | None = None
        self._refresh_failing = False
        self._waiting = False
        self._logins: set[Address] = set()
        self._handlers: dict[type, Callable[[Any], None]] = {
            NodeConnected: self._connected,
            NodeConnectFailed: self._connect_failed,
            NodeDisconnected: self._disconnected,
            LoginFailed: self._login_failed,
            LoginRestored: self._login_restored,
            TopologyUpdated: self._topology_updated,
            TopologyRefreshFailed: self._refresh_failed,
            TopologyRefreshRestored: self._refresh_restored,
            CommandsWaiting: self._commands_waiting,
            CommandsResumed: self._commands_resumed,
            TLSReloaded: self._tls_reloaded,
            TLSReloadFailed: self._tls_failed,
        }

    def note(self, event: Event) -> None:
        """Write a line if the event changes the state."""
        handle = self._handlers.get(type(event))
        if handle is not None:
            handle(event)

    def _write(self, level: Any, namespace: str, text: str, **fields: object) -> None:
        now = self._seconds()
        self._bucket = min(self._bucket + (now - self._filled_at) / _PAUSE, float(_BURST))
        self._filled_at = now
        if self._bucket < 1.0:
            self._left_out += 1
            return
        self._bucket -= 1.0
        if self._left_out:
            left_out, self._left_out = self._left_out, 0
            notice = "{count} lines were left out, because there were too many"
            self._loggers[namespace].warn(notice, count=left_out, client=self._client)
        self._loggers[namespace].emit(level, text, client=self._client, **fields)

    # ---- nodes

    def _set(self, event: NodeConnected | NodeConnectFailed, state: str) -> str | None:
        """Note the state of a node; return the one before, or None if it was not known."""
        key = (event.address, event.purpose)
        if len(self._nodes) >= _NODES:
            # Redirects can name new addresses without end.
            self._nodes.clear()
        before = self._nodes.get(key)
        self._nodes[key] = state
        return before

    def _connected(self, event: NodeConnected) -> None:
        before = self._set(event, "connected")
        if before != "connected":
            text = "connected to {node}{purpose}" + (" again" if before == "lost" else "")
            self._write(LogLevel.info, NODES, text, node=event.address, purpose=_PURPOSES[event.purpose])

    def _connect_failed(self, event: NodeConnectFailed) -> None:
        if self._topology is None:
            # The line about the whole cluster has the reason of each node.
            return
        before = self._nodes.get((event.address, event.purpose))
        fields = {"purpose": _PURPOSES[event.purpose], "reason": _reason(event.reason, event.address)}
        if isinstance(event.reason, AuthenticationFailed):
            if before != "refused":
                self._set(event, "refused")
                text = "the login at {node}{purpose} failed: {reason}"
                self._write(LogLevel.error, NODES, text, node=event.address, **fields)
        elif before is None or before == "connected":
            self._set(event, "unreachable" if before is None else "lost")
            text = "cannot connect to {node}{purpose}: {reason}"
            self._write(LogLevel.warn, NODES, text, node=event.address, **fields)

    def _disconnected(self, event: NodeDisconnected) -> None:
        # A server that closes an unused connection is no news.  If the node is down, the next attempt says so.
        if event.unanswered and not event.clean and self._nodes.get((event.address, "shared")) == "connected":
            self._nodes[event.address, "shared"] = "lost"
            reason = _reason(event.reason, event.address)
            text = "lost the connection to {node} with {unanswered} commands unanswered: {reason}"
            self._write(LogLevel.warn, NODES, text, node=event.address, unanswered=event.unanswered, reason=reason)

    def _login_failed(self, event: LoginFailed) -> None:
        if event.address not in self._logins:
            self._logins.add(event.address)
            text = "an open connection to {node} could not log in again, and keeps its old login: {reason}"
            reason = _reason(event.reason, event.address)
            self._write(LogLevel.error, NODES, text, node=event.address, reason=reason)

    def _login_restored(self, event: LoginRestored) -> None:
        if event.address in self._logins:
            self._logins.discard(event.address)
            self._write(LogLevel.info, NODES, "logged in again at {node}", node=event.address)

    def _tls_failed(self, event: TLSReloadFailed) -> None:
        text = "the files of certificates have changed and cannot be used; the old ones stay in use: {reason}"
        self._write(LogLevel.error, NODES, text, reason=_reason(event.reason))

    def _tls_reloaded(self, _: TLSReloaded) -> None:
        self._write(LogLevel.info, NODES, "the files of certificates were read again, and new connections use them")

    # ---- the slot map

    def _topology_updated(self, event: TopologyUpdated) -> None:
        before, now = self._topology, event.topology
        self._topology = now
        counts = {"primaries": len(now.primaries), "nodes": len(now.nodes)}
        if before is None:
            text = "reached the cluster; it has {primaries} primaries and {nodes} nodes"
            self._write(LogLevel.info, TOPOLOGY, text, **counts)
            return
        gone = {node.address for node in before.nodes} - {node.address for node in now.nodes}
        self._nodes = {key: state for key, state in self._nodes.items() if key[0] not in gone}
        self._logins -= gone
        for shard, old in _failovers(before, now):
            primary = shard.primary
            assert primary is not None
            text = "{node} is the primary of {slots} slots now, after {old}"
            self._write(LogLevel.info, TOPOLOGY, text, node=primary.address, slots=shard.slot_count, old=old.address)
        if counts != {"primaries": len(before.primaries), "nodes": len(before.nodes)}:
            text = "the cluster has {primaries} primaries and {nodes} nodes now"
            self._write(LogLevel.info, TOPOLOGY, text, **counts)

    def _refresh_failed(self, event: TopologyRefreshFailed) -> None:
        if not self._refresh_failing:
            self._refresh_failing = True
            text = (
                "cannot reach the cluster: {reason}"
                if self._topology is None
                else "the slot map cannot be refreshed, and the old one stays in use: {reason}"
            )
            self._write(LogLevel.error, TOPOLOGY, text, reason=_reason(event.reason))

    def _refresh_restored(self, _: TopologyRefreshRestored) -> None:
        if self._refresh_failing:
            self._refresh_failing = False
            if self._topology is not None:
                self._write(LogLevel.info, TOPOLOGY, "the slot map can be fetched again")

    # ---- commands

    def _commands_waiting(self, event: CommandsWaiting) -> None:
        text = "{commands} commands wait, the oldest for {seconds:.1f} s: {reason}"
        self._write(
            LogLevel.warn, COMMANDS, text, commands=event.commands, seconds=event.seconds, reason=_short(event.reason)
        )

    def _commands_resumed(self, _: CommandsResumed) -> None:
        self._write(LogLevel.info, COMMANDS, "no command waits for long any more")


def _failovers(before: Topology, now: Topology) -> list[tuple[Shard, Any]]:
    """Return each shard whose primary was a replica before, with the node that was its primary."""
    was_primary_of = {node.id: shard.primary for shard in before.shards for node in shard.nodes}
    found = []
    for shard in now.shards:
        old = was_primary_of.get(shard.primary.id) if shard.primary is not None else None
        if old is not None and shard.primary is not None and old.id != shard.primary.id:
            found.append((shard, old))
    return found


def _reason(error: Exception, address: Address | None = None) -> str:
    """Return the text of an error, in one line and without the address that the line names already."""
    return _short(str(error).removeprefix(str(address)).lstrip(": "))


def _short(text: str) -> str:
    text = "; ".join(line.strip() for line in text.splitlines())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."

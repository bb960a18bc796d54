"""INFO of the whole cluster: as of one server, with totals, and a section about the proxy."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from twisted.internet.defer import DeferredList
from twisted.internet.defer import TimeoutError as DeferredTimeout

from ...errors import ValkeyError

if TYPE_CHECKING:
    from ..server import ProxyServer
    from ..session import ClientSession

# In these sections a number is the sum over all primaries.
_SUMMED = frozenset(["memory", "stats", "cpu", "commandstats", "errorstats"])
# Numbers that have no sum: they are those of the first primary.
_FIRST = ("_ratio", "_perc", "_policy", "_usec")
# Sections that describe a node as a part of the cluster.
_LEFT_OUT = frozenset(["replication", "cluster", "cluster info", "modules", "keyspace", "clients"])
# A client that asks for these gets the section about the proxy.
_WITH_PROXY = frozenset(["all", "everything", "default", "proxy"])
# In the section about persistence, these are totals.  Of the other fields, the least favourable one is shown.
_TOTALS = ("_since_last_save", "_saves", "_rewrites", "_expired", "_loaded", "_processed", "_total", "cow_size")
# In the section about clients, only these are totals of the nodes.
_OF_KEYS = ("total_blocking_keys", "total_blocking_keys_on_nokey")
# What tells where a node runs.
_OF_ONE_NODE = ("listener", "executable", "config_file", "io_threads_active", "tcp_port")
_RUN_ID = os.urandom(20).hex()
# Seconds to wait for the version of the cluster.
_PATIENCE = 1.0

Sections = dict[str, dict[str, str]]


async def cluster_info(server: ProxyServer, session: ClientSession, wanted: list[str]) -> str:
    """Return the text of INFO.

    Args:
        server: The proxy.
        session: The client that asks.
        wanted: The names of the sections, in lower case; none for the usual ones.

    Returns:
        The sections, as of one server.

    Raises:
        ValkeyError: A primary does not answer.
    """
    assert session.upstream is not None
    client = session.upstream.client
    if not client.topology.primaries:
        await client.refresh_topology()
    primaries = [node for node in client.topology.primaries if node.address is not None]
    results = await DeferredList([client.execute_on(node, "INFO", *wanted) for node in primaries], consumeErrors=True)
    failed = next((result for succeeded, result in results if not succeeded), None)
    if failed is not None:
        failed.raiseException()
    if session.closed:
        # Nobody reads the text, and a closed connection has no address.
        return ""
    found: list[Sections] = [_parsed(reply) for _, reply in results]
    sections: Sections = {}
    for name in dict.fromkeys(name for each in found for name in each):
        parts = [each.get(name, {}) for each in found]
        lower = name.lower()
        if lower in _LEFT_OUT:
            sections[name] = _of_the_proxy(lower, server, parts)
        elif lower == "server":
            sections[name] = _about(server, session, parts[0])
        elif lower == "persistence":
            sections[name] = _persistence(parts)
        else:
            sections[name] = _summed(parts) if lower in _SUMMED else parts[0]
    if not wanted or not _WITH_PROXY.isdisjoint(wanted):
        sections["Proxy"] = _proxy(server)
    texts = [
        f"# {name}\r\n" + "".join(f"{field}:{value}\r\n" for field, value in fields.items())
        for name, fields in sections.items()
    ]
    return "\r\n".join(texts)


async def learn_version(server: ProxyServer, session: ClientSession) -> None:
    """Find out which version the cluster has, for HELLO.  If it does not answer soon, another version is told.

    Args:
        server: The proxy.
        session: A client that has logged in.
    """
    if server.version_known or session.upstream is None:
        return
    client = session.upstream.client
    try:
        if not client.topology.primaries:
            await client.refresh_topology().addTimeout(_PATIENCE, server.reactor)
        node = next(node for node in client.topology.primaries if node.address is not None)
        about = _parsed(await client.execute_on(node, "INFO", "server", timeout=_PATIENCE)).get("Server", {})
    except (ValkeyError, DeferredTimeout, StopIteration):
        return
    server.version = about.get("valkey_version", about.get("redis_version", server.version))
    server.version_known = True


def _parsed(reply: object) -> Sections:
    sections: Sections = {}
    fields: dict[str, str] = {}
    text = reply.decode("utf-8", "surrogateescape") if isinstance(reply, bytes) else ""
    for line in text.split("\r\n"):
        if line.startswith("# "):
            fields = sections[line[2:]] = {}
        elif ":" in line:
            name, _, value = line.partition(":")
            fields[name] = value
    return sections


def _summed(parts: list[dict[str, str]]) -> dict[str, str]:
    total: dict[str, str] = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        values = [part[name] for part in parts if name in part]
        total[name] = values[0] if name.endswith(_FIRST) else _sum(values)
    for name in total:
        plain = name.removesuffix("_human")
        if plain != name and plain in total:
            total[name] = _human(total[plain])
    return total


def _persistence(parts: list[dict[str, str]]) -> dict[str, str]:
    combined: dict[str, str] = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        values = [part[name] for part in parts if name in part]
        if name.endswith(_TOTALS):
            combined[name] = _sum(values)
        elif name.endswith("_status"):
            combined[name] = next((value for value in values if value != "ok"), "ok")
        else:
            worst = min if name.endswith("_save_time") else max
            combined[name] = values[0] if len(set(values)) == 1 else worst(values, key=float)
    return combined


def _sum(values: list[str]) -> str:
    """Add integers, fractions, or lists of both with names, such as ``calls=1,usec=2``."""
    if "=" in values[0]:
        pairs = [dict(part.partition("=")[::2] for part in value.split(",")) for value in values]
        sums = {name: _sum([each[name] for each in pairs if name in each]) for name in pairs[0]}
        if "usec_per_call" in sums:
            sums["usec_per_call"] = f"{int(sums['usec']) / max(int(sums['calls']), 1):.2f}"
        return ",".join(f"{name}={value}" for name, value in sums.items())
    try:
        return str(sum(map(int, values)))
    except ValueError:
        pass
    try:
        return f"{sum(map(float, values)):.6f}".rstrip("0").rstrip(".")
    except ValueError:
        return values[0]


def _human(number: str) -> str:
    size = float(number)
    for unit in "BKMGT":
        if size < 1024 or unit == "T":
            break
        size /= 1024
    return f"{size:.0f}B" if unit == "B" else f"{size:.2f}{unit}"


def _about(server: ProxyServer, session: ClientSession, fields: dict[str, str]) -> dict[str, str]:
    about = {name: value for name, value in fields.items() if not name.startswith(_OF_ONE_NODE)}
    for name in ("redis_mode", "server_mode"):
        if name in about:
            about[name] = "standalone"
    seconds = int(server.seconds() - server.begun)
    about |= {
        "process_id": str(os.getpid()),
        "run_id": _RUN_ID,
        "tcp_port": server.address_of(session.transport, "getHost").rpartition(":")[2],
        "uptime_in_seconds": str(seconds),
        "uptime_in_days": str(seconds // 86400),
    }
    return about


def _of_the_proxy(section: str, server: ProxyServer, parts: list[dict[str, str]]) -> dict[str, str]:
    """Return a section that describes the proxy instead of a node."""
    if section == "clients":
        sessions = server.sessions.values()
        watched = [len(session.watch.keys) for session in sessions if session.watch is not None]
        return {
            "connected_clients": str(len(sessions)),
            "cluster_connections": "0",
            "maxclients": str(server.settings.max_clients),
            "blocked_clients": str(sum(session.blocked is not None for session in sessions)),
            "tracking_clients": "0",
            "pubsub_clients": str(sum(bool(session.subscriptions) for session in sessions)),
            "watching_clients": str(len(watched)),
            "total_watched_keys": str(sum(watched)),
            **{name: _sum([part[name] for part in parts if name in part]) for name in _OF_KEYS if name in parts[0]},
        }
    if section == "replication":
        # As of a server that never had a replica.
        return {
            "role": "master",
            "connected_slaves": "0",
            "master_failover_state": "no-failover",
            "master_replid": _RUN_ID,
            "master_replid2": "0" * 40,
            "master_repl_offset": "0",
            "second_repl_offset": "-1",
            "repl_backlog_active": "0",
        }
    if section == "cluster":
        return {"cluster_enabled": "0"}
    if section == "keyspace":
        return _keyspace(parts)
    return {}


def _keyspace(parts: list[dict[str, str]]) -> dict[str, str]:
    """Add the numbers of keys of each database."""
    databases: dict[str, dict[str, int]] = {}
    for part in parts:
        for database, fields in part.items():
            numbers = {name: int(value) for name, _, value in (each.partition("=") for each in fields.split(","))}
            total = databases.setdefault(database, dict.fromkeys(numbers, 0))
            # The mean time to live, weighted by the keys that have one.
            weight = numbers.get("expires", 0)
            for name, value in numbers.items():
                total[name] = total.get(name, 0) + (value * weight if name == "avg_ttl" else value)
    for total in databases.values():
        if "avg_ttl" in total:
            total["avg_ttl"] //= max(total.get("expires", 0), 1)
    return {
        database: ",".join(f"{name}={value}" for name, value in total.items()) for database, total in databases.items()
    }


def _proxy(server: ProxyServer) -> dict[str, str]:
    snapshot = server.snapshot()
    topology = server.topology
    numbers = {name: value for name, value in snapshot.as_json().items() if isinstance(value, int)}
    return {
        "proxy_version": server.own_version,
        "proxy_uptime_in_seconds": str(int(server.seconds() - server.begun)),
        "proxy_primaries": str(len(topology.primaries)),
        "proxy_nodes": str(len(topology.nodes)),
        **{f"proxy_{name}": str(value) for name, value in numbers.items()},
    }

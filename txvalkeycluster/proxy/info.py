"""INFO of the whole cluster: as of one server, with totals, and a section about the proxy."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import DeferredList

if TYPE_CHECKING:
    from .server import ProxyServer
    from .session import ClientSession

# In these sections a number is the sum over all primaries.
_SUMMED = frozenset(["memory", "stats", "cpu", "commandstats", "errorstats"])
# Numbers that have no sum: ratios, peaks and settings.
_FIRST = ("_ratio", "_perc", "_per_sec", "_policy", "_time")
# Sections that describe a node as a part of the cluster.
_LEFT_OUT = frozenset(["replication", "cluster", "modules", "keyspace", "clients", "persistence"])
_ALL = frozenset(["all", "everything", "default"])

Sections = dict[str, dict[str, str]]


async def cluster_info(server: ProxyServer, session: ClientSession, wanted: list[str]) -> str:
    """Return the text of INFO.

    Args:
        server: The proxy.
        session: The client that asks.
        wanted: The names of the sections, in lower case; none for the usual ones.
    """
    assert session.upstream is not None
    client = session.upstream.client
    asked = ["everything" if not wanted or _ALL & set(wanted) else "all"]
    primaries = [node for node in client.topology.primaries if node.address is not None]
    asking = [client.execute_on(node, "INFO", *(wanted and asked)) for node in primaries]
    results = await DeferredList(asking, consumeErrors=True)
    failed = next((result for succeeded, result in results if not succeeded), None)
    if failed is not None:
        failed.raiseException()
    found: list[Sections] = [_parsed(reply) for _, reply in results]
    sections: Sections = {}
    for name, fields in (found[0] if found else {}).items():
        if name.lower() not in _LEFT_OUT:
            others = [each.get(name, {}) for each in found]
            sections[name] = _summed(fields, others) if name.lower() in _SUMMED else dict(fields)
    _pretend_one_server(server, sections, found)
    sections["Proxy"] = _proxy(server)
    chosen = _ALL & set(wanted) or not wanted
    parts = [
        f"# {name}\r\n" + "".join(f"{field}:{value}\r\n" for field, value in fields.items())
        for name, fields in sections.items()
        if chosen or name.lower() in wanted
    ]
    return "\r\n".join(parts)


def _parsed(reply: Any) -> Sections:
    sections: Sections = {}
    fields: dict[str, str] = {}
    for line in reply.decode("utf-8", "replace").splitlines():
        if line.startswith("# "):
            fields = sections[line[2:].strip()] = {}
        elif ":" in line:
            name, _, value = line.partition(":")
            fields[name] = value
    return sections


def _summed(fields: dict[str, str], others: list[dict[str, str]]) -> dict[str, str]:
    total: dict[str, str] = {}
    for name, value in fields.items():
        values = [each.get(name, "0") for each in others]
        if name.endswith(_FIRST) or name.startswith("maxmemory"):
            total[name] = value
        elif all(each.lstrip("-").isdigit() for each in values):
            total[name] = str(sum(map(int, values)))
        elif not name.endswith("_human"):
            total[name] = value
    return total


def _pretend_one_server(server: ProxyServer, sections: Sections, found: list[Sections]) -> None:
    about = sections.setdefault("Server", {})
    for name in ("redis_mode", "server_mode"):
        if name in about:
            about[name] = "standalone"
    about["process_id"] = str(os.getpid())
    sections["Clients"] = {
        "connected_clients": str(len(server.sessions)),
        "maxclients": str(server.settings.max_clients),
        "blocked_clients": "0",
    }
    sections["Replication"] = {"role": "master", "connected_slaves": "0"}
    sections["Cluster"] = {"cluster_enabled": "0"}
    keys = expires = 0
    for each in found:
        for fields in each.get("Keyspace", {}).values():
            numbers = dict(part.partition("=")[::2] for part in fields.split(","))
            keys += int(numbers.get("keys", 0))
            expires += int(numbers.get("expires", 0))
    sections["Keyspace"] = {"db0": f"keys={keys},expires={expires},avg_ttl=0"} if keys else {}


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

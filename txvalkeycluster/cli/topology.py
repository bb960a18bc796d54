"""``topology URL``: the cluster as a table."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack

import click
from rich.console import Console
from rich.table import Table
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime

from ..client import ClusterClient, connect
from ..errors import ValkeyError
from ..topology.model import Node, Topology
from .running import run

_PINGS = 3


@click.command()
@click.argument("url")
def topology(url: str) -> None:
    """Show shards, nodes, roles, slots, round-trip times and versions of the cluster at URL.

    URL is like valkey://host:port,host:port, or valkeys:// for TLS; options are query parameters, such as
    ?trust_root=ca.pem.
    """
    run(lambda reactor, stack: _show(reactor, stack, url))


async def _show(reactor: IReactorTime, stack: AsyncExitStack, url: str) -> int:
    client = await connect(reactor, url)
    stack.push_async_callback(client.abort)
    known = client.topology
    asked = [Deferred.fromCoroutine(_facts(reactor, client, node)) for node in known.nodes]
    facts = await gatherResults(asked, consumeErrors=True)
    Console().print(_table(known, dict(zip(known.nodes, facts, strict=True)), tls=client.options.tls))
    return 0


async def _facts(reactor: IReactorTime, client: ClusterClient, node: Node) -> tuple[str, str]:
    """Round-trip time and server version of a node, or what went wrong."""
    try:
        info = await client.execute_on(node, "INFO", "server")
        took = []
        for _ in range(_PINGS):
            started = reactor.seconds()
            await client.execute_on(node, "PING")
            took.append(reactor.seconds() - started)
    except ValkeyError as error:
        return "", str(error)
    text = info if isinstance(info, str) else info.decode()
    # Valkey also tells which version of Redis it is compatible with.
    found = re.search(r"valkey_version:(\S+)", text) or re.search(r"redis_version:(\S+)", text)
    return f"{min(took) * 1000:.2f} ms", found[1] if found else "unknown"


def _table(known: Topology, facts: dict[Node, tuple[str, str]], *, tls: bool) -> Table:
    counts = f"{len(known.shards)} shards, {len(known.nodes)} nodes, {known.slot_count} slots"
    table = Table(title=f"{counts}, {'TLS' if tls else 'no TLS'}")
    for name in ("shard", "node", "id", "role"):
        table.add_column(name, no_wrap=True)
    table.add_column("slots", overflow="fold")
    for name in ("round trip", "version"):
        table.add_column(name, justify="right", no_wrap=True)
    for number, shard in enumerate(known.shards):
        slots = ", ".join(f"{start}-{end}" for start, end in shard.slots)
        for node in shard.nodes:
            primary = node is shard.primary
            owned = f"{shard.slot_count} ({slots})" if primary else ""
            address = str(node.address or "no address") + (f" ({node.hostname})" if node.hostname else "")
            zone = f" in {node.availability_zone}" if node.availability_zone else ""
            table.add_row(str(number), address + zone, node.id[:8], node.role, owned, *facts[node])
        table.add_section()
    return table

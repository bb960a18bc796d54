"""``topology URL`` shows the shards and nodes of a cluster, as text or as JSON."""

from __future__ import annotations

import json
import re
import shutil
import textwrap
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from typing import Any

import click
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime

from ..client import ClusterClient, connect
from ..errors import ValkeyError
from ..topology.model import Node, Shard, Topology
from .running import run

_PINGS = 3
_COLUMNS = ("role", "id", "version", "round trip")
_UNKNOWN = "-"


@click.command()
@click.argument("url")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def topology(url: str, as_json: bool) -> None:
    """Show the shards and nodes of the cluster at URL.

    Each shard has its slots. Each node has its role, the first 8 characters of its id, the version of its server, the
    shortest round-trip time of 3 PINGs, and its address.

    URL is like valkey://host:port,host:port, or valkeys:// for TLS. Options are query parameters, such as
    ?trust_root=ca.pem.
    """
    run(lambda reactor, stack: _show(reactor, stack, url, as_json))


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a node replied, or the text of the error."""

    version: str | None = None
    round_trip_ms: float | None = None
    error: str | None = None


async def _show(reactor: IReactorTime, stack: AsyncExitStack, url: str, as_json: bool) -> int:
    client = await connect(reactor, url)
    stack.push_async_callback(client.abort)
    known = client.topology
    asked = [Deferred.fromCoroutine(_ask(reactor, client, node)) for node in known.nodes]
    facts = dict(zip(known.nodes, await gatherResults(asked, consumeErrors=True), strict=True))
    tls = client.options.tls
    click.echo(
        json.dumps(_as_json(known, facts, tls=tls), indent=2)
        if as_json
        else _as_text(known, facts, tls=tls, width=shutil.get_terminal_size().columns)
    )
    return 0


async def _ask(reactor: IReactorTime, client: ClusterClient, node: Node) -> _Facts:
    """Ask a node for its version, and measure its round-trip time."""
    try:
        info = await client.execute_on(node, "INFO", "server")
        took = []
        for _ in range(_PINGS):
            started = reactor.seconds()
            await client.execute_on(node, "PING")
            took.append(reactor.seconds() - started)
    except ValkeyError as error:
        return _Facts(error=str(error))
    text = info if isinstance(info, str) else info.decode()
    # Valkey also reports the version of Redis that it is compatible with.
    found = re.search(r"valkey_version:(\S+)", text) or re.search(r"redis_version:(\S+)", text)
    return _Facts(found[1] if found else None, round(min(took) * 1000, 3))


def _as_json(known: Topology, facts: Mapping[Node, _Facts], *, tls: bool) -> dict[str, Any]:
    return {
        "tls": tls,
        "slot_count": known.slot_count,
        "shards": [
            {
                "slots": shard.slots,
                "slot_count": shard.slot_count,
                "open_slots": [asdict(slot) for slot in shard.open_slots],
                "nodes": [
                    {
                        "id": node.id,
                        "role": node.role,
                        "host": node.host or None,
                        "port": node.port or None,
                        "ip": node.ip,
                        "hostname": node.hostname,
                        "availability_zone": node.availability_zone,
                        "health": node.health,
                        **asdict(facts[node]),
                    }
                    for node in shard.nodes
                ],
            }
            for shard in known.shards
        ],
    }


def _as_text(known: Topology, facts: Mapping[Node, _Facts], *, tls: bool, width: int) -> str:
    counts = f"{len(known.shards)} shards, {len(known.nodes)} nodes, {known.slot_count} slots"
    rows = {node: _row(node, facts[node]) for node in known.nodes}
    widths = [max(map(len, column)) for column in zip(_COLUMNS, *rows.values(), strict=True)]
    lines = [f"{counts}, {'TLS' if tls else 'no TLS'}", "", _padded(_COLUMNS, widths) + "address"]
    for number, shard in enumerate(known.shards):
        lines += _wrapped(_described(number, shard), width, "", "    ")
        for node in shard.nodes:
            # The address is last: a long one does not move the other columns.
            start, place = _padded(rows[node], widths), _place(node)
            if len(start) + len(place.split(" ", 1)[0]) > width:
                lines.append(start.rstrip())
                start = "    "
            lines += _wrapped(place, width, start, " " * len(start))
            if (error := facts[node].error) is not None:
                lines += _wrapped(error, width, "    error: ", "    ")
    return "\n".join(lines)


def _row(node: Node, facts: _Facts) -> tuple[str, ...]:
    took = _UNKNOWN if facts.round_trip_ms is None else f"{facts.round_trip_ms:.2f} ms"
    return node.role, node.id[:8], facts.version or _UNKNOWN, took


def _padded(row: tuple[str, ...], widths: list[int]) -> str:
    role, node_id, version, took = (
        word.rjust(width) if name == "round trip" else word.ljust(width)
        for name, word, width in zip(_COLUMNS, row, widths, strict=True)
    )
    return f"  {role}  {node_id}  {version}  {took}  "


def _described(number: int, shard: Shard) -> str:
    ranges = ", ".join(str(start) if start == end else f"{start}-{end}" for start, end in shard.slots)
    slots = f"{shard.slot_count} slots" + (f" ({ranges})" if ranges else "")
    return f"shard {number}: {slots}" + ("" if shard.primary is not None else ", no primary")


def _place(node: Node) -> str:
    address = str(node.address or "no address") + (f" ({node.hostname})" if node.hostname else "")
    zone = f" in {node.availability_zone}" if node.availability_zone else ""
    return address + zone + ("" if node.health == "online" else f", {node.health}")


def _wrapped(text: str, width: int, first: str, rest: str) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )

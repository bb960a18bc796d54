"""Measures large slot maps, many pending commands, many clients and large values, each in its own process.

``python -m benchmarks.scale NAME`` runs one measurement and prints its figures as JSON.
"""

from __future__ import annotations

import gc
import json
import resource
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter, process_time
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater, react

from txvalkeycluster import Address, ClusterClient, connect
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE, LocalCluster, ScriptedCluster

from .workloads import SMALL

ROOT = Path(__file__).parent.parent
_NODES, _RANGES = 1000, 16384
_WAITING = 100_000
_CLIENTS = 1000


@dataclass(frozen=True)
class Scale:
    """The figures of all measurements, and those that have a goal."""

    #: By measurement and by figure.
    figures: dict[str, dict[str, float]]

    @property
    def stall(self) -> float:
        """Longest stall, in seconds, while a large slot map is fetched: the first, the same or a changed one."""
        return max(self.figures["map"][f"{kind}: longest stall ms"] for kind in ("first", "same", "changed")) / 1e3

    @property
    def waiting(self) -> float:
        """Bytes of memory per pending command, without its payload."""
        return self.figures["waiting"]["bytes per command, without its payload"]

    @property
    def cost_100_mib(self) -> float:
        """CPU per byte of a value of 100 MiB, divided by that of a value of 10 MiB."""
        return self.figures["large values"]["100 MiB: CPU ms/MiB"] / self.figures["large values"]["10 MiB: CPU ms/MiB"]


def measure(progress: Callable[[str], None]) -> Scale:
    """Run all measurements.

    Args:
        progress: Called before each measurement with a text for the user.

    Raises:
        subprocess.CalledProcessError: A measurement failed.
    """
    found: dict[str, dict[str, float]] = {}
    for name in MEASUREMENTS:
        progress(f"scale: {name}")
        words = [sys.executable, "-m", "benchmarks.scale", name]
        ended = subprocess.run(words, capture_output=True, text=True, check=True, timeout=300, cwd=ROOT)
        found[name] = json.loads(ended.stdout.splitlines()[-1])
    return Scale(found)


class Pulse:
    """Measures the longest turn of the reactor.

    Args:
        reactor: The Twisted reactor, which runs.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._last = perf_counter()
        self._longest = 0.0
        self._beat()

    def _beat(self) -> None:
        now = perf_counter()
        self._longest = max(self._longest, now - self._last)
        self._last = now
        self._reactor.callLater(0, self._beat)

    def longest(self) -> float:
        """Return the duration of the longest turn since the last call, in seconds."""
        longest, self._longest = self._longest, 0.0
        return longest


# ---- a large map


def _bulk(text: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text)


def _owners(shift: int) -> list[int]:
    """Return the primary of each slot range.  Another shift gives another slot map."""
    primaries = _NODES // 2
    return [(slot * 7 + shift) % primaries for slot in range(_RANGES)]


def _host(node: int) -> bytes:
    return b"10.0.%d.%d" % divmod(node, 250)


def _slots(shift: int) -> bytes:
    def entry(node: int) -> bytes:
        names = _bulk(b"hostname") + _bulk(b"node%d.example" % node)
        return b"*4\r\n" + _bulk(_host(node)) + b":7000\r\n" + _bulk(b"%040x" % node) + b"%1\r\n" + names

    entries = [entry(node) for node in range(_NODES)]
    rows = [
        b"*4\r\n:%d\r\n:%d\r\n%b%b" % (slot, slot, entries[owner], entries[owner + _NODES // 2])
        for slot, owner in enumerate(_owners(shift))
    ]
    return b"*%d\r\n%b" % (len(rows), b"".join(rows))


def _shards(shift: int) -> bytes:
    def entry(node: int, role: bytes) -> bytes:
        fields = {
            b"id": _bulk(b"%040x" % node), b"port": b":7000\r\n", b"ip": _bulk(_host(node)),
            b"endpoint": _bulk(_host(node)), b"hostname": _bulk(b"node%d.example" % node), b"role": _bulk(role),
            b"replication-offset": b":%d\r\n" % (node * 1000), b"health": _bulk(b"online"),
        }  # fmt: skip
        return b"%%%d\r\n" % len(fields) + b"".join(_bulk(name) + value for name, value in fields.items())

    slots: dict[int, list[int]] = {}
    for slot, owner in enumerate(_owners(shift)):
        slots.setdefault(owner, []).append(slot)
    rows = []
    for owner, owned in slots.items():
        bounds = b"".join(b":%d\r\n:%d\r\n" % (slot, slot) for slot in owned)
        nodes = b"*2\r\n" + entry(owner, b"master") + entry(owner + _NODES // 2, b"replica")
        rows.append(b"%2\r\n" + _bulk(b"slots") + b"*%d\r\n" % (2 * len(owned)) + bounds + _bulk(b"nodes") + nodes)
    return b"*%d\r\n%b" % (len(rows), b"".join(rows))


async def _serve_map(reactor: IReactorTime) -> None:
    """Serve the slot map of a large cluster on one port, and print the port.  ``SET map 1`` changes the slot map."""
    cluster = ScriptedCluster(reactor, 1)
    maps = {(word, shift): make(shift) for word, make in ((b"SLOTS", _slots), (b"SHARDS", _shards)) for shift in (0, 1)}

    def script(_: Any, words: list[bytes], __: Any) -> Any:
        if words[0] != b"CLUSTER":
            return DEFAULT_REPLY
        return maps[words[1], int(cluster.values.get(b"map", b"0"))]

    cluster.nodes[0].script = script
    await cluster.start()
    print(cluster.nodes[0].address.port, flush=True)
    await Deferred()


async def large_map(reactor: IReactorTime) -> dict[str, float]:
    """Fetch a slot map of 1,000 nodes and 16,384 ranges: the first one, the same again, and a changed one."""
    words = [sys.executable, "-m", "benchmarks.scale", "serve map"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
        try:
            assert server.stdout is not None
            there = Address("127.0.0.1", int(server.stdout.readline()))
            pulse = Pulse(reactor)
            stalls: dict[str, list[float]] = {"first": [], "same": [], "changed": []}
            cpus: dict[str, list[float]] = {"first": [], "same": [], "changed": []}
            for _ in range(7):
                client = ClusterClient(
                    reactor, seeds="10.0.0.0:7000", address_map=lambda *_: there, refresh_period=None
                )
                for kind, shift in (("first", 0), ("same", 0), ("same", 0), ("changed", 1), ("same", 1)):
                    if kind != "first":
                        await client.execute_on(client.topology.primaries[0], "SET", "map", shift)
                    before = client.topology.version
                    await deferLater(reactor, 0.05)
                    pulse.longest()
                    cpu = process_time()
                    await client.refresh_topology()
                    await deferLater(reactor, 0)
                    cpus[kind].append(process_time() - cpu)
                    stalls[kind].append(pulse.longest())
                    assert client.topology.version == before + (kind != "same")
                await client.execute_on(client.topology.primaries[0], "SET", "map", 0)
                await client.abort()
            figures: dict[str, float] = {}
            for kind in stalls:
                figures[f"{kind}: longest stall ms"] = median(stalls[kind]) * 1e3
                figures[f"{kind}: worst of all ms"] = max(stalls[kind]) * 1e3
                figures[f"{kind}: CPU ms"] = median(cpus[kind]) * 1e3
            return figures
        finally:
            server.kill()


# ---- many commands, clients and bytes


async def waiting(reactor: IReactorTime) -> dict[str, float]:
    """Measure the memory of 100,000 pending commands."""
    cluster = ScriptedCluster(reactor)
    for node in cluster.nodes:
        node.script = lambda _, words, __: SILENCE if words[0] == b"GET" else DEFAULT_REPLY
    await cluster.start()
    client = await connect(reactor, cluster.url)
    keys = [f"key:{number}" for number in range(_WAITING)]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    sent = [client.get(key) for key in keys]
    after = tracemalloc.get_traced_memory()[0]
    payloads = sum(sys.getsizeof(b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key.encode())) for key in keys)
    tracemalloc.stop()
    for deferred in sent:
        deferred.addErrback(lambda _: None)
    await client.abort()
    await cluster.stop()
    return {"bytes per command, without its payload": (after - before - payloads) / _WAITING}


async def clients(reactor: IReactorTime) -> dict[str, float]:
    """Connect 1,000 clients of one process to one cluster."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8 * _CLIENTS)), hard))
    cluster = LocalCluster(reactor, replicas=0)
    await cluster.start()
    try:
        seeds = ",".join(map(str, cluster.addresses))
        gc.collect()
        memory = _resident()
        cpu, begun = process_time(), perf_counter()
        made = await gatherResults([connect(reactor, f"valkey://{seeds}", warm_up=True) for _ in range(_CLIENTS)])
        await gatherResults([client.set(f"key:{number}", SMALL) for number, client in enumerate(made)])
        values = await gatherResults([client.get(f"key:{number}") for number, client in enumerate(made)])
        assert values == [SMALL] * _CLIENTS
        figures = {
            "seconds until every client has done a SET and a GET": perf_counter() - begun,
            "CPU ms per client": (process_time() - cpu) * 1e3 / _CLIENTS,
            "KB per client, with 3 connections": (_resident() - memory) / _CLIENTS / 1024,
        }
        await gatherResults([client.close() for client in made])
        return figures
    finally:
        await cluster.stop()


def _resident() -> int:
    """Return the resident memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def refresh_under_load(reactor: IReactorTime) -> dict[str, float]:
    """Measure the longest stall with 1,000 commands in flight, without and with a topology refresh every 20 ms."""
    cluster = LocalCluster(reactor, replicas=0)
    await cluster.start()
    try:
        client = cluster.client()
        pulse, random = Pulse(reactor), Random(1)
        figures: dict[str, float] = {}
        for kind in ("without", "with"):
            ends_at, served = perf_counter() + 2.0, 0

            async def work(ends_at: float = ends_at) -> int:
                done = 0
                while perf_counter() < ends_at:
                    key = f"key:{random.randrange(10_000)}"
                    await client.set(key, SMALL)
                    assert await client.get(key) == SMALL
                    done += 2
                return done

            async def refresh(ends_at: float = ends_at) -> int:
                while perf_counter() < ends_at:
                    await deferLater(reactor, 0.02)
                    await client.refresh_topology()
                return 0

            workers = [work() for _ in range(1000)] + ([refresh()] if kind == "with" else [])
            pulse.longest()
            served = sum(await gatherResults([Deferred.fromCoroutine(worker) for worker in workers]))
            figures[f"{kind} refreshes: longest stall ms"] = pulse.longest() * 1e3
            figures[f"{kind} refreshes: operations/s"] = served / 2.0
        await client.close()
        return figures
    finally:
        await cluster.stop()


async def large_values(reactor: IReactorTime) -> dict[str, float]:
    """Set and get values of 10 MiB and 100 MiB; the least CPU of five attempts counts."""
    cluster = LocalCluster(reactor, replicas=0)
    await cluster.start()
    try:
        client = cluster.client()
        figures: dict[str, float] = {}
        for size in (10, 100):
            value = b"x" * (size << 20)
            spent = []
            for _ in range(5):
                cpu = process_time()
                await client.execute("SET", "large", value, timeout=60)
                assert await client.execute("GET", "large", timeout=60) == value
                spent.append(process_time() - cpu)
            figures[f"{size} MiB: CPU ms/MiB"] = min(spent) * 1e3 / size
        await client.close()
        return figures
    finally:
        await cluster.stop()


MEASUREMENTS: dict[str, Callable[[Any], Coroutine[Any, Any, dict[str, float]]]] = {
    "map": large_map,
    "waiting": waiting,
    "clients": clients,
    "refresh under load": refresh_under_load,
    "large values": large_values,
}


def main(name: str) -> None:
    """Run one measurement, or serve the slot map of a large cluster.

    Args:
        name: A key of `MEASUREMENTS`, or "serve map".
    """

    async def run(reactor: IReactorTime) -> None:
        if name == "serve map":
            await _serve_map(reactor)
        else:
            print(json.dumps(await MEASUREMENTS[name](reactor)), flush=True)

    react(lambda reactor: ensureDeferred(run(reactor)))


if __name__ == "__main__":
    main(sys.argv[1])

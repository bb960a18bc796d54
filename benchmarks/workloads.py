"""What is measured: each workload is a number of steps, done by workers that go on at the same time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import Any, Protocol

KEYS = [f"key:{number}" for number in range(10_000)]
SMALL = b"x" * 64
MANY = [f"many:{number}" for number in range(100)]
HASH = "hash"
FIELDS = {f"field:{number}": f"value:{number}" for number in range(50)}


class Client(Protocol):
    """What a workload needs of a client; every method is awaited."""

    def set(self, key: str, value: bytes) -> Awaitable[Any]: ...
    def get(self, key: str) -> Awaitable[bytes]: ...
    def mget(self, keys: list[str]) -> Awaitable[list[bytes]]: ...
    def hset(self, key: str, fields: dict[str, str]) -> Awaitable[Any]: ...
    def hgetall(self, key: str) -> Awaitable[dict[bytes, bytes]]: ...
    def pipeline(self, commands: list[tuple[str, ...]]) -> Awaitable[list[Any]]: ...


class WrongReply(Exception):
    """A client gave something else than what was written."""


@dataclass(frozen=True)
class Sample:
    """One client's figures for one workload in one round."""

    operations: int
    seconds: float
    cpu_seconds: float
    latencies: tuple[float, float, float]

    @property
    def rate(self) -> float:
        """Operations per second."""
        return self.operations / self.seconds

    @property
    def cpu(self) -> float:
        """CPU seconds of the process per operation."""
        return self.cpu_seconds / self.operations


@dataclass(frozen=True)
class Workload:
    """``step`` does something once and returns how many operations that were; it raises WrongReply."""

    name: str
    in_flight: int
    prepare: Callable[[Any], Awaitable[None]]
    step: Callable[[Any, int], Awaitable[int]]
    tls: bool = False


def _expect(condition: bool, what: str) -> None:
    if not condition:
        raise WrongReply(what)


async def _nothing(_: Client) -> None:
    """Needs no preparation."""


async def _set_and_get(client: Client, number: int) -> int:
    key = KEYS[number % len(KEYS)]
    await client.set(key, SMALL)
    _expect(await client.get(key) == SMALL, f"GET {key}")
    return 2


def _large(size: int) -> tuple[Callable[[Client], Awaitable[None]], Callable[[Client, int], Awaitable[int]]]:
    value, key = b"x" * size, f"large:{size}"

    async def prepare(client: Client) -> None:
        await client.set(key, value)

    async def step(client: Client, _: int) -> int:
        _expect(len(await client.get(key)) == size, f"GET {key}")
        return 1

    return prepare, step


async def _fill_many(client: Client) -> None:
    for key in MANY:
        await client.set(key, SMALL)


async def _mget(client: Client, _: int) -> int:
    _expect(await client.mget(MANY) == [SMALL] * len(MANY), "MGET")
    return 1


async def _fill_hash(client: Client) -> None:
    await client.hset(HASH, FIELDS)


async def _hgetall(client: Client, _: int) -> int:
    _expect(len(await client.hgetall(HASH)) == len(FIELDS), "HGETALL")
    return 1


async def _pipeline(client: Client, _: int) -> int:
    commands = [("SET", KEYS[number], "v") if number % 2 else ("GET", KEYS[number]) for number in range(10_000)]
    _expect(len(await client.pipeline(commands)) == len(commands), "pipeline")
    return len(commands)


WORKLOADS = [
    *(Workload(f"SET/GET 64 B, {count} in flight", count, _nothing, _set_and_get) for count in (1, 10, 50, 1000)),
    Workload("GET 16 KiB, 10 in flight", 10, *_large(16 * 1024)),
    Workload("GET 1 MiB, 4 in flight", 4, *_large(1024 * 1024)),
    Workload("MGET of 100 keys, 10 in flight", 10, _fill_many, _mget),
    Workload("HGETALL of 50 fields, 50 in flight", 50, _fill_hash, _hgetall),
    Workload("pipeline of 10,000", 1, _nothing, _pipeline),
    *(Workload(f"TLS, SET/GET 64 B, {n} in flight", n, _nothing, _set_and_get, tls=True) for n in (50, 1000)),
]


async def measure(client: Client, workload: Workload, seconds: float, gather: Callable[[list[Any]], Any]) -> Sample:
    """Have the workers at it for about so many seconds."""
    latencies: list[float] = []
    operations = 0
    ends_at = perf_counter() + seconds

    async def work(worker: int) -> None:
        nonlocal operations
        number = worker * 7919
        step = workload.step
        while True:
            begun = perf_counter()
            done = await step(client, number)
            operations += done
            now = perf_counter()
            latencies.append(now - begun)
            if now >= ends_at:
                return
            number += 1

    cpu, begun = process_time(), perf_counter()
    await gather([work(worker) for worker in range(workload.in_flight)])
    elapsed, cpu = perf_counter() - begun, process_time() - cpu
    latencies.sort()
    count = len(latencies)
    percentiles = [latencies[min(int(count * share), count - 1)] for share in (0.5, 0.99, 0.999)]
    return Sample(operations, elapsed, cpu, (percentiles[0], percentiles[1], percentiles[2]))

"""The workloads.  Workers run at the same time, and each worker repeats the step of the workload.

One workload, for example, is 50 workers.  The step of each is a SET and a GET of the same key.  The workloads of
publish/subscribe have no steps: there a client receives messages, see `benchmarks.pubsub`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import Any, Protocol, TypeAlias

from twisted.internet.defer import Deferred, inlineCallbacks

#: Counts a message.  Its argument is the data of the message.
Count: TypeAlias = Callable[[bytes], None]
KEYS = [f"key:{number}" for number in range(10_000)]
SMALL = b"x" * 64
# The slots of these keys belong to three different primaries.
NODES = "abc"
MANY = [f"many:{number}" for number in range(100)]
# As many keys in three slots, each slot on another node.
TAGGED = [f"{{{NODES[number % 3]}}}:{number}" for number in range(100)]
BY_TAG = [TAGGED[start::3] for start in range(3)]
PIPELINE: list[tuple[str, ...]] = [
    ("SET", KEYS[number], "v") if number % 2 else ("GET", KEYS[number]) for number in range(10_000)
]
HASH = "hash"
FIELDS = {f"field:{number}": f"value:{number}" for number in range(50)}


class Client(Protocol):
    """The methods of a client that the workloads call.  Every result is awaited."""

    def set(self, key: str, value: bytes, /) -> Awaitable[Any]:
        """Store a value."""

    def get(self, key: str, /) -> Awaitable[Any]:
        """Return a value as bytes."""

    def mget(self, keys: list[str], /) -> Awaitable[Any]:
        """Return the values of the keys, in their order."""

    def hset(self, key: str, fields: dict[str, str], /) -> Awaitable[Any]:
        """Store the fields of a hash."""

    def hgetall(self, key: str, /) -> Awaitable[Any]:
        """Return all fields of a hash as a mapping."""

    def pipeline(self, commands: list[tuple[str, ...]], /) -> Awaitable[list[Any]]:
        """Send all commands, and return a reply for each."""

    def subscribe(
        self, channels: list[str], subscribers: list[Count], /, *, sharded: bool
    ) -> Awaitable[Callable[[], Awaitable[Any]]]:
        """Subscribe to the channels once for each subscriber, and call its function for each message.

        Args:
            channels: The channels.
            subscribers: A function for each subscriber.
            sharded: Whether the channels are sharded.

        Returns:
            A function that ends the subscriptions.  It is returned when the servers have acknowledged them.
        """


class WrongReply(Exception):
    """A reply is not the value that was written."""


@dataclass(frozen=True)
class Sample:
    """The figures of one client for one workload in one round."""

    operations: int
    #: Duration of the round.
    seconds: float
    #: CPU time of the client's process, with all its threads.
    cpu_seconds: float
    #: Seconds per step: the median, the 99th percentile and the 99.9th percentile.  None for publish/subscribe.
    latencies: tuple[float, float, float] | None

    @property
    def rate(self) -> float:
        """Operations per second."""
        return self.operations / self.seconds

    @property
    def seconds_each(self) -> float:
        """Seconds per operation."""
        return self.seconds / self.operations

    @property
    def cpu(self) -> float:
        """CPU seconds per operation."""
        return self.cpu_seconds / self.operations


@dataclass(frozen=True)
class Workload:
    """A step, and the number of workers that repeat it at the same time."""

    name: str
    #: How many workers there are.
    in_flight: int
    #: Writes the values that the step reads.
    prepare: Callable[[Client], Awaitable[None]]
    #: Takes the client and the number of the step, and returns how many operations the step was.  Raises WrongReply.
    step: Callable[[Client, int], Awaitable[int]]
    tls: bool = False
    #: A worker for clients that return Deferreds, instead of a coroutine that awaits each step.
    style: Callable[[Any, int, Tally], Deferred[None]] | None = None


@dataclass(frozen=True)
class PubSub:
    """Messages that a client receives.  An operation is one message that one subscriber receives."""

    name: str
    channels: list[str]
    #: How many subscribers of all channels there are in the process.
    subscribers: int = 1
    sharded: bool = False
    tls: bool = False


@dataclass(frozen=True)
class Threaded:
    """SETs and GETs, or pipelines, in threads that wait for each result.  Only clients for threads do this."""

    name: str
    #: How many threads there are.
    threads: int
    #: Whether each step is a pipeline of 10,000 commands.
    pipelined: bool = False
    tls: bool = False


AnyWorkload: TypeAlias = Workload | PubSub | Threaded


class Tally:
    """Counts what the workers of a round do.

    Args:
        ends_at: When the workers stop, in seconds of `time.perf_counter`.
    """

    def __init__(self, ends_at: float) -> None:
        self.ends_at = ends_at
        self.operations = 0
        self.latencies: list[float] = []

    def sample(self, seconds: float, cpu_seconds: float) -> Sample:
        """Return the figures of the round."""
        latencies = sorted(self.latencies)
        count = len(latencies)
        p50, p99, p999 = (latencies[min(int(count * share), count - 1)] for share in (0.5, 0.99, 0.999))
        return Sample(self.operations, seconds, cpu_seconds, (p50, p99, p999))


def _expect(condition: bool, what: str) -> None:
    if not condition:
        raise WrongReply(what)


async def _nothing(_: Client) -> None:
    """Prepare nothing."""


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
    for key in MANY + TAGGED:
        await client.set(key, SMALL)


async def _mget(client: Client, _: int) -> int:
    _expect(await client.mget(MANY) == [SMALL] * len(MANY), "MGET")
    return 1


async def _mget_three_slots(client: Client, _: int) -> int:
    _expect(await client.mget(TAGGED) == [SMALL] * len(TAGGED), "MGET")
    return 1


async def _mget_by_hand(client: Client, _: int) -> int:
    # If the client's methods are coroutines, the three commands are sent one after the other.
    sent = [client.mget(keys) for keys in BY_TAG]
    for keys, values in zip(BY_TAG, sent, strict=True):
        _expect(await values == [SMALL] * len(keys), "MGET")
    return 1


async def _fill_hash(client: Client) -> None:
    await client.hset(HASH, FIELDS)


async def _hgetall(client: Client, _: int) -> int:
    _expect(len(await client.hgetall(HASH)) == len(FIELDS), "HGETALL")
    return 1


async def _pipeline(client: Client, _: int) -> int:
    _expect(len(await client.pipeline(PIPELINE)) == len(PIPELINE), "pipeline")
    return len(PIPELINE)


def _calling_back(client: Any, number: int, tally: Tally) -> Deferred[None]:
    """Run a worker that sets and gets with plain callbacks."""
    finished: Deferred[None] = Deferred()

    def begin(number: int) -> None:
        client.set(KEYS[number % len(KEYS)], SMALL).addCallback(stored, number, perf_counter()).addErrback(fail)

    def stored(_: object, number: int, begun: float) -> None:
        client.get(KEYS[number % len(KEYS)]).addCallback(got, number, begun).addErrback(fail)

    def got(value: object, number: int, begun: float) -> None:
        _expect(value == SMALL, "GET")
        now = perf_counter()
        tally.operations += 2
        tally.latencies.append(now - begun)
        if now < tally.ends_at:
            begin(number + 1)
        else:
            finished.callback(None)

    def fail(failure: Any) -> None:
        finished.errback(failure)

    begin(number)
    return finished


@inlineCallbacks
def _in_line(client: Any, number: int, tally: Tally) -> Generator[Deferred[Any], Any, None]:
    """Run a worker that sets and gets in a generator."""
    while True:
        begun = perf_counter()
        key = KEYS[number % len(KEYS)]
        yield client.set(key, SMALL)
        value = yield client.get(key)
        _expect(value == SMALL, "GET")
        now = perf_counter()
        tally.operations += 2
        tally.latencies.append(now - begun)
        if now >= tally.ends_at:
            return
        number += 1


def set_and_get(in_flight: int) -> str:
    """Return the name of a workload of SET and GET."""
    return f"SET/GET 64 B, {in_flight} in flight"


#: How many commands are in flight in the first workloads.
IN_FLIGHT = (1, 10, 50, 1000)
AT_ONCE = "pipeline of 10,000"
TLS = f"TLS, {set_and_get(1000)}"
MEDIUM, LARGE = "GET 16 KiB, 10 in flight", "GET 1 MiB, 4 in flight"
SPREAD = "MGET of 100 keys in 100 slots, 10 in flight"
SPLIT, BY_HAND = "MGET of 100 keys in 3 slots, 10 in flight", "the same as 3 MGETs by hand, 10 in flight"
HASHES = "HGETALL of 50 fields, 50 in flight"
ONE_CHANNEL = "messages of one channel, 64 B"
FAN_OUT = "messages of one channel, 64 B, 100 subscribers"
SHARDED = "messages of 1,000 sharded channels, 64 B"

ONE_THREAD, THREADS = "SET/GET 64 B, 1 thread", "SET/GET 64 B, 32 threads"
THREAD_AT_ONCE = "pipeline of 10,000, 1 thread"

WORKLOADS: list[AnyWorkload] = [
    *(Workload(set_and_get(count), count, _nothing, _set_and_get) for count in IN_FLIGHT),
    Workload("plain callbacks, 50 in flight", 50, _nothing, _set_and_get, style=_calling_back),
    Workload("inlineCallbacks, 50 in flight", 50, _nothing, _set_and_get, style=_in_line),
    Workload(MEDIUM, 10, *_large(16 * 1024)),
    Workload(LARGE, 4, *_large(1024 * 1024)),
    Workload(SPREAD, 10, _fill_many, _mget),
    Workload(SPLIT, 10, _fill_many, _mget_three_slots),
    Workload(BY_HAND, 10, _fill_many, _mget_by_hand),
    Workload(HASHES, 50, _fill_hash, _hgetall),
    Workload(AT_ONCE, 1, _nothing, _pipeline),
    PubSub(ONE_CHANNEL, ["channel"]),
    PubSub(FAN_OUT, ["channel"], subscribers=100),
    PubSub(SHARDED, [f"channel:{number}" for number in range(1000)], sharded=True),
    Threaded(ONE_THREAD, 1),
    Threaded(THREADS, 32),
    Threaded(THREAD_AT_ONCE, 1, pipelined=True),
    *(Workload(f"TLS, {set_and_get(count)}", count, _nothing, _set_and_get, tls=True) for count in (50, 1000)),
]


async def measure(
    client: Client, workload: Workload, seconds: float, gather: Callable[[list[Any]], Awaitable[object]]
) -> Sample:
    """Run the workers for a time.

    Args:
        client: A client that is connected.
        workload: The steps to repeat, and the number of workers.
        seconds: After this time no worker starts a new step.  Each worker does at least one.
        gather: Waits for all awaitables of a list.

    Returns:
        The figures of this round.
    """
    cpu, begun = process_time(), perf_counter()
    tally = Tally(begun + seconds)
    style, step, ends_at = workload.style, workload.step, tally.ends_at

    async def awaiting(number: int) -> None:
        while True:
            begun = perf_counter()
            done = await step(client, number)
            now = perf_counter()
            tally.operations += done
            tally.latencies.append(now - begun)
            if now >= ends_at:
                return
            number += 1

    numbers = [worker * 7919 for worker in range(workload.in_flight)]
    await gather([style(client, number, tally) if style is not None else awaiting(number) for number in numbers])
    return tally.sample(perf_counter() - begun, process_time() - cpu)


async def warm_up(
    client: Client, workload: Workload, seconds: float, gather: Callable[[list[Any]], Awaitable[object]]
) -> None:
    """Open all connections of the client, then run the workers for a time."""
    for key in NODES:
        # Some clients open a connection for each command in flight.
        await gather([client.get(key) for _ in range(workload.in_flight)])
    await measure(client, workload, seconds, gather)

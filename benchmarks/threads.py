"""The workloads of clients for threads: each thread waits for the result of a step before it starts the next one."""

from __future__ import annotations

from threading import Thread
from time import perf_counter, process_time
from typing import Any, Protocol

from .workloads import KEYS, PIPELINE, SMALL, Sample, Tally, Threaded, WrongReply


class BlockingClient(Protocol):
    """The methods of a client that the workloads call.  They return results."""

    def set(self, key: str, value: bytes, /) -> Any:
        """Store a value."""

    def get(self, key: str, /) -> Any:
        """Return a value as bytes."""

    def pipeline(self) -> Any:
        """Return a queue with ``set``, ``get`` and ``execute``."""


def measure(client: BlockingClient, workload: Threaded, seconds: float) -> Sample:
    """Do a workload for some seconds.

    Args:
        client: A client that is connected.
        workload: The workload.
        seconds: After this time no thread starts a new step.  Each thread does at least one.

    Raises:
        WrongReply: A reply is not the value that was written.
    """
    begun, cpu = perf_counter(), process_time()
    tallies = [Tally(begun + seconds) for _ in range(workload.threads)]
    errors: list[Exception] = []

    def work(number: int) -> None:
        tally = tallies[number]
        place = number * 7919
        try:
            while True:
                before = perf_counter()
                tally.operations += _pipeline(client) if workload.pipelined else _set_and_get(client, place)
                now = perf_counter()
                tally.latencies.append(now - before)
                if now >= tally.ends_at:
                    return
                place += 1
        except Exception as error:
            errors.append(error)

    threads = [Thread(target=work, args=(number,)) for number in range(workload.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    elapsed, used = perf_counter() - begun, process_time() - cpu
    total = tallies[0]
    for tally in tallies[1:]:
        total.operations += tally.operations
        total.latencies += tally.latencies
    return total.sample(elapsed, used)


def _set_and_get(client: BlockingClient, number: int) -> int:
    key = KEYS[number % len(KEYS)]
    client.set(key, SMALL)
    if client.get(key) != SMALL:
        raise WrongReply(f"GET {key}")
    return 2


def _pipeline(client: BlockingClient) -> int:
    pipeline = client.pipeline()
    for words in PIPELINE:
        if len(words) == 3:
            pipeline.set(words[1], words[2])
        else:
            pipeline.get(words[1])
    if len(pipeline.execute()) != len(PIPELINE):
        raise WrongReply("pipeline")
    return len(PIPELINE)

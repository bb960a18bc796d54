"""Measures how a client receives messages.

A process of its own publishes a burst of messages (`benchmarks.publisher`).  Meanwhile the process of the client is
blocked.  Then the client receives the burst as fast as it can.  So neither the servers nor the publisher slow it down,
and all clients find the same amount of data to read.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter, process_time

from .peers import Addresses, last_line
from .workloads import SMALL, Client, Count, PubSub, Sample

# The number of messages that the client receives in a burst.
BURST = 5000
# In seconds.  The client has failed if a burst does not come in this time.
_PATIENCE = 15.0
_POLL = 0.05


class MessagesMissing(Exception):
    """A burst was not published, or not received."""


class Publisher:
    """The process that publishes.

    Args:
        workload: Has the channels.
        addresses: The addresses of all nodes.
    """

    def __init__(self, workload: PubSub, addresses: Addresses) -> None:
        channels = workload.channels * (BURST // (len(workload.channels) * workload.subscribers))
        command = "SPUBLISH" if workload.sharded else "PUBLISH"
        words = json.dumps([*addresses[0], command, channels, SMALL.decode()])
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.publisher", words],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            text=True,
            cwd=Path(__file__).parents[1],
        )

    def publish(self) -> None:
        """Publish a burst; return when the servers have processed it."""
        process = self._process
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        print(file=process.stdin, flush=True)
        if not process.stdout.readline():
            raise MessagesMissing(f"the publisher failed: {last_line(process.stderr)}")

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


class Meter:
    """Counts messages.  At the end of a burst it takes the time and the CPU time, and has the next burst published.

    Args:
        publish: Publishes a burst.
        warm_up: Seconds that do not count.
        seconds: Duration of the measurement.
    """

    def __init__(self, publish: Callable[[], None], warm_up: float, seconds: float) -> None:
        #: How many bursts were received.
        self.bursts = 0
        #: The figures; None until the end of the measurement.
        self.sample: Sample | None = None
        self._publish = publish
        self._warm_up = warm_up
        self._seconds = seconds
        # When the warm-up or the measurement began; its first burst; and the CPU time of the process at this time.
        self._begun, self._first, self._cpu = perf_counter(), 0, 0.0
        self._warm = False
        # When the client could begin to read the burst, and how long it read the earlier ones.
        self._resumed = self._reading = 0.0

    def counter(self) -> Count:
        """Return the function that counts messages.  It does not count those with wrong data."""
        left = BURST

        def count(data: bytes) -> None:
            nonlocal left
            if data == SMALL:
                left -= 1
                if not left:
                    left = BURST
                    self._end_burst()

        return count

    def start_burst(self) -> None:
        """Have a burst published."""
        self._publish()
        self._resumed = perf_counter()

    def _end_burst(self) -> None:
        now, cpu = perf_counter(), process_time()
        self.bursts += 1
        self._reading += now - self._resumed
        if not self._warm and now - self._begun >= self._warm_up:
            self._warm = True
            self._begun, self._first, self._cpu, self._reading = now, self.bursts, cpu, 0.0
        elif self._warm and now - self._begun >= self._seconds:
            self.sample = Sample((self.bursts - self._first) * BURST, self._reading, cpu - self._cpu, None)
            return
        self.start_burst()


async def receive(
    client: Client,
    workload: PubSub,
    addresses: Addresses,
    seconds: float,
    sleep: Callable[[float], Awaitable[object]],
) -> Sample:
    """Subscribe, and receive messages for a time.

    Args:
        client: A client that is connected.
        workload: The channels.
        addresses: The addresses of all nodes.
        seconds: Duration of the measurement.
        sleep: Waits for some seconds.

    Returns:
        The figures of this round.

    Raises:
        MessagesMissing: Messages were not published, did not come or had wrong data.
    """
    publisher = Publisher(workload, addresses)
    try:
        meter = Meter(publisher.publish, seconds / 5, seconds)
        subscribers = [meter.counter()] * workload.subscribers
        end = await client.subscribe(workload.channels, subscribers, sharded=workload.sharded)
        try:
            meter.start_burst()
            bursts, since = 0, perf_counter()
            while meter.sample is None:
                await sleep(_POLL)
                if meter.bursts > bursts:
                    bursts, since = meter.bursts, perf_counter()
                elif perf_counter() - since > _PATIENCE:
                    raise MessagesMissing(f"burst {bursts + 1} was not received within {_PATIENCE:g} s")
        finally:
            await end()
        return meter.sample
    finally:
        publisher.close()

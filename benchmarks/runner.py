"""The process of one client.  It reads workloads from standard input, and prints the figures of each as a line of JSON.

``python -m benchmarks.runner MODULE ADDRESSES CA FOLDER`` starts it.  MODULE is a module of `benchmarks.peers`, and
ADDRESSES are those of the nodes, as JSON.  CA is the path of the CA certificate, or empty without TLS.  FOLDER is for
files that a client needs again in the same run.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from twisted.internet.interfaces import IReactorTime

from . import threads
from .peers import Addresses, Unsupported
from .pubsub import receive
from .workloads import WORKLOADS, AnyWorkload, Client, PubSub, Threaded, Workload, measure, set_and_get, warm_up

# The cores of this process; empty where the system has no such list.
_CORES = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
_BY_NAME = {workload.name: workload for workload in WORKLOADS}


def serve(name: str, addresses: Addresses, ca: str | None, folder: Path) -> None:
    """Run one client until standard input ends.

    Args:
        name: The module of the client.
        addresses: The addresses of all nodes.
        ca: The path of the CA certificate, or None without TLS.
        folder: For files that the client needs again in the same run.
    """
    try:
        peer: Any = importlib.import_module(f"benchmarks.peers.{name}")
    except ImportError as error:
        _refuse(error)
        return
    if hasattr(peer, "measure"):
        _serve_program(peer, addresses, ca, folder)
    elif hasattr(peer, "connect_blocking"):
        _serve_threads(peer, addresses)
    elif hasattr(peer, "REACTOR"):
        _serve_twisted(peer, addresses, ca)
    else:
        _serve_asyncio(peer, addresses, ca)


def pin(workload: AnyWorkload) -> None:
    """Let the workload with one command in flight run on one core, and any other on all.

    Without this, the kernel moves the process between cores while it waits, at a cost that changes from run to run.
    """
    cores = _CORES[-1:] if workload.name == set_and_get(1) else _CORES
    for thread in Path("/proc/self/task").iterdir():
        # The clients have threads of their own, and a new thread inherits from the one that starts it.
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), cores)


def _request(line: str) -> tuple[AnyWorkload, float]:
    request = json.loads(line)
    workload = _BY_NAME[request["workload"]]
    if _CORES:
        pin(workload)
    return workload, request["seconds"]


def _error(error: BaseException) -> str:
    text = str(error) if isinstance(error, Unsupported) else f"{type(error).__name__}: {error}"
    return json.dumps({"error": text[:300]})


def _refuse(error: BaseException) -> None:
    for _ in sys.stdin:
        print(_error(error), flush=True)


async def _answer(
    client: Client,
    line: str,
    addresses: Addresses,
    gather: Callable[[list[Any]], Awaitable[None]],
    sleep: Callable[[float], Awaitable[object]],
) -> str:
    workload, seconds = _request(line)
    try:
        if isinstance(workload, PubSub):
            return json.dumps(asdict(await receive(client, workload, addresses, seconds, sleep)))
        if isinstance(workload, Threaded):
            raise Unsupported("it is not for threads")
        await workload.prepare(client)
        await warm_up(client, workload, seconds / 5, gather)
        return json.dumps(asdict(await measure(client, workload, seconds, gather)))
    except Exception as error:
        # Any error of a client is its result.
        return _error(error)


def _serve_program(peer: Any, addresses: Addresses, ca: str | None, folder: Path) -> None:
    for line in sys.stdin:
        workload, seconds = _request(line)
        try:
            if isinstance(workload, PubSub):
                raise Unsupported("it receives no messages")
            if isinstance(workload, Threaded):
                raise Unsupported("it is not for threads")
            answer = json.dumps(asdict(peer.measure(addresses, ca, workload, seconds, folder)))
        except Exception as error:
            answer = _error(error)
        print(answer, flush=True)


def _serve_threads(peer: Any, addresses: Addresses) -> None:
    try:
        client = peer.connect_blocking(addresses)
    except Exception as error:
        _refuse(error)
        return
    for line in sys.stdin:
        workload, seconds = _request(line)
        try:
            if not isinstance(workload, Threaded):
                raise Unsupported("it is measured only in threads")
            threads.measure(client, workload, seconds / 5)
            answer = json.dumps(asdict(threads.measure(client, workload, seconds)))
        except Exception as error:
            answer = _error(error)
        print(answer, flush=True)
    client.close()


def _serve_asyncio(peer: Any, addresses: Addresses, ca: str | None) -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    async def gather(workers: list[Any]) -> None:
        await asyncio.gather(*workers)

    try:
        client: Client = loop.run_until_complete(peer.connect(addresses, ca))
    except Exception as error:
        _refuse(error)
        return
    for line in sys.stdin:
        workload, _ = _request(line)
        if isinstance(workload, Workload) and workload.style is not None:
            print(_error(Unsupported("its methods return no Deferreds")), flush=True)
        else:
            print(loop.run_until_complete(_answer(client, line, addresses, gather, asyncio.sleep)), flush=True)


def _serve_twisted(peer: Any, addresses: Addresses, ca: str | None) -> None:
    peer.REACTOR()
    from twisted.internet import reactor as installed
    from twisted.internet.defer import Deferred, FirstError, gatherResults
    from twisted.internet.task import deferLater
    from twisted.internet.threads import deferToThread

    # A reactor has the methods of several interfaces; mypy takes this name for the module.
    reactor: Any = installed

    async def gather(workers: list[Any]) -> None:
        working = [w if isinstance(w, Deferred) else Deferred.fromCoroutine(w) for w in workers]
        try:
            await gatherResults(working, consumeErrors=True)
        except FirstError as error:
            cause = error.subFailure.value
            raise cause or error from None

    async def sleep(seconds: float) -> None:
        await deferLater(reactor, seconds)

    async def run() -> None:
        try:
            client: Client = await peer.connect(cast(IReactorTime, reactor), addresses, ca)
        except Exception as error:
            await deferToThread(_refuse, error)
            return
        while line := await deferToThread(sys.stdin.readline):
            print(await _answer(client, line, addresses, gather, sleep), flush=True)

    def start() -> None:
        Deferred.fromCoroutine(run()).addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(start)
    reactor.run()


if __name__ == "__main__":
    serve(sys.argv[1], [tuple(address) for address in json.loads(sys.argv[2])], sys.argv[3] or None, Path(sys.argv[4]))

"""The process of one client: takes a workload a line, measures it, and answers with a line of JSON."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from twisted.internet.interfaces import IReactorTime

from .workloads import WORKLOADS, Workload, measure, warm_up

_BY_NAME = {workload.name: workload for workload in WORKLOADS}


def serve(name: str, addresses: list[tuple[str, int]], ca: str | None) -> None:
    """Run one client until its input ends."""
    try:
        peer: Any = importlib.import_module(f"benchmarks.peers.{name}")
    except ImportError as error:
        _refuse(error)
        return
    if hasattr(peer, "measure"):
        _serve_program(peer, addresses, ca)
    elif hasattr(peer, "REACTOR"):
        _serve_twisted(peer, addresses, ca)
    else:
        _serve_asyncio(peer, addresses, ca)


def _request(line: str) -> tuple[Workload, float]:
    request = json.loads(line)
    return _BY_NAME[request["workload"]], request["seconds"]


def _error(error: BaseException) -> str:
    return json.dumps({"error": f"{type(error).__name__}: {error}"[:300]})


def _refuse(error: BaseException) -> None:
    for _ in sys.stdin:
        print(_error(error), flush=True)


async def _answer(client: Any, line: str, gather: Callable[[list[Any]], Any]) -> str:
    workload, seconds = _request(line)
    try:
        await workload.prepare(client)
        await warm_up(client, workload, seconds / 5, gather)
        return json.dumps(asdict(await measure(client, workload, seconds, gather)))
    except Exception as error:
        # Whatever a client comes to is its result.
        return _error(error)


def _serve_program(peer: Any, addresses: list[tuple[str, int]], ca: str | None) -> None:
    for line in sys.stdin:
        try:
            answer = json.dumps(asdict(peer.measure(addresses, ca, *_request(line))))
        except Exception as error:
            answer = _error(error)
        print(answer, flush=True)


def _serve_asyncio(peer: Any, addresses: list[tuple[str, int]], ca: str | None) -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    async def gather(workers: list[Any]) -> None:
        await asyncio.gather(*workers)

    try:
        client = loop.run_until_complete(peer.connect(addresses, ca))
    except Exception as error:
        _refuse(error)
        return
    for line in sys.stdin:
        if _request(line)[0].style is not None:
            print(_error(TypeError("its methods return no Deferreds")), flush=True)
        else:
            print(loop.run_until_complete(_answer(client, line, gather)), flush=True)


def _serve_twisted(peer: Any, addresses: list[tuple[str, int]], ca: str | None) -> None:
    peer.REACTOR()
    from twisted.internet import reactor as installed
    from twisted.internet.defer import Deferred, FirstError, gatherResults
    from twisted.internet.threads import deferToThread

    reactor: IReactorTime = installed

    async def gather(workers: list[Any]) -> None:
        working = [w if isinstance(w, Deferred) else Deferred.fromCoroutine(w) for w in workers]
        try:
            await gatherResults(working, consumeErrors=True)
        except FirstError as error:
            raise error.subFailure.value from None

    async def run() -> None:
        try:
            client = await peer.connect(reactor, addresses, ca)
        except Exception as error:
            await deferToThread(_refuse, error)
            return
        while line := await deferToThread(sys.stdin.readline):
            print(await _answer(client, line, gather), flush=True)

    def start() -> None:
        Deferred.fromCoroutine(run()).addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(start)
    reactor.run()


if __name__ == "__main__":
    serve(sys.argv[1], [tuple(address) for address in json.loads(sys.argv[2])], sys.argv[3] or None)

"""The process of one client: takes a workload a line, measures it, and answers with a line of JSON."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from .workloads import WORKLOADS, measure

_BY_NAME = {workload.name: workload for workload in WORKLOADS}


def serve(name: str, addresses: list[tuple[str, int]], ca: str | None) -> None:
    """Run one client until its input ends."""
    peer = importlib.import_module(f"benchmarks.peers.{name}")
    if getattr(peer, "REACTOR", None) is None:
        _serve_asyncio(peer, addresses, ca)
    else:
        _serve_twisted(peer, addresses, ca)


async def _answer(client: Any, line: str, gather: Callable[[list[Any]], Any]) -> str:
    request = json.loads(line)
    workload = _BY_NAME[request["workload"]]
    try:
        await workload.prepare(client)
        await measure(client, workload, request["seconds"] / 5, gather)
        return json.dumps(asdict(await measure(client, workload, request["seconds"], gather)))
    except Exception as error:
        # Whatever a client comes to is its result.
        return json.dumps({"error": f"{type(error).__name__}: {error}"[:300]})


def _serve_asyncio(peer: Any, addresses: list[tuple[str, int]], ca: str | None) -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    async def gather(coroutines: list[Any]) -> None:
        await asyncio.gather(*coroutines)

    client = loop.run_until_complete(peer.connect(addresses, ca))
    for line in sys.stdin:
        print(loop.run_until_complete(_answer(client, line, gather)), flush=True)


def _serve_twisted(peer: Any, addresses: list[tuple[str, int]], ca: str | None) -> None:
    peer.REACTOR()
    from twisted.internet import reactor as installed
    from twisted.internet.defer import Deferred, gatherResults
    from twisted.internet.threads import deferToThread

    reactor: Any = installed

    async def gather(coroutines: list[Any]) -> None:
        await gatherResults([Deferred.fromCoroutine(coroutine) for coroutine in coroutines])

    async def run() -> None:
        client = await peer.connect(reactor, addresses, ca)
        while line := await deferToThread(sys.stdin.readline):
            print(await _answer(client, line, gather), flush=True)

    def failed(failure: Any) -> None:
        print(json.dumps({"error": failure.getErrorMessage()}), flush=True)

    def start() -> None:
        Deferred.fromCoroutine(run()).addErrback(failed).addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(start)
    reactor.run()


if __name__ == "__main__":
    serve(sys.argv[1], [tuple(address) for address in json.loads(sys.argv[2])], sys.argv[3] or None)

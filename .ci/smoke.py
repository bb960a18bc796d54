"""A smoke test of the installed package.  `release.py` runs it in an environment that has nothing else."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.internet.task import react
from twisted.internet.threads import deferToThread

import gencmd
import txvalkeycluster
from txvalkeycluster import connect
from txvalkeycluster.testing import LocalCluster


def run(*words: str) -> str:
    """Run a program of this environment; return what it prints."""
    return subprocess.run([sys.executable, "-I", "-m", *words], check=True, capture_output=True, text=True).stdout


def expect(found: Any, expected: Any) -> None:
    """Fail unless both are the same."""
    if found != expected:
        sys.exit(f"found {found!r}, expected {expected!r}")


def twistd(*words: str) -> list[str]:
    """Return a command line of twistd in this environment."""
    return [str(Path(sys.executable).with_name("twistd")), *words]


def use_the_proxy(url: str) -> None:
    """Start the proxy with several processes, use it as a single server, and stop it."""
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
    options = ("--cluster", url, "--listen", f"tcp:{port}:interface=127.0.0.1", "--workers", "2")
    with subprocess.Popen(twistd("-n", "--pidfile=", "--logfile=-", "valkey-proxy", *options)) as proxy:
        try:
            while True:
                try:
                    client = socket.create_connection(("127.0.0.1", port), 30)
                    break
                except ConnectionRefusedError:
                    expect(proxy.poll(), None)
                    time.sleep(0.05)
            with client, client.makefile("rb") as replies:
                client.sendall(b"SET color blue\r\nGET color\r\n")
                expect([replies.readline() for _ in range(3)], [b"+OK\r\n", b"$4\r\n", b"blue\r\n"])
        finally:
            proxy.terminate()


async def use_a_cluster(reactor: Any) -> None:
    """Start a cluster, use it in the ways that need every part of the package, and stop it."""
    cluster = LocalCluster(reactor)
    await cluster.start()
    try:
        client = await connect(reactor, cluster.url, encoding="utf-8")
        await client.mset({"one": "1", "two": "2", "three": "3"})
        expect(await client.mget("one", "two", "three"), ["1", "2", "3"])
        expect(await client.pipeline().incr("a").incr("b").execute(), [1, 1])
        expect(await client.transaction().incr("{k}a").incr("{k}b").execute(), [1, 1])
        print(run("txvalkeycluster", "topology", cluster.url))
        await deferToThread(use_the_proxy, cluster.url)
        await client.close()
    finally:
        await cluster.stop()


def main(expected_version: str, definitions: str) -> None:
    """Check where the package is and which version it has, then use it."""
    expect(version("txvalkeycluster"), expected_version)
    for module in (txvalkeycluster, gencmd):
        assert module.__file__ is not None
        expect(Path(module.__file__).is_relative_to(sys.prefix), True)
    expect(Path(txvalkeycluster.__file__).with_name("py.typed").exists(), True)
    print(run("gencmd", definitions, "-o", "counters", "--class", "Counters"))
    sys.path.insert(0, "")
    from counters.methods import Counters  # type: ignore[import-not-found]

    expect(Counters.ct_sum.__annotations__["return"], "Deferred[float]")
    listed = subprocess.run(twistd("--help"), check=True, capture_output=True, text=True).stdout
    expect([line.split()[0] for line in listed.splitlines() if "valkey" in line], ["valkey-proxy"])
    react(lambda reactor: ensureDeferred(use_a_cluster(reactor)))


if __name__ == "__main__":
    main(*sys.argv[1:])

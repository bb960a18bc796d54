"""The clients.  Each module gives one client the methods of `benchmarks.workloads.Client`.

A module has one of these:

- ``connect(addresses, ca)``: a coroutine function that returns a client on asyncio.
- ``REACTOR()`` and ``connect(reactor, addresses, ca)``: a client on Twisted.  ``REACTOR`` installs the reactor.
- ``connect_blocking(addresses)``: a client for threads, see `benchmarks.threads`.
- ``measure(addresses, ca, workload, seconds, folder)``: a program that does a whole workload by itself.  ``folder`` is
  for files that it needs again in the same run.

``addresses`` are those of the nodes.  ``ca`` is the path of the CA certificate, or None without TLS.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

Addresses: TypeAlias = list[tuple[str, int]]

#: The name of each client, by the name of its module.
NAMES = {
    "floor": "bare Twisted loop",
    "ours": "txvalkeycluster",
    "ours_pure": "txvalkeycluster, only Python",
    "ours_pure_reactor": "txvalkeycluster, only Python, its reactor",
    "ours_reactor": "txvalkeycluster, its reactor",
    "ours_metrics": "txvalkeycluster, metrics",
    "ours_tracing": "txvalkeycluster, tracing",
    "ours_asyncio": "txvalkeycluster, asyncio",
    "ours_iterator": "txvalkeycluster, iterator",
    "ours_uvloop": "txvalkeycluster, uvloop",
    "ours_threads": "txvalkeycluster, threads",
    "valkey_py": "valkey-py",
    "redis_py": "redis-py",
    "redis_py_threads": "redis-py, threads",
    "coredis_": "coredis",
    "glide_": "valkey-glide",
    "txredisapi_": "txredisapi",
    "libvalkey_": "libvalkey (C)",
    "valkey_benchmark": "valkey-benchmark",
}


#: The clients that only do a SET and a GET: each command has one report.
OBSERVED = ("ours_metrics", "ours_tracing")
#: The clients for threads.  They do only the workloads of threads, which no other client does.
FOR_THREADS = ("ours_threads", "redis_py_threads")


class Unsupported(Exception):
    """A client cannot do a workload, or cannot run on this machine."""


def name_of(peer: str) -> str:
    """Return the name of a client for readers; a module without one keeps its own name."""
    return NAMES.get(peer, peer)


def short_name(peer: str) -> str:
    """Return the name of a client on the command line."""
    return peer.strip("_")


def last_line(lines: Iterable[str], otherwise: str = "it printed nothing") -> str:
    """Return the last line that a program printed, usually its error; ``otherwise`` if it printed none."""
    printed = [line.strip() for line in lines if line.strip()]
    return printed[-1] if printed else otherwise


def find(word: str) -> str:
    """Return the module of a client.

    Args:
        word: The name on the command line, the usual name, or the name of the module.

    Raises:
        LookupError: There is no such client.
    """
    for peer, name in NAMES.items():
        if word in (short_name(peer), name, peer):
            return peer
    raise LookupError(f"there is no client {word!r}; the clients are {', '.join(map(short_name, NAMES))}")

"""The asynchronous example program of libvalkeycluster, written with this library.

It sends four commands at once, without waiting for the replies.  Callbacks print the replies, and a listener prints
which connections begin and end.  ``close()`` waits for the replies.  Where the order of the steps is more important
than speed, coroutines are easier to read than callbacks: see the README.
"""

from __future__ import annotations

import os

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import react
from twisted.python.failure import Failure

from txvalkeycluster import ClusterClient, Event, NodeConnected, NodeConnectFailed, NodeDisconnected


def replied(reply: object, name: str) -> None:
    """Print a reply.  Its name stands for the ``privdata`` of C."""
    print(f"{name}: {reply}")


def failed(failure: Failure, name: str) -> None:
    """Print an error."""
    print(f"{name} failed: {failure.getErrorMessage()}")


def noticed(event: Event) -> None:
    """Print what happens to connections."""
    match event:
        case NodeConnected(address=address):
            print(f"connected to {address}")
        case NodeConnectFailed(reason=reason):
            print(f"Error: {reason}")
        case NodeDisconnected(address=address, reason=reason, clean=clean):
            print(f"disconnected from {address}" if clean else f"Error: {reason}")


def main(reactor: IReactorTime) -> Deferred[None]:
    """Run the example."""
    url = os.environ.get("VALKEY_URL", "valkey://127.0.0.1:7000")
    client = ClusterClient(reactor, url, encoding="utf-8")
    client.add_listener(noticed)
    for key, value in (("key", "value"), ("key2", "value2")):
        client.set(key, value).addCallbacks(replied, failed, callbackArgs=(f"SET {key}",), errbackArgs=(f"SET {key}",))
        client.get(key).addCallbacks(replied, failed, callbackArgs=(f"GET {key}",), errbackArgs=(f"GET {key}",))
    return client.close()


if __name__ == "__main__":
    react(main)

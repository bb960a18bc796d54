"""Processes that fork: the child does not use the connections of the parent, and the parent is not disturbed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, ClassVar

from twisted.trial.unittest import SkipTest

from tests.cluster.base import ClusterTests
from tests.cluster.command_line import output_of

# The reactor of the child runs on for a while, with the sockets that it has inherited.
WITH_CONNECTIONS = """
import json, os, sys
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from txvalkeycluster import ClientClosed, connect

async def main():
    client = await connect(reactor, sys.argv[1], **json.loads(sys.argv[2]))
    await client.set("forked", 0)
    counted = [await client.incr("forked") for _ in range(10)]
    in_flight = [client.incr("forked") for _ in range(100)]
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        errors = []
        for _ in range(3):
            try:
                await client.incr("forked")
            except ClientClosed as error:
                errors.append(str(error))
        await deferLater(reactor, 0.1)
        await client.close()
        os.write(write, json.dumps([errors, client.options.random.random()]).encode())
        os._exit(0)
    os.close(write)
    counted += await gatherResults(in_flight)
    while not os.waitpid(child, os.WNOHANG)[0]:
        counted.append(await client.incr("forked"))
        await deferLater(reactor, 0.001)
    errors, drawn = json.loads(os.read(read, 10000))
    in_order = counted == list(range(1, len(counted) + 1))
    await client.close()
    print(json.dumps([errors, in_order, drawn != client.options.random.random()]))

Deferred.fromCoroutine(main()).addErrback(lambda failure: print(failure)).addBoth(lambda _: reactor.stop())
reactor.run()
"""
# Like a daemon: the parent ends, and the child runs on.
WITHOUT_CONNECTIONS = """
import json, os, sys
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from txvalkeycluster import ClusterClient

client = ClusterClient(reactor, sys.argv[1], encoding="utf-8", **json.loads(sys.argv[2]))

async def main():
    await client.set("child", "was here")
    print(json.dumps(await client.get("child")), flush=True)
    await client.close()

child = os.fork()
if child:
    os._exit(os.waitpid(child, 0)[1])
reactor.callWhenRunning(
    lambda: Deferred.fromCoroutine(main()).addErrback(lambda failure: print(failure)).addBoth(lambda _: reactor.stop())
)
reactor.run()
"""


class ForkTests(ClusterTests):
    def options_of_client(self) -> dict[str, Any]:
        """Return the options of the client, beside its URL."""
        return {}

    async def output_of(self, program: str) -> Any:
        """Run a program with the URL of the cluster, and return the JSON that it prints."""
        if not hasattr(os, "fork"):
            raise SkipTest("this system does not fork")
        words = ["-c", program, self.cluster.url, json.dumps(self.options_of_client())]
        out, err, status = await output_of(words, os.environ)
        self.assertEqual(status, 0, err)
        return json.loads(out)

    async def test_a_client_with_connections(self) -> None:
        """Commands fail in the child, and tell it to make a new client.  The parent gets all of its replies."""
        errors, in_order, reseeded = await self.output_of(WITH_CONNECTIONS)
        self.assertEqual(len(errors), 3)
        self.assertIn("make a new client", errors[0])
        self.assertTrue(in_order)
        self.assertTrue(reseeded)

    async def test_a_client_without_connections(self) -> None:
        """A client without connections works in the child."""
        self.assertEqual(await self.output_of(WITHOUT_CONNECTIONS), "was here")


class TLSForkTests(ForkTests):
    """The same tests over TLS."""

    options: ClassVar[dict[str, Any]] = {"tls": "auto"}

    def options_of_client(self) -> dict[str, Any]:
        authority = Path(self.mktemp())
        assert self.cluster.certificates is not None
        authority.write_bytes(self.cluster.certificates.authority)
        return {"trust_root": str(authority.absolute())}

"""Event loops and the end of programs: each test runs a program in a process of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet.utils import getProcessOutputAndValue

from tests.cluster.base import ClusterTests

_ROOT = Path(__file__).parents[2]
_BEGIN = """
import asyncio, gc, os, sys, threading, warnings
from txvalkeycluster import aio
from txvalkeycluster.aio import loops
url = sys.argv[1]
"""
# A client that is used and never closed.
_UNCLOSED = """
async def main():
    global kept
    kept = await aio.connect(url)
    await kept.set("key", "1")
"""


class Programs(ClusterTests):
    async def run_program(
        self, program: str, *options: str, host: str = "127.0.0.1", environment: dict[str, str] | None = None
    ) -> tuple[str, str]:
        """Run a program; return its output and what it wrote to stderr.  It must end with status 0."""
        words = [*options, "-c", _BEGIN + program, f"valkey://{host}:{self.cluster.addresses[0].port}"]
        running = getProcessOutputAndValue(  # type: ignore[no-untyped-call]
            sys.executable, words, env={**os.environ, **(environment or {})}, path=str(_ROOT)
        )
        out, error, code = await running
        self.assertEqual(code, 0, (out + error).decode())
        return out.decode(), error.decode()


class ProgramTests(Programs):
    options: ClassVar[dict[str, Any]] = {"primaries": 1, "replicas": 0}

    async def test_not_closed(self) -> None:
        """A program that does not close its client ends, also after look-ups of host names, with a ResourceWarning."""
        for host in ("127.0.0.1", "localhost"):
            for end in ("asyncio.run(main())", "asyncio.run(main()); del kept; gc.collect()"):
                out, error = await self.run_program(_UNCLOSED + end, host=host)
                self.assertEqual((out, error), ("", ""))
        _, error = await self.run_program(_UNCLOSED + "asyncio.run(main()); del kept", "-W", "always")
        self.assertIn("was garbage-collected without close() or abort()", error)

    async def test_stopped_in_the_middle(self) -> None:
        """A program whose commands are pending at its end ends without errors."""
        program = """
async def main():
    client = await aio.connect(url)
    tasks = [asyncio.create_task(client.blpop("list", 0)) for _ in range(3)]
    replies = [client.incr("n") for _ in range(3)]
    await asyncio.sleep(0)
asyncio.run(main())
"""
        self.assertEqual(await self.run_program(program), ("", ""))
        # Even without an orderly end of the loop.
        program = """
loop = asyncio.new_event_loop()
client = loop.run_until_complete(aio.connect(url))
async def use():
    await client.ping()
loop.run_until_complete(use())
loop.close()
"""
        self.assertEqual(await self.run_program(program), ("", ""))

    async def test_exit_in_a_task(self) -> None:
        """sys.exit() in a task that has got a result ends the program in time, and closes the client."""
        program = """
async def main():
    async with await aio.connect(url) as client:
        async def leave():
            await client.incr("n")
            sys.exit("left")
        others = [asyncio.create_task(client.incr("n")) for _ in range(5)]
        async with asyncio.TaskGroup() as group:
            group.create_task(leave())
            group.create_task(client.blpop("list", 0))

try:
    asyncio.run(asyncio.wait_for(main(), 5))
except SystemExit as error:
    print(error, len(loops._uses))
"""
        # asyncio itself reports the tasks that sys.exit() has ended.
        out, _ = await self.run_program(program)
        self.assertEqual(out, "left 0\n")

    async def test_forgotten_loops(self) -> None:
        """Loops that ended before their clients leave no files and no reactors."""
        program = (
            _UNCLOSED
            + """
asyncio.run(main())
files = []
for _ in range(5):
    asyncio.run(main())
    gc.collect()
    files.append(len(os.listdir("/proc/self/fd")))
print(len(loops._uses), files[0] == files[-1])
"""
        )
        self.assertEqual(await self.run_program(program), ("1 True\n", ""))

    async def test_run_twice(self) -> None:
        """asyncio.run() can be called often, in debug mode too, and the old client says what is wrong with it."""
        program = """
async def main():
    async with await aio.connect(url) as client:
        return client, await client.incr("n")

async def again(client):
    try:
        client.get("n")
    except RuntimeError as error:
        print(error)

client, value = asyncio.run(main())
print([value, asyncio.run(main())[1], asyncio.run(main(), debug=True)[1]])
asyncio.run(again(client))
print("twisted.internet.reactor" in sys.modules)
"""
        out, error = await self.run_program(program)
        first, second, third = out.splitlines()
        self.assertEqual((first, third, error), ("[1, 2, 3]", "False", ""))
        self.assertIn("in another event loop", second)
        program += "print(asyncio.run(asyncio.sleep(0)))\n"
        _, error = await self.run_program(program, environment={"PYTHONASYNCIODEBUG": "1"})
        self.assertEqual([line for line in error.splitlines() if "Executing" not in line], [])

    async def test_two_threads(self) -> None:
        """Two loops in two threads have clients at the same time."""
        program = """
results = []

async def main(name):
    async with await aio.connect(url) as client:
        for _ in range(200):
            await asyncio.gather(*(client.incr(f"{name}{n}") for n in range(10)))
        results.append(await client.get(f"{name}0"))

threads = [threading.Thread(target=lambda name=name: asyncio.run(main(name))) for name in "abc"]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(results, loops._uses)
"""
        self.assertEqual(await self.run_program(program), ("[b'200', b'200', b'200'] {}\n", ""))

    async def test_outside_of_a_coroutine(self) -> None:
        """A client that is made outside of a coroutine raises."""
        program = """
try:
    aio.AsyncClient(url)
except RuntimeError as error:
    print(error)
"""
        expected = "no event loop is running: make the client in a coroutine\n"
        self.assertEqual(await self.run_program(program), (expected, ""))

    async def test_install(self) -> None:
        """install() makes the global reactor run on a loop, before it runs or while it runs, and only once."""
        later = """
aio.install()
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import deferLater

async def main():
    async with await aio.connect(url) as client:
        print(await client.incr("n"))
    reactor.stop()

reactor.callWhenRunning(lambda: asyncio.ensure_future(main()))
reactor.run()
print(type(reactor).__name__)
"""
        self.assertEqual(await self.run_program(later), ("1\nAsyncioSelectorReactor\n", ""))
        while_it_runs = """
async def main():
    aio.install()
    from twisted.internet import reactor, threads
    loop = asyncio.get_running_loop()
    print(await threads.deferToThread(lambda: 5).asFuture(loop), reactor.running)
    address = await reactor.resolve("localhost").asFuture(loop)
    print(address)
    async with await aio.connect(url) as client:
        print(await client.incr("n"))
    try:
        aio.install()
    except RuntimeError as error:
        print(error)

asyncio.run(main())
"""
        out, error = await self.run_program(while_it_runs)
        self.assertEqual(out.splitlines()[:3], ["5 True", "127.0.0.1", "2"])
        self.assertIn("call install() before", out.splitlines()[3])
        self.assertEqual(error, "")
        too_late = """
from twisted.internet import reactor
try:
    aio.install()
except RuntimeError as error:
    print(error)
"""
        out, error = await self.run_program(too_late)
        self.assertIn("EPollReactor already", out)
        self.assertEqual(error, "")
        uvloop = later.replace("aio.install()", "import uvloop; aio.install(uvloop.new_event_loop())")
        self.assertEqual(await self.run_program(uvloop), ("3\nAsyncioSelectorReactor\n", ""))

    async def test_uvloop(self) -> None:
        """uvloop.run() works, and a client that is not closed does no harm."""
        program = _UNCLOSED + "import uvloop; uvloop.run(main())"
        self.assertEqual(await self.run_program(program), ("", ""))

    async def test_the_plain_client(self) -> None:
        """A Deferred of the plain client that a task awaits says what to do."""
        program = """
aio.install()
from twisted.internet import reactor
import txvalkeycluster

async def main():
    client = txvalkeycluster.ClusterClient(reactor, url)
    try:
        await client.get("key")
    except RuntimeError as error:
        print(error)
    await client.close().asFuture(asyncio.get_running_loop())
    reactor.stop()

reactor.callWhenRunning(lambda: asyncio.ensure_future(main()))
reactor.run()
"""
        out, _ = await self.run_program(program)
        self.assertIn("Task got bad yield", out)
        self.assertIn("use txvalkeycluster.aio", out)


class TLSTests(Programs):
    options: ClassVar[dict[str, Any]] = {"primaries": 1, "replicas": 0, "tls": "auto"}

    async def test_tls(self) -> None:
        """TLS works without Twisted's global reactor, by address and by name."""
        ca = Path(self.mktemp()).absolute()
        ca.write_bytes(self.cluster.options["trust_root"])
        program = f"""
async def main():
    async with await aio.connect(url.replace("valkey:", "valkeys:"), trust_root={str(ca)!r}) as client:
        await asyncio.gather(*(client.set(f"key{{n}}", "x" * 10000) for n in range(100)))
        print(len(await client.get("key1")))

asyncio.run(main())
print("twisted.internet.reactor" in sys.modules)
"""
        self.assertEqual(await self.run_program(program), ("10000\nFalse\n", ""))
        # HostnameEndpoint of Twisted imports the global reactor, but does not use it.
        self.assertEqual(await self.run_program(program, host="localhost"), ("10000\nTrue\n", ""))

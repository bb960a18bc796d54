"""SIGINT and SIGTERM end every command at once and silently, with everything that it has started."""

from __future__ import annotations

import json
import os
import signal
from functools import partial

from twisted.internet import reactor

from tests.cluster.command_line import CommandLine, Running, accepts
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE, LocalCluster, ScriptedCluster, Sentinel

BOTH = (signal.SIGINT, signal.SIGTERM)
# A command whose work is inserted.  It does not end before the file of its argument exists.
PROGRAM = """
import os, sys, time
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from txvalkeycluster.cli.running import run

async def close(reactor):
    print("closing", flush=True)
    while not os.path.exists(sys.argv[1]):
        await deferLater(reactor, 0.01)
    print("closed", flush=True)

async def main(reactor, stack):
    stack.push_async_callback(close, reactor)
    print("begun", flush=True)
    {work}

run(main)
"""
STUBBORN = """
import signal
signal.signal(signal.SIGTERM, lambda *_: print("asked", flush=True))
print("ready", flush=True)
while True:
    signal.pause()
"""


class SignalTests(CommandLine):
    async def expect_end(self, running: Running, number: signal.Signals = signal.SIGINT) -> None:
        """Send the signal.  Check that the command ends with the exit status for it, and that nothing is left."""
        ports = self.ports()
        running.process.send_signal(number)
        self.assertEqual(await running.ended(), 128 + number, running.err)
        self.assertEqual(running.err, "")
        self.assertEqual(self.folders(), [])
        self.assertEqual([port for port in ports if accepts(port)], [])

    async def test_demo_while_it_starts(self) -> None:
        """The demo is interrupted while its cluster starts."""
        for number in BOTH:
            demo = self.start_command("demo")
            await demo.until(self.ports)
            await self.expect_end(demo, number)

    async def test_demo_under_load(self) -> None:
        """The demo is interrupted while its workers run and it kills a primary."""
        demo = self.start_command("demo", "--seconds=10")
        await demo.until_printed("kill a primary")
        await self.expect_end(demo)

    async def test_demo_on_a_cluster_of_the_user(self) -> None:
        """An interrupted demo removes its keys from the cluster of the user."""
        cluster = LocalCluster(reactor)
        self.addCleanup(cluster.stop)
        await cluster.start()
        demo = self.start_command("demo", f"--url={cluster.url}", "--seconds=100000")
        while not await cluster.ask(cluster.servers[0], "DBSIZE"):
            await demo.until(lambda: True)
        await self.expect_end(demo)
        self.assertEqual([await cluster.ask(server, "DBSIZE") for server in cluster.servers[:3]], [0, 0, 0])

    async def test_a_cluster_in_the_foreground(self) -> None:
        """A cluster in the foreground is interrupted while it starts, and when it is up."""
        for number in BOTH:
            holder = self.start_command("cluster", "start", "--foreground")
            await holder.until(self.ports)
            await self.expect_end(holder, number)
            holder = self.start_command("cluster", "start", "--foreground")
            await holder.until_printed("valkey://")
            await self.expect_end(holder, number)
            self.assertEqual(list(self.runtime.glob("*/*")), [])

    async def test_a_cluster_that_goes_to_the_background(self) -> None:
        """If ``cluster start`` is interrupted, the background process ends with it."""
        for number in BOTH:
            start = self.start_command("cluster", "start")
            await start.until(self.ports)
            await self.expect_end(start, number)
            self.assertEqual(await self.succeed("cluster", "status"), "no cluster is running\n")

    async def test_stop_that_waits(self) -> None:
        """``cluster stop`` is interrupted while it waits for a process that does not end."""
        stubborn = self.start_python("-c", STUBBORN)
        await stubborn.until_printed("ready")
        record = self.runtime / f"txvalkeycluster-{os.getuid()}" / "default.json"
        record.parent.mkdir(mode=0o700)
        record.write_text(json.dumps({"pid": stubborn.process.pid, "url": "valkey://h", "servers": 1}))
        for asked, number in enumerate(BOTH, 1):
            stop = self.start_command("cluster", "stop")
            await stubborn.until_printed("asked\n" * asked)
            await self.expect_end(stop, number)

    async def test_topology_of_silent_nodes(self) -> None:
        """``topology`` is interrupted while it waits for the handshake or for INFO."""
        cluster = ScriptedCluster(reactor)
        await cluster.start()
        self.addCleanup(cluster.stop)
        asked: set[bytes] = set()

        def script(silent: bytes, node: object, words: list[bytes], connection: object) -> bytes | Sentinel:
            asked.add(words[0])
            return SILENCE if words[0] == silent else DEFAULT_REPLY

        for silent in (b"HELLO", b"INFO"):
            asked.clear()
            for node in cluster.nodes:
                node.script = partial(script, silent)
            url = f"{cluster.url}?timeout=1000&connect_timeout=1000&unresponsive_after=1000"
            topology = self.start_command("topology", url)
            await topology.until(partial(asked.__contains__, silent))
            await self.expect_end(topology)

    async def test_signals_during_clean_up(self) -> None:
        """Signals do not interrupt the clean-up, and the exit status is that of the first signal."""
        may_close = self.temporary / "may-close"
        for work, signals in (("return 1", 1), ("await deferLater(reactor, 1000)", 2)):
            program = self.start_python("-c", PROGRAM.format(work=work), str(may_close))
            await program.until_printed("begun")
            if signals == 2:
                program.process.send_signal(signal.SIGINT)
            await program.until_printed("closing")
            program.process.send_signal(signal.SIGINT if signals == 1 else signal.SIGTERM)
            may_close.touch()
            self.assertEqual((await program.ended(), program.err), (130, ""))
            self.assertEqual(program.out, "begun\nclosing\nclosed\n")
            may_close.unlink()

    async def test_commands_that_hang(self) -> None:
        """A command ends even if its clean-up hangs, its reactor is blocked, or one of its threads does not end."""
        for work in ("return 1", "while True: pass", "await deferToThread(time.sleep, 1000)"):
            program = self.start_python("-c", PROGRAM.format(work=work), "/none")
            await program.until_printed("begun")
            program.process.send_signal(signal.SIGTERM)
            self.assertEqual((await program.ended(), program.err), (143, ""))

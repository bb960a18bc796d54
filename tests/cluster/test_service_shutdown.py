"""A service under the real twistd: SIGTERM with commands in flight, and a daemon that forks with the client."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

from twisted.internet import reactor

from tests.cluster.command_line import CommandLine, pause
from txvalkeycluster.testing import LocalCluster

TWISTD = ("-c", "from twisted.scripts.twistd import run; run()")
IN_FLIGHT, BLOCKED = 1000, 20
# How long twistd itself may take to end, on a machine that is busy with other tests.
MARGIN = 20.0

# Keeps 1,000 commands in flight, and 20 pops blocked.  At the end it writes what became of each, in the file OUTCOME.
LOAD = f"""
import json, os
from twisted.application.service import Application, Service
from twisted.internet import reactor
from txvalkeycluster import ClusterService

class Load(Service):
    def __init__(self, cluster):
        self.cluster = cluster
        self.sent = 0
        self.in_flight = set()
        self.acknowledged, self.errors, self.popped, self.at_stop = [], [], [], None

    def startService(self):
        super().startService()
        self.cluster.whenReady().addCallback(self.begin)
        reactor.addSystemEventTrigger("after", "shutdown", self.write)

    def begin(self, client):
        self.pops = [client.blpop(f"list:{{n}}", 0).addBoth(self.popped.append) for n in range({BLOCKED})]
        for _ in range({IN_FLIGHT}):
            self.send()
        print("begun")

    def send(self):
        number, self.sent = self.sent, self.sent + 1
        self.in_flight.add(number)
        done = self.cluster.client.set(f"key:{{number}}", number)
        done.addCallback(lambda _: self.acknowledged.append(number))
        done.addErrback(lambda failure: self.errors.append(type(failure.value).__name__))
        done.addCallback(lambda _: self.ended(number))

    def ended(self, number):
        self.in_flight.remove(number)
        if len(self.acknowledged) == 5000:
            print("busy")
        if self.running and not self.errors:
            self.send()

    def stopService(self):
        super().stopService()
        self.at_stop = len(self.in_flight), {BLOCKED} - len(self.popped)

    def write(self):
        outcome = {{
            "sent": self.sent, "at_stop": self.at_stop, "left": len(self.in_flight), "errors": self.errors,
            "popped": [type(each.value).__name__ if each else each for each in self.popped],
            "acknowledged": self.acknowledged,
        }}
        with open(os.environ["OUTCOME"], "w") as file:
            json.dump(outcome, file)

application = Application("load")
cluster = ClusterService(reactor, os.environ["VALKEY_URL"], stop_timeout=float(os.environ["STOP_TIMEOUT"]))
Load(cluster).setServiceParent(cluster)
cluster.setServiceParent(application)
"""

# Writes a key every 0.01 s.  The client is made before twistd forks.
DAEMON = """
import os
from twisted.application.internet import TimerService
from twisted.application.service import Application
from twisted.internet import reactor
from txvalkeycluster import ClusterService

made_in = os.getpid()
application = Application("daemon")
cluster = ClusterService(reactor, os.environ["VALKEY_URL"])
client = cluster.client

async def write():
    assert cluster.client is client
    await client.hset("daemon", {"made_in": made_in, "runs_in": os.getpid()})

TimerService(0.01, write).setServiceParent(cluster)
cluster.setServiceParent(application)
"""


class TwistdTests(CommandLine):
    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        self.cluster = LocalCluster(reactor, replicas=0)
        self.addCleanup(self.cluster.stop)
        await self.cluster.start()
        self.client = self.cluster.client(encoding="utf-8")
        self.addCleanup(self.client.abort)
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.outcome = self.folder / "outcome.json"
        self.environment |= {
            "VALKEY_URL": self.cluster.url,
            "OUTCOME": str(self.outcome),
            "PYTHONUNBUFFERED": "1",
        }

    async def blocked(self) -> int:
        """Return how many clients are blocked on the servers."""
        texts = [await self.cluster.ask(server, "INFO", "clients") for server in self.cluster.servers]
        return sum(int(number) for text in texts for number in re.findall(rb"blocked_clients:(\d+)", text))

    def write_tac(self, text: str) -> str:
        tac = self.folder / "service.tac"
        tac.write_text(text)
        return f"--python={tac}"

    async def stopped_under_load(self, stop_timeout: float, *, answering: bool) -> dict[str, Any]:
        """Send SIGTERM to the load, and wait for the end.  Return what became of its commands."""
        self.environment["STOP_TIMEOUT"] = str(stop_timeout)
        program = self.start_python(*TWISTD, "--nodaemon", "--pidfile=", self.write_tac(LOAD))
        await program.until_printed("busy")
        while await self.blocked() < BLOCKED:
            await pause()
        if not answering:
            for server in self.cluster.servers:
                await self.cluster.pause(server)
        program.process.send_signal(signal.SIGTERM)
        give_up = reactor.seconds() + stop_timeout + MARGIN
        while program.process.poll() is None:
            self.assertLess(reactor.seconds(), give_up, "the service has not stopped in time")
            await pause()
        # twistd ends by the signal that it got.
        self.assertEqual(program.process.returncode, -signal.SIGTERM, program.out + program.err)
        self.assertNotIn("Traceback", program.out + program.err)
        outcome: dict[str, Any] = json.loads(self.outcome.read_text())
        # Every Deferred has fired, once.
        self.assertEqual(outcome["at_stop"], [IN_FLIGHT, BLOCKED])
        self.assertEqual((outcome["left"], len(outcome["popped"])), (0, BLOCKED))
        acknowledged = outcome["acknowledged"]
        self.assertEqual(len(acknowledged) + len(outcome["errors"]), outcome["sent"])
        for server in self.cluster.servers:
            await self.cluster.resume(server)
        found = await self.client.mget(*(f"key:{number}" for number in acknowledged))
        self.assertEqual(found, [str(number) for number in acknowledged])
        return outcome

    async def test_sigterm_under_load(self) -> None:
        """With 1,000 commands in flight and 20 blocked pops, all commands get their replies, and the pops end."""
        outcome = await self.stopped_under_load(8.0, answering=True)
        self.assertEqual((outcome["errors"], outcome["popped"]), ([], [None] * BLOCKED))

    async def test_sigterm_without_answers(self) -> None:
        """If the cluster does not answer, they fail after ``stop_timeout``, and nothing acknowledged is lost."""
        outcome = await self.stopped_under_load(1.0, answering=False)
        # The last replies of the servers may still have been on the way.
        self.assertEqual(set(outcome["errors"]), {"ClientClosed"})
        self.assertLessEqual(set(outcome["popped"]), {"ClientClosed", "ConnectionLost"})

    async def test_daemon(self) -> None:
        """The client is made before twistd forks, and works in the daemon.  SIGTERM stops the daemon."""
        pidfile, log = self.folder / "daemon.pid", self.folder / "daemon.log"
        words = [f"--pidfile={pidfile}", f"--logfile={log}", f"--rundir={self.folder}", self.write_tac(DAEMON)]
        self.addCleanup(self.kill_daemon, pidfile)
        code, out, err = await self.run_python(*TWISTD, *words)
        self.assertEqual(code, 0, out + err)
        while not (written := await self.client.hgetall("daemon")):
            await pause()
        pid = int(pidfile.read_text())
        self.assertEqual(int(written["runs_in"]), pid)
        self.assertNotEqual(written["made_in"], written["runs_in"])
        os.kill(pid, signal.SIGTERM)
        while pidfile.exists():
            await pause()
        text = log.read_text()
        self.assertIn("Server Shut Down.", text)
        self.assertNotIn("Traceback", text)
        self.assertNotIn("ResourceWarning", text)

    def kill_daemon(self, pidfile: Path) -> None:
        """Kill the daemon if the test has failed."""
        if pidfile.exists():
            os.kill(int(pidfile.read_text()), signal.SIGKILL)

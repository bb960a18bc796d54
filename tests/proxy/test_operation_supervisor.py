"""The supervisor of workers, with processes that the test plays, on a clock that only the test moves."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogEvent, formatEvent
from twisted.python.failure import Failure

from tests.cases import SynchronousTestCase
from tests.logs import observe_log
from txvalkeycluster.proxy import ProxySettings
from txvalkeycluster.proxy.process.supervisor import Supervisor
from txvalkeycluster.proxy.process.worker_process import WorkerProcess
from txvalkeycluster.proxy.snapshot import Snapshot

CLUSTER = "valkey://127.0.0.1:7000"


class Port:
    """A port that is open."""

    def __init__(self, descriptor: int) -> None:
        self.open = True
        self.reading = True
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def stopReading(self) -> None:
        self.reading = False

    def stopListening(self) -> None:
        self.open = False


class Process:
    """The process of a worker, which does what the test says."""

    def __init__(self, worker: WorkerProcess, descriptors: dict[int, Any]) -> None:
        self.worker = worker
        self.descriptors = descriptors
        self.pid: int | None = 1
        self.lines: list[dict[str, Any]] = []
        self.signals: list[str] = []

    def write(self, data: bytes) -> None:
        assert data.endswith(b"\n")
        self.lines += [json.loads(line) for line in data.splitlines()]

    def signalProcess(self, name: str) -> None:
        self.signals.append(name)

    def tell(self, **what: Any) -> None:
        """Write a line to the supervisor."""
        self.worker.childDataReceived(1, json.dumps(what).encode() + b"\n")

    def ready(self) -> None:
        self.tell(ready=True)

    def end(self, killed: bool = False) -> None:
        self.pid = None
        reason: Exception = ProcessTerminated(signal=9) if killed else ProcessDone(0)  # type: ignore[no-untyped-call]
        self.worker.processEnded(Failure(reason))  # type: ignore[no-untyped-call]

    def told(self, name: str) -> list[Any]:
        """Return the values of a name in the lines that the supervisor has written."""
        return [line[name] for line in self.lines if name in line]


class Reactor(MemoryReactorClock):
    """A reactor whose processes the test plays."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ports: list[Port] = []
        self.processes: list[Process] = []
        self.refuse_processes = False

    def listenTCP(self, *args: Any, **others: Any) -> Any:
        self.ports.append(Port(100 + len(self.ports)))
        return self.ports[-1]

    def spawnProcess(self, worker: Any, *args: Any, childFDs: dict[int, Any], **others: Any) -> Any:
        if self.refuse_processes:
            raise OSError("no more processes")
        self.processes.append(Process(worker, childFDs))
        return self.processes[-1]

    @property
    def running_processes(self) -> list[Process]:
        return [each for each in self.processes if each.pid]


class SupervisorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.events: list[LogEvent] = []
        observe_log(self, self.events.append)
        self.reactor = Reactor()

    def supervisor(self, workers: int = 2, **settings: Any) -> Supervisor:
        """Return a supervisor that has started its workers."""
        listen = ("tcp:7001", "tcp:7002")
        self.settings = ProxySettings(cluster=CLUSTER, listen=listen, workers=workers, **settings)
        supervisor = Supervisor(self.reactor, self.settings)
        supervisor.privilegedStartService()
        supervisor.startService()
        self.addCleanup(self.finish, supervisor)
        return supervisor

    def finish(self, supervisor: Supervisor) -> None:
        """End everything, so that no folder is left."""
        stopping = supervisor.stopService()
        for each in self.reactor.running_processes:
            each.end()
        self.successResultOf(stopping)

    def successful(self, workers: int = 2, **settings: Any) -> tuple[Supervisor, list[Process]]:
        """Return a supervisor whose workers accept clients."""
        supervisor = self.supervisor(workers, **settings)
        processes = self.reactor.processes[:]
        for each in processes:
            each.ready()
        return supervisor, processes

    def new(self, after: int) -> list[Process]:
        """Return the processes that were started after some others."""
        return self.reactor.processes[after:]

    def logged(self) -> list[str]:
        return [str(formatEvent(each)) for each in self.events if "txvalkeycluster.proxy" in str(each["log_namespace"])]

    def draining(self, *processes: Process) -> list[bool]:
        return [each.told("stop") == ["drain"] for each in processes]

    # ---- the start

    def test_what_workers_get(self) -> None:
        """The sockets, which the supervisor does not read, and their part of what is limited for all together."""
        self.supervisor(3, max_clients=8, max_total_bytes=300, max_output=2, metrics="", timeout=3.0)
        self.assertEqual([(port.open, port.reading) for port in self.reactor.ports], [(True, False)] * 2)
        settings = [each.told("settings")[0] for each in self.reactor.processes]
        self.assertEqual([each["max_clients"] for each in settings], [3, 3, 2])
        self.assertEqual([each["max_total_bytes"] for each in settings], [100] * 3)
        self.assertEqual([each["max_output"] for each in settings], [1] * 3)
        for each in self.reactor.processes:
            made = ProxySettings.from_mapping(each.told("settings")[0])
            self.assertEqual((made.workers, made.metrics, made.timeout, made.cluster), (0, "", 3.0, CLUSTER))
            self.assertEqual(each.descriptors, {0: "w", 1: "r", 2: "r", 3: 100, 4: 101})
            self.assertEqual(each.told("descriptors"), [[3, 4]])
        self.assertEqual([each.told("others")[-1] for each in self.reactor.processes], [[2, 3], [1, 3], [1, 2]])

    def test_a_worker_that_never_accepts_clients(self) -> None:
        """It is killed, and another one is started."""
        self.supervisor(2)
        first, second = self.reactor.processes
        first.ready()
        self.reactor.advance(61)
        self.assertEqual((first.signals, second.signals), ([], ["KILL"]))
        second.end(killed=True)
        self.reactor.advance(0.1)
        self.assertEqual(len(self.reactor.running_processes), 2)

    def test_strange_lines(self) -> None:
        """A worker may write in parts.  What is no JSON, and what it writes to standard error, is logged."""
        supervisor, (process,) = self.successful(1)
        worker = process.worker
        for part in (b'{"nu', b'mbers": {"requests": 7}}\nsegmen', b"tation fault\n[1]\n\xff\n"):
            worker.childDataReceived(1, part)
        self.assertEqual(worker.numbers, Snapshot(requests=7))
        worker.childDataReceived(2, b"a warning\nhalf")
        worker.childDataReceived(1, b'{"event": ["warn", "<b>"]}\n{"event": 1}\n')
        entry = {name: value for name, value in supervisor.history.as_json()[-1].items() if name != "time"}
        self.assertEqual(entry, {"number": 1, "level": "warn", "text": "<b>"})
        logged = self.logged()
        self.assertIn("worker 1: a warning", logged)
        self.assertIn("worker 1 has written 'segmentation fault'", logged)
        self.assertEqual(len([each for each in logged if "has written" in each]), 4)

    # ---- workers that end

    def test_pauses(self) -> None:
        """A worker that ends again and again is started after growing pauses; not after it has run for a while."""
        self.successful(1)
        expected = 0.1
        for _ in range(12):
            self.reactor.running_processes[0].end(killed=True)
            self.reactor.advance(expected * 0.99)
            self.assertEqual(self.reactor.running_processes, [])
            self.reactor.advance(expected * 0.02)
            (process,) = self.reactor.running_processes
            process.ready()
            expected = min(2 * expected, 5)
        self.reactor.advance(11)
        process.end(killed=True)
        self.reactor.advance(0.11)
        self.assertEqual(len(self.reactor.running_processes), 1)

    def test_all_end_at_once(self) -> None:
        """All are started again, each at its place."""
        self.successful(3, max_clients=7)
        for each in self.reactor.running_processes:
            each.end(killed=True)
        self.reactor.advance(0.1)
        running = self.reactor.running_processes
        self.assertEqual([each.told("settings")[0]["max_clients"] for each in running], [3, 2, 2])
        self.reactor.advance(50)
        self.assertEqual(self.reactor.running_processes, running)

    def test_no_more_processes(self) -> None:
        """If the system lets none be started, it is tried again with growing pauses."""
        supervisor, _ = self.successful(2)
        self.reactor.refuse_processes = True
        for each in self.reactor.running_processes:
            each.end(killed=True)
        for _ in range(5):
            self.reactor.advance(1)
        self.reactor.refuse_processes = False
        self.reactor.advance(30)
        self.assertEqual(len(self.reactor.running_processes), 2)
        refused = [each for each in self.logged() if each == "a worker cannot be started: no more processes"]
        self.assertIn(len(refused), range(2, 7))
        self.assertEqual(len(supervisor.workers), 2)

    def test_numbers(self) -> None:
        """The number of a worker is below 4096, since 12 bits of each CLIENT ID hold it, and no other worker has it."""
        supervisor, (first, second) = self.successful(2)
        supervisor._serial = 4093
        numbers = []
        for _ in range(6):
            second.end(killed=True)
            self.reactor.advance(30)
            (second,) = [each for each in self.reactor.running_processes if each is not first]
            numbers.append(second.worker.number)
        self.assertEqual(numbers, [4094, 4095, 2, 2, 3, 4])
        self.assertEqual(first.worker.number, 1)

    # ---- replacement

    def test_replacement(self) -> None:
        """One after the other: a worker is told to stop when its successor accepts clients."""
        supervisor, (one, two) = self.successful(2)
        done = supervisor.replace_workers()
        (three,) = self.new(2)
        self.assertEqual(self.draining(one, two, three), [False, False, False])
        three.ready()
        (_, four) = self.new(2)
        self.assertEqual(self.draining(one, two, three), [True, False, False])
        self.assertNoResult(done)
        four.ready()
        self.assertEqual(self.draining(one, two, three, four), [True, True, False, False])
        self.assertIsNone(self.successResultOf(done))
        one.end()
        two.end()
        self.reactor.advance(60)
        self.assertEqual(self.reactor.running_processes, [three, four])
        self.assertEqual([each for each in self.logged() if "has ended" in each], [])
        self.assertEqual([each.worker.place for each in (three, four)], [0, 1])

    def test_an_old_worker_that_ends_before(self) -> None:
        """Its successor takes its place, and no other is started."""
        supervisor, (one, two) = self.successful(2)
        supervisor.replace_workers()
        (three,) = self.new(2)
        one.end(killed=True)
        self.reactor.advance(1)
        three.ready()
        (_, four) = self.new(2)
        four.ready()
        two.end()
        self.reactor.advance(60)
        self.assertEqual(self.reactor.running_processes, [three, four])

    def test_a_successor_that_ends(self) -> None:
        """The old worker stays, and those after it; no other is started.  The next SIGHUP tries again."""
        supervisor, (one, two) = self.successful(2)
        done = supervisor.replace_workers()
        (three,) = self.new(2)
        three.end(killed=True)
        self.assertIsNone(self.successResultOf(done))
        self.assertIn("worker 1 stays, because its successor has ended", self.logged())
        self.reactor.advance(60)
        self.assertEqual(self.reactor.running_processes, [one, two])
        self.assertEqual(self.draining(one, two), [False, False])
        supervisor.replace_workers()
        self.assertEqual(len(self.reactor.running_processes), 3)

    def test_an_old_worker_and_its_successor_end(self) -> None:
        """The place gets a worker, and only one."""
        supervisor, (one, two) = self.successful(2)
        supervisor.replace_workers()
        (three,) = self.new(2)
        one.end(killed=True)
        three.end(killed=True)
        self.reactor.advance(60)
        self.assertEqual(len(self.reactor.running_processes), 2)
        self.assertIn(two, self.reactor.running_processes)

    def test_hangups_in_a_row(self) -> None:
        """A worker that was started before the last SIGHUP is replaced, too: it may have read old files."""
        supervisor, _ = self.successful(2)
        done = supervisor.replace_workers()
        self.new(2)[0].ready()
        again = [supervisor.replace_workers() for _ in range(3)]
        started = 0
        while started < len(self.reactor.processes):
            for each in self.reactor.processes[started:]:
                started += 1
                if not each.worker.ready.called:
                    each.ready()
        for waiter in (done, *again):
            self.assertIsNone(self.successResultOf(waiter))
        stopped = [each for each in self.reactor.processes if self.draining(each) == [True]]
        self.assertEqual(stopped, self.reactor.processes[:4])
        self.assertEqual(len(self.reactor.processes), 6)
        self.assertEqual(sorted(each.worker.place for each in self.reactor.processes[4:]), [0, 1])

    def test_a_hangup_during_a_replacement_that_fails(self) -> None:
        """It is not forgotten."""
        supervisor, (one, two) = self.successful(2)
        supervisor.replace_workers()
        (three,) = self.new(2)
        again = supervisor.replace_workers()
        three.end(killed=True)
        self.assertNoResult(again)
        for number in (3, 4):
            self.reactor.processes[number].ready()
        self.assertIsNone(self.successResultOf(again))
        self.assertEqual(self.draining(one, two), [True, True])

    def test_a_hangup_without_workers(self) -> None:
        """SIGHUP while all workers have ended does nothing, and the next one works."""
        supervisor, (one,) = self.successful(1)
        one.end(killed=True)
        self.assertIsNone(self.successResultOf(supervisor.replace_workers()))
        self.reactor.advance(0.1)
        (two,) = self.new(1)
        two.ready()
        supervisor.replace_workers()
        (_, three) = self.new(1)
        three.ready()
        self.assertEqual(self.draining(two), [True])

    def test_a_hangup_without_processes(self) -> None:
        """If the system lets no worker be started, the old ones stay."""
        supervisor, (one, two) = self.successful(2)
        self.reactor.refuse_processes = True
        self.assertIsNone(self.successResultOf(supervisor.replace_workers()))
        self.reactor.advance(60)
        self.assertEqual(self.reactor.running_processes, [one, two])
        self.assertEqual(self.draining(one, two), [False, False])

    def test_an_old_worker_that_hangs(self) -> None:
        """It is killed when it has had the time that requests may take to end, and more."""
        supervisor, (one,) = self.successful(1, stop_timeout=7.0)
        supervisor.replace_workers()
        self.new(1)[0].ready()
        self.reactor.advance(11.9)
        self.assertEqual(one.signals, [])
        self.reactor.advance(0.2)
        self.assertEqual(one.signals, ["KILL"])

    # ---- the number of clients

    def test_full_workers(self) -> None:
        """Clients are refused only while all workers have as many as they may have."""
        _, (one, two) = self.successful(2)

        def refusing() -> list[bool]:
            return [each.told("refuse")[-1] for each in self.reactor.running_processes]

        one.tell(full=True)
        self.assertEqual(refusing(), [False, False])
        two.tell(full=True)
        self.assertEqual(refusing(), [True, True])
        one.tell(full=False)
        self.assertEqual(refusing(), [False, False])
        one.tell(full=True)
        two.end(killed=True)
        # The others are full.
        self.assertEqual(refusing(), [True])
        self.reactor.advance(0.1)
        self.assertEqual(refusing(), [True, True])
        self.new(2)[0].ready()
        self.assertEqual(refusing(), [False, False])

    def test_full_workers_that_are_replaced(self) -> None:
        """A worker that drains accepts no clients, so it does not count."""
        supervisor, (one,) = self.successful(1)
        one.tell(full=True)
        supervisor.replace_workers()
        (two,) = self.new(1)
        self.assertEqual(two.told("refuse"), [True])
        two.ready()
        self.assertEqual(two.told("refuse"), [True, False])
        two.tell(full=True)
        self.assertEqual(two.told("refuse"), [True, False, True])

    # ---- the end

    def test_stop(self) -> None:
        """The ports are closed and the workers drain.  The folder is removed when the last one has ended."""
        supervisor, (one, two) = self.successful(2)
        folder = Path(one.told("folder")[0])
        self.assertTrue(folder.is_dir())
        self.assertEqual(os.stat(folder).st_mode & 0o777, 0o700)
        stopped, again = supervisor.stopService(), supervisor.stopService()
        self.assertEqual([port.open for port in self.reactor.ports], [False, False])
        self.assertEqual(self.draining(one, two), [True, True])
        one.end()
        self.assertNoResult(stopped)
        two.end()
        self.assertIsNone(self.successResultOf(stopped))
        self.assertIsNone(self.successResultOf(again))
        self.assertFalse(folder.exists())
        self.reactor.advance(100)
        self.assertEqual((one.signals, two.signals), ([], []))
        self.assertEqual(self.reactor.running_processes, [])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_stop_with_workers_that_hang(self) -> None:
        """They are killed."""
        supervisor, (one, two) = self.successful(2, stop_timeout=3.0)
        supervisor.stopService()
        one.end()
        self.reactor.advance(8.1)
        self.assertEqual((one.signals, two.signals), ([], ["KILL"]))

    def test_hurry(self) -> None:
        """Workers that are in a hurry and do not end are killed soon."""
        supervisor, (one, two) = self.successful(2)
        supervisor.hurry()
        self.assertEqual(one.told("stop"), [])
        supervisor.stopService()
        supervisor.hurry()
        self.assertEqual([one.told("stop"), two.told("stop")], [["drain", "now"]] * 2)
        one.end()
        self.reactor.advance(1.1)
        self.assertEqual((one.signals, two.signals), ([], ["KILL"]))

    def test_stop_during_a_replacement(self) -> None:
        """Every worker is told once, and no other is started, whatever the successor does."""
        for accepts in (True, False):
            self.reactor = Reactor()
            supervisor, (one, two) = self.successful(2)
            done = supervisor.replace_workers()
            (three,) = self.new(2)
            stopped = supervisor.stopService()
            if accepts:
                three.ready()
            three.end(killed=not accepts)
            self.assertIsNone(self.successResultOf(done))
            self.assertEqual(self.draining(one, two, three), [True] * 3)
            one.end()
            two.end()
            self.assertIsNone(self.successResultOf(stopped))
            self.reactor.advance(100)
            self.assertEqual(len(self.reactor.processes), 3)
            self.assertEqual([each for each in self.logged() if "stays" in each], [])

    def test_stop_after_a_replacement(self) -> None:
        """A worker that drains already is not told a second time: its requests still have time."""
        supervisor, (one,) = self.successful(1)
        supervisor.replace_workers()
        (two,) = self.new(1)
        two.ready()
        supervisor.stopService()
        self.assertEqual(self.draining(one, two), [True, True])

    def test_stop_while_a_worker_is_missing(self) -> None:
        """It is not started any more."""
        supervisor, (one, two) = self.successful(2)
        one.end(killed=True)
        stopped = supervisor.stopService()
        two.end()
        self.assertIsNone(self.successResultOf(stopped))
        self.reactor.advance(100)
        self.assertEqual(len(self.reactor.processes), 2)

    def test_start_again(self) -> None:
        """A supervisor that has stopped can start again, with new ports and workers."""
        supervisor, (one,) = self.successful(1)
        stopped = supervisor.stopService()
        self.assertRaises(RuntimeError, supervisor.startService)
        one.end()
        self.successResultOf(stopped)
        supervisor.startService()
        supervisor.startService()
        self.assertEqual([port.open for port in self.reactor.ports], [False, False, True, True])
        (two,) = self.reactor.running_processes
        self.assertEqual(two.descriptors, {0: "w", 1: "r", 2: "r", 3: 102, 4: 103})
        self.assertNotEqual(two.told("folder"), one.told("folder"))

"""The log as lines of JSON: of one process, of a daemon with a file, and of workers."""

from __future__ import annotations

import json
import signal
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import Any, cast

from twisted.application.service import Application
from twisted.logger import (
    FileLogObserver,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogPublisher,
    formatEvent,
    globalLogPublisher,
)
from twisted.python import log as legacy

from tests.cases import SynchronousTestCase
from tests.logs import observe_log
from tests.proxy.operation import OperationTests, TwistdProxy
from tests.proxy.programs import HOST, until
from txvalkeycluster import Address
from txvalkeycluster.proxy.process.json_log import JSONLogService, as_json, json_observer, log_line
from txvalkeycluster.testing.ports import free_ports

PASSWORD = "v3ry-secret"


class LineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.output = StringIO()
        publisher = LogPublisher(cast(ILogObserver, FileLogObserver(self.output, as_json)))
        self.log = Logger("a.namespace", observer=publisher)

    def lines(self) -> list[dict[str, Any]]:
        """Return what was written, and forget it."""
        text = self.output.getvalue()
        self.output.seek(0)
        self.output.truncate()
        self.assertTrue(not text or text.endswith("\n"))
        return [json.loads(line) for line in text.splitlines()]

    def test_fields(self) -> None:
        """A line has time, level, namespace and message, and what the event has."""
        self.log.warn(
            "lost {node} with {count}", node=Address("10.0.0.1", 7000), count=3, ratio=0.5, on=True, none=None
        )
        (line,) = self.lines()
        self.assertIsNotNone(datetime.fromisoformat(line.pop("time")).tzinfo)
        self.assertEqual(
            line,
            {
                "level": "warn",
                "namespace": "a.namespace",
                "message": "lost 10.0.0.1:7000 with 3",
                "node": "10.0.0.1:7000",
                "count": 3,
                "ratio": 0.5,
                "on": True,
                "none": None,
            },
        )

    def test_one_line_each(self) -> None:
        """Line breaks and other strange characters do not begin another line.  Nothing without a message is written."""
        self.log.info("{text}", text='a\nb\r\u2028"\udcff')
        self.log.info("")
        (line,) = self.lines()
        self.assertEqual(line["message"], 'a\nb\r\u2028"\udcff')

    def test_long_and_broken_fields(self) -> None:
        class Broken:
            def __str__(self) -> str:
                raise ValueError("broken")

        self.log.info("x", text="y" * 5000, broken=Broken())
        (line,) = self.lines()
        self.assertEqual((len(line["text"]), line["broken"]), (1000, "?"))

    def test_failures(self) -> None:
        """A line of a failure has its traceback."""
        try:
            raise ValueError("a reason")
        except ValueError:
            self.log.failure("it failed")
        (line,) = self.lines()
        self.assertEqual(line["level"], "critical")
        self.assertTrue(line["message"].startswith("it failed\nTraceback"))
        self.assertTrue(line["message"].endswith("ValueError: a reason"))

    def test_reserved_names(self) -> None:
        """A field does not replace what every line has."""
        self.log.info("x", message="other", time=1, namespace="other", failure=None)
        (line,) = self.lines()
        self.assertEqual((line["message"], line["namespace"]), ("x", "a.namespace"))

    def test_legacy_events(self) -> None:
        """What Twisted's older parts log has the same form."""
        observer: Any = FileLogObserver(self.output, as_json)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        legacy.msg("a message", system="a system", extra=7)
        line = next(each for each in self.lines() if each["message"] == "a message")
        self.assertEqual((line["level"], line["extra"]), ("info", 7))
        self.assertNotIn("isError", line)

    # ---- workers

    def test_what_workers_write(self) -> None:
        """The supervisor logs an event of a worker with its level, namespace and fields; other text as it is."""
        events: list[LogEvent] = []
        observe_log(self, events.append)
        self.log.error("lost {node}", node=Address("10.0.0.1", 7000), worker="other", line="other", log_level="x")
        log_line(3, self.output.getvalue().rstrip("\n"))
        log_line(4, "Fatal Python error")
        log_line(5, '{"level": "strange", "namespace": 7, "message": "{braces}"}')
        log_line(6, '["message"]')
        first, *others = events
        self.assertEqual(
            (first["log_namespace"], first["log_level"], formatEvent(first), first["node"], first["worker"]),
            ("a.namespace", LogLevel.error, "worker 3: lost 10.0.0.1:7000", "10.0.0.1:7000", 3),
        )
        self.assertEqual(
            [formatEvent(each) for each in others],
            ["worker 4: Fatal Python error", "worker 5: {braces}", 'worker 6: ["message"]'],
        )

    # ---- the observer of twistd

    def test_where_twistd_writes(self) -> None:
        """It is where twistd would write text: standard output, or a file that SIGUSR1 rotates."""
        self.addCleanup(signal.signal, signal.SIGUSR1, signal.getsignal(signal.SIGUSR1))
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        path = Path(self.mktemp())
        observer: Any = json_observer({"logfile": str(path)})
        self.addCleanup(observer._outFile.close)
        observer({"log_format": "one", "log_level": LogLevel.info})
        self.assertEqual(json.loads(path.read_text())["message"], "one")
        self.assertNotEqual(signal.getsignal(signal.SIGUSR1), signal.SIG_DFL)
        # A handler of somebody else stays.
        handler = signal.getsignal(signal.SIGUSR1)
        other: Any = json_observer({"logfile": str(path)})
        other._outFile.close()
        self.assertIs(signal.getsignal(signal.SIGUSR1), handler)
        for options in ({"nodaemon": 1}, {"nodaemon": 1, "logfile": "-"}):
            self.assertTrue(callable(json_observer(options)))
        self.assertRaises(SystemExit, json_observer, {"logfile": "-"})

    def test_the_application(self) -> None:
        """Twistd takes the observer of the application in place of its own."""
        application: Any = Application("proxy")  # type: ignore[no-untyped-call]
        JSONLogService({"nodaemon": 1}).setServiceParent(application)
        self.assertTrue(ILogObserver.providedBy(application.getComponent(ILogObserver)))


class ProcessTests(OperationTests):
    def lines_of(self, text: str) -> list[dict[str, Any]]:
        """Parse a log.  Every line must be an object with a message."""
        lines = [json.loads(line) for line in text.splitlines()]
        for each in lines:
            self.assertLessEqual({"time", "level", "namespace", "message"}, set(each))
        return lines

    async def url_with_password(self) -> str:
        for server in self.cluster.servers:
            await self.cluster.ask(server, "ACL", "SETUSER", "app", "on", f">{PASSWORD}", "~*", "&*", "+@all")
        return self.cluster.url.replace("://", f"://app:{PASSWORD}@")

    async def used(self, *words: str, workers: int = 0, daemon: Any = ("-n", "--pidfile=")) -> TwistdProxy:
        """Start a proxy, let a client use it, and lose a node."""
        (port,) = free_ports(HOST, 1)
        url = await self.url_with_password()
        listen = f"--listen=tcp:{port}:interface={HOST}"
        proxy = self.start(listen, "--cluster", url, f"--workers={workers}", *words, daemon=daemon)
        await self.ready(proxy, port, workers)
        client = await self.plain(port)
        await client.call("SET", "secret-key", "secret-value")
        await client.call("AUTH", "secret-user", PASSWORD)
        return proxy

    def check(self, lines: list[dict[str, Any]], text: str) -> None:
        """Compare what every proxy logs."""
        line = next(each for each in lines if "reached the cluster" in each["message"])
        self.assertEqual((line["namespace"], line["level"]), ("txvalkeycluster.topology", "info"))
        self.assertEqual((line["primaries"], line["nodes"]), (3, 3))
        for word in (PASSWORD, "secret-key", "secret-value"):
            self.assertNotIn(word, text)

    async def test_standard_output(self) -> None:
        """With ``twistd -n`` every line is JSON, from the start to the end."""
        proxy = await self.used("--log-format=json")
        proxy.kill(signal.SIGTERM)
        await proxy.ended()
        lines = self.lines_of(proxy.log)
        self.check(lines, proxy.log)
        self.assertIn("starting up", lines[0]["message"])
        self.assertEqual(lines[-1]["message"], "Server Shut Down.")

    async def test_workers(self) -> None:
        """The lines of workers say which worker it was."""
        proxy = await self.used("--log-format=json", workers=2)
        proxy.kill(signal.SIGHUP)
        await proxy.has_logged('"worker": 4')
        proxy.kill(signal.SIGTERM)
        await proxy.ended()
        lines = self.lines_of(proxy.log)
        self.check([each for each in lines if each.get("worker") == 2], proxy.log)
        self.assertGreaterEqual({each.get("worker") for each in lines}, {None, 1, 2, 3, 4})

    async def test_workers_with_text(self) -> None:
        """Text of workers has their levels and namespaces."""
        proxy = await self.used(workers=1)
        await proxy.has_logged(r"\[txvalkeycluster.topology#info\] worker 1: reached the cluster; it has 3 primaries")

    async def test_a_daemon(self) -> None:
        """With ``--logfile`` the lines are in the file; the format can also be in the file of the settings."""
        log, pidfile, config = (self.group.folder / name for name in ("json.log", "pid", "proxy.toml"))
        config.write_text('log_format = "json"\n')
        proxy = await self.used(f"--config={config}", daemon=("--nodaemon", f"--pidfile={pidfile}", f"--logfile={log}"))
        await until(lambda: "reached the cluster" in log.read_text())
        # SIGUSR1 begins a new file.
        proxy.kill(signal.SIGUSR1)
        await until(lambda: Path(f"{log}.1").exists())
        proxy.kill(signal.SIGTERM)
        await proxy.ended()
        text = Path(f"{log}.1").read_text() + log.read_text()
        lines = self.lines_of(text)
        self.check(lines, text)
        self.assertEqual(lines[-1]["message"], "Server Shut Down.")
        self.assertEqual(proxy.log, "")

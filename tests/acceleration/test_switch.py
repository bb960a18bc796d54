"""The C extension is used where it is installed, and a variable switches it off."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.cases import SynchronousTestCase
from txvalkeycluster import acceleration

PROGRAM = """
from twisted.internet.task import Clock
from txvalkeycluster import ClusterClient, acceleration
router = ClusterClient(Clock(), "valkey://127.0.0.1")._router
print(acceleration.describe(), router.executor is not None)
"""


def printed(*command: str, **environment: str) -> str:
    """Return what Python prints."""
    variables = {name: value for name, value in os.environ.items() if name != acceleration.SWITCH}
    ended = subprocess.run(
        [sys.executable, *command], env={**variables, **environment}, check=True, capture_output=True, text=True
    )
    return ended.stdout.strip()


class SwitchTests(SynchronousTestCase):
    def must_be_installed(self) -> None:
        """Skip a test that needs the extension, if it is not only switched off."""
        if acceleration.fast is None and not os.environ.get(acceleration.SWITCH):
            self.skipTest("there is no C extension")

    def test_on(self) -> None:
        self.must_be_installed()
        self.assertEqual(printed("-c", PROGRAM), "with the C extension True")
        self.assertEqual(printed("-c", PROGRAM, TXVALKEYCLUSTER_PURE_PYTHON="0"), "with the C extension True")

    def test_off(self) -> None:
        expected = "without the C extension (switched off by TXVALKEYCLUSTER_PURE_PYTHON) False"
        self.assertEqual(printed("-c", PROGRAM, TXVALKEYCLUSTER_PURE_PYTHON="1"), expected)

    def test_version(self) -> None:
        """``--version`` says which one runs."""
        version = printed("-m", "txvalkeycluster", "--version", TXVALKEYCLUSTER_PURE_PYTHON="1")
        self.assertIn(" without the C extension (switched off by TXVALKEYCLUSTER_PURE_PYTHON)", version)

    def test_not_installed(self) -> None:
        """Without the extension, and without a variable, the Python code runs."""
        hidden = "import sys; sys.modules['txvalkeycluster._fast'] = None" + PROGRAM
        described = printed("-c", hidden)
        self.assertIn("without the C extension (not installed: ", described)
        self.assertTrue(described.endswith("False"), described)

    def test_another_twisted(self) -> None:
        """If Twisted resumes coroutines in another way, the extension is not used."""
        self.must_be_installed()
        other = "from twisted.internet import defer; f = defer._gotResultInlineCallbacks\n"
        other += "defer._gotResultInlineCallbacks = lambda *args: f(*args)" + PROGRAM
        self.assertIn("without the C extension (this version of Twisted resumes coroutines", printed("-c", other))

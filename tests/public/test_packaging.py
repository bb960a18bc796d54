"""What setup.cfg and tox.ini say about the package."""

from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path

from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins

from tests.cases import SynchronousTestCase

ROOT = Path(__file__).parents[2]
# Files that only type checkers and generators read.
DATA = ("*.pyi", "*.json", "py.typed", "page/*")


def read(name: str) -> ConfigParser:
    config = ConfigParser(interpolation=None)
    config.read(ROOT / name)
    return config


def required(lines: str) -> dict[str, str]:
    """The lowest version that each requirement allows, or the one that it pins."""
    found = (re.match(r"(?P<name>[\w-]+)\s*[>=]=\s*(?P<version>[\d.]+)", line) for line in lines.splitlines())
    return {match["name"].lower(): match["version"] for match in found if match}


class PackagingTests(SynchronousTestCase):
    def test_every_package_is_installed(self) -> None:
        """Each folder with an ``__init__`` is listed in setup.cfg, with its other files; the plugins, too."""
        config = read("setup.cfg")
        folders = [file.parent for name in ("gencmd", "txvalkeycluster") for file in (ROOT / name).rglob("__init__.py")]
        names = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
        self.assertEqual(set(config["options"]["packages"].split()), {*names, "twisted.plugins"})
        listed = {
            file
            for package, patterns in config["options.package_data"].items()
            for pattern in patterns.split()
            for file in (ROOT / package.replace(".", "/")).glob(pattern)
        }
        self.assertEqual(listed, {file for folder in folders for data in DATA for file in folder.glob(data)})

    def test_the_plugin(self) -> None:
        """Twistd finds the plugin once.  An ``__init__`` beside it would hide the plugins of other packages."""
        found = [each for each in getPlugins(IServiceMaker) if each.tapname == "valkey-proxy"]
        self.assertEqual([getattr(each, "module", "") for each in found], ["txvalkeycluster.proxy.process.tap"])
        self.assertEqual(list((ROOT / "twisted").rglob("__init__.py")), [])

    def test_lowest_versions(self) -> None:
        """``tox -e lowest`` pins the lowest version of everything that the package and its tests need."""
        config = read("setup.cfg")
        extras = config["options.extras_require"]
        allowed = required(config["options"]["install_requires"])
        for extra in ("cli", "embedded", "opentelemetry", "prometheus", "test"):
            allowed |= required(extras[extra])
        self.assertEqual(required(read("tox.ini")["testenv:lowest"]["deps"]), allowed)

    def test_pythons(self) -> None:
        """Classifiers, tox and the workflow name the same Pythons, and the lowest is the one that is required."""
        config = read("setup.cfg")
        named = re.findall(r"Python :: 3\.(\d+)", config["metadata"]["classifiers"])
        self.assertEqual(config["options"]["python_requires"], f">=3.{named[0]}")
        self.assertEqual(re.findall(r"py3(\d+)", read("tox.ini")["tox"]["labels"]), named)
        matrix = re.search(r"python: \[(.*)\]", (ROOT / ".github/workflows/checks.yml").read_text())
        assert matrix is not None
        self.assertEqual(re.findall(r"3\.(\d+)", matrix[1]), named)

    def test_workflows(self) -> None:
        """``tox -e lint`` checks the form of every workflow file."""
        checked = re.findall(r"workflows/(\S+)", read("tox.ini")["testenv:lint"]["commands"])
        self.assertEqual(checked, sorted(file.name for file in (ROOT / ".github/workflows").iterdir()))

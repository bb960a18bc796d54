"""Builds sdist and wheel in ``dist/``, and proves that they work.  ``tox -e release`` runs it.

Needs ``build`` and ``twine``.  With ``--tag v1.2.3`` it also fails unless setup.cfg and the first heading of the
changelog have that version.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"


def run(*words: str | Path, folder: Path = ROOT) -> None:
    """Run a program; show what it prints, and end if it fails."""
    print("$", *words, flush=True)
    subprocess.run(words, cwd=folder, check=True)


def version() -> str:
    """The version, which setup.cfg alone says."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config["metadata"]["version"]


def check_tag(tag: str) -> None:
    """End unless setup.cfg and the changelog have the version of the tag."""
    if tag != f"v{version()}":
        sys.exit(f"the tag is {tag}, but setup.cfg has version {version()}")
    headings = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")]
    if not headings or headings[0].split()[1] != version():
        sys.exit(f"the first heading of CHANGELOG.md is not that of {version()}")


def check_sdist(sdist: Path) -> None:
    """End unless the sdist holds every file that git has."""
    if not (ROOT / ".git").exists():
        return
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    if missing := sorted(set(listed.splitlines()) - packed):
        sys.exit(f"MANIFEST.in leaves out {', '.join(missing)}")


def check_wheel(wheel: Path) -> None:
    """Install the wheel into a fresh environment, and run the smoke test there, away from the checkout."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        venv.create(folder / "venv", with_pip=True)
        python = folder / "venv" / "bin" / "python"
        run(python, "-m", "pip", "install", "--quiet", f"{wheel}[cli]")
        definitions = ROOT / "examples" / "counters.json"
        run(python, "-I", ROOT / ".ci" / "smoke.py", version(), definitions, folder=folder)


def main() -> None:
    """Build and check."""
    parser = argparse.ArgumentParser(prog="tox -e release --", description=__doc__)
    parser.add_argument("--tag", help="the tag of the release, such as v1.2.3")
    options = parser.parse_args()
    if options.tag is not None:
        check_tag(options.tag)
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "build")
    (sdist,), (wheel,) = DIST.glob("*.tar.gz"), DIST.glob("*.whl")
    run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel)
    check_sdist(sdist)
    check_wheel(wheel)
    print(f"ready: {sdist.name} and {wheel.name}")


if __name__ == "__main__":
    main()

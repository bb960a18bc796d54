"""The command line: ``txvalkeycluster demo``, ``cluster start|stop|status`` and ``topology URL``."""

from __future__ import annotations

import sys

from .signals import leave, on_signals


def main() -> None:
    """The command ``txvalkeycluster``."""
    # Before the other imports, which take a while that a signal may end, too.
    on_signals(leave)
    try:
        from .group import run_group
    except ModuleNotFoundError as missing:
        sys.exit(f"the command line needs the extra 'cli' (pip install 'txvalkeycluster[cli]'): {missing}")
    run_group()

"""The command line: ``txvalkeycluster demo``, ``cluster start|stop|status`` and ``topology URL``."""

from __future__ import annotations

import sys

from .signals import leave, on_signals


def main() -> None:
    """Run the command ``txvalkeycluster`` with the arguments of this process, and exit."""
    # Handlers come first: the imports below take a while, and a signal must end them too.
    on_signals(leave)
    try:
        from .group import run_group
    except ModuleNotFoundError as missing:
        sys.exit(f"Error: the command line needs the extra 'cli': pip install 'txvalkeycluster[cli]' ({missing})")
    run_group()

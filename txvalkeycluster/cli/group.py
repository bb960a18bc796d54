"""All commands together, and what a user is told of their errors."""

from __future__ import annotations

import os
import sys
import traceback

import click

from ..errors import ValkeyError
from ..testing import NoServer, PortTaken
from .cluster import cluster
from .demo import demo
from .topology import topology

# The variable that shows where an error comes from.
VARIABLE = "TXVALKEYCLUSTER_DEBUG"
# Whose texts speak for themselves.
_EXPECTED = (ValkeyError, NoServer, PortTaken, ValueError, OSError)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="txvalkeycluster")
def group() -> None:
    """Try, run and look at Valkey clusters."""


group.add_command(demo)
group.add_command(cluster)
group.add_command(topology)


def run_group() -> None:
    """Run the command that was asked for; an error is one message, and exit status 1."""
    try:
        group(prog_name="txvalkeycluster")
    except Exception as error:
        if os.environ.get(VARIABLE):
            traceback.print_exc()
        sys.exit(f"Error: {_text(error)}")


def _text(error: Exception) -> str:
    if isinstance(error, _EXPECTED) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error} ({VARIABLE}=1 shows where)"

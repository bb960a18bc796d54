"""The commands of the command line, and how their errors are shown."""

from __future__ import annotations

import os
import sys
import traceback

import click

from ..acceleration import describe
from ..errors import ValkeyError
from ..testing import NoServer, PortTaken
from .cluster import cluster
from .demo import demo
from .topology import topology

#: The environment variable that adds a traceback to an error.
VARIABLE = "TXVALKEYCLUSTER_DEBUG"
# The texts of these errors say what is wrong; the name of their class is not needed.
_EXPECTED = (ValkeyError, NoServer, PortTaken, ValueError, OSError)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="txvalkeycluster", message=f"%(prog)s, version %(version)s {describe()}")
def group() -> None:
    """Start Valkey clusters on this machine, show any cluster, and try the client under load."""


group.add_command(demo)
group.add_command(cluster)
group.add_command(topology)


def run_group() -> None:
    """Run the command that the arguments name, and exit.

    An error is shown as one message, and the exit status is 1.
    """
    try:
        group(prog_name="txvalkeycluster")
    except Exception as error:
        if os.environ.get(VARIABLE):
            traceback.print_exc()
        sys.exit(f"Error: {_text(error)}")


def _text(error: Exception) -> str:
    if isinstance(error, _EXPECTED) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error} (set {VARIABLE}=1 to see the traceback)"

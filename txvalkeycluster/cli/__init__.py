"""The command line: ``txvalkeycluster demo``, ``cluster start|stop|status`` and ``topology URL``."""

from __future__ import annotations

import sys

try:
    import click

    from .cluster import cluster
    from .demo import demo
    from .topology import topology
except ModuleNotFoundError as missing:
    sys.exit(f"the command line needs the extra 'cli' (pip install 'txvalkeycluster[cli]'): {missing}")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="txvalkeycluster")
def main() -> None:
    """Try, run and look at Valkey clusters."""


main.add_command(demo)
main.add_command(cluster)
main.add_command(topology)

"""``python -m txvalkeycluster.cli``."""

from . import main

main(prog_name="txvalkeycluster")

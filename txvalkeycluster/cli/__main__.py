"""``python -m txvalkeycluster.cli`` does the same as ``python -m txvalkeycluster``."""

from . import main

main()

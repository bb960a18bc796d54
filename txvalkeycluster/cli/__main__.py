"""``python -m txvalkeycluster.cli``.

With ``-m``, Python looks for modules in the current folder first, before any line of ours runs: use ``python -P -m`` in
a folder whose files are not to be trusted.  The command ``txvalkeycluster`` never looks there.
"""

from . import main

main()

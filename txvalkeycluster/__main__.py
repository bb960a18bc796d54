"""``python -m txvalkeycluster`` runs the command ``txvalkeycluster``.

With ``-m``, Python first looks for modules in the current folder, before any line of this package runs.  In a folder
with files that you do not trust, use ``python -P -m txvalkeycluster``.  The command ``txvalkeycluster`` never looks
there.  Source: https://docs.python.org/3/using/cmdline.html
"""

from .cli import main

main()

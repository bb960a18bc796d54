"""Leads a process group, and ends it when its standard input ends, which it does whatever way the parent ends.

Run as a script with a folder to remove.  Every server joins this group before it runs its own code, so that there is
no moment in which one could be left behind.
"""

import os
import shutil
import signal
import sys

if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    os.killpg(os.getpgrp(), signal.SIGKILL)

"""Leads a process group, and ends it when its standard input ends, which it does whatever way the parent ends.

Run as a script with a folder to remove.  Every server joins this group before it runs its own code, so that there is
no moment in which one could be left behind.
"""

import os
import shutil
import signal
import sys
import time

if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    group, folder = os.getpgrp(), sys.argv[1]
    if os.fork():
        # To be killed with the others.
        signal.pause()
    # Outside of the group, to remove what they have written to the end.
    os.setpgid(0, 0)
    os.killpg(group, signal.SIGKILL)
    # The killed may take a moment to be gone.
    for _ in range(100):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):
            break
        time.sleep(0.01)

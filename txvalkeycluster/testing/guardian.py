"""A script that leads a process group, and kills the group when the parent process ends.

Its standard input is a pipe from the parent.  The pipe ends when the parent ends, whatever way that happens.  Every
server joins the group before it runs its own program, so none can be left behind.  The argument is a folder, which the
script removes at the end.
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
        # The parent of the fork stays in the group and is killed with it.
        signal.pause()
    # The child leaves the group, so that it can remove the folder after the servers are killed.
    os.setpgid(0, 0)
    os.killpg(group, signal.SIGKILL)
    # Killed processes can write for a moment longer.
    for _ in range(100):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):
            break
        time.sleep(0.01)

"""End with the parent: a process that would outlive its parent is ended when a pipe of the parent's closes.

The parent holds the only write end and never writes. Where the system can send a signal for a closed pipe (Linux), it
sends SIGKILL: no Python code has to run, so a process that hangs in native code ends as well.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading


def end_with(read_end: int) -> None:
    """Make this process end when the other end of the pipe `read_end` closes; the descriptor stays open for good."""
    os.set_inheritable(read_end, False)
    if sys.platform == "linux":
        fcntl.fcntl(read_end, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(read_end, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(read_end, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
        if _closed(read_end):  # the parent died before the signal was armed
            os.kill(os.getpid(), signal.SIGKILL)
        return
    threading.Thread(target=_wait, args=(read_end,), name="portkit-lifeline", daemon=True).start()


def _closed(read_end: int) -> bool:
    try:
        return os.read(read_end, 1) == b""
    except BlockingIOError:
        return False


def _wait(read_end: int) -> None:
    while os.read(read_end, 1):
        pass
    os.kill(os.getpid(), signal.SIGKILL)

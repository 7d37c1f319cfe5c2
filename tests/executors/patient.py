"""A child that works until it is asked to stop: `python -m tests.executors.patient FILE [threadless|deaf]`, and its
leader: `python -m tests.executors.patient lead FOLDER [threadless|deaf]`."""

import sys
import threading
import time
from pathlib import Path

from cgloop.executors import child as child_module
from cgloop.executors.child import Child, work_as_child
from cgloop.interrupt import check_stop


def no_thread(_self):
    raise RuntimeError("can't start new thread")


def work():
    while True:
        Path(sys.argv[1]).touch()
        if "deaf" not in sys.argv:
            check_stop()
        time.sleep(0.02)


def lead(folder, *how):
    child = Child("tests.executors.patient", [str(folder / "alive"), *how], folder)
    (folder / "pid").write_text(str(child.pid))
    time.sleep(120)


if __name__ == "__main__":
    if sys.argv[1] == "lead":
        lead(Path(sys.argv[2]), *sys.argv[3:])
    if "threadless" in sys.argv:
        threading.Thread.start = no_thread
    if "deaf" in sys.argv:
        child_module.LONELY_S = 0.5
    sys.exit(work_as_child(work))

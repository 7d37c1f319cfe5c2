"""A child that may not have the memory it wants: `python -m tests.executors.hungry python|native|killed`."""

import os
import resource
import signal
import sys

from cgloop.executors.child import work_as_child


def starve():
    if sys.argv[1] == "killed":
        # What XLA says where a program comes from its cache.
        os.write(2, b"E1201 12:33:24.702994 5095 cpu_aot_loader.cc:195] Loading XLA:CPU AOT result. Target machine\n")
        os.kill(os.getpid(), signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
    if sys.argv[1] == "python":
        bytearray(2**31)
    # What the C++ library says before it aborts.
    os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n")
    os.abort()


if __name__ == "__main__":
    sys.exit(work_as_child(starve))

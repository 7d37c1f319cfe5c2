"""Memory that is used again and again comes from the system once."""

import json
import platform
import subprocess
import sys

import pytest

SCRIPT = """
import json, resource, sys, threading
from cgloop.allocator import keep_memory, share_memory

share_memory()
import numpy as np

def use():
    for _ in range(10):
        np.ones(int(sys.argv[1]), np.uint8)

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    other = threading.Thread(target=use)
    other.start()
    other.join()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

handed_back = faults()
told = keep_memory()
faults()
print(json.dumps([handed_back, told, faults()]))
"""


@pytest.mark.parametrize("megabytes", [40, 120])
def test_pages_are_not_made_anew_for_every_array(megabytes):
    command = [sys.executable, "-c", SCRIPT, str(megabytes * 2**20)]
    handed_back, told, kept = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert told == (platform.libc_ver()[0] == "glibc")
    if told:
        assert kept < 0.1 * handed_back

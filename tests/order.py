"""Which process runs a test where several share the tests, and which tests come first.

`Groups` gives the tests of a group to one process, one after the other. A file is a group, so that what its fixtures
prepare is prepared once; tests of whole runs (tests/integration) are single, as they share nothing but the finished
run, which is made once for all processes. Files with tests marked `machine`, which start a cluster or ranks, or measure
times, are one group: two of them at once would take the processors from each other.
"""

import pytest
from xdist.scheduler import LoadScopeScheduling

MACHINE = "machine"
MACHINE_FILES = ("tests/integration/test_slurm.py", "tests/integration/test_ranks.py", "tests/bench/test_scaling.py")
"""Files with tests of this mark: the process that deals out the tests knows their names only."""
RUNS = "tests/integration/"

DEAREST = (
    "tests/md/test_parity",
    "tests/md/test_control.py",
    "tests/md/test_replay.py",
    "tests/md/test_external",
    "tests/md/",
    "tests/export/",
    "tests/train/",
    "tests/model/",
)
"""Starts of the paths of the other groups that take longest, the longest first: the last group should be short."""


def arrange(items: list[pytest.Item]) -> None:
    """Put the tests that take longest first."""
    for item in items:
        assert not item.get_closest_marker(MACHINE) or _path(item.nodeid) in MACHINE_FILES, item.nodeid
    items.sort(key=_place)


def group_of(nodeid: str) -> str:
    """Return the name of the group that a test belongs to; its own where it is single."""
    path = _path(nodeid)
    if path in MACHINE_FILES:
        return MACHINE
    return nodeid if path.startswith(RUNS) else path


class Groups(LoadScopeScheduling):
    """Deal out whole groups of tests (`--dist loadgroup`).

    The scheduler of pytest-xdist 3.8 finds no groups under pytest 9.2, which does not read the names it writes.
    """

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def _path(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def _place(item: pytest.Item) -> int:
    if item.get_closest_marker(MACHINE):
        return -2
    path = _path(item.nodeid)
    if path.startswith(RUNS) and item.get_closest_marker("slow"):
        return -1
    return next((place for place, start in enumerate(DEAREST) if path.startswith(start)), len(DEAREST))

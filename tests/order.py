"""Which process runs a test where several share the tests, and which tests come first.

With `--dist loadgroup` the tests of a group run in one process, one after the other. A file is a group, so that what
its fixtures prepare is prepared once; tests of whole runs (tests/integration) are single, as they share nothing but the
finished run, which is made once for all processes. Tests marked `machine` start a cluster or ranks, or measure times.
They are one group: two of them at once would take the processors from each other.
"""

import pytest

MACHINE = "machine"
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
    """Give tests their groups, and put those that take longest first."""
    for item in items:
        path = _path(item)
        if item.get_closest_marker(MACHINE):
            item.add_marker(pytest.mark.xdist_group(MACHINE))
        elif not path.startswith(RUNS):
            item.add_marker(pytest.mark.xdist_group(path.removesuffix(".py").replace("/", ".")))
    items.sort(key=_place)


def _path(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def _place(item: pytest.Item) -> int:
    if item.get_closest_marker(MACHINE):
        return -2
    path = _path(item)
    if path.startswith(RUNS) and item.get_closest_marker("slow"):
        return -1
    return next((place for place, start in enumerate(DEAREST) if path.startswith(start)), len(DEAREST))


class PlainNames:
    """Takes the group off the names of tests in reports, where pytest-xdist writes it: `test_a@tests.b` is `test_a`."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name, _, group = report.nodeid.rpartition("@")
        if name and "]" not in group:
            report.nodeid = name

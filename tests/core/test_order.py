"""Order in which tests run, their names in reports, and the report of their processor time."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from tests import processor_time
from tests.order import PlainNames, arrange


class Item:
    """As much of a test as its place depends on."""

    def __init__(self, nodeid, *markers):
        self.nodeid, self._markers = nodeid, {marker: pytest.mark.xdist_group(marker).mark for marker in markers}

    def get_closest_marker(self, name):
        return self._markers.get(name)

    def add_marker(self, marker):
        self._markers[marker.mark.name] = marker.mark

    @property
    def group(self):
        marker = self.get_closest_marker("xdist_group")
        return marker.args[0] if marker else None


def test_a_file_is_a_group_whole_runs_are_single_and_those_that_need_the_machine_come_first():
    items = [
        Item("tests/core/test_a.py::test_one"),
        Item("tests/md/test_b.py::test_one[x]"),
        Item("tests/integration/test_c.py::test_quick"),
        Item("tests/integration/test_c.py::test_run", "slow"),
        Item("tests/md/test_b.py::test_two", "slow"),
        Item("tests/integration/test_slurm.py::test_job", "slow", "machine"),
        Item("tests/bench/test_d.py::test_times", "machine"),
    ]
    arrange(items)
    assert [(item.nodeid.rpartition("::")[2], item.group) for item in items] == [
        ("test_job", "machine"),
        ("test_times", "machine"),
        ("test_run", None),
        ("test_one[x]", "tests.md.test_b"),
        ("test_two", "tests.md.test_b"),
        ("test_one", "tests.core.test_a"),
        ("test_quick", None),
    ]


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("tests/a.py::test_one@tests.a", "tests/a.py::test_one"),
        ("tests/a.py::test_one[x@y]@machine", "tests/a.py::test_one[x@y]"),
        ("tests/a.py::test_one[x@y]", "tests/a.py::test_one[x@y]"),
        ("tests/a.py::test_one", "tests/a.py::test_one"),
    ],
)
def test_reports_name_tests_without_their_group(written, plain):
    report = SimpleNamespace(nodeid=written)
    PlainNames().pytest_runtest_logreport(report)
    assert report.nodeid == plain


def test_processor_time_counts_processes_that_were_waited_for_and_no_sleep():
    burn = "import time\nwhile time.process_time() < 0.4: pass"
    began = processor_time.processor_s()
    subprocess.run([sys.executable, "-c", burn], check=True)
    burnt = processor_time.processor_s() - began
    subprocess.run([sys.executable, "-c", "import time; time.sleep(0.4)"], check=True)
    slept = processor_time.processor_s() - began - burnt
    assert burnt >= 0.4
    assert slept < burnt

"""Order in which tests run, their names in reports, and the report of their processor time."""

import re
import subprocess
import sys

import pytest

from tests import processor_time
from tests.order import arrange, group_of


class Item:
    """As much of a test as its place depends on."""

    def __init__(self, nodeid, *markers):
        self.nodeid, self._markers = nodeid, markers

    def get_closest_marker(self, name):
        return name if name in self._markers else None


def test_a_file_is_a_group_whole_runs_are_single_and_those_that_need_the_machine_come_first():
    items = [
        Item("tests/core/test_a.py::test_one"),
        Item("tests/md/test_b.py::test_one[x]"),
        Item("tests/integration/test_c.py::test_quick"),
        Item("tests/integration/test_c.py::test_run", "slow"),
        Item("tests/md/test_b.py::test_two", "slow"),
        Item("tests/integration/test_slurm.py::test_job", "slow", "machine"),
        Item("tests/bench/test_scaling.py::test_times", "machine"),
    ]
    arrange(items)
    assert [(item.nodeid.rpartition("::")[2], group_of(item.nodeid)) for item in items] == [
        ("test_job", "machine"),
        ("test_times", "machine"),
        ("test_run", "tests/integration/test_c.py::test_run"),
        ("test_one[x]", "tests/md/test_b.py"),
        ("test_two", "tests/md/test_b.py"),
        ("test_one", "tests/core/test_a.py"),
        ("test_quick", "tests/integration/test_c.py::test_quick"),
    ]


def test_a_mark_in_a_file_that_the_groups_do_not_know_is_an_error():
    with pytest.raises(AssertionError, match="test_a.py"):
        arrange([Item("tests/core/test_a.py::test_one", "machine")])


def test_two_processes_divide_files_and_not_the_tests_of_one(repository, tmp_path):
    files = [f"tests/core/{name}.py" for name in ("test_checks", "test_cautions", "test_floors")]
    options = ["-n", "2", "--dist", "loadgroup", "--no-loadscope-reorder", "-vv", "-o", f"cache_dir={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-k", "not import", *files],
        cwd=repository, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    ran = set(re.findall(r"^\[(gw\d)\].* (tests/core/\w+\.py)::", done.stdout, flags=re.MULTILINE))
    assert sorted(path for _, path in ran) == sorted(files)


def test_processor_time_counts_processes_that_were_waited_for_and_no_sleep():
    burn = "import time\nwhile time.process_time() < 0.4: pass"
    began = processor_time.processor_s()
    subprocess.run([sys.executable, "-c", burn], check=True)
    burnt = processor_time.processor_s() - began
    subprocess.run([sys.executable, "-c", "import time; time.sleep(0.4)"], check=True)
    slept = processor_time.processor_s() - began - burnt
    assert burnt >= 0.4
    assert slept < burnt

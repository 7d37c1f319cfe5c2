"""Whatever a child does, its end is known."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from cgloop.executors.child import Child
from cgloop.md.failure import failure_of


def end_of(child):
    while (ended := child.poll()) is None:
        time.sleep(0.01)
    return ended


@pytest.mark.parametrize(("way", "how"), [("python", "broken"), ("native", "dead")])
def test_a_child_without_memory(tmp_path, way, how):
    ended = end_of(Child("tests.executors.hungry", [way], tmp_path))
    assert ended.how == how
    assert failure_of(ended.words).limit == "out_of_memory"


def test_a_killed_child(tmp_path):
    child = Child("cgloop.md.worker", ["--help"], tmp_path)
    child.kill()
    ended = end_of(child)
    assert (ended.how, ended.code) == ("dead", -9)
    assert "SIGKILL" in ended.describe


def test_words_of_the_compiler_are_no_last_words(tmp_path):
    ended = end_of(Child("tests.executors.hungry", ["killed"], tmp_path))
    assert (ended.how, ended.code, ended.words) == ("dead", -9, "")


def test_a_child_that_refuses_tells_why(tmp_path):
    arguments = ["--config", tmp_path / "none.yaml", "--bundle", tmp_path, "--dataset", tmp_path, "--out", tmp_path]
    ended = end_of(Child("cgloop.md.worker", [*map(str, arguments), "--protein", "x", "--replicas", "0"], tmp_path))
    assert ended.how == "refused"
    assert ended.error is not None
    assert str(ended.error.where).endswith("none.yaml")


@pytest.mark.parametrize("how", [(), ("threadless",), ("deaf",)])
def test_a_child_does_not_outlive_a_leader_that_was_killed(tmp_path, how):
    """SIGKILL leaves a leader no time to say anything; also where the child cannot have a thread that watches it, and
    where it never comes to a safe point: it then leaves word of where it was."""
    leader = subprocess.Popen([sys.executable, "-m", "tests.executors.patient", "lead", str(tmp_path), *how])
    wait_for(lambda: (tmp_path / "alive").is_file())
    child = int((tmp_path / "pid").read_text())
    leader.kill()
    leader.wait()
    wait_for(lambda: not Path(f"/proc/{child}").is_dir() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2])
    assert ("in work" in (tmp_path / "log.stderr").read_text()) == (how == ("deaf",))


def wait_for(true, seconds=60.0):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)

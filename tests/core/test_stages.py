"""A stage is done or not done, whatever happens in between."""

import errno
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgloop.errors import Interrupted, UserError
from cgloop.stages import describe_changes, digest_of, read_record, remove_folder, run_stage


def write(text):
    def work(out: Path) -> None:
        (out / "result.txt").write_text(text)
        (out / "timing.json").write_text(str(time.time()))

    return work


def test_done_stage_is_not_repeated(tmp_path):
    first = run_stage(tmp_path / "s", {"a": 1}, write("x"), seed=3)
    again = run_stage(tmp_path / "s", {"a": 1}, write("y"), seed=3)
    assert (first.ran, again.ran) == (True, False)
    assert (tmp_path / "s" / "result.txt").read_text() == "x"
    assert again.record.seed == 3


def test_changed_input_repeats_and_says_why(tmp_path):
    said = []
    run_stage(tmp_path / "s", {"train": {"epochs": 1}}, write("x"), seed=0)
    result = run_stage(tmp_path / "s", {"train": {"epochs": 2}}, write("y"), seed=0, on_start=said.append)
    assert result.ran
    assert (tmp_path / "s" / "result.txt").read_text() == "y"
    assert said == ["runs again: train.epochs: 1 → 2"]


def test_result_digest_ignores_the_clock_only(tmp_path):
    results = [run_stage(tmp_path / name / "s", {}, write(text), seed=0) for name, text in ("ax", "bx", "cy")]
    digests = [result.record.result_digest for result in results]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("error", [UserError("bad"), OSError(errno.ENOSPC, "full"), Interrupted("stop")])
def test_nothing_half_written_is_left(tmp_path, error):
    def work(out):
        (out / "half.txt").write_text("x")
        raise error

    with pytest.raises((UserError, Interrupted)) as caught:
        run_stage(tmp_path / "s", {}, work, seed=0)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_old_result_stays_until_the_new_one_is_whole(tmp_path):
    run_stage(tmp_path / "s", {"a": 1}, write("old"), seed=0)

    def breaks(out):
        assert (tmp_path / "s" / "result.txt").read_text() == "old"
        raise UserError("no")

    with pytest.raises(UserError):
        run_stage(tmp_path / "s", {"a": 2}, breaks, seed=0)
    assert (tmp_path / "s" / "result.txt").read_text() == "old"
    assert run_stage(tmp_path / "s", {"a": 1}, write("z"), seed=0).ran is False


def test_resumable_stage_finds_its_partial_work_unless_inputs_changed(tmp_path):
    def begins(out):
        (out / "checkpoint").write_text("half")
        raise Interrupted("stop")

    def continues(out):
        seen.append((out / "checkpoint").exists())
        (out / "checkpoint").write_text("whole")

    for inputs, expected in (({"a": 1}, True), ({"a": 2}, False)):
        seen: list[bool] = []
        folder = tmp_path / str(expected) / "s"
        with pytest.raises(Interrupted):
            run_stage(folder, {"a": 1, "x": inputs["a"]}, begins, seed=0, resumable=True)
        run_stage(folder, {"a": 1, "x": 1}, continues, seed=0, resumable=True)
        assert seen == [expected]


def test_kill_in_the_middle_leaves_no_result(tmp_path):
    script = f"""
import os, pathlib, signal
from cgloop.stages import run_stage
def work(out):
    (out / "half.txt").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
run_stage(pathlib.Path({str(tmp_path)!r}) / "s", {{}}, work, seed=0)
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9
    assert read_record(tmp_path / "s") is None
    run_stage(tmp_path / "s", {}, write("x"), seed=0)
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == ["result.txt", "stage.json", "timing.json"]


def test_too_little_space_is_refused_before_work(tmp_path):
    with pytest.raises(UserError, match="GB wanted"):
        run_stage(tmp_path / "s", {}, write("x"), seed=0, min_free_gb=1e9)
    assert list(tmp_path.iterdir()) == []


def test_path_below_a_file_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written: Not a directory"):
        run_stage(tmp_path / "file" / "s", {}, write("x"), seed=0)


def test_a_full_device_is_told(tmp_path):
    def work(out):
        with open("/dev/full", "w") as file:
            file.write("x" * 100000)
            file.flush()
            os.fsync(file.fileno())

    with pytest.raises(UserError, match="No space left"):
        run_stage(tmp_path / "s", {}, work, seed=0)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=5), plain))
def test_digest_does_not_depend_on_order(data):
    assert digest_of(data) == digest_of(dict(reversed(data.items())))
    assert digest_of(data) == digest_of(json.loads(json.dumps(data)))


def test_changes_are_named_by_path():
    old, new = {"a": {"b": 1, "c": 2}, "p": {"digest": "x"}}, {"a": {"b": 1, "c": 3}, "p": {"digest": "y"}}
    assert describe_changes(old, new) == ["a.c: 2 → 3", "p changed"]


def test_a_folder_that_somebody_still_writes_into_is_removed(tmp_path):
    """As a program does whose worker was killed: it makes files for half a second more."""
    folder = tmp_path / "jobs"
    (folder / "lmp").mkdir(parents=True)
    until = time.monotonic() + 0.5

    def write():
        number = 0
        while time.monotonic() < until:
            with suppress(FileNotFoundError):
                (folder / "lmp" / str(number)).write_text("restart")
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        remove_folder(folder)
    finally:
        writer.join()
    assert not folder.exists()
    remove_folder(folder)

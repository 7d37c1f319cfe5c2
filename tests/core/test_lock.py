"""One process per run directory."""

import json
import os
import subprocess
import sys
import time

import pytest

from cgloop.errors import UserError
from cgloop.lock import locked

HOLDER = """
import pathlib, sys, time
from cgloop.lock import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(folder):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_second_process_is_refused_with_the_name_of_the_first(tmp_path):
    process = holder(tmp_path)
    try:
        with pytest.raises(UserError, match=f"in use by process {process.pid} on .*heartbeat"), locked(tmp_path):
            pass
    finally:
        process.kill()
        process.wait()


def test_lock_of_a_killed_process_is_explained_and_taken_over(tmp_path, caplog):
    process = holder(tmp_path)
    process.kill()
    process.wait()
    with locked(tmp_path):
        assert json.loads((tmp_path / "lock.json").read_text())["pid"] == os.getpid()
    assert f"process {process.pid} on" in caplog.text
    assert "that process is gone" in caplog.text
    assert not (tmp_path / "lock.json").exists()
    assert list(tmp_path.iterdir()) == []


def test_reused_process_id_does_not_count(tmp_path):
    with locked(tmp_path):
        content = json.loads((tmp_path / "lock.json").read_text())
    content["process_started"] -= 1000.0
    (tmp_path / "lock.json").write_text(json.dumps(content))
    with locked(tmp_path):
        pass


def test_lock_of_another_host_needs_a_decision(tmp_path):
    content = {"host": "elsewhere", "pid": 1, "since": "then", "job": "77", "token": "t"}
    (tmp_path / "lock.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"process 1 on elsewhere, job 77.*--take-over"), locked(tmp_path):
        pass
    with locked(tmp_path, take_over=True):
        pass


def test_lock_of_an_earlier_start_of_the_same_job_is_taken_over(tmp_path, monkeypatch, caplog):
    content = {"host": "elsewhere", "pid": 1, "since": "then", "job": "77", "restart": "0", "token": "t"}
    (tmp_path / "lock.json").write_text(json.dumps(content))
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    with pytest.raises(UserError, match="in use by process 1 on elsewhere, job 77"), locked(tmp_path):
        pass
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with locked(tmp_path):
        assert json.loads((tmp_path / "lock.json").read_text())["restart"] == "1"
    assert "an earlier start of this job" in caplog.text


def test_heartbeat_moves(tmp_path, monkeypatch):
    monkeypatch.setattr("cgloop.lock.HEARTBEAT_S", 0.05)
    with locked(tmp_path):
        os.utime(tmp_path / "lock.json", (0, 0))
        time.sleep(0.3)
        assert (tmp_path / "lock.json").stat().st_mtime > 0

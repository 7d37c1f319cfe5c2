"""Kill it anywhere and run the same command: the end is the same."""

import json
import os
import random
import shutil
import signal
import time

import pytest

from cgloop.errors import ExitCode
from cgloop.pipeline import PIPELINE
from tests.integration.conftest import cgloop, digests, events, short_config, start

KILLS = {stage.name: 3 if stage.resumable else 1 for stage in PIPELINE if stage.name != "refine"}
"""How often each stage is killed: again and again where it goes on from where it was, once where it begins anew."""

PATIENCE_S = 600


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """What was compiled until now, for this test alone: a process that is killed may leave a part of an entry."""
    own = shutil.copytree(os.environ["JAX_COMPILATION_CACHE_DIR"], tmp_path / "jax", copy_function=os.symlink)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(own))


def wait_for(run, count, kind, stage, process, seconds=PATIENCE_S):
    """Whether an event of this kind and stage comes after the first `count`, before time or process end."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        if any(e["event"] == kind and e.get("stage") == stage for e in events(run)[count:]):
            return True
        time.sleep(0.01)
    return False


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("own_cache")
def test_killed_in_every_stage_at_random_moments_ends_the_same(tmp_path, example_h5, finished_run):
    """Kills at uniformly random moments of the duration of each stage."""
    moments = random.Random(20260101)
    config = short_config(tmp_path, example_h5)
    run = tmp_path / "runs" / "short"
    kills = dict.fromkeys(KILLS, 0)
    for stage, times in KILLS.items():
        seconds = json.loads((finished_run / "cycle_000" / stage / "stage.json").read_text())["seconds"]
        for _ in range(times):
            count = len(events(run))
            process = start("cycle", config)
            if wait_for(run, count, "stage-start", stage, process):
                # Not later than the end of the stage: machines are uneven, and the next stage may be short.
                wait_for(run, count, "stage-done", stage, process, moments.uniform(0.0, 0.9) * seconds)
            process.kill()
            _, err = process.communicate()
            assert process.returncode in (-signal.SIGKILL, 0, 3, 4), err
            kills[stage] += process.returncode == -signal.SIGKILL
            if (run / "cycle_000" / stage / "stage.json").exists():
                break
    assert all(kills.values()), kills
    done = cgloop("cycle", config)
    assert done.returncode in (0, 3, 4), done.stderr
    assert "Traceback" not in done.stderr
    assert digests(run) == digests(finished_run)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["train", "md"])
def test_sigterm_leaves_cleanly_and_resumable(tmp_path, example_h5, finished_run, stage):
    config = short_config(tmp_path, example_h5)
    run = tmp_path / "runs" / "short"
    process = start("cycle", config)
    assert wait_for(run, 0, "stage-start", stage, process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == ExitCode.INTERRUPTED, err
    assert "Traceback" not in err
    assert not (run / "lock.json").exists()
    assert not (run / "cycle_000" / stage).exists()
    cgloop("cycle", config)
    assert digests(run) == digests(finished_run)


def test_time_limit_leaves_with_exit_code_5(tmp_path, example_h5):
    config = short_config(tmp_path, example_h5, run={"time_limit_minutes": 0.02}, train={"epochs": 2000})
    done = cgloop("cycle", config, "--set", f"run.root={tmp_path}", "--set", "run.name=limited")
    assert done.returncode == ExitCode.INTERRUPTED, done.stderr
    assert "time limit of 0.02 min reached" in done.stdout
    assert "run the same command again" in done.stdout


@pytest.mark.usefixtures("own_cache")
def test_second_process_is_refused(tmp_path, example_h5):
    config = short_config(tmp_path, example_h5, train={"epochs": 2000})
    run = tmp_path / "runs" / "short"
    first = start("cycle", config)
    try:
        assert wait_for(run, 0, "stage-start", "prep", first)
        second = cgloop("cycle", config)
        assert second.returncode == ExitCode.BAD_INPUT
        assert f"in use by process {first.pid}" in second.stderr
    finally:
        first.kill()
        first.communicate()

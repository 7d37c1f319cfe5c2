"""The stage `refine` in the real loop: killed and continued, and everything behind it reads what it made."""

import json
import random
import shutil
import time

import pytest

from cgloop.rundir import trained_folder
from tests.integration.conftest import cgloop, events, short_config, start

pytestmark = pytest.mark.slow

REFINE = {
    "when": "always", "rounds": 6, "chains": 4, "frames_per_round": 2, "round_ps": 0.4, "warmup_ps": 0.4,
    "reference_frames": 32, "force_frames": 8, "outside_share": 0.25,
}  # fmt: skip


def refine_result(folder) -> tuple[str, dict]:
    stage = json.loads((folder / "stage.json").read_text())
    return stage["result_digest"], json.loads((folder / "refine.json").read_text())


@pytest.mark.timeout(1200)
def test_killed_at_random_moments_it_ends_the_same(tmp_path, example_h5, finished_run):
    """Prepared data, priors and training are those of another run; the refinement is killed three times."""
    config = {}
    for name in ("whole", "killed"):
        folder = tmp_path / name
        folder.mkdir()
        config[name] = short_config(folder, example_h5, refine=REFINE)
        run = folder / "runs" / "short"
        for stage in ("prep", "priors", "train"):
            shutil.copytree(finished_run / "cycle_000" / stage, run / "cycle_000" / stage)
    done = cgloop("refine", config["whole"])
    assert done.returncode == 0, done.stderr
    assert "refine: done" in done.stdout
    whole = tmp_path / "whole" / "runs" / "short"
    seconds = json.loads((whole / "cycle_000" / "refine" / "stage.json").read_text())["seconds"]
    run, moments, kills = tmp_path / "killed" / "runs" / "short", random.Random(4), 0
    for _ in range(3):
        count = len(events(run))
        process = start("refine", config["killed"])
        while not any(one["event"] == "stage-start" for one in events(run)[count:]) and process.poll() is None:
            time.sleep(0.01)
        time.sleep(moments.uniform(0.3, 0.9) * seconds)
        process.kill()
        process.communicate()
        kills += process.returncode == -9
        if (run / "cycle_000" / "refine" / "stage.json").exists():
            break
    assert kills
    done = cgloop("refine", config["killed"])
    assert done.returncode == 0, done.stderr
    assert refine_result(run / "cycle_000" / "refine") == refine_result(whole / "cycle_000" / "refine")
    assert trained_folder(run / "cycle_000").name == "refine"
    assert not (run / "cycle_000" / "refine" / "checkpoints").exists()


@pytest.mark.timeout(1200)
def test_the_loop_judges_the_refined_model_and_says_so(tmp_path, example_h5, finished_run):
    config = short_config(tmp_path, example_h5, refine=REFINE)
    run = tmp_path / "runs" / "short"
    for stage in ("prep", "priors", "train"):
        shutil.copytree(finished_run / "cycle_000" / stage, run / "cycle_000" / stage)
    done = cgloop("cycle", config)
    assert done.returncode in (0, 3, 4), done.stderr
    assert "Traceback" not in done.stderr
    cycle = run / "cycle_000"
    exported = json.loads((cycle / "export" / "manifest.json").read_text())
    refined = json.loads((cycle / "refine" / "summary.json").read_text())
    assert exported["training"] == refined
    assert refined["refined"]["parameters"] == "network"
    verdict = (run / "verdict.json").read_text()
    assert "matched, not predicted" in verdict
    assert '<section id="refine">' in (run / "report.html").read_text()
    status = cgloop("status", config)
    assert "refine" in status.stdout

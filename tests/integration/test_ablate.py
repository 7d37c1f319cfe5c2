"""The three runs of an ablation, short."""

import json
from pathlib import Path

import pytest
import yaml

from cgloop.ablate import ARMS, KEPT, arm_config, arms_of, summary_of, table
from cgloop.config import load_config
from cgloop.errors import ExitCode
from cgloop.pipeline import BY_NAME
from cgloop.rundir import RunDirectory
from tests.integration.conftest import cgloop, events, short_config


def test_arms_differ_in_the_energy_alone(tmp_path, example_h5):
    config = load_config(short_config(tmp_path, example_h5, cycles=3, train={"train_priors": True, "epochs": 3}))
    arms = [arm_config(config, arm, tmp_path).model_dump(mode="json") for arm in ARMS]
    assert [one["model"].pop("energy") for one in arms] == list(ARMS)
    assert [one["run"].pop("name") for one in arms] == list(ARMS)
    # There is no prior to train where there is none.
    assert [one["train"].pop("train_priors") for one in arms] == [True, False, True]
    assert arms[0] == arms[1] == arms[2]
    assert arms[0]["cycles"] == 1


def test_with_a_refinement_there_are_refined_arms_of_the_same_trainings(tmp_path, example_h5):
    file = short_config(tmp_path, example_h5, refine={"when": "always", "parameters": "network"})
    config = load_config(file)
    assert arms_of(load_config(short_config(tmp_path, example_h5))) == ARMS
    assert arms_of(config) == (*ARMS, "prior-only-refined", "hybrid-refined")
    for energy, parameters in (("prior-only", "prior"), ("hybrid", "network")):
        plain, refined = (arm_config(config, arm, tmp_path) for arm in (energy, f"{energy}-refined"))
        assert (plain.refine.when, refined.refine.when) == ("never", "always")
        assert refined.refined_parameters == parameters
        assert BY_NAME["train"].settings(plain) == BY_NAME["train"].settings(refined)
    assert arm_config(config, "ml-only", tmp_path).refine.when == "never"


def test_the_summary_can_be_moved_with_its_runs(tmp_path):
    """It names pages relative to itself."""
    run = RunDirectory(tmp_path / "a" / "hybrid")
    for path, data in (
        (run.path / "cycles.json", {"cycles": [dict.fromkeys(KEPT)]}),
        (run.stage(0, "train") / "history.json", {}),
    ):
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(data))
    run.report.write_text("")
    found = summary_of(run, tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    assert not Path(found["page"]).is_absolute()
    assert (tmp_path / "b" / found["page"]).is_file()


def test_what_was_not_measured_is_a_dash():
    one = {
        "verdict": "fail", "convergence": None, "force": {"rmse": None}, "crashes": {}, "survival": 0.0,
        "drift": {"nve.drift": {"p": {"value": None, "error": 0.0}}}, "structure": {},
    }  # fmt: skip
    assert table({"prior-only": one})[1].split() == ["prior-only", "fail", "–", "–", "–", "0%", "–", "–", "none"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_three_runs_and_nothing_twice(tmp_path, example_h5):
    short = {"replicas": 3, "nvt": {"length_ps": 0.5, "equilibration_ps": 0.1}, "nve": {"length_ps": 0.5}}
    config = short_config(tmp_path, example_h5, md=short, train={"epochs": 1, "batch_size": 64})
    done = cgloop("ablate", config)
    assert done.returncode == ExitCode.PASS, done.stderr
    root = tmp_path / "runs" / "short-ablation"
    found = json.loads((root / "ablation.json").read_text())
    assert list(found["arms"]) == sorted(ARMS)
    assert str(tmp_path) not in (root / "ablation.json").read_text()
    assert found["arms"]["prior-only"]["convergence"] is None
    assert found["arms"]["hybrid"]["convergence"]["epochs"] == 1
    assert found["arms"]["prior-only"]["force"]["rmse"] == pytest.approx(found["arms"]["hybrid"]["force"]["prior"])
    for arm in ARMS:
        assert yaml.safe_load((root / arm / "config.yaml").read_text())["model"]["energy"] == arm
        assert arm in done.stdout
    # The data are prepared once.
    assert (root / "hybrid" / "cycle_000" / "prep").is_symlink()
    prepared = [e for arm in ARMS for e in events(root / arm) if e["event"] == "stage-done" and e["stage"] == "prep"]
    assert len(prepared) == 1
    counts = {arm: len([e for e in events(root / arm) if e["event"] == "stage-done"]) for arm in ARMS}
    assert cgloop("ablate", config).returncode == ExitCode.PASS
    assert counts == {arm: len([e for e in events(root / arm) if e["event"] == "stage-done"]) for arm in ARMS}

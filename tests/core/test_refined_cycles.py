"""The stage `refine` in the pipeline: where it is, what reads it, and what its absence leaves as it was."""

import json
from dataclasses import asdict
from itertools import count

import pytest
from typer.testing import CliRunner

from cgloop.cli import app
from cgloop.config.root import Config
from cgloop.cycle import _run, _stages
from cgloop.errors import UserError
from cgloop.feedback.plan import Plan, write_plan
from cgloop.feedback.remedies import changed
from cgloop.pipeline import BY_NAME, PIPELINE, Stage, context_of, stage_inputs, stages_of, up_to
from cgloop.rundir import STAGES, RunDirectory, find_params, trained_folder, write_config
from cgloop.stages import read_record
from cgloop.status import read_status
from tests.core.test_digests import configure

READERS = ("export", "parity", "validate", "feedback")
"""Stages that read the trained parameters; the others read what was exported."""


def refined(config: Config, when: str = "always") -> Config:
    return changed(config, {"refine.when": when})


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run whose stages write who made them instead of computing: `do(config, cycle)` brings a cycle up to date."""
    directory, number = RunDirectory(tmp_path / "runs" / "r"), count()
    directory.path.mkdir(parents=True)

    def work(name):
        def write(context, out):
            made = f"{next(number)} {name} of cycle {context.cycle} with seed {context.config.run.seed}"
            (out / ("params.safetensors" if name in ("train", "refine") else "result")).write_text(made)

        return write

    def do(config, cycle=0):
        context = context_of(config, directory, cycle)
        stages = [Stage(**{**vars(stage), "work": work(stage.name)}) for stage in stages_of(context.config)]
        monkeypatch.setattr("cgloop.cycle._parity_holds", lambda context: True)
        return [stage.name for stage, done in _stages(context, stages) if done.ran]

    do.directory = directory
    return do


def test_it_comes_after_the_training_and_only_where_it_is_asked_for(tmp_path):
    config = configure(tmp_path)
    assert tuple(stage.name for stage in PIPELINE) == STAGES
    plain = tuple(name for name in STAGES if name != "refine")
    assert tuple(stage.name for stage in stages_of(config)) == plain
    assert tuple(stage.name for stage in stages_of(refined(config, "never"))) == plain
    assert tuple(stage.name for stage in stages_of(refined(config))) == STAGES
    assert [stage.name for stage in up_to("refine", refined(config))] == ["prep", "priors", "train", "refine"]
    assert [stage.name for stage in up_to("export", refined(config))][-2:] == ["refine", "export"]
    assert "refine" not in [stage.name for stage in up_to("train", refined(config))]
    assert [stage.name for stage in up_to("export", config)][-2:] == ["train", "export"]


def test_what_reads_the_training_reads_the_refinement_and_no_more_than_before_without_one(tmp_path):
    config = configure(tmp_path)
    for stage in PIPELINE:
        reads = stage.reads(config)
        assert "refine" not in reads
        assert stage.reads(refined(config)) == ((*reads, "refine") if stage.name in READERS else reads)
    members = changed(config, {"train.ensemble.members": 2})
    assert BY_NAME["md"].reads(members)[-1] == "train"
    assert BY_NAME["md"].reads(refined(members))[-2:] == ("train", "refine")


def test_settings_of_a_refinement_are_in_no_other_digest(tmp_path, run):
    config = configure(tmp_path)
    run(config)
    before = {stage.name: stage_inputs(context_of(config, run.directory, 0), stage) for stage in stages_of(config)}
    assert run(changed(config, {"refine.rounds": 7, "refine.when": "never"})) == []
    assert all("refine" not in inputs for inputs in before.values())
    assert "max_restart_share" not in json.dumps(before)
    first = run(refined(config))
    assert first == ["refine", "export", "parity", "md", "control", "validate", "feedback"]
    assert run(changed(refined(config), {"refine.rounds": 7})) == first
    # What only names the default, or decides whether there is a refinement, changes nothing about it.
    assert run(changed(refined(config), {"refine.rounds": 7, "refine.parameters": "network"})) == []


def test_without_a_refinement_its_folder_does_not_stay(tmp_path, run):
    config = configure(tmp_path)
    run(refined(config))
    folder = run.directory.stage(0, "refine")
    (folder.parent / ".refine.partial").mkdir()
    assert find_params(run.directory.path) == folder / "params.safetensors"
    assert {one.stage for one in read_status(refined(config), run.directory)} == set(STAGES)
    assert run(config)[0] == "export"
    assert not list(folder.parent.glob("*refine*"))
    assert find_params(run.directory.path) == run.directory.stage(0, "train") / "params.safetensors"
    assert "refine" not in {one.stage for one in read_status(config, run.directory)}


def test_the_next_cycle_starts_from_the_refined_parameters(tmp_path, run):
    config = configure(tmp_path)
    run(refined(config))
    folder = run.directory.stage(0, "refine")
    context = context_of(refined(config), run.directory, 1)
    assert context.previous_params == folder / "params.safetensors"
    assert trained_folder(run.directory.cycle(0)) == folder
    run(refined(config), 1)
    earlier = stage_inputs(context, BY_NAME["train"])["previous_cycle"]
    assert earlier == {"digest": read_record(folder).result_digest}
    assert context.trained == run.directory.stage(1, "refine")


def remedy(cycle: int = 1) -> Plan:
    active = [{"remedy": "refine", "since": cycle, "changes": {"refine.when": "always"}, "reason": "test"}]
    return Plan(cycle, base=0, start=0, training=0, active=active, tried="refine")


def test_as_a_remedy_it_refines_the_training_that_failed_with_what_its_dynamics_showed(tmp_path, run):
    config = configure(tmp_path)
    run(config)
    write_plan(make(run.directory.cycle(1)), remedy())
    # In place of a training that an earlier plan of this cycle asked for.
    own = make(run.directory.stage(1, "train"))
    (own / "params.safetensors").write_text("another")
    assert run(config, 1) == ["refine", "export", "parity", "md", "control", "validate", "feedback"]
    train = run.directory.stage(1, "train")
    assert train.is_symlink()
    assert train.resolve() == run.directory.stage(0, "train").resolve()
    context = context_of(config, run.directory, 1)
    assert context.failed == 0
    inputs = stage_inputs(context, BY_NAME["refine"])
    assert inputs["first_frames"] == {"digest": read_record(run.directory.stage(0, "md")).result_digest}
    assert inputs["seed"] == config.run.seed + 1
    assert run(config, 1) == []
    # The training that is used again is found wanting: it is made as the cycle would that it belongs to.
    longer = changed(config, {"train.epochs": 7})
    assert run(longer, 1)[0] == "train"
    assert f"with seed {config.run.seed}" in (train / "params.safetensors").read_text()
    assert run(longer)[0] == "train"
    assert "train" not in run(longer, 1)


def test_a_later_cycle_refines_its_own_training_and_starts_from_the_data(tmp_path, run):
    config = configure(tmp_path)
    run(config)
    write_plan(make(run.directory.cycle(1)), remedy())
    run(config, 1)
    plan = Plan(**{**asdict(remedy()), "cycle": 2, "base": 1, "start": 1, "training": None, "tried": "longer-training"})
    write_plan(make(run.directory.cycle(2)), plan)
    assert run(config, 2)[:2] == ["train", "refine"]
    context = context_of(config, run.directory, 2)
    assert context.failed is None
    assert "first_frames" not in stage_inputs(context, BY_NAME["refine"])
    assert context.previous_params == run.directory.stage(1, "refine") / "params.safetensors"


def test_a_refinement_needs_a_training(tmp_path, run):
    context = context_of(refined(configure(tmp_path)), run.directory, 0)
    with pytest.raises(UserError, match="stage prep is not done"):
        _run(context, BY_NAME["refine"])


def test_the_command_refines_unless_the_config_forbids_it(tmp_path):
    path = tmp_path / "c.yaml"
    write_config(refined(configure(tmp_path), "never"), path)
    done = CliRunner().invoke(app, ["refine", str(path)])
    assert isinstance(done.exception, UserError)
    assert "`refine.when: never` forbids it" in str(done.exception)
    assert not (tmp_path / "runs" / "r").exists()


def make(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return folder

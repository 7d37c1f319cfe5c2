"""What enters the digests of stages: settings where they have an effect, and the version of cgloop."""

import json
from itertools import count

import pytest

import cgloop
from cgloop.config import Config
from cgloop.config.neutral import NEUTRAL, is_neutral, without_neutral
from cgloop.errors import Interrupted
from cgloop.pipeline import BY_NAME, PIPELINE, context_of, stage_inputs
from cgloop.prep.jobs import _inputs, make_jobs
from cgloop.rundir import RunDirectory
from cgloop.stages import digest_of, run_stage

OTHER = {
    "data.sources.label": "misfolded",
    "data.sources.weight": 2.0,
    "data.sources.target": "positions",
    "data.sources.replica_offset": 3,
    "data.sources.relaxation_frames": 5,
    "model.network": "painn",
    "model.ml_energy_bound_kcal_per_mol": 10.0,
    "validate.lineages": {"*": [[0, 1]]},
}
"""For every key of the table, a value that changes results."""


def configure(folder, key=None, value=None) -> Config:
    """A config with the value at the dotted path of a key."""
    source = folder / "one.h5"
    source.write_bytes(b"trajectory")
    split = {"by": "replica", "train": [0], "validation": [1], "test": [2]}
    data = {
        "run": {"name": "r", "root": str(folder / "runs")},
        "data": {"sources": [{"path": str(source)}], "temperature_K": 320.0, "split": split},
    }
    if key is not None:
        *sections, last = key.split(".")
        place = data
        for name in sections:
            place = place.setdefault(name, {})
            place = place[0] if isinstance(place, list) else place
        place[last] = value
    return Config.model_validate(data)


def settings(config) -> dict:
    return {stage.name: without_neutral(stage.settings(config)) for stage in PIPELINE}


def keys_of(tree, path="") -> set[str]:
    """Dotted paths of everything in settings."""
    if isinstance(tree, list):
        return set().union(*(keys_of(one, path) for one in tree), set())
    if not isinstance(tree, dict):
        return {path}
    return {path}.union(*(keys_of(one, f"{path}.{key}" if path else key) for key, one in tree.items()))


def test_every_key_of_the_table_has_another_value_to_try():
    assert OTHER.keys() == NEUTRAL.keys()


@pytest.mark.parametrize("key", NEUTRAL)
def test_a_neutral_value_leaves_no_trace_and_another_one_does(key, tmp_path):
    assert is_neutral(key, NEUTRAL[key])
    neutral, other = (settings(configure(tmp_path, key, value)) for value in (NEUTRAL[key], OTHER[key]))
    # As before the key existed: its name is in no digest.
    assert all(key not in keys_of(tree) for tree in neutral.values())
    assert any(digest_of(other[stage]) != digest_of(neutral[stage]) for stage in other)


def test_digests_of_configs_from_before_the_keys_are_kept(tmp_path):
    """What the stage `train` recorded before there were other networks, bounds, labels and weights."""
    found = settings(configure(tmp_path))["train"]
    assert set(found) == {"model", "train", "seed", "temperatures"}
    assert {"network", "ml_energy_bound_kcal_per_mol"}.isdisjoint(found["model"])
    assert {"label", "weight"}.isdisjoint(settings(configure(tmp_path))["prep"]["data"]["sources"][0])


def test_a_new_key_of_any_section_needs_a_line_in_the_table_only():
    table = {"validate.new": 0, "md.nvt.new": None, "data.sources.new": "auto", "train.flag": False}
    before = {"validate": {"a": 1}, "md": {"nvt": {"b": 2}}, "data": {"sources": [{"c": 3}, {"c": 4}]}, "train": {}}

    def with_new(value):
        now = json.loads(json.dumps(before))
        now["validate"]["new"], now["md"]["nvt"]["new"], now["train"]["flag"] = 0, None, False
        now["data"]["sources"][0]["new"], now["data"]["sources"][1]["new"] = "auto", value
        return without_neutral(now, neutral=table)

    assert digest_of(with_new("auto")) == digest_of(before)
    assert digest_of(with_new("none")) != digest_of(before)
    assert without_neutral({"new": None, "b": 2}, "md.nvt", table) == {"b": 2}
    assert without_neutral({"train": {"flag": 0}}, neutral=table) == {"train": {"flag": 0}}, "0 is not false"


def test_jobs_of_prep_leave_neutral_keys_out_too(tmp_path, monkeypatch):
    config = configure(tmp_path).data

    def digests():
        (job,) = make_jobs(config.sources, config, tmp_path)
        return digest_of(_inputs(job)), job.folder.name

    before = digests()
    monkeypatch.setitem(NEUTRAL, "data.sources.stride", 1)
    monkeypatch.setitem(NEUTRAL, "data.mapping", "ca")
    assert all(one != other for one, other in zip(before, digests(), strict=True))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """All stages of a cycle, done with work that only writes a file."""
    config = configure(tmp_path)
    directory, number = RunDirectory(tmp_path / "runs" / "r"), count()
    context = context_of(config, directory, 0)

    def do(stage, work=lambda out: (out / "result").write_text(str(next(number))), **options):
        folder = context.folder(stage.name)
        folder.parent.mkdir(parents=True, exist_ok=True)
        return run_stage(folder, stage_inputs(context, stage), work, seed=0, **options)

    for stage in PIPELINE:
        do(stage)
    assert not any(do(stage).ran for stage in PIPELINE)
    return do


@pytest.mark.parametrize("name", [stage.name for stage in PIPELINE])
def test_a_new_version_runs_every_stage_again(name, run, monkeypatch):
    """By itself, not only because an earlier stage came out otherwise."""
    reasons: list[str] = []
    monkeypatch.setattr(cgloop, "__version__", "99.0.0")
    assert run(BY_NAME[name], on_start=reasons.append).ran
    assert "99.0.0" in reasons[0]


@pytest.mark.parametrize("name", [stage.name for stage in PIPELINE if stage.resumable])
def test_what_another_version_began_is_not_continued(name, run, monkeypatch):
    stage = BY_NAME[name]

    def begins(out):
        (out / "checkpoint").write_text("half")
        raise Interrupted("test")

    def ends(out):
        assert not (out / "checkpoint").exists()
        (out / "result").write_text("whole")

    monkeypatch.setattr(cgloop, "__version__", "99.0.0")
    with pytest.raises(Interrupted):
        run(stage, begins, resumable=True, lasting=stage.lasting)
    monkeypatch.setattr(cgloop, "__version__", "99.0.1")
    assert run(stage, ends, resumable=True, lasting=stage.lasting).ran


def test_jobs_of_prep_that_outlive_a_stage_are_of_one_version(tmp_path, monkeypatch):
    config = configure(tmp_path).data
    (job,) = make_jobs(config.sources, config, tmp_path)
    before = digest_of(_inputs(job))
    monkeypatch.setattr(cgloop, "__version__", "99.0.0")
    assert digest_of(_inputs(job)) != before

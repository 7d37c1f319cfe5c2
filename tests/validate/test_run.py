"""The stage as a whole: files in, files out, mistakes in one line."""

import json
import os
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
import yaml

from cgloop.config.validate import REQUIRED
from cgloop.errors import UserError
from cgloop.validate.gate import judge
from cgloop.validate.run import validate_run
from cgloop.validate.trajectory import read_dcd
from tests.validate import builders


@pytest.fixture
def run(chain):
    names, native, _ = chain
    return builders.analytic_run(names, native)


@pytest.fixture
def written(run, tmp_path):
    return builders.write_run(run, tmp_path / "run")


def check(metrics, name):
    return next(c for c in metrics["checks"] if c["check"] == name)


def test_metrics_are_complete_and_do_not_depend_on_the_place(run, tmp_path):
    texts = []
    for place in ("here", "elsewhere/deeper"):
        paths = builders.write_run(run, tmp_path / place)
        out = tmp_path / place / "out"
        validate_run(run.config(), out=out, **paths)
        texts.append([(out / name).read_bytes() for name in ("metrics.json", "plots.json")])
        assert sorted(os.listdir(out)) == ["metrics.json", "plots.json"]
        assert str(tmp_path).encode() not in b"".join(texts[-1])
    assert texts[0] == texts[1]
    metrics = json.loads(texts[0][0])
    assert {c["check"] for c in metrics["checks"]} >= set(REQUIRED)
    for entry in metrics["checks"]:
        assert entry["reason"]
        assert entry["inputs"], entry["check"]
    reference = check(metrics, "structure.q")["inputs"]["reference"]
    assert reference["frames"] == 1200
    assert reference["splits"] == {"train": 300, "validation": 300, "test": 600, "unused": 0}
    plots = json.loads(texts[0][1])["proteins"]["chain"]
    assert len(plots["rmsd"]["replicas"]) == 8
    assert len(texts[0][1]) < 2_000_000


def test_other_temperature_is_reported_and_not_gated(run, tmp_path):
    run.md_temperature_K = 450.0
    run.other_reference = run.reference
    metrics = validate_run(run.config(), out=tmp_path / "out", **builders.write_run(run, tmp_path / "run"))
    assert metrics["proteins"]["chain"]["gated"] is False
    protein_checks = [c for c in metrics["checks"] if c["subject"] == "chain"]
    assert {c["verdict"] for c in protein_checks} == {"reported"}
    assert check(metrics, "structure.rmsd")["value"] is not None
    assert judge(metrics, REQUIRED)["verdict"] == "inconclusive"


def test_temperature_without_reference_is_reported_too(run, tmp_path):
    run.md_temperature_K = 300.0
    metrics = validate_run(run.config(), out=tmp_path / "out", **builders.write_run(run, tmp_path / "run"))
    assert "no reference at 300 K" in check(metrics, "structure.q")["reason"]


def test_untrained_residues_forbid_a_pass_of_structure(run, tmp_path):
    run.untrained = ["TRP"]
    metrics = validate_run(run.config(), out=tmp_path / "out", **builders.write_run(run, tmp_path / "run"))
    assert check(metrics, "structure.q")["verdict"] == "inconclusive"
    assert "TRP" in check(metrics, "structure.q")["reason"]
    assert check(metrics, "stability.survival")["verdict"] == "pass"


def test_reference_at_another_temperature_tells_the_power(run, tmp_path):
    run.other_reference = run.reference
    metrics = validate_run(run.config(), out=tmp_path / "out", **builders.write_run(run, tmp_path / "run"))
    assert not metrics["controls"]["power"]["chain"]["structure.rmsd"]["able"]
    verdict = judge(metrics, REQUIRED)
    assert verdict["verdict"] == "inconclusive"
    assert len(verdict["not_gated"]) == 6
    assert "nothing was decided about the structure" in verdict["summary"]
    rng = np.random.default_rng(0)
    run.other_reference = [builders.elastic_frames(rng, 1.6 * run.native, 300) for _ in range(3)]
    metrics = validate_run(run.config(), out=tmp_path / "out", **builders.write_run(run, tmp_path / "run2"))
    assert metrics["controls"]["power"]["chain"]["structure.rmsd"]["able"]
    assert judge(metrics, REQUIRED)["verdict"] == "pass"


def test_run_without_controls_is_undecided_in_words(run, written, tmp_path):
    metrics = validate_run(run.config(), out=tmp_path / "out", **{**written, "control_dir": None})
    assert check(metrics, "nve.order")["verdict"] == "inconclusive"
    verdict = judge(metrics, REQUIRED)
    assert verdict["verdict"] == "inconclusive"
    assert "stage `control`" in verdict["summary"]


def spoil(path, how):
    if how == "missing":
        path.unlink()
    elif how == "damaged":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.write_bytes(b"")


@pytest.mark.parametrize("how", ["missing", "damaged", "empty"])
@pytest.mark.parametrize(
    ("file", "failed"),
    [
        ("nvt/observables.h5", ["stability.survival", "nvt.temperature", "structure.rmsd", "structure.q"]),
        ("nvt/replica_002.dcd", ["stability.survival", "nvt.temperature", "structure.contacts"]),
        ("nvt/topology.pdb", ["structure.rmsd"]),
        ("nve/observables.h5", ["stability.survival", "nve.drift"]),
        ("minimize/observables.h5", ["minimize.converged"]),
    ],
)
def test_record_that_cannot_be_read_fails_its_checks(run, written, tmp_path, file, failed, how):
    spoil(written["md_dir"] / "chain" / file, how)
    metrics = validate_run(run.config(), out=tmp_path / "out", **written)
    assert {name: check(metrics, name)["verdict"] for name in failed} == dict.fromkeys(failed, "fail")
    assert judge(metrics, REQUIRED)["verdict"] == "fail"


def test_stage_that_never_ran_fails(run, written, tmp_path):
    shutil.rmtree(written["md_dir"] / "chain" / "nve")
    metrics = validate_run(run.config(), out=tmp_path / "out", **written)
    assert check(metrics, "nve.drift")["verdict"] == "fail"
    assert "there is no record of a NVE run" in check(metrics, "nve.drift")["reason"]
    assert check(metrics, "nvt.temperature")["verdict"] == "pass"


def test_stage_that_no_replica_reached_says_so_first(run, written, tmp_path):
    folder = written["md_dir"] / "chain" / "nve"
    (folder / "topology.pdb").unlink()
    with h5py.File(folder / "observables.h5", "r+") as file:
        for name in list(file):
            attributes = dict(file[name].attrs)
            del file[name]
            file.create_group(name).attrs.update({**attributes, "limit": "not-started", "steps_done": 0})
    metrics = validate_run(run.config(), out=tmp_path / "out", **written)
    found = check(metrics, "nve.drift")
    assert found["verdict"] == "fail"
    assert "was not started: it broke a limit in an earlier stage" in found["reason"]
    assert "topology" not in found["reason"]


def test_degrees_of_freedom_are_those_that_the_run_recorded(run, written, tmp_path):
    """A thermostat that holds the center of mass, which the config does not name: 3N − 3 and not 3N."""
    with h5py.File(written["md_dir"] / "chain" / "nvt" / "observables.h5", "r+") as file:
        freedom = file.attrs["dof"] = 3 * len(run.names) - 3
    metrics = validate_run(run.config(), out=tmp_path / "out", **written)
    assert check(metrics, "nvt.distribution")["detail"]["degrees_of_freedom"] == freedom
    assert check(metrics, "nvt.temperature")["detail"]["mean_K"] == pytest.approx(
        320 * (freedom + 3) / freedom, rel=0.01
    )
    plots = json.loads((tmp_path / "out" / "plots.json").read_text())
    assert plots["proteins"]["chain"]["temperature"]["degrees_of_freedom"] == freedom


def test_other_number_of_beads_fails(run, tmp_path):
    written = builders.write_run(run, tmp_path / "run")
    builders.write_dcd(written["md_dir"] / "chain" / "nvt" / "replica_000.dcd", np.zeros((300, 7, 3)))
    metrics = validate_run(run.config(), out=tmp_path / "out", **written)
    assert "7 beads in replica_000.dcd, not 10" in check(metrics, "structure.rmsd")["reason"]


def test_dcd_of_zero_frames_is_empty(tmp_path):
    builders.write_dcd(tmp_path / "a.dcd", np.zeros((0, 4, 3)))
    assert read_dcd(tmp_path / "a.dcd", 4).shape == (0, 4, 3)


def test_positions_survive_the_trip(tmp_path):
    positions = np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float32) * 100
    builders.write_dcd(tmp_path / "a.dcd", positions)
    assert np.array_equal(read_dcd(tmp_path / "a.dcd", 4), positions)


@pytest.mark.parametrize(
    ("which", "content", "words"),
    [
        ("md.json", None, "no such file"),
        ("md.json", "{", "cannot be read"),
        ("md.json", "[]", "is not a JSON object"),
        ("md.json", "{}", "does not say what was asked"),
        ("parity.json", None, "no such file"),
        ("forces.json", "nope", "cannot be read"),
        ("manifest.json", None, "no data set here"),
    ],
)
def test_inputs_that_cannot_be_understood_are_user_errors(run, written, tmp_path, which, content, words):
    folder = {"md.json": "md", "parity.json": "parity", "forces.json": "train", "manifest.json": "prep"}[which]
    path = tmp_path / "run" / folder / which
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=words):
        validate_run(run.config(), out=tmp_path / "out", **written)
    assert not (tmp_path / "out").exists()


def command(written, config, out):
    named = {"--config": config, "--md": written["md_dir"], "--dataset": written["dataset_dir"],
             "--parity": written["parity_json"], "--train": written["train_dir"],
             "--control": written["control_dir"], "--out": out}  # fmt: skip
    arguments = [str(part) for pair in named.items() for part in pair]
    return subprocess.run([sys.executable, "-m", "cgloop.validate", *arguments], capture_output=True, text=True)


def test_command_line(run, written, tmp_path):
    config = tmp_path / "config.yaml"
    plain = run.config().model_dump(mode="json", by_alias=True)
    config.write_text(yaml.safe_dump(plain))
    done = command(written, config, tmp_path / "out")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["checks"]
    (written["md_dir"] / "md.json").unlink()
    done = command(written, config, tmp_path / "out2")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "md.json: no such file" in done.stderr
    assert not (tmp_path / "out2").exists()


def test_reference_without_the_temperature_is_a_user_error(run, tmp_path):
    written = builders.write_run(run, tmp_path / "run")
    md = json.loads((written["md_dir"] / "md.json").read_text())
    md["temperature_K"] = md["model_temperature_K"] = 400.0
    (written["md_dir"] / "md.json").write_text(json.dumps(md))
    with pytest.raises(UserError, match=r"no frames of `chain` at 400 K.*there are: 320"):
        validate_run(run.config(), out=tmp_path / "out", **written)


def test_series_of_different_lengths_are_damage(run, written, tmp_path):
    with h5py.File(written["md_dir"] / "chain" / "nvt" / "observables.h5", "a") as file:
        values = file["replica_001/kinetic"][:-3]
        del file["replica_001/kinetic"]
        file["replica_001/kinetic"] = values
    metrics = validate_run(run.config(), out=tmp_path / "out", **written)
    assert "series of different lengths" in check(metrics, "nvt.temperature")["reason"]

"""A crash is run again: to the bit where nothing is changed, and honestly where something is."""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import h5py
import MDAnalysis
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from cgloop import cli_md
from cgloop.data.dataset import DatasetReader
from cgloop.errors import UserError
from cgloop.export.bundle import load_bundle
from cgloop.md.evaluate import ModelEvaluator, compile_model
from cgloop.md.job import Job, make_subject, run_job
from cgloop.md.replay import PRIOR_ONLY, replay_crash, replay_lines
from tests.md.model_worlds import config, protein, write_world

pytestmark = pytest.mark.slow

SHORT = {"nvt": {"length_ps": 0.6, "equilibration_ps": 0}, "nve": {"length_ps": 0.6}}
FRAMES = 40


def run_replicas(world, run, settings, room=None):
    """The stages of the replicas of `helix` as a job leaves them, below a run with the bundle, in their final place."""
    shutil.copytree(world["export"], run / "export")
    # Worked on under other names and moved at the end, as stages are.
    job = Job("helix", tuple(range(settings.md.replicas)))
    draft = run / ".md.partial" / ".jobs" / job.folder
    draft.mkdir(parents=True)
    bundle = load_bundle(run / "export")
    compiled = compile_model(bundle.function, bundle.cutoff_A)
    subject = make_subject(settings, bundle, compiled, DatasetReader.open(world["prep"]), job)
    if room is not None:
        subject = replace(
            subject,
            new_evaluator=partial(ModelEvaluator, compiled, subject.system, settings.md.skin_A, room, at_once=1),
            source=replace(subject.source, edges_per_replica=room),
        )
    run_job(settings, bundle, subject, draft)
    (run / "md").mkdir()
    draft.rename(run / "md" / "helix")
    return run


@pytest.fixture(scope="module")
def crashed(world, tmp_path_factory):
    """Replicas of the hybrid model that nearly all break a limit of 20 kcal/mol/Å, as a run leaves them."""
    settings = config(monitors={"max_force": 20.0}, crash_frames=FRAMES, **SHORT)
    return run_replicas(world, tmp_path_factory.mktemp("crashed"), settings)


@pytest.fixture(scope="module")
def again(crashed):
    """Each of them, run again: paths to replays."""
    return {path: replay_crash(path) for path in crashes(crashed)}


def latest(again):
    """The crash that came last, and its replay."""
    return max(again.items(), key=lambda one: one[1].history["step"][-1])


def crashes(run, stage="nvt"):
    return sorted((run / "md" / "helix" / stage).glob("crash_*.h5"))


def test_every_crash_is_run_again_to_the_bit(again):
    """Three replicas broke one after the other, so that the later ones ran beside frozen ones; one within few steps."""
    assert len(again) == 3
    starts = set()
    for path, replay in again.items():
        assert replay.same, replay.differences
        with h5py.File(path) as file:
            starts.add(int(file["step"][0]) == 0)
            for name in ("positions", "velocities", "half_velocities", "forces", "step", "max_force", "min_distance_A"):
                np.testing.assert_array_equal(replay.history[name], file[name][:], err_msg=name)
            np.testing.assert_allclose(replay.history["kinetic_K"], file["kinetic_K"][:], rtol=1e-12)
            assert replay.beads.tolist() == file.attrs["beads"].tolist()
            assert replay.violation.value == file.attrs["value"]
        assert replay.violation.limit == "max_force"
    assert starts == {True, False}, "some records begin with the stage, some later"


def test_energy_conserving_steps_are_run_again(prior_world, tmp_path):
    """At constant energy nothing but the forces acts, so that what LAMMPS itself does is all there is."""
    settings = config(monitors={"max_force": 20.5}, crash_frames=200, nvt={"length_ps": 0.02, "equilibration_ps": 0},
                      nve={"length_ps": 4.0})  # fmt: skip
    run = run_replicas(prior_world, tmp_path / "run", settings)
    paths = crashes(run, "nve")
    assert paths
    replays = [replay_crash(path) for path in paths]
    assert all(replay.same for replay in replays)
    latest = max(replays, key=lambda replay: replay.history["step"][-1])
    assert len(latest.history["step"]) == 200
    assert latest.history["step"][0] > 0


def test_the_room_for_pairs_is_that_at_the_crash(prior_world, tmp_path):
    """It was far too little at first, and grew."""
    settings = config(monitors={"max_force": 20.5}, crash_frames=FRAMES, **SHORT)
    paths = crashes(run_replicas(prior_world, tmp_path / "run", settings, room=4))
    assert paths
    for path in paths:
        with h5py.File(path) as file:
            assert file.attrs["edges_per_replica"] > 40
        assert replay_crash(path).same


def test_fewer_frames(again):
    path, _ = latest(again)
    replay = replay_crash(path, frames=7)
    assert len(replay.history["step"]) == 7
    assert replay.same


def test_one_bit_is_noticed(crashed, tmp_path):
    """A position that is off by one unit in the last place changes what follows, and the replay says so."""
    path = crashes(crashed)[0]
    run = tmp_path / "run"
    shutil.copytree(crashed, run)
    copy = run / path.relative_to(crashed)
    with h5py.File(copy, "r+") as file:
        value = file["positions"][0, 0, 0]
        file["positions"][0, 0, 0] = np.nextafter(value, np.inf)
    replay = replay_crash(copy)
    assert not replay.same
    assert 0 < replay.differences["positions"] < 1e-6
    assert "not as recorded" in "\n".join(replay_lines(replay))


def test_under_other_conditions(again):
    path, exact = latest(again)
    smaller = replay_crash(path, timestep_fs=1.0)
    assert smaller.differences is None
    assert len(smaller.history["step"]) > FRAMES
    alone = replay_crash(path, terms=PRIOR_ONLY)
    assert not alone.history["terms"][:, -1].any()
    whole = exact.history["terms"]
    np.testing.assert_allclose(alone.history["terms"][0, :-1], whole[0, :-1], rtol=1e-5, atol=1e-4)
    with pytest.raises(UserError, match="no energy term `bonds`"):
        replay_crash(path, terms=["bonds"])


def test_files_of_a_replay(crashed, tmp_path):
    path = crashes(crashed)[0]
    replay = replay_crash(path, out=tmp_path / "again")
    with h5py.File(tmp_path / "again" / "replay.h5") as file:
        assert bool(file.attrs["same"])
        np.testing.assert_array_equal(file["positions"][:], replay.history["positions"])
    stem = tmp_path / "again" / path.stem.replace("crash", "replay")
    universe = MDAnalysis.Universe(stem.with_suffix(".pdb"), stem.with_suffix(".dcd"))
    assert len(universe.trajectory) == len(replay.history["step"])
    assert np.flatnonzero(universe.atoms.tempfactors).tolist() == replay.beads.tolist()


def test_another_bundle_is_named(crashed, tmp_path):
    other = write_world(tmp_path / "other", "prior-only", [protein()])["export"]
    replay = replay_crash(crashes(crashed)[0], bundle=other)
    assert not replay.same
    assert any("bundle is not the one" in caution for caution in replay.cautions)


def test_a_run_without_its_bundle(crashed, tmp_path):
    path = Path(shutil.copy(crashes(crashed)[0], tmp_path))
    with pytest.raises(UserError, match="not a bundle"):
        replay_crash(path)


def test_large_proteins_with_lists_made_anew(tmp_path, monkeypatch):
    """Large proteins have a list of pairs that grows old: the replay makes it anew where the run did."""
    monkeypatch.setattr("cgloop.md.neighbours.DENSE_BEADS", 8)
    world = write_world(tmp_path / "world", "prior-only", [protein(36)])
    settings = config(replicas=1, skin_A=0.3, monitors={"max_force": 26.0}, crash_frames=60, **SHORT)
    run = run_replicas(world, tmp_path / "run", settings)
    (path,) = [*(run / "md").rglob("crash_*.h5")]
    with h5py.File(path) as file:
        assert len(set(file["pair_list"][:])) > 2
    assert replay_crash(path).same


def test_command(crashed, tmp_path):
    app = typer.Typer()
    app.command()(cli_md.replay)
    path = crashes(crashed)[0]
    result = CliRunner().invoke(app, [str(path), "--out", str(tmp_path / "again")])
    assert result.exit_code == 0, result.output
    assert "the same numbers as recorded, to the bit" in result.output
    assert "broke max_force at step" in result.output
    assert sorted(p.suffix for p in (tmp_path / "again").iterdir()) == [".dcd", ".h5", ".pdb"]
    refused = CliRunner().invoke(app, [str(path), "--prior-only", "--term", "ml"])
    assert isinstance(refused.exception, UserError)

"""The ring of the last steps, and the files that are written of it."""

import errno
from dataclasses import replace

import h5py
import MDAnalysis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgloop.errors import UserError
from cgloop.feedback.crash import read_crash
from cgloop.md.crash_files import CrashWriter, Recipe, read_record
from cgloop.md.evaluation import N_TERMS
from cgloop.md.monitors import Limits, Violation
from cgloop.md.recorder import Recorder
from cgloop.md.system import ModelSource
from cgloop.md.thermostat import half_kick, kinetic_energy
from cgloop.units import KB
from tests.md.model_worlds import system
from tests.md.test_files import CLOCK, N_BEADS, snapshots

LIMITS = Limits(2.0, 0.2, 1000.0, 900.0, 480.0, 0.6)


def no_forces(frames):
    return np.zeros((len(frames), N_TERMS, N_BEADS, 3))


def filled(n_frames=8, steps=30):
    recorder = Recorder(n_frames, 2, N_BEADS)
    for snapshot in snapshots(steps):
        recorder.push(snapshot)
    return recorder


@given(n_frames=st.integers(1, 12), steps=st.integers(1, 40), row=st.integers(0, 1))
def test_the_ring_holds_the_last_steps_in_order(n_frames, steps, row):
    kept = list(snapshots(steps))
    recorder = Recorder(n_frames, 2, N_BEADS)
    for snapshot in kept:
        recorder.push(snapshot, pair_list=snapshot.step // 3)
    history, last = recorder.history(row), kept[-n_frames:]
    assert history["step"].tolist() == [s.step for s in last]
    assert history["pair_list"].tolist() == [s.step // 3 for s in last]
    for name, values in {
        "positions": [s.positions[row] for s in last],
        "velocities": [s.velocities[row] for s in last],
        "forces": [s.evaluation.forces[row] for s in last],
        "terms": [s.evaluation.terms[row] for s in last],
        "kinetic": [s.kinetic[row] for s in last],
        "kinetic_K": [s.temperature_K[row] for s in last],
        "total": [s.kinetic[row] + s.evaluation.energies[row] for s in last],
        "max_force": [s.evaluation.max_force[row] for s in last],
        "max_bond_deviation": [s.evaluation.bond_deviation[row] for s in last],
        "min_distance_A": [s.evaluation.min_distance_A[row] for s in last],
    }.items():
        np.testing.assert_array_equal(history[name], values, err_msg=name)


def test_velocities_of_the_step_follow_from_those_of_the_drift():
    """Full precision: nothing is rounded on the way, and the half kick is the one that the coupling computes."""
    kick = half_kick(system(N_BEADS).masses, 4.0)
    recorder, random = Recorder(4, 2, N_BEADS, kick), np.random.default_rng(0)
    (first, second) = snapshots(2)
    drift = random.standard_normal((2, N_BEADS, 3))
    recorder.push(first)
    recorder.push(second, drift)
    history = recorder.history(1)
    np.testing.assert_array_equal(history["velocities"][0], first.velocities[1])
    assert np.isnan(history["half_velocities"][0]).all()
    np.testing.assert_array_equal(history["half_velocities"][1], drift[1])
    np.testing.assert_array_equal(history["velocities"][1], (drift + kick * second.evaluation.forces)[1])


def write(folder, violation=None, history=None, **options):
    folder.mkdir(exist_ok=True)
    writer = CrashWriter(folder, "nvt", system(N_BEADS), 320.0, CLOCK, options.pop("term_forces", no_forces), **options)
    violation = violation or Violation(1, "max_force", 52.0, 51.0)
    return writer, writer.write(2, violation, history or filled().history(1))


def test_crash_file(tmp_path):
    history = filled().history(1)
    history["forces"][-1, 3] = np.nan
    split = np.random.default_rng(0).standard_normal((8, N_TERMS, N_BEADS, 3)).astype(np.float32)
    _, path = write(tmp_path, Violation(1, "non-finite", float("nan"), 0.0), history, term_forces=lambda x: split)
    assert path.name == "crash_002.h5"
    with h5py.File(path) as file:
        attributes = dict(file.attrs)
        assert attributes["beads"].tolist() == [3]
        assert attributes["residues"][3] == "PRO 4"
        assert (attributes["step"], attributes["phase"]) == (30, "production")
        assert attributes["time_ps"] == pytest.approx(0.12)
        np.testing.assert_array_equal(file["term_forces"][:], split[-1])
        np.testing.assert_array_equal(file["frame_term_forces"][:], split)
        for name in history:
            np.testing.assert_array_equal(file[name][:], history[name])
        assert (file["positions"].dtype, file["velocities"].dtype, file["forces"].dtype) == ("f8", "f8", "f4")
        np.testing.assert_array_equal(file["masses"][:], system(N_BEADS).masses)


def test_pictures_of_a_crash_open_in_mdanalysis(tmp_path):
    history = filled().history(1)
    history["positions"][-1, 0] = np.inf
    _, path = write(tmp_path, Violation(1, "non-finite", float("nan"), 0.0), history)
    universe = MDAnalysis.Universe(path.with_suffix(".pdb"), path.with_suffix(".dcd"))
    assert universe.atoms.tempfactors.tolist() == [100, 0, 0, 0, 0, 0]
    assert len(universe.trajectory) == 7, "the last frame is not finite"
    finite = history["positions"][:-1]
    for frame, expected in zip(universe.trajectory, finite - finite[0].mean(axis=0), strict=True):
        np.testing.assert_allclose(frame.positions, expected, atol=1e-5)
    np.testing.assert_allclose(
        MDAnalysis.Universe(path.with_suffix(".pdb")).atoms.positions, finite[-1] - finite[0].mean(axis=0), atol=1e-3
    )


def test_same_crash_same_bytes(tmp_path):
    paths = [write(tmp_path / name)[1] for name in ("first", "second")]
    for suffix in (".h5", ".pdb", ".dcd"):
        first, second = (path.with_suffix(suffix).read_bytes() for path in paths)
        assert first == second
        assert str(tmp_path).encode() not in first


def test_feedback_can_read_a_crash_file(tmp_path):
    """The recorder writes what the diagnosis reads."""
    crash = read_crash(write(tmp_path, Violation(0, "max_force", 1234.0, 10.0), filled().history(0))[1])
    assert crash.limit == "max_force"
    assert crash.beads.tolist() == list(range(N_BEADS))
    assert crash.steps[-1] == 30


def test_masses_and_degrees_of_freedom_of_the_run_reach_the_diagnosis(tmp_path):
    """A run with `md.masses: 12.0` under a thermostat without a recipe, which keeps the center of mass at rest."""
    light = replace(system(N_BEADS), type_masses=(12.0,) * 20)
    history = filled().history(0)
    kinetic = kinetic_energy(history["velocities"], light.masses)
    history |= {"kinetic": kinetic, "kinetic_K": 2 * kinetic / (15 * KB)}
    writer = CrashWriter(tmp_path, "nvt", light, 320.0, CLOCK, no_forces, degrees_of_freedom=15)
    path = writer.write(0, Violation(0, "max_force", 1234.0, 10.0), history)
    crash = read_crash(path)
    assert crash.masses.tolist() == [12.0] * N_BEADS
    np.testing.assert_array_equal(crash.kinetic_energy, kinetic)
    np.testing.assert_array_equal(crash.temperature, history["kinetic_K"])
    with h5py.File(path, "r+") as file:
        assert file.attrs["dof"] == 15
        del file["kinetic_K"]
    np.testing.assert_allclose(read_crash(path).temperature, history["kinetic_K"], rtol=1e-12)


def test_a_record_says_how_to_run_its_steps_again(tmp_path):
    bundle = tmp_path / "export"
    bundle.mkdir()
    (bundle / "manifest.json").write_text("{}")
    recipe = Recipe((0, 2, 5), 18, 2**64 - 3, 1.5, LIMITS)
    source = ModelSource(bundle, 2.0, 90)
    _, path = write(tmp_path / "md", recipe=recipe, source=source)
    record = read_record(path)
    assert (record.recipe, record.source) == (recipe, source)
    assert (record.stage, record.replica, record.limit, record.value) == ("nvt", 2, "max_force", 52.0)
    assert record.system.masses.tolist() == system(N_BEADS).masses.tolist()
    # The run is moved as a whole.
    (tmp_path / "there").mkdir()
    for name in ("export", "md"):
        (tmp_path / name).rename(tmp_path / "there" / name)
    assert read_record(tmp_path / "there" / "md" / path.name).source.bundle == tmp_path / "there" / "export"


def test_a_record_without_a_recipe_is_refused(tmp_path):
    _, path = write(tmp_path)
    with pytest.raises(UserError, match="cannot be run again"):
        read_record(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="not a readable crash file"):
        read_record(path)


def test_a_full_disk_leaves_no_half_file_and_no_exception(tmp_path, monkeypatch, caplog):
    def full(_file, _name, _values):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(h5py.File, "__setitem__", full)
    writer, path = write(tmp_path)
    assert path is None
    assert "No space left" in writer.failures[2]
    assert "No space left" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_forces_that_cannot_be_split_do_not_cost_the_record(tmp_path, caplog):
    def out_of_memory(_frames):
        raise RuntimeError("RESOURCE_EXHAUSTED")

    writer, path = write(tmp_path, term_forces=out_of_memory)
    assert writer.failures == {}
    assert "RESOURCE_EXHAUSTED" in caplog.text
    assert read_crash(path).term_forces is None

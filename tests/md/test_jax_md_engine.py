"""The engine for pre-screening against LAMMPS, step by step, and against the ensembles that it has to sample."""

import h5py
import MDAnalysis
import numpy as np
import pytest

from cgloop.errors import Interrupted
from cgloop.interrupt import clear_stop, request_stop
from cgloop.md import neighbours as module
from cgloop.md.coupling import Coupling
from cgloop.md.evaluate import ModelEvaluator, compile_model
from cgloop.md.monitors import Limits, Monitor
from cgloop.md.recorder import Recorder
from cgloop.md.run import md_stage
from cgloop.units import thermal_energy
from tests.md.model_worlds import config, protein, system
from tests.md.toy import CUTOFF_A, LENGTH_A, STIFFNESS, STRENGTH, toy_model
from tests.md.worlds import TEMPERATURE_K, masses_of, run_in_lammps, thermal_velocities

COMPILED = compile_model(toy_model, CUTOFF_A)
N, DT = 10, 2.0


def frames_of(replicas, n_beads=N):
    return protein(n_beads).positions[list(replicas)].astype(float)


def run(x, v, steps, *, bath=None, room=None, chunk_steps=40, every=0, save=lambda m: None, start=None, **options):
    """The coupling after all steps, and the engine; masses are those of `run_in_lammps`."""
    from cgloop.md.jax_md_engine import ScanEngine  # jax-md takes seconds to import, in each process that has tests

    n_replicas, n_beads, _ = x.shape
    model = ModelEvaluator(COMPILED, system(n_beads), 1.0, room)
    engine = ScanEngine(model, masses_of(n_beads), n_replicas, DT, bath, chunk_steps)
    coupling = Coupling(engine, masses_of(n_beads), n_replicas, DT, 3 * n_beads, **options)
    if start is not None:
        moment, state = start
        coupling.restore(moment.step, state, [])
    engine.run(coupling, x, v, steps, every=every, save=save, start=None if start is None else moment)
    return coupling, engine


def bath(replicas, friction_per_ps=1.0):
    from cgloop.md.jax_md_engine import Bath

    return Bath(TEMPERATURE_K, friction_per_ps, 2**40 + 5, replicas)


def test_same_trajectory_as_lammps(tmp_path):
    x, v = frames_of([0, 1]), thermal_velocities(N, [0, 1])
    seen = {"lammps": [], "jax-md": []}
    watch = {name: {"observers": [rows.append]} for name, rows in seen.items()}
    run(x, v, 100, **watch["jax-md"])
    run_in_lammps(tmp_path, ModelEvaluator(COMPILED, system(N), 1.0), x, v, 100, DT, **watch["lammps"])
    assert [s.step for s in seen["jax-md"]] == list(range(1, 101))
    for one, other in zip(seen["jax-md"], seen["lammps"], strict=True):
        np.testing.assert_allclose(one.positions, other.positions, atol=1e-5)
        np.testing.assert_allclose(one.velocities, other.velocities, atol=1e-7)
        np.testing.assert_allclose(one.kinetic + one.evaluation.energies, other.kinetic + other.evaluation.energies,
                                   atol=2e-3)  # fmt: skip


def test_a_replica_that_breaks_a_limit(tmp_path):
    """As in LAMMPS: the same step, the same record, and the others go on."""
    x, v = frames_of([0, 1, 2]), thermal_velocities(N, [0, 1, 2])
    v[1] *= 10.0
    found = {}

    def watched(name):
        recorder, told, seen = Recorder(10, 3, N), [], []
        found[name] = recorder, told, seen
        return {
            "monitor": Monitor(Limits(0.0, 0.12, 1e9, 1e9, 1e9), DT, 3), "recorder": recorder,
            "on_freeze": lambda violation: told.append((violation, recorder.history(violation.row))),
            "observers": [lambda s: seen.append((s.step, s.alive.copy(), s.positions[1].copy()))],
        }  # fmt: skip

    ours, engine = run(x, v, 90, **watched("jax-md"))
    theirs = run_in_lammps(tmp_path, ModelEvaluator(COMPILED, system(N), 1.0), x, v, 90, DT, **watched("lammps"))
    np.testing.assert_array_equal(ours.last_step, theirs.last_step)
    assert ours.alive.tolist() == [True, False, True]
    assert 1 < ours.last_step[1] < 89
    assert engine.thrown_away > 0
    np.testing.assert_allclose(ours.final.positions, theirs.final.positions, atol=1e-5)
    (violation, history), (other, expected) = found["jax-md"][1][0], found["lammps"][1][0]
    assert (violation.limit, violation.row) == (other.limit, other.row) == ("bond", 1)
    assert violation.value == pytest.approx(other.value, abs=1e-5)
    for name in expected:
        np.testing.assert_allclose(history[name], expected[name], atol=2e-3, err_msg=name)
    held = [x for step, _, x in found["jax-md"][2] if step > ours.last_step[1]]
    assert all(np.array_equal(frame, held[0]) for frame in held)


def test_ends_when_nobody_is_left():
    monitor = Monitor(Limits(0.0, 1e9, 0.0, 1e9, 1e9), DT, 2)
    coupling, _ = run(frames_of([0, 1]), thermal_velocities(N, [0, 1]), 50, monitor=monitor)
    assert coupling.last_step.tolist() == [-1, -1]


@pytest.mark.parametrize("dense_beads", [pytest.param(4, marks=pytest.mark.slow), 128])
def test_too_little_room_and_old_lists(monkeypatch, dense_beads):
    """Whatever had to be done anew, the trajectory is that of ample room and of all pairs."""
    x, v = frames_of([0, 1], 14), 6.0 * thermal_velocities(14, [0, 1])
    ample, _ = run(x, v, 80, room=14 * 13)
    monkeypatch.setattr(module, "DENSE_BEADS", dense_beads)
    tight, engine = run(x, v, 80, room=64)
    assert tight.final.step == 80
    assert dense_beads > 14 or engine.thrown_away > 0
    np.testing.assert_allclose(tight.final.positions, ample.final.positions, atol=1e-4)


@pytest.mark.slow
def test_random_numbers_are_a_replicas_own():
    """Alone or beside others, in chunks of any length; and different ones are different."""
    v = thermal_velocities(N, [0, 1, 7])
    together, _ = run(frames_of([0, 0, 0]), v, 60, bath=bath([0, 1, 7]))
    alone, _ = run(frames_of([0]), v[2:], 60, bath=bath([7]), chunk_steps=17)
    np.testing.assert_allclose(alone.final.positions[0], together.final.positions[2], atol=1e-5)
    same_start, _ = run(frames_of([0, 0]), v[[0, 0]], 60, bath=bath([0, 1]))
    assert np.abs(same_start.final.positions[0] - same_start.final.positions[1]).max() > 0.05


def test_goes_on_from_a_saved_state():
    x, v, saved = frames_of([0, 1]), thermal_velocities(N, [0, 1]), []
    options = {"bath": bath([0, 1]), "every": 25, "room": 96}
    whole, _ = run(x, v, 70, save=saved.append, **options)
    assert [moment.step for moment in saved] == [25, 50]
    state = {"alive": np.ones(2, bool), "last_step": np.array([25, 25]), "refuge": x}
    rest, _ = run(x, v, 70, start=(saved[0], state), **options)
    np.testing.assert_array_equal(rest.final.positions, whole.final.positions)
    np.testing.assert_array_equal(rest.final.velocities, whole.final.velocities)


def test_stops_on_request():
    saved = []
    request_stop("test")
    try:
        with pytest.raises(Interrupted):
            run(frames_of([0]), thermal_velocities(N, [0]), 500, every=100, save=saved.append)
    finally:
        clear_stop()
    assert [moment.step for moment in saved] == [40]


def test_energy_is_conserved():
    energies = []
    run(
        frames_of([0, 1]), thermal_velocities(N, [0, 1]), 4000, chunk_steps=100,
        observers=[lambda s: energies.append(s.kinetic + s.evaluation.energies)],
    )  # fmt: skip
    total = np.array(energies)
    slope = np.polyfit(np.linspace(0, 1, len(total)), total, 1)[0]
    assert np.all(total.std(axis=0) < 0.1)
    assert np.all(np.abs(slope) < 0.05)


def test_ensemble_of_a_dimer():
    """Bond lengths have the density d² exp(−u/kT), velocities 3N degrees of freedom at the temperature."""
    n_replicas, kT = 64, thermal_energy(TEMPERATURE_K)
    d = np.linspace(LENGTH_A - 1.0, LENGTH_A + 1.0, 4001)
    energy = 0.5 * STIFFNESS * (d - LENGTH_A) ** 2 + STRENGTH * (1.0 - d**2 / CUTOFF_A**2) ** 3
    density = d**2 * np.exp(-energy / kT)
    mean = np.sum(d * density) / density.sum()
    variance = np.sum((d - mean) ** 2 * density) / density.sum()
    lengths, temperatures = [], []

    def observe(snapshot):
        if snapshot.step > 500:
            lengths.append(np.linalg.norm(snapshot.positions[:, 1] - snapshot.positions[:, 0], axis=1))
            temperatures.append(snapshot.temperature_K)

    replicas = list(range(n_replicas))
    run(
        frames_of([0] * n_replicas, 2), thermal_velocities(2, replicas), 6500, chunk_steps=100,
        bath=bath(replicas, 10.0), observers=[observe],
    )  # fmt: skip
    by_replica = {
        "mean": (np.mean(lengths, axis=0), mean),
        "variance": (np.mean((np.array(lengths) - mean) ** 2, axis=0), variance),
        "temperature": (np.mean(temperatures, axis=0), TEMPERATURE_K),
    }
    for name, (values, expected) in by_replica.items():
        error = values.std(ddof=1) / np.sqrt(n_replicas)
        assert abs(values.mean() - expected) < 4 * error, name
        assert error < 0.03 * expected, name


@pytest.mark.slow
def test_the_same_files_as_lammps(tmp_path, prior_world):
    """Both stages of dynamics with either engine: the same files, with the same series and frames in them."""
    out = {}
    for engine in ("lammps", "jax_md"):
        out[engine] = tmp_path / engine
        out[engine].mkdir()
        md_stage(config(engine=engine, replicas=2), prior_world["export"], prior_world["prep"], out[engine])
    for stage in ("nvt", "nve"):
        ours, theirs = (out[engine] / "helix" / stage for engine in ("jax_md", "lammps"))
        names = {path.name for path in theirs.iterdir()}
        assert names - {path.name for path in ours.iterdir()} == {"log.lammps"}
        with h5py.File(ours / "observables.h5") as one, h5py.File(theirs / "observables.h5") as other:
            assert dict(one.attrs).keys() == dict(other.attrs).keys()
            for group in other:
                assert one[group].keys() == other[group].keys()
                np.testing.assert_array_equal(one[group]["time_ps"], other[group]["time_ps"])
                assert one[group].attrs["steps_done"] == other[group].attrs["steps_done"]
                assert abs(one[group]["kinetic"][:].mean() / other[group]["kinetic"][:].mean() - 1.0) < 0.5
        universes = (MDAnalysis.Universe(at / "topology.pdb", at / "replica_001.dcd") for at in (ours, theirs))
        assert len({len(universe.trajectory) for universe in universes}) == 1

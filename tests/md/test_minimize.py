"""Minimisation finds the bottom of known worlds, and survives those that have none."""

import h5py
import MDAnalysis
import numpy as np
import pytest

from cgloop.md.evaluation import N_TERMS
from cgloop.md.minimize import largest_move, minimize_all
from cgloop.md.system import StartFrames, Subject
from tests.md.model_worlds import config, protein, system
from tests.md.worlds import evaluation, springs

SPRINGS = springs(120.0, 3.8)
N_BEADS = 6


def subject(evaluate, n_replicas=2):
    frames = protein(N_BEADS).positions[:n_replicas].astype(float) * 1.05
    starts = StartFrames(frames, "test", np.zeros(n_replicas, int), np.arange(n_replicas))
    split = lambda x: np.zeros((len(x), N_TERMS, N_BEADS, 3))  # noqa: E731
    return Subject(system(N_BEADS), starts, lambda: evaluate, split, list(range(n_replicas)))


def test_springs_relax(tmp_path):
    results = minimize_all(subject(SPRINGS), config().md, 320.0, tmp_path)
    for replica, result in results.items():
        assert result.converged
        assert not result.failed
        assert result.max_force_final <= 0.05
        assert result.energy_final < 1e-3 < result.energy_initial
        bonds = np.linalg.norm(np.diff(result.positions, axis=0), axis=1)
        np.testing.assert_allclose(bonds, 3.8, atol=1e-3)
        assert 0.05 < result.max_move_A < 1.0
        ends = MDAnalysis.Universe(tmp_path / "topology.pdb", tmp_path / f"replica_{replica:03d}.dcd")
        assert len(ends.trajectory) == 2
        np.testing.assert_allclose(ends.trajectory[1].positions, result.positions, atol=1e-5)
    with h5py.File(tmp_path / "observables.h5") as file:
        attributes = dict(file["replica_001"].attrs)
        assert attributes["converged"]
        assert attributes["max_force_final"] == results[1].max_force_final


def test_replicas_do_not_depend_on_each_other(tmp_path):
    for n in (1, 2):
        (tmp_path / str(n)).mkdir()
    alone = minimize_all(subject(SPRINGS, 1), config().md, 320.0, tmp_path / "1")
    together = minimize_all(subject(SPRINGS, 2), config().md, 320.0, tmp_path / "2")
    np.testing.assert_array_equal(alone[0].positions, together[0].positions)


def test_too_few_steps_do_not_converge(tmp_path):
    (result,) = minimize_all(subject(SPRINGS, 1), config(minimize={"max_steps": 3}).md, 320.0, tmp_path).values()
    assert not result.converged
    assert not result.failed
    assert result.max_force_final > 0.05


def test_forces_that_are_no_numbers_fail_and_are_recorded(tmp_path):
    calls = []

    def breaking(positions):
        result = SPRINGS(positions)
        calls.append(1)
        if len(calls) < 6:
            return result
        forces = result.forces.copy()
        forces[0, 2] = np.nan
        return evaluation(forces, result.energies)

    (result,) = minimize_all(subject(breaking, 1), config().md, 320.0, tmp_path).values()
    assert result.failed
    assert not result.converged
    with h5py.File(tmp_path / "crash_000.h5") as file:
        assert file.attrs["stage"] == "minimize"
        assert file.attrs["limit"] == "non-finite"
        assert file.attrs["beads"].tolist() == [2]


def test_largest_move_ignores_rotation_and_translation():
    from scipy.spatial.transform import Rotation

    x = protein(N_BEADS).native.astype(float)
    turned = Rotation.from_rotvec([0.3, 1.0, -2.0]).apply(x) + np.array([5.0, 0.0, -7.0])
    assert largest_move(x, turned) == pytest.approx(0.0, abs=1e-9)
    mirrored = x * [1.0, 1.0, -1.0]
    assert largest_move(x, mirrored) > 1.0
    assert largest_move(x[:2], x[:2] * 2) == pytest.approx(0.5 * np.linalg.norm(x[1] - x[0]))
    assert np.isnan(largest_move(x, x * np.nan))

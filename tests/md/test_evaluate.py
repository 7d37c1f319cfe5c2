"""The evaluator against all pairs in float64: pair lists, centring, several replicas, diagnostics."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from cgloop.md import evaluate as module
from cgloop.md.evaluate import ModelEvaluator, compile_model, edges_per_replica
from cgloop.model.topology import separation_matrix
from tests.md.model_worlds import protein, system
from tests.md.toy import CUTOFF_A, toy_exact, toy_model

COMPILED = compile_model(toy_model, CUTOFF_A)


def frames_of(n_beads, n_frames, chains=1):
    return protein(n_beads, chains=chains).positions[:n_frames].astype(float)


def assert_exact(result, one, frames):
    for row, frame in enumerate(frames):
        forces, energy = toy_exact(one, frame)
        np.testing.assert_allclose(result.forces[row], forces, atol=3e-4)
        assert result.energies[row] == pytest.approx(energy, rel=2e-6, abs=3e-5)


@pytest.mark.parametrize(("n_beads", "chains"), [(1, 1), (2, 1), (10, 1), (12, 2)])
def test_same_as_all_pairs(n_beads, chains):
    one, frames = system(n_beads, chains), frames_of(n_beads, 3, chains) + np.array([500.0, -300.0, 0.0])
    result = ModelEvaluator(COMPILED, one, 2.0)(frames)
    assert_exact(result, one, frames)
    assert result.finite.all()


def test_diagnostics():
    one, frames = system(10), frames_of(10, 4)
    frames[2, 7] += [0.0, 0.0, 1.5]
    result = ModelEvaluator(COMPILED, one, 2.0)(frames)
    for row, frame in enumerate(frames):
        apart = squareform(pdist(frame))[separation_matrix(one.linked) > 1]
        assert result.min_distance_A[row] == pytest.approx(apart.min(), abs=1e-4)
        length = np.linalg.norm(np.diff(frame, axis=0), axis=1)
        assert result.bond_deviation[row] == pytest.approx(np.abs(length / one.bond_mean_A - 1).max(), abs=1e-4)
        assert result.max_force[row] == pytest.approx(np.linalg.norm(result.forces[row], axis=1).max(), rel=1e-5)
    assert result.bond_deviation[2] > result.bond_deviation[0]


def test_two_beads_have_no_distance_to_watch():
    result = ModelEvaluator(COMPILED, system(2), 2.0)(frames_of(2, 1))
    assert np.isposinf(result.min_distance_A[0])
    assert result.finite[0]


def test_not_finite_in_one_replica_stays_there():
    one, frames = system(10), frames_of(10, 3)
    broken = frames.copy()
    broken[1, 4] = np.nan
    result = ModelEvaluator(COMPILED, one, 2.0)(broken)
    assert result.finite.tolist() == [True, False, True]
    good = ModelEvaluator(COMPILED, one, 2.0)(frames)
    for row in (0, 2):
        np.testing.assert_array_equal(result.forces[row], good.forces[row])


def test_pair_list_is_never_too_old(monkeypatch):
    """Beads walk; at every step the forces are those of all pairs, though the list is rarely made."""
    monkeypatch.setattr(module, "ALL_PAIRS_BEADS", 4)
    one, frames = system(14), frames_of(14, 2)
    random = np.random.default_rng(0)
    evaluator = ModelEvaluator(COMPILED, one, 1.0)
    for _ in range(60):
        frames = frames + 0.06 * random.standard_normal(frames.shape) + np.array([0.3, 0.0, 0.0])
        assert_exact(evaluator(frames), one, frames)
    assert 3 < evaluator.rebuilds < 40


def test_a_list_that_is_too_old_would_be_seen(monkeypatch):
    """The test above can fail: without rebuilding it does."""
    monkeypatch.setattr(module, "ALL_PAIRS_BEADS", 4)
    monkeypatch.setattr(ModelEvaluator, "_moved_too_far", lambda self, centred: False)
    with pytest.raises(AssertionError):
        test_pair_list_is_never_too_old(monkeypatch)


def test_drifting_together_rebuilds_nothing(monkeypatch):
    monkeypatch.setattr(module, "ALL_PAIRS_BEADS", 4)
    evaluator = ModelEvaluator(COMPILED, system(14), 1.0)
    for step in range(5):
        evaluator(frames_of(14, 2) + 10.0 * step)
    assert evaluator.rebuilds == 1


def test_room_for_pairs_grows(monkeypatch):
    """An extended chain that collapses has more pairs than there was room for."""
    monkeypatch.setattr(module, "ALL_PAIRS_BEADS", 4)
    one, line = system(14), np.zeros((1, 14, 3))
    line[0, :, 0] = 3.8 * np.arange(14)
    room = edges_per_replica(one, line, CUTOFF_A, 1.0) // 2
    evaluator = ModelEvaluator(COMPILED, one, 1.0, room)
    for frames in (line, frames_of(14, 1)):
        assert_exact(evaluator(frames), one, frames)
    assert evaluator.rebuilds == 2


def test_far_from_the_origin_nothing_changes():
    frames = frames_of(10, 2)
    here, there = (ModelEvaluator(COMPILED, system(10), 2.0)(frames + shift) for shift in (0.0, 4000.0))
    np.testing.assert_allclose(there.forces, here.forces, atol=2e-4)

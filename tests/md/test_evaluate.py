"""The evaluator against all pairs in float64: pair lists, centring, several replicas, diagnostics."""

from functools import partial

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform

from cgloop.md import neighbours as module
from cgloop.md.evaluate import ModelEvaluator, compile_model, edges_per_replica
from cgloop.md.neighbours import all_pairs, listed_pairs, with_edges
from cgloop.model.graph import build_graph, pad_graph
from cgloop.model.hybrid import energy_and_forces
from cgloop.model.topology import separation_matrix
from tests.md.model_worlds import protein, small_model, system
from tests.md.toy import CUTOFF_A, toy_exact, toy_model
from tests.md.worlds import run_in_lammps, thermal_velocities

COMPILED = compile_model(toy_model, CUTOFF_A)
FIND = jax.jit(with_edges, static_argnums=(3, 4))


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
    evaluator = ModelEvaluator(COMPILED, one, 2.0)
    result = evaluator(broken)
    assert result.finite.tolist() == [True, False, True]
    assert_exact(evaluator(frames), one, frames)
    good = ModelEvaluator(COMPILED, one, 2.0)(frames)
    for row in (0, 2):
        np.testing.assert_array_equal(result.forces[row], good.forces[row])


@pytest.fixture
def with_lists(monkeypatch):
    """Small proteins list the pairs to look at, too."""
    monkeypatch.setattr(module, "DENSE_BEADS", 4)


def walk(evaluator, one, frames):
    """A stretched chain contracts while beads walk; at every step the forces are those of all pairs."""
    random = np.random.default_rng(0)
    frames = frames * np.array([1.0, 1.0, 1.6])
    for _ in range(60):
        frames = frames * np.array([1.0, 1.0, 0.99]) + 0.06 * random.standard_normal(frames.shape) + 0.3
        assert_exact(evaluator(frames), one, frames)


def test_pair_list_is_never_too_old(with_lists):
    one = system(14)
    evaluator = ModelEvaluator(COMPILED, one, 1.0, 96)
    walk(evaluator, one, frames_of(14, 2))
    assert 3 < evaluator.rebuilds < 40


def test_a_list_that_is_too_old_would_be_seen(with_lists, monkeypatch):
    """The test above can fail: without rebuilding it does."""
    monkeypatch.setattr(ModelEvaluator, "_moved_too_far", lambda self, centred: False)
    with pytest.raises(AssertionError, match="tolerance"):
        walk(ModelEvaluator(COMPILED, system(14), 1.0, 96), system(14), frames_of(14, 2))


def test_drifting_together_rebuilds_nothing(with_lists):
    evaluator = ModelEvaluator(COMPILED, system(14), 1.0)
    for step in range(5):
        evaluator(frames_of(14, 2) + 10.0 * step)
    assert evaluator.rebuilds == 1


@pytest.mark.parametrize("dense_beads", [4, 128])
def test_room_for_pairs_grows(monkeypatch, dense_beads):
    """An extended chain that collapses has more pairs than there was room for: only exact forces come out."""
    monkeypatch.setattr(module, "DENSE_BEADS", dense_beads)
    one, line = system(14), np.zeros((1, 14, 3))
    line[0, :, 0] = 3.8 * np.arange(14)
    evaluator = ModelEvaluator(COMPILED, one, 1.0, edges_per_replica(one, line, CUTOFF_A) // 2)
    assert evaluator.capacity == 48
    for frames in (line, frames_of(14, 1)):
        assert_exact(evaluator(frames), one, frames)
    assert evaluator.repeats == 2
    assert 96 < evaluator.capacity <= 14 * 13


def test_too_little_room_is_seen_by_the_count():
    """What the compiled code says of frames that do not fit, and what it lists of them: the first, in order."""
    frames = frames_of(14, 3)
    graph = build_graph(system(14).residue_type, system(14).linked, frames, CUTOFF_A)
    per_replica = np.bincount(graph.replica[graph.receivers])
    with_them, found = FIND(graph, frames.astype(np.float32), all_pairs(system(14).linked), CUTOFF_A, 32)
    np.testing.assert_array_equal(found, per_replica)
    assert np.all(with_them.edge_mask)
    first = np.concatenate([np.flatnonzero(graph.replica[graph.receivers] == r)[:32] for r in range(3)])
    for name in ("senders", "receivers", "separation"):
        np.testing.assert_array_equal(getattr(with_them, name), getattr(graph, name)[first])


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 3, 7]))
def test_both_ways_find_the_same_edges(seed, break_after):
    """All pairs, and those on a list with a skin: the edges of `build_graph`, in its order."""
    random, linked = np.random.default_rng(seed), np.ones(8, bool)
    linked[break_after] = False
    frames = 4.0 * random.standard_normal((2, 9, 3)).astype(np.float32)
    graph = build_graph(np.zeros(9, int), linked, frames, 6.0)
    for candidates in (all_pairs(linked), listed_pairs(linked, frames, 8.0, 72)):
        result, found = FIND(pad_graph(graph, edges=150), frames, candidates, 6.0, 64)
        assert int(found.sum()) == int(graph.edge_mask.sum())
        mask = np.asarray(result.edge_mask)
        if found.sum():
            for name in ("senders", "receivers", "separation"):
                np.testing.assert_array_equal(np.asarray(getattr(result, name))[mask], getattr(graph, name))


def test_nothing_wrong_is_integrated(tmp_path):
    """In LAMMPS, with room for a fraction of the pairs at the start: the trajectory is that of ample room."""
    n, one = 14, system(14)
    seen = []

    def run(folder, room):
        evaluator = ModelEvaluator(COMPILED, one, 1.0, room)
        velocities = 20.0 * thermal_velocities(n, [0, 1])
        options = {"observers": [lambda s: seen.append((s.positions, s.evaluation))]}
        return evaluator, run_in_lammps(tmp_path / folder, evaluator, frames_of(n, 2), velocities, 60, 1.0, **options)

    (tight, of_tight), (_, of_ample) = run("tight", 8), run("ample", n * (n - 1))
    assert tight.repeats >= 1
    np.testing.assert_allclose(of_tight.final.positions, of_ample.final.positions, atol=1e-5)
    for positions, result in seen[::7]:
        assert_exact(result, one, positions)


@pytest.mark.parametrize(
    ("energy", "at_once"),
    [
        ("toy", 1),
        ("toy", 5),
        pytest.param("toy", 2, marks=pytest.mark.slow),
        pytest.param("hybrid", 1, marks=pytest.mark.slow),
    ],
)
def test_a_replica_does_not_depend_on_others(energy, at_once):
    """To the bit: neither on what they are, nor how many, nor on what was evaluated before."""
    model = toy_model if energy == "toy" else partial(energy_and_forces, *small_model(energy))
    compiled, one, frames = compile_model(model, CUTOFF_A, in_parts=True), system(14), frames_of(14, 5)
    together = ModelEvaluator(compiled, one, 1.0, 128, at_once)
    result = together(frames)
    others = frames[::-1] + 0.05
    others[1] = frames[1]
    beside = together(others)
    afresh = ModelEvaluator(compiled, one, 1.0, at_once=at_once)
    afresh.restore(together.state())
    fewer = {n: ModelEvaluator(compiled, one, 1.0, together.capacity, at_once)(frames[1 : 1 + n]) for n in (1, 2, 3)}
    for name, value in result._asdict().items():
        np.testing.assert_array_equal(getattr(beside, name)[1], value[1], err_msg=name)
        np.testing.assert_array_equal(getattr(afresh(frames), name), value, err_msg=name)
        for n, found in fewer.items():
            np.testing.assert_array_equal(getattr(found, name), value[1 : 1 + n], err_msg=f"{name}, {n}")


def test_far_from_the_origin_nothing_changes():
    frames = frames_of(10, 2)
    here, there = (ModelEvaluator(COMPILED, system(10), 2.0)(frames + shift) for shift in (0.0, 4000.0))
    np.testing.assert_allclose(there.forces, here.forces, atol=2e-4)

"""Which beads of which frames become decoys."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist, pdist

from cgloop.config.feedback import DecoysConfig
from cgloop.feedback.decoys import Candidates, mask_of, select_decoys
from cgloop.feedback.reference import Coverage

N = 6


def coverage_of_range(low, high):
    pairs = N * (N - 1) // 2
    return Coverage(
        "training", 10, np.zeros(N, int), np.ones(N - 1, bool), np.full(pairs, low), np.full(pairs, high),
        np.full(pairs, 0.5 * (low + high)), np.ones(pairs), 3.8, 10.0, 5.0, 1.0, 9.0,
    )  # fmt: skip


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.floats(0, 2), st.floats(4, 15), st.floats(0.5, 4), st.floats(5, 12))
def test_exactly_beads_with_an_unusual_pair_in_reach(seed, margin, cutoff, low, high):
    frames = np.random.default_rng(seed).uniform(0, 8, size=(3, N, 3))
    mask = mask_of(frames, coverage_of_range(low, high), margin, cutoff)
    for frame, row in zip(frames, mask, strict=True):
        distance = cdist(frame, frame)
        unusual = ((distance < low - margin) | (distance > high + margin)) & (distance <= cutoff)
        np.fill_diagonal(unusual, False)
        assert row.tolist() == unusual.any(axis=1).tolist()


def test_frames_that_are_not_finite_say_nothing():
    frames = np.full((1, N, 3), np.nan)
    assert not mask_of(frames, coverage_of_range(4, 9), 0.0, 12.0).any()


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 80), st.floats(0.01, 0.5), st.floats(0, 3))
def test_selection_is_bounded_distinct_and_outside(seed, replicas, n_training, share, min_rmsd):
    random, coverage = np.random.default_rng(seed), coverage_of_range(3.0, 8.0)
    candidates = [
        Candidates("nvt", r, np.arange(20), random.uniform(0, 8, size=(20, N, 3)), "crash: clash")
        for r in range(replicas)
    ]
    config = DecoysConfig(max_share=share, min_rmsd_A=min_rmsd, per_replica=5, margin_A=0.2)
    found = select_decoys(
        "p", np.ones(N - 1, bool), coverage, candidates, n_training, config,
        cutoff_A=12.0, min_distance_A=1.0, cycle=2,
    )  # fmt: skip
    assert len(found) <= int(share * n_training)
    assert found.mask.any(axis=1).all()
    assert set(found.origin["cycle"].tolist()) <= {2}
    assert all(pdist(frame).min() >= 1.0 for frame in found.positions)
    assert max((found.origin["replica"] == r).sum() for r in range(replicas)) <= 5
    for k in range(len(found)):
        source = candidates[found.origin["replica"][k]].positions[found.origin["step"][k]]
        np.testing.assert_allclose(found.positions[k], source, atol=1e-5)


def test_replicas_take_turns():
    random = np.random.default_rng(0)
    candidates = [Candidates("nvt", r, np.arange(9), random.uniform(0, 8, (9, N, 3)), "x") for r in range(3)]
    config = DecoysConfig(max_share=0.5, min_rmsd_A=0.0, margin_A=0.0)
    found = select_decoys(
        "p", np.ones(N - 1, bool), coverage_of_range(5.0, 5.1), candidates, 6, config,
        cutoff_A=20.0, min_distance_A=0.0, cycle=0,
    )  # fmt: skip
    assert sorted(found.origin["replica"].tolist()) == [0, 1, 2]
    assert found.origin["step"].tolist() == [0, 0, 0]


def test_nothing_to_choose_from():
    found = select_decoys(
        "p", np.ones(N - 1, bool), coverage_of_range(4, 9), [], 100, DecoysConfig(),
        cutoff_A=12.0, min_distance_A=1.0, cycle=0,
    )  # fmt: skip
    assert len(found) == 0
    assert found.positions.shape == (0, N, 3)
    assert pytest.approx(0) == found.mask.size

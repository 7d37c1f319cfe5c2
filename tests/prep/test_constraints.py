"""Rigid bonds from fluctuations, with and without rounded coordinates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_atoms import moving_molecule

from cgloop.errors import UserError
from cgloop.prep.constraints import coordinate_step, guess_rigid_groups


def sets_of(label):
    return {frozenset(np.flatnonzero(label == one).tolist()) for one in np.unique(label)}


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), n_heavy=st.integers(1, 12), step=st.sampled_from([0.0, 0.001, 0.01]))
def test_rigid_hydrogens_are_found_whatever_the_rounding(seed, n_heavy, step):
    positions, groups = moving_molecule(n_heavy, 40, np.random.default_rng(seed))
    if step:
        positions = np.round(positions / step) * step
    found = guess_rigid_groups(positions.astype(np.float32))
    assert sets_of(found.label) == groups
    assert found.rounding_A == step
    assert found.n_groups == n_heavy
    assert found.sizes.sum() == positions.shape[1]


def test_groups_are_numbered_by_their_first_atom():
    positions, _ = moving_molecule(5, 20, np.random.default_rng(1))
    label = guess_rigid_groups(positions).label
    assert np.array_equal(np.unique(label), np.arange(label.max() + 1))
    assert np.all(np.diff([np.flatnonzero(label == one)[0] for one in np.unique(label)]) > 0)


def test_chains_of_rigid_pairs_are_one_group():
    random = np.random.default_rng(3)
    start = random.normal(0, 5, (30, 1, 3))
    positions = start + np.array([[0.0, 0, 0], [1.0, 0, 0], [2.0, 0, 0], [3.0, 0, 0], [40.0, 0, 0]])
    positions[:, 4] += random.normal(0, 0.1, (30, 3))
    assert sets_of(guess_rigid_groups(positions).label) == {frozenset({0, 1, 2, 3}), frozenset({4})}


def test_too_few_frames_and_too_coarse_coordinates_are_told():
    positions, _ = moving_molecule(4, 40, np.random.default_rng(2))
    with pytest.raises(UserError, match="4 frames are too few"):
        guess_rigid_groups(positions[:4])
    with pytest.raises(UserError, match=r"rounded to 0\.1 Å"):
        guess_rigid_groups(np.round(positions, 1))


@given(st.sampled_from([0.1, 0.01, 0.001]), st.floats(1.0, 300.0), st.integers(0, 2**31))
def test_step_of_rounded_coordinates(step, spread, seed):
    values = np.random.default_rng(seed).uniform(-spread, spread, (10, 30, 3))
    assert coordinate_step((np.round(values / step) * step).astype(np.float32)) == step
    assert coordinate_step(values.astype(np.float32)) == 0.0


def test_a_map_that_splits_a_group_lets_constraint_forces_through():
    positions, groups = moving_molecule(4, 30, np.random.default_rng(5))
    found = guess_rigid_groups(positions)
    weights = np.random.default_rng(0).normal(size=(2, found.n_groups))[:, found.label]
    assert found.hold(weights)
    largest = max(groups, key=len)
    weights[0, max(largest)] += 0.1
    assert not found.hold(weights)

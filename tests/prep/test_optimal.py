"""The optimal force map against an independent solver, closed forms and invariances."""

import clarabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.spatial.transform import Rotation
from synthetic_atoms import correlated_forces, moving_molecule

from cgloop.errors import UserError
from cgloop.prep.constraints import RigidGroups, guess_rigid_groups
from cgloop.prep.optimal import fit_optimal, force_products
from cgloop.prep.projection import MatrixMap


def example(n_heavy=6, n_frames=90, seed=0, beads=(0, 2, 4)):
    """Rigid groups, forces, and the heavy atoms that carry beads."""
    random = np.random.default_rng(seed)
    positions, sets = moving_molecule(n_heavy, 30, random)
    groups = guess_rigid_groups(positions)
    heavy = sorted(min(members) for members in sets)
    return groups, correlated_forces(positions.shape[1], n_frames, random), np.array([heavy[i] for i in beads])


def fit(groups, forces, atoms, l2=None, folds=3):
    return fit_optimal([force_products(part, groups) for part in np.array_split(forces, folds)], groups, atoms, l2)


def solve_independently(groups, forces, atoms, l2):
    """The same programme over the weights of all atoms, every constraint an equation, bead by bead, by Clarabel."""
    n_atoms = forces.shape[1]
    rows = forces.transpose(0, 2, 1).reshape(-1, n_atoms)
    hessian = sparse.csc_matrix(np.triu(2.0 * (rows.T @ rows / len(rows) + l2 * np.eye(n_atoms))))
    own = sparse.csr_matrix((np.ones(len(atoms)), (np.arange(len(atoms)), atoms)), shape=(len(atoms), n_atoms))
    first, second = groups.pairs.T
    pair = np.arange(len(first))
    rigid = sparse.csr_matrix(
        (np.r_[np.ones(len(pair)), -np.ones(len(pair))], (np.r_[pair, pair], np.r_[first, second])),
        shape=(len(pair), n_atoms),
    )
    equations = sparse.csc_matrix(sparse.vstack([own, rigid]))
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-12
    weights = []
    for bead in range(len(atoms)):
        target = np.r_[np.eye(len(atoms))[bead], np.zeros(len(pair))]
        cones = [clarabel.ZeroConeT(len(target))]
        solver = clarabel.DefaultSolver(hessian, np.zeros(n_atoms), equations, target, cones, settings)
        weights.append(solver.solve().x)
    return np.array(weights)


@pytest.mark.parametrize(("seed", "n_frames", "l2"), [(0, 90, 0.5), (1, 90, 1e-3), (2, 4, 2.0), (3, 300, 0.0)])
def test_same_map_as_an_independent_solver(seed, n_frames, l2):
    groups, forces, atoms = example(seed=seed, n_frames=n_frames)
    found = fit(groups, forces, atoms, l2)
    np.testing.assert_allclose(found.weights, solve_independently(groups, forces, atoms, l2), atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), n_frames=st.integers(6, 60))
def test_constraints_hold_exactly(seed, n_frames):
    groups, forces, atoms = example(seed=seed, n_frames=n_frames)
    found = fit(groups, forces, atoms)
    for weights in (found.weights, *found.fold_weights):
        np.testing.assert_array_equal(weights[:, atoms], np.eye(len(atoms)))
        assert groups.hold(weights)


def test_two_atoms_on_a_spring_have_a_closed_form():
    """f₁ = s + a, f₂ = −s + b: the weight w of atom 2 that minimises ⟨(f₁ + w f₂)²⟩ is ⟨s²⟩ / (⟨s²⟩ + ⟨b²⟩)."""
    random = np.random.default_rng(0)
    spring, a, b = (random.normal(0, sigma, (200_000, 3)) for sigma in (10.0, 3.0, 5.0))
    forces = np.stack([spring + a, b - spring], axis=1)
    groups = RigidGroups(np.array([0, 1]), np.zeros((0, 2), int), 1e-3, 0.0)
    found = fit(groups, forces, np.array([0]), l2=0.0)
    np.testing.assert_allclose(found.weights, [[1.0, 100.0 / 125.0]], atol=0.01)
    expected = 3.0**2 + (0.2 * 10.0) ** 2 + (0.8 * 5.0) ** 2
    assert found.held_out == pytest.approx(expected, rel=0.02)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_map_does_not_depend_on_orientation_or_order_of_atoms(seed):
    groups, forces, atoms = example(seed=seed)
    found = fit(groups, forces, atoms, l2=0.1).weights
    rotation = Rotation.random(random_state=seed % 1000).as_matrix()
    np.testing.assert_allclose(fit(groups, forces @ rotation.T, atoms, l2=0.1).weights, found, atol=1e-9)
    order = np.random.default_rng(seed).permutation(forces.shape[1])
    place = np.argsort(order)
    label = np.unique(groups.label[order], return_inverse=True)[1]
    mixed = RigidGroups(label, place[groups.pairs], groups.threshold_A, 0.0)
    np.testing.assert_allclose(fit(mixed, forces[:, order], place[atoms], l2=0.1).weights, found[:, order], atol=1e-9)


def basic_weights(groups, atoms):
    return (groups.label == groups.label[atoms][:, None]).astype(float)


@pytest.mark.parametrize("n_frames", [3, 6, 12, 50, 400])
def test_never_much_worse_than_the_plain_sum_and_better_with_frames(n_frames):
    """On frames that no fit has seen, averaged over fits."""
    ratios = []
    for seed in range(12):
        groups, forces, atoms = example(n_heavy=14, n_frames=n_frames + 2000, seed=seed, beads=(0, 4, 8, 12))
        test = forces[n_frames:]
        mapped = MatrixMap(fit(groups, forces[:n_frames], atoms).weights).project(test)
        plain = MatrixMap(basic_weights(groups, atoms)).project(test)
        ratios.append((mapped**2).mean() / (plain**2).mean())
    assert np.mean(ratios) < 1.05
    if n_frames >= 50:
        assert np.mean(ratios) < 0.9


def test_fits_that_left_a_frame_out_keep_its_mean_force():
    """A known mean force, few frames: the map of all frames fits part of it away, those of the folds do not."""
    kept, shrunk = [], []
    for seed in range(200):
        groups, forces, atoms = example(n_heavy=12, n_frames=9, seed=seed, beads=(3,))
        signal = np.random.default_rng(seed).normal(0, 10, (9, 1, 3))
        forces[:, atoms] += signal
        found = fit(groups, forces, atoms, l2=1e-3)
        parts = np.array_split(np.arange(9), 3)
        crossed = np.concatenate(
            [MatrixMap(w).project(forces[part]) for w, part in zip(found.fold_weights, parts, strict=True)]
        )
        kept.append((crossed * signal).sum() / (signal**2).sum())
        shrunk.append((MatrixMap(found.weights).project(forces) * signal).sum() / (signal**2).sum())
    error = np.std(kept) / np.sqrt(len(kept))
    assert abs(np.mean(kept) - 1.0) < 4 * error
    assert np.mean(shrunk) < 0.8


def test_beads_that_are_joined_rigidly_have_no_map():
    groups, forces, atoms = example()
    other = int(np.flatnonzero(groups.label == groups.label[atoms[0]])[1])
    with pytest.raises(UserError, match="beads 0 and 3 are joined by rigid bonds"):
        fit(groups, forces, np.array([*atoms, other]))


def test_singular_without_penalty_is_told():
    groups, forces, atoms = example(n_heavy=10, n_frames=2)
    with pytest.raises(UserError, match="not determined"):
        fit(groups, forces, atoms, l2=0.0, folds=2)
    with pytest.raises(UserError, match="too few frames"):
        fit(groups, forces, atoms, folds=1)


def test_no_free_group_is_the_plain_sum():
    groups, forces, _ = example(n_heavy=3, beads=(0,))
    heavy = np.unique(groups.label, return_index=True)[1]
    found = fit(groups, forces, heavy)
    np.testing.assert_array_equal(found.weights, basic_weights(groups, heavy))

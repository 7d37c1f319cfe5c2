"""Preparation: the optimal force map of 60 residues (900 atoms) from 500 frames, and its application."""

import numpy as np
import pytest

from cgloop.prep.constraints import guess_rigid_groups
from cgloop.prep.fitting import CONSTRAINT_FRAMES, FOLDS
from cgloop.prep.optimal import fit_optimal, force_products
from cgloop.prep.projection import MatrixMap

N_ATOMS, N_FRAMES, N_RESIDUES = 900, 500, 60


@pytest.fixture(scope="module")
def trajectory():
    """Positions and forces, float32 [500, 900, 3]; every second atom rigidly bonded to the one before it."""
    random = np.random.default_rng(0)
    heavy = np.cumsum(random.normal(0, 1.0, (N_ATOMS // 2, 3)), axis=0) + random.normal(
        0, 0.1, (N_FRAMES, N_ATOMS // 2, 3)
    )
    direction = random.normal(size=heavy.shape)
    hydrogen = heavy + 1.09 * direction / np.linalg.norm(direction, axis=2, keepdims=True)
    positions = np.stack([heavy, hydrogen], axis=2).reshape(N_FRAMES, N_ATOMS, 3)
    springs = random.normal(0, 15, (N_FRAMES, N_ATOMS, 3))
    forces = springs - np.roll(springs, 1, axis=1) + random.normal(0, 5, (N_FRAMES, N_ATOMS, 3))
    return positions.astype(np.float32), forces.astype(np.float32)


def test_fit_of_the_optimal_map(benchmark, trajectory):
    positions, forces = trajectory
    atoms = np.arange(4, N_ATOMS, N_ATOMS // N_RESIDUES)

    def fit():
        groups = guess_rigid_groups(positions[:: N_FRAMES // CONSTRAINT_FRAMES])
        folds = [force_products(part, groups) for part in np.array_split(forces, FOLDS)]
        return fit_optimal(folds, groups, atoms)

    found = benchmark(fit)
    assert found.weights.shape == (N_RESIDUES, N_ATOMS)


def test_application_of_a_dense_map(benchmark, trajectory):
    _, forces = trajectory
    mapping = MatrixMap(np.random.default_rng(0).normal(size=(N_RESIDUES, N_ATOMS)))
    benchmark(lambda: mapping.project(forces))

"""The adapter to the package aggforce, which is not on PyPI."""

import sys
import types

import numpy as np
import pytest
from synthetic_atoms import correlated_forces, moving_molecule

from cgloop.errors import UserError
from cgloop.prep.aggforce_map import aggforce_map
from cgloop.prep.constraints import guess_rigid_groups
from cgloop.prep.optimal import fit_optimal, force_products


@pytest.fixture
def problem():
    random = np.random.default_rng(4)
    positions, sets = moving_molecule(6, 30, random)
    groups = guess_rigid_groups(positions)
    atoms = np.array(sorted(min(members) for members in sets))[[0, 2, 4]]
    return groups, correlated_forces(positions.shape[1], 120, random), atoms


def ours(groups, forces, atoms, l2):
    folds = [force_products(part, groups) for part in np.array_split(forces, 3)]
    return fit_optimal(folds, groups, atoms, l2).weights


def test_the_package_itself_finds_nearly_our_map(problem):
    pytest.importorskip("aggforce", reason="not on PyPI")
    groups, forces, atoms = problem
    found = aggforce_map(forces, groups, atoms, l2=0.5)
    np.testing.assert_allclose(found.matrix, ours(groups, forces, atoms, 0.5), atol=1e-3)


class LinearMap:
    """As published: lists of atoms per bead, averaged."""

    def __init__(self, mapping, n_fg_sites):
        self.standard_matrix = np.zeros((len(mapping), n_fg_sites))
        for bead, atoms in enumerate(mapping):
            self.standard_matrix[bead, atoms] = 1 / len(atoms)


def project_forces(coords, forces, coord_map, constrained_inds, l2_regularization):
    """As published: the penalty is on the sum over rows, not on their mean. Solved through the KKT system."""
    n_atoms = forces.shape[1]
    rows = forces.transpose(0, 2, 1).reshape(-1, n_atoms)
    pairs = [sorted(pair) for pair in constrained_inds]
    equations = np.zeros((len(pairs), n_atoms))
    for row, (i, j) in enumerate(pairs):
        equations[row, [i, j]] = 1.0, -1.0
    equations = np.vstack([coord_map.standard_matrix, equations])
    n_beads, n_equations = len(coord_map.standard_matrix), len(equations)
    hessian = rows.T @ rows + l2_regularization * np.eye(n_atoms)
    system = np.block([[hessian, equations.T], [equations, np.zeros((n_equations, n_equations))]])
    right = np.zeros((len(system), n_beads))
    right[n_atoms : n_atoms + n_beads] = np.eye(n_beads)
    solution, *_ = np.linalg.lstsq(system, right, rcond=None)
    assert coords.shape == forces.shape
    force_map = types.SimpleNamespace(standard_matrix=solution[:n_atoms].T)
    return {"tmap": types.SimpleNamespace(force_map=force_map), "constraints": constrained_inds}


def test_the_published_interface_is_called_so_that_penalty_and_constraints_mean_the_same(problem, monkeypatch):
    stand_in = types.ModuleType("aggforce")
    stand_in.LinearMap, stand_in.project_forces = LinearMap, project_forces
    monkeypatch.setitem(sys.modules, "aggforce", stand_in)
    groups, forces, atoms = problem
    found = aggforce_map(forces, groups, atoms, l2=0.5)
    np.testing.assert_allclose(found.matrix, ours(groups, forces, atoms, 0.5), atol=1e-6)
    default = aggforce_map(forces, groups, atoms)
    np.testing.assert_allclose(default.matrix, ours(groups, forces, atoms, 1e-4 * (forces**2).mean()), atol=1e-6)


def test_another_interface_is_told(problem, monkeypatch):
    older = types.ModuleType("aggforce")
    older.LinearMap, older.project_forces = LinearMap, lambda xyz, forces, config_mapping: {}
    monkeypatch.setitem(sys.modules, "aggforce", older)
    with pytest.raises(UserError, match="has another interface"):
        aggforce_map(problem[1], problem[0], problem[2])

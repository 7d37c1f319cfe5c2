"""Constrained ridge least squares against independent solvers."""

import numpy as np
import pytest
from scipy.optimize import minimize

from cgloop.priors.series import (
    cosine_basis,
    cosine_slopes,
    fit_linear,
    fit_series,
    harmonic_numbers,
    periodic_basis,
)

THETA = np.linspace(0.01, np.pi - 0.01, 90)


def problem(seed, order=5):
    random = np.random.default_rng(seed)
    target = cosine_basis(THETA, 9) @ random.normal(size=10)
    return cosine_basis(THETA, order), target, random.random(len(THETA)), harmonic_numbers(order + 1, order)


def objective(c, basis, target, weights, harmonics, ridge):
    return (weights * (basis @ c - target) ** 2).sum() + ridge * (harmonics**4.0 * c**2).sum()


@pytest.mark.parametrize("seed", range(4))
def test_without_inequalities_the_normal_equations_hold(seed):
    basis, target, weights, harmonics = problem(seed)
    found = fit_series(basis, target, weights, harmonics, 0.3, np.zeros((0, 6)), np.zeros(0))
    matrix = basis.T @ (weights[:, None] * basis) + 0.3 * np.diag(harmonics**4.0)
    np.testing.assert_allclose(found, np.linalg.solve(matrix, basis.T @ (weights * target)), rtol=1e-8)


@pytest.mark.parametrize("seed", range(4))
def test_with_inequalities_as_a_general_optimiser(seed):
    basis, target, weights, harmonics = problem(seed)
    rows = cosine_slopes(THETA[60:], 5)
    bounds = np.zeros(len(rows))
    found = fit_series(basis, target, weights, harmonics, 0.01, rows, bounds)
    assert (rows @ found).min() > -1e-6
    arguments = (basis, target, weights, harmonics, 0.01)
    constraint = {"type": "ineq", "fun": lambda c: rows @ c - bounds, "jac": lambda c: rows}
    best = minimize(objective, np.zeros(6), arguments, "SLSQP", constraints=[constraint], options={"maxiter": 500})
    assert objective(found, *arguments) <= best.fun * (1 + 1e-5) + 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_hundreds_of_inequalities_that_nearly_depend_on_each_other(seed):
    """Many rows are mixtures of eight, but for one part in a million: those of a fine grid look like that."""
    random = np.random.default_rng(seed)
    basis, target = random.normal(size=(60, 12)), 3.0 * random.normal(size=60)
    mixtures = random.dirichlet(np.full(8, 0.3), size=400)
    rows = mixtures @ random.normal(size=(8, 12)) + 1e-6 * random.normal(size=(400, 12))
    bounds, penalty = mixtures @ (3.0 * random.normal(size=8)), np.diag(10.0 ** random.uniform(-3, 0, 12))
    found = fit_linear(basis, target, np.ones(60), penalty, rows, bounds)
    assert (rows @ found - bounds).min() > -1e-6

    def distance(c):
        return float(((basis @ c - target) ** 2).sum() + ((penalty @ c) ** 2).sum())

    def slope(c):
        return 2 * basis.T @ (basis @ c - target) + 2 * penalty.T @ (penalty @ c)

    constraint = {"type": "ineq", "fun": lambda c: rows @ c - bounds, "jac": lambda c: rows}
    options = {"maxiter": 1000, "ftol": 1e-12}
    best = minimize(distance, found + 0.1, jac=slope, method="SLSQP", constraints=[constraint], options=options)
    assert distance(found) == pytest.approx(best.fun, rel=1e-5)


def test_contradictory_inequalities():
    basis, target, weights, harmonics = problem(0)
    rows = np.concatenate([basis[:1], -basis[:1]])
    with pytest.raises(ValueError, match="contradict"):
        fit_series(basis, target, weights, harmonics, 0.1, rows, np.ones(2))


def test_slopes_are_derivatives():
    step = 1e-6
    numeric = (cosine_basis(THETA + step, 6) - cosine_basis(THETA - step, 6)) / (2 * step)
    np.testing.assert_allclose(cosine_slopes(THETA, 6), numeric, atol=1e-7)


def test_bases_are_the_series_of_the_model():
    """The numbers that are fitted mean what the energy function makes of them."""
    from cgloop.model.terms import angle_potential, dihedral_potential, zero_prior

    random = np.random.default_rng(1)
    a, b, c = random.normal(size=7), random.normal(size=5), np.concatenate([[0.0], random.normal(size=4)])
    prior = zero_prior()._replace(angle_coeffs=a, dihedral_cos=b, dihedral_sin=c)
    np.testing.assert_allclose(angle_potential(np.cos(THETA), prior), cosine_basis(THETA, 6) @ a, atol=1e-4)
    phi = np.linspace(-np.pi, np.pi, 77)
    expected = periodic_basis(phi, 4) @ np.concatenate([[0.0], b[1:], c[1:]])  # without the mean
    np.testing.assert_allclose(dihedral_potential(np.cos(phi), np.sin(phi), prior), expected, atol=1e-4)

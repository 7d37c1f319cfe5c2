"""Prior terms against closed forms in NumPy, with angles and dihedrals from MDAnalysis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from MDAnalysis.lib.distances import calc_angles, calc_bonds, calc_dihedrals

from cgloop.model.graph import build_graph
from cgloop.model.hybrid import Model, init_params
from cgloop.model.terms import PRIOR_TERM_NAMES, TERM_NAMES, repulsion_potential, zero_prior
from tests.model.systems import PRIOR, chain, chain_graph, evaluate, minus_slope, small_model

PRIOR_ONLY = small_model("prior-only")


def prior_params(prior=PRIOR):
    return init_params(PRIOR_ONLY, prior, jax.random.key(0))


def only(term: str):
    """The prior with the weights of all other terms zero."""
    weights = np.where(np.array(PRIOR_TERM_NAMES) == term, 1.0, 0.0)
    return PRIOR._replace(weights=weights)


def wca(r: np.ndarray, epsilon: float, r_min: float) -> np.ndarray:
    return np.where(r < r_min, epsilon * ((r_min / r) ** 12 - 2 * (r_min / r) ** 6 + 1), 0.0)


def test_terms_are_their_closed_forms():
    x = chain(9, seed=3, noise=0.9)
    n = len(x)
    expected = dict.fromkeys(TERM_NAMES, 0.0)
    bonds = calc_bonds(x[:-1], x[1:])
    expected["bond"] = np.sum(40.0 * (bonds - 3.82) ** 2)
    angles = calc_angles(x[:-2], x[1:-1], x[2:])
    expected["angle"] = 0.9 * sum(np.sum(a * np.cos(k * angles)) for k, a in enumerate(PRIOR.angle_coeffs))
    dihedrals = calc_dihedrals(x[:-3], x[1:-2], x[2:-1], x[3:])
    series = zip(PRIOR.dihedral_cos, PRIOR.dihedral_sin, strict=True)
    expected["dihedral"] = 1.1 * sum(
        np.sum(a * np.cos(k * dihedrals) + b * np.sin(k * dihedrals)) for k, (a, b) in enumerate(series) if k
    )
    for i in range(n):
        for j in range(i + 2, n):
            kind = 0 if j - i == 2 else 1 if j - i <= 5 else 2
            r = np.linalg.norm(x[i] - x[j])
            expected["repulsion"] += 0.8 * wca(r, PRIOR.repulsion_epsilon[kind], PRIOR.repulsion_r_min[kind])
    assert expected["repulsion"] > 0
    energies, _, terms = evaluate(PRIOR_ONLY, prior_params(), x, chain_graph(x))
    np.testing.assert_allclose(terms[0], [expected[name] for name in TERM_NAMES], rtol=1e-5)
    np.testing.assert_allclose(energies[0], terms[0].sum(), rtol=1e-12)


@pytest.mark.parametrize("term", TERM_NAMES[:4])
def test_forces_are_the_gradient_of_each_term(term):
    x = chain(7, seed=5, noise=0.9)
    graph, params = chain_graph(x), prior_params(only(term))
    forces = evaluate(PRIOR_ONLY, params, x, graph)[1]
    assert np.max(np.abs(forces)) > 0.1
    numeric = minus_slope(lambda x: evaluate(PRIOR_ONLY, params, x, graph)[0][0], x, h=1e-5)
    np.testing.assert_allclose(forces, numeric, atol=1e-6 * np.max(np.abs(forces)))


def test_repulsion_is_a_line_below_half_of_its_range():
    """Value and slope meet where the line begins, and at the end of the range both are zero."""
    value_and_slope = jax.vmap(jax.value_and_grad(lambda r: repulsion_potential(r, 2.0, 5.0)))
    r = jnp.array([1e-3, 1.0, 2.5 - 1e-9, 2.5 + 1e-9, 4.0, 5.0 - 1e-9, 5.0 + 1e-9, 8.0])
    value, slope = map(np.asarray, value_and_slope(r))
    np.testing.assert_allclose(value[4], wca(np.array(4.0), 2.0, 5.0))
    np.testing.assert_allclose([slope[0], slope[1], slope[2]], slope[3], rtol=1e-6)
    np.testing.assert_allclose(value[2], value[3], rtol=1e-6)
    np.testing.assert_allclose(value[1], value[3] - 1.5 * slope[3], rtol=1e-6)
    np.testing.assert_allclose([value[5:], slope[5:]], 0.0, atol=1e-6)


def test_bonded_neighbours_do_not_repel_but_ends_of_different_pieces_do():
    x = np.array([[0.0, 0, 0], [3.0, 0, 0]])
    for linked, expected in ((True, 0.0), (False, 0.8 * float(wca(np.array(3.0), 2.0, 5.2)))):
        graph = build_graph(np.zeros(2, dtype=int), np.array([linked]), x, 9.0)
        np.testing.assert_allclose(evaluate(PRIOR_ONLY, prior_params(), x, graph)[2][0, 3], expected, rtol=1e-9)


def test_zero_prior_has_no_energy():
    model = Model(spec=None, energy="prior-only", cutoff_A=9.0)
    energies, forces, _ = evaluate(model, prior_params(zero_prior()), chain(6), chain_graph(chain(6)))
    assert energies[0] == 0.0
    assert np.all(forces == 0.0)

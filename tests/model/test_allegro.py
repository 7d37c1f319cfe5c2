"""Allegro alone: smoothness, handedness, locality, untrained types."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cgloop.errors import UserError
from cgloop.model.allegro import init_allegro
from cgloop.model.allegro_paths import layer_paths
from cgloop.model.layers import envelope
from tests.model.systems import (
    CUTOFF_A,
    chain,
    chain_graph,
    evaluate,
    random_rotation,
    small_model,
    small_params,
    small_spec,
    total_energy,
)

DEGREE_2 = dict(max_ell=2, hidden="2x0e+2x1o+2x2e")
MODEL = small_model("ml-only", **DEGREE_2)


def ml_energy(model, x, types=None, seed=0):
    return total_energy(model, small_params(model, seed), x, chain_graph(x, types))


def test_envelope_and_two_derivatives_vanish_at_the_cutoff():
    u = lambda d: envelope(d, 9.0, 6)  # noqa: E731
    for function in (u, jax.grad(u), jax.grad(jax.grad(u))):
        assert abs(float(function(9.0 - 1e-9))) < 1e-7
        assert float(function(9.5)) == 0.0
    assert float(u(0.0)) == 1.0


def test_edges_beyond_the_cutoff_change_nothing():
    x = chain(10)
    params = small_params(MODEL)
    near, far = (evaluate(MODEL, params, x, chain_graph(x, cutoff_A=cutoff)) for cutoff in (CUTOFF_A, 30.0))
    np.testing.assert_allclose(near[0], far[0], rtol=1e-12)
    np.testing.assert_allclose(near[1], far[1], atol=1e-12 * np.max(np.abs(near[1])))


@pytest.mark.parametrize("n_layers", [2, 3])
def test_so3_tells_mirror_images_apart(n_layers):
    model = small_model("ml-only", symmetry="SO3", n_layers=n_layers)
    x = chain(6)
    energy, mirrored = ml_energy(model, x), ml_energy(model, x * [1, 1, -1])
    assert abs(energy - mirrored) > 1e-4 * abs(energy)
    np.testing.assert_allclose(ml_energy(model, x @ random_rotation(1).T), energy, rtol=1e-10)


def test_one_layer_cannot_tell_mirror_images_apart():
    """Its scalars are products of two vectors; handedness needs three."""
    model = small_model("ml-only", symmetry="SO3", n_layers=1, **DEGREE_2)
    x = chain(6)
    np.testing.assert_allclose(ml_energy(model, x), ml_energy(model, x * [1, 1, -1]), rtol=1e-10)


@pytest.mark.parametrize("hidden", ["2x0e+2x1o+2x2e", "2x0e+2x0o+2x1o+2x1e"])
def test_o3_gives_mirror_images_the_same_energy(hidden):
    model = small_model("ml-only", symmetry="O3", n_layers=3, hidden=hidden, max_ell=2 if "2e" in hidden else 1)
    x = chain(6)
    np.testing.assert_allclose(ml_energy(model, x), ml_energy(model, x * [1, 1, -1]), rtol=1e-10)
    np.testing.assert_allclose(ml_energy(model, x), ml_energy(model, -x), rtol=1e-10)


def test_pseudo_scalars_do_not_reach_the_energy_of_o3():
    """With 0o in `hidden` the second layer of four makes some; under O3 they change sign in the mirror."""
    model = small_model("ml-only", symmetry="O3", n_layers=4, hidden="2x0e+2x0o+2x1o+2x1e")
    x = chain(6)
    np.testing.assert_allclose(ml_energy(model, x), ml_energy(model, x * [1, 1, -1]), rtol=1e-10)


def test_only_what_reaches_the_energy_is_computed():
    for symmetry in ("SO3", "O3"):
        paths = layer_paths(small_spec(symmetry=symmetry, n_layers=3, max_ell=2, hidden="2x0e+2x1o+2x1e+2x2e+2x2o"))
        assert {path[2].degree for path in paths[-1]} == {0}
        assert len(paths[-1]) == 3
        for layer in (0, 1):
            made, used = {path[2] for path in paths[layer]}, {path[0] for path in paths[layer + 1]}
            assert used <= made
            assert all(irrep in used or irrep.degree == 0 for irrep in made)


def test_so3_computes_every_path():
    """15 products of degrees up to 2 in a middle layer, and every scalar of the last one."""
    paths = layer_paths(small_spec(**DEGREE_2))
    assert [len(layer) for layer in paths] == [15, 3]


def test_types_matter():
    x = chain(6)
    assert ml_energy(MODEL, x, np.zeros(6, dtype=int)) != ml_energy(MODEL, x, np.array([0, 0, 0, 0, 0, 1]))


def test_untrained_model_is_close_to_the_prior():
    """Energies well below kT per bead before training, so that delta learning starts from the prior."""
    for options in (dict(n_layers=1), dict(n_layers=3, mlp=(32, 32), embedding=(32, 32), **DEGREE_2)):
        model = small_model("ml-only", **options)
        x = chain(10)
        _, forces, terms = evaluate(model, small_params(model, readout=1.0), x, chain_graph(x))
        assert abs(terms[0, 4]) < 0.6 * len(x)
        assert np.sqrt(np.mean(forces**2)) < 0.6


def test_widths_may_differ_between_embedding_and_layers():
    spec = small_spec(embedding=(6, 12), mlp=(8, 5))
    model = small_model("ml-only", embedding=(6, 12), mlp=(8, 5))
    params = init_allegro(spec, jax.random.key(0))
    assert params["readout"].shape == (5,)
    assert np.isfinite(ml_energy(model, chain(5)))


@pytest.mark.parametrize("changes", [
    dict(max_ell=0, hidden="2x1o"),
    dict(symmetry="O3", hidden="2x0o+2x1e"),
    dict(n_layers=3, hidden="2x2e"),
])  # fmt: skip
def test_hidden_that_leaves_nothing_for_the_last_layer_is_refused(changes):
    with pytest.raises(UserError, match="leaves nothing for the last layer"):
        init_allegro(small_spec(**changes), jax.random.key(0))
    assert layer_paths(small_spec(**{**changes, "n_layers": 1}))


def test_largest_degree_is_three():
    model = small_model("ml-only", max_ell=3, hidden="2x0e+2x1o+2x2e+2x3o")
    x = chain(5)
    energy = ml_energy(model, x)
    np.testing.assert_allclose(ml_energy(model, x @ random_rotation(4).T), energy, rtol=1e-10)
    assert jnp.isfinite(energy)

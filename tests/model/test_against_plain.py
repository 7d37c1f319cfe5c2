"""The network as it is computed against the one that the formulas say: energies, forces, and gradients of training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cgloop.model.allegro import edge_energies, init_allegro
from cgloop.model.force import minus_gradient
from cgloop.model.geometry import edge_vectors
from cgloop.model.graph import pad_graph
from tests.model import plain_allegro
from tests.model.systems import QUICKLY, chain, chain_graph, small_spec

SPECS = {
    "one layer": small_spec(n_layers=1),
    "three layers": small_spec(n_layers=3, max_ell=2, hidden="2x0e+2x1o+2x2e"),
    "both parities": small_spec(n_layers=3, symmetry="O3", hidden="2x0o+2x1o+2x1e"),
    "pseudo-scalars": small_spec(n_layers=4, symmetry="O3", hidden="2x0e+2x0o+2x1o+2x1e"),
    "hidden beyond the harmonics": small_spec(n_layers=3, hidden="2x0e+2x1o+2x2e"),
    "no scalars kept": small_spec(n_layers=2, max_ell=2, hidden="3x1o+3x2e", mlp=(6, 12)),
    "fewer features than channels": small_spec(hidden="6x0e+6x1o", embedding=(4,), mlp=(4,)),
    "no harmonics but the scalar": small_spec(n_layers=2, max_ell=0, hidden="3x0e"),
}


def everything(function, spec, params, x, graph):
    """Energies of the edges, forces, and the gradient by the parameters of a sum of forces with weights."""

    def energy(params, positions, graph):
        vectors = edge_vectors(positions, graph.senders, graph.receivers, graph.edge_mask)
        return function(params, spec, vectors, graph.types, graph.senders, graph.receivers, graph.edge_mask)

    total = lambda *arguments: jnp.sum(energy(*arguments))  # noqa: E731
    weights = np.cos(np.arange(x.size)).reshape(x.shape)
    loss = lambda params: jnp.sum(weights * minus_gradient(total)(params, x, graph) ** 2)  # noqa: E731
    return energy(params, x, graph), minus_gradient(total)(params, x, graph), jax.grad(loss)(params)


LONG = {"three layers", "no scalars kept", "pseudo-scalars", "hidden beyond the harmonics", "both parities"}
"""To compile."""


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in SPECS])
def test_is_the_network_of_the_formulas(name):
    spec = SPECS[name]
    x = chain(7, seed=3)
    params = init_allegro(spec, jax.random.key(2))
    graph = pad_graph(chain_graph(x), edges=60, beads=9)
    arguments = spec, params, np.concatenate([x, np.zeros((2, 3))]), graph
    ours, reference = (
        jax.jit(lambda f=f: everything(f, *arguments), compiler_options=QUICKLY)()
        for f in (edge_energies, plain_allegro.edge_energies)
    )
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(reference), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13 * max(np.max(np.abs(b)), 1e-3))


def test_reverse_pass_of_forces_is_that_of_reverse_mode():
    """The gradient along the tangent against reverse over reverse, by parameters and by positions."""
    energy = lambda p, x, graph: jnp.sum(jnp.tanh(p["a"] @ x) ** 3) + jnp.prod(p["b"] + x[0])  # noqa: E731
    random = np.random.default_rng(0)
    params, x = {"a": random.normal(size=(4, 5)), "b": random.normal(size=3)}, random.normal(size=(5, 3))
    loss = lambda force: lambda p, x: jnp.sum(jnp.sin(force(p, x, 0)) * np.arange(15).reshape(5, 3))  # noqa: E731
    plain = lambda p, x, graph: -jax.grad(energy, argnums=1)(p, x, graph)  # noqa: E731
    ours, reference = (jax.grad(loss(force), argnums=(0, 1))(params, x) for force in (minus_gradient(energy), plain))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(reference), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)

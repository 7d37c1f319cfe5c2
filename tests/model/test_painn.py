"""PaiNN alone: against its equations written out bead by bead, and what it does before it is trained."""

import jax
import numpy as np
import pytest

from cgloop.model.hybrid import Model, bead_energies
from tests.model.systems import (
    CUTOFF_A,
    chain,
    chain_graph,
    compiled,
    evaluate,
    in_room,
    small_painn,
    small_params,
    total_energy,
)

MODEL = Model(small_painn(), "hybrid", CUTOFF_A)


def silu(x):
    return 1.6765324703310907 * x / (1.0 + np.exp(-x))


def dense(layers, x):
    return silu(x @ layers["weight_0"] + layers["bias_0"])


def energy_by_equations(params, spec, x, types):
    """Eqs. 7 to 10 of the paper with loops over beads and neighbours; see the differences in `cgloop.model.painn`."""
    n, width, p = len(x), spec.features, spec.envelope_p
    s, v = params["species"][types], np.zeros((n, width, 3))
    for layer in range(spec.n_layers):
        own = params[f"layer_{layer}"]
        ds, dv = np.zeros_like(s), np.zeros_like(v)
        for i in range(n):
            for j in range(n):
                vector = x[j] - x[i]
                d = np.linalg.norm(vector) / spec.cutoff_A
                if i == j or d >= 1.0:
                    continue
                u = 1 - (p + 1) * (p + 2) / 2 * d**p + p * (p + 2) * d ** (p + 1) - p * (p + 1) / 2 * d ** (p + 2)
                rbf = np.sin(np.arange(1, spec.n_radial + 1) * np.pi * d) / d
                w = rbf @ own["filter"] * u / np.sqrt(spec.avg_num_neighbors)
                message = dense(own["sender"], s[j]) @ own["message"] * w
                ds[i] += message[:width]
                dv[i] += np.outer(message[width : 2 * width], vector / np.linalg.norm(vector))
                if layer > 0:
                    dv[i] += message[2 * width :, None] * v[j]
        s, v = s + ds, v + dv
        for i in range(n):
            maps = [part.T @ v[i] for part in np.split(own["maps"], own["maps"].shape[1] // width, axis=1)]
            length = np.sqrt(1 + np.sum(maps[1] ** 2, axis=1)) - 1
            size = 1 + sum(np.sum(one**2, axis=1) for one in maps)
            triple = [np.linalg.det(np.stack([one[f] for one in maps])) for f in range(width)] if len(maps) == 3 else []
            inputs = np.concatenate([s[i], length, np.array(triple) / size if triple else []])
            update = np.split(dense(own["own"], inputs) @ own["update"], own["update"].shape[1] // width)
            s[i] = s[i] + update[0] + update[1] * np.sum(maps[0] * maps[1], axis=1) / np.sqrt(size)
            if layer < spec.n_layers - 1:
                v[i] = v[i] + update[2][:, None] * maps[0]
    return spec.energy_scale * dense(params["output"], s) @ params["readout"]


@pytest.mark.parametrize("symmetry", ["SO3", "O3"])
def test_is_the_network_of_the_equations(symmetry):
    spec = small_painn(symmetry=symmetry, n_layers=3)
    model = Model(spec, "ml-only", CUTOFF_A)
    params, x = small_params(model), chain(6, seed=3)
    graph = chain_graph(x)
    ml = jax.tree.map(np.asarray, params["ml"])
    alone = [energy_by_equations(ml, spec, x[:1], graph.types[i : i + 1])[0] for i in range(len(x))]
    expected = energy_by_equations(ml, spec, x, graph.types) - alone
    found = np.asarray(compiled(model, bead_energies)(params, *in_room(x, graph)))[: len(x)]
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)


def test_a_hybrid_adds_the_prior():
    """Terms and beads of prior and network add up."""
    x, params = chain(6), small_params(MODEL)
    graph = chain_graph(x)
    energies, _, terms = evaluate(MODEL, params, x, graph)
    network = evaluate(Model(MODEL.spec, "ml-only", CUTOFF_A), params, x, graph)
    np.testing.assert_allclose(terms[:, -1], network[0], rtol=1e-12)
    np.testing.assert_allclose(terms.sum(axis=1), energies, rtol=1e-12)
    assert np.all(terms[0, :4] != 0.0)
    by_bead = np.asarray(compiled(MODEL, bead_energies)(params, *in_room(x, graph)))
    np.testing.assert_allclose(by_bead.sum(), energies[0], rtol=1e-12)


def test_types_matter():
    x = chain(6)
    first, second = (
        total_energy(MODEL, small_params(MODEL), x, chain_graph(x, np.array([0, 0, 0, 0, 0, last]))) for last in (0, 1)
    )
    assert first != second


@pytest.mark.slow
def test_untrained_model_is_close_to_the_prior():
    """Energies well below kT per bead before training, so that delta learning starts from the prior; also if deep."""
    model = Model(small_painn(n_layers=5, features=16, n_radial=20), "ml-only", CUTOFF_A)
    x = chain(10)
    _, forces, terms = evaluate(model, small_params(model, readout=1.0), x, chain_graph(x))
    assert abs(terms[0, -1]) < 0.3 * len(x)
    assert np.sqrt(np.mean(forces**2)) < 0.6

"""What every network has to keep, whatever it computes; and how one is named, chosen and written down."""

import json
from dataclasses import fields

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgloop.config.root import Config
from cgloop.model.graph import build_graph, pad_graph
from cgloop.model.hybrid import Model, bead_energies, build_model, ml_forces, model_from_json, model_to_json
from cgloop.model.networks import NETWORKS, name_of, spec_from_json, spec_to_json
from tests.model.systems import (
    CUTOFF_A,
    QUICKLY,
    chain,
    chain_graph,
    compiled,
    evaluate,
    evaluate_as_is,
    in_room,
    minus_slope,
    random_rotation,
    small_painn,
    small_params,
    small_spec,
    total_energy,
)

SPECS = {"allegro": small_spec(), "painn": small_painn()}
MODELS = {name: Model(spec, "ml-only", CUTOFF_A) for name, spec in SPECS.items()}
SEEDS = st.integers(0, 10**6)
FEW = settings(max_examples=5, deadline=None)

every_network = pytest.mark.parametrize("network", list(SPECS))


def close(a, b, rtol=1e-10):
    """Equal within `rtol` of the largest value."""
    np.testing.assert_allclose(a, b, atol=rtol * np.max(np.abs(b)), rtol=0)


def test_every_network_is_tested_here():
    # The package that has it is in no registry; see test_chemutils.py.
    assert set(SPECS) == set(NETWORKS) - {"chemutils-mace"}


@every_network
@FEW
@given(seed=SEEDS)
def test_rotation_and_translation(network, seed):
    model, x = MODELS[network], chain(6, seed=seed)
    rotation, shift = random_rotation(seed), np.random.default_rng(seed).normal(scale=20, size=3)
    graph = chain_graph(x)
    energies, forces, _ = evaluate(model, small_params(model), x, graph)
    moved = evaluate(model, small_params(model), x @ rotation.T + shift, graph)
    close(moved[0], energies)
    close(moved[1], forces @ rotation.T)


@every_network
@FEW
@given(seed=SEEDS)
def test_order_of_beads_and_edges_does_not_matter(network, seed):
    model, x = MODELS[network], chain(6, seed=seed)
    rng, graph = np.random.default_rng(seed), chain_graph(x)
    new_place = rng.permutation(len(x))
    old_place, edges = np.argsort(new_place), rng.permutation(len(graph.senders))
    shuffled = graph._replace(
        types=graph.types[old_place],
        senders=new_place[graph.senders][edges],
        receivers=new_place[graph.receivers][edges],
    )
    energies, forces, _ = evaluate(model, small_params(model), x, graph)
    moved = evaluate(model, small_params(model), x[old_place], shuffled)
    close(moved[0], energies)
    close(moved[1], forces[old_place])


@every_network
def test_so3_tells_mirror_images_apart_and_o3_does_not(network):
    x = chain(6)
    for symmetry in ("SO3", "O3"):
        model = Model(type(SPECS[network])(**{**vars(SPECS[network]), "symmetry": symmetry}), "ml-only", CUTOFF_A)
        energy, mirrored, turned = (
            total_energy(model, small_params(model), x @ matrix, chain_graph(x))
            for matrix in (np.eye(3), np.diag([1, 1, -1]), random_rotation(1))
        )
        assert turned == pytest.approx(energy, rel=1e-10)
        if symmetry == "O3":
            assert mirrored == pytest.approx(energy, rel=1e-10)
        else:
            assert abs(mirrored - energy) > 1e-4 * abs(energy)


@every_network
def test_forces_are_the_gradient_of_the_energy(network):
    model, x = MODELS[network], chain(5, seed=4)
    params, graph = small_params(model), chain_graph(x)
    forces = evaluate(model, params, x, graph)[1]
    numeric = minus_slope(lambda x: evaluate(model, params, x, graph)[0][0], x)
    close(forces, numeric, 1e-6)


@every_network
def test_padding_and_company_change_nothing(network):
    """Beads that are padding may even belong to the last replica."""
    model = MODELS[network]
    params, frames = small_params(model), np.stack([chain(6, seed) for seed in (8, 9)])
    graph = chain_graph(frames)
    energies, forces, _ = evaluate(model, params, frames, graph)
    padded = pad_graph(graph, beads=16, edges=len(graph.senders) + 20)
    positions = np.concatenate([frames.reshape(-1, 3), np.zeros((4, 3))])
    more_energies, more_forces, _ = evaluate_as_is(model, params, positions, padded)
    close(more_energies, energies, 1e-12)
    close(more_forces[:12], forces, 1e-12)
    assert np.all(more_forces[12:] == 0.0)
    for i, x in enumerate(frames):
        alone = evaluate(model, params, x, chain_graph(x))
        close(energies[i : i + 1], alone[0], 1e-12)
        close(forces[6 * i : 6 * i + 6], alone[1], 1e-12)
    by_bead = np.asarray(compiled(model, bead_energies)(params, *in_room(frames, graph)))
    close(by_bead[:12].reshape(2, -1).sum(axis=1), energies, 1e-12)
    assert np.all(by_bead[12:] == 0.0)


@every_network
@pytest.mark.parametrize("closest", ["pair", "third bead"])
def test_energy_and_forces_are_smooth_where_a_bead_leaves(network, closest):
    """A bead δ inside the cutoff changes energies at least like δ³ and forces like δ², alone or as a third body."""
    model = MODELS[network]
    params, others = small_params(model), chain(1 if closest == "pair" else 4, seed=2)
    top = others[np.argmax(others[:, 2])]
    change_energy, change_force = [], []
    for delta in (4e-2, 2e-2):
        x = np.concatenate([others, [top + np.array([0.0, 0.0, CUTOFF_A - delta])]])
        linked = np.zeros(len(x) - 1, dtype=bool)
        graph, without = (build_graph(np.arange(len(x)), linked, x, CUTOFF_A - less * delta) for less in (0, 1.001))
        assert graph.edge_mask.sum() == without.edge_mask.sum() + 2
        inside, outside = (evaluate(model, params, x, g) for g in (graph, without))
        change_energy.append(abs(inside[0][0] - outside[0][0]))
        change_force.append(np.max(np.abs(inside[1] - outside[1])))
    assert change_energy[0] < 1e-4
    assert change_energy[0] / change_energy[1] > 7.0
    assert change_force[0] / change_force[1] > 3.5


@every_network
def test_beads_without_neighbours_have_no_energy_and_edges_beyond_the_cutoff_do_not_count(network):
    model = MODELS[network]
    x = np.array([[0.0, 0, 0], [1.01 * CUTOFF_A, 0, 0], [0, 3 * CUTOFF_A, 0]])
    graph = build_graph(np.array([3, 7, 7]), np.zeros(2, dtype=bool), x, 4 * CUTOFF_A)
    assert graph.edge_mask.sum() == 6
    energies, forces, _ = evaluate(model, small_params(model), x, graph)
    assert abs(energies[0]) < 1e-12
    assert np.all(forces == 0.0)


@every_network
def test_a_bead_sees_as_far_as_the_spec_says(network):
    """Beads in a row, each within the cutoff of its neighbours alone; the one behind the last that is seen is moved."""
    model, hops = MODELS[network], SPECS[network].hops
    params = small_params(model)
    assert model.receptive_field_A == hops * CUTOFF_A
    x = np.array([[0.9 * CUTOFF_A * i, 0.3 * (i % 2), 0.0] for i in range(hops + 2)])
    types, linked = np.arange(len(x)), np.zeros(len(x) - 1, dtype=bool)

    def first_bead(moved):
        y = x.copy()
        y[moved, 0] -= 0.2
        graph = build_graph(types, linked, y, CUTOFF_A)
        return np.asarray(compiled(model, bead_energies)(params, *in_room(y, graph)))[0]

    assert first_bead(hops) != pytest.approx(first_bead([]), rel=1e-6)
    assert first_bead(hops + 1) == pytest.approx(first_bead([]), rel=1e-13)


@every_network
def test_untrained_types_have_exactly_no_energy_and_no_influence(network):
    spec = type(SPECS[network])(**{**vars(SPECS[network]), "trained_types": tuple(i < 4 for i in range(20))})
    model = Model(spec, "ml-only", CUTOFF_A)
    params, x, types = small_params(model), chain(8), np.array([0, 1, 2, 3, 9, 10, 11, 12])
    energies, forces, _ = evaluate(model, params, x, chain_graph(x, types))
    assert energies[0] != 0.0
    assert np.all(forces[4:] == 0.0)
    alone = evaluate(model, params, x[:4], chain_graph(x[:4], types[:4]))
    np.testing.assert_allclose(energies[0], alone[0][0], rtol=1e-12)
    energies, forces, _ = evaluate(model, params, x, chain_graph(x, np.full(8, 9)))
    assert energies[0] == 0.0
    assert np.all(forces == 0.0)


@every_network
@pytest.mark.parametrize("case", ["coincident", "line", "far", "nearly coincident"])
def test_degenerate_geometries_have_finite_forces_in_single_precision(network, case):
    x = {
        "coincident": np.zeros((5, 3)),
        "line": np.arange(5)[:, None] * np.array([3.8, 0.0, 0.0]),
        "far": chain(5) + 1e5,
        "nearly coincident": chain(5) * 1e-9,
    }[case].astype(np.float32)
    model = MODELS[network]
    params = jax.tree.map(np.float32, small_params(model))
    energies, forces, _ = evaluate(model, params, x, chain_graph(x))
    assert forces.dtype == energies.dtype == np.float32
    assert np.all(np.isfinite(energies))
    assert np.all(np.isfinite(forces))


@every_network
def test_gradient_of_the_force_loss(network):
    """The training gradient along a random direction against central differences, with padding and an overlap."""
    model, x = MODELS[network], chain(5)
    start, (positions, graph) = small_params(model), in_room(x, chain_graph(x))
    leaves, tree = jax.tree.flatten(start["ml"])
    rng = np.random.default_rng(0)
    direction = tree.unflatten([rng.normal(size=leaf.shape) for leaf in leaves])

    def loss(ml, positions):
        return jnp.mean(ml_forces(model, {**start, "ml": ml}, positions, graph) ** 2)

    both = jax.jit(jax.value_and_grad(loss), compiler_options=QUICKLY)
    gradient = both(start["ml"], positions)[1]
    slope = sum(np.sum(g * d) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True))
    up, down = (
        float(both(jax.tree.map(lambda p, d, s=s: p + s * 1e-5 * d, start["ml"], direction), positions)[0])
        for s in (1, -1)
    )
    np.testing.assert_allclose(slope, (up - down) / 2e-5, rtol=1e-5)
    positions[1] = positions[0]
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(both(start["ml"], positions)[1]))


DATA = {
    "sources": [{"path": "a.h5"}],
    "temperature_K": 320.0,
    "split": {"by": "replica", "train": [0], "validation": [1], "test": [2]},
}


@every_network
def test_is_chosen_by_the_config_and_survives_writing(network):
    section = {"network": network, "energy": "hybrid", "cutoff_A": 7.0, "symmetry": "O3", "n_layers": 2}
    config = Config.model_validate({"run": {"name": "x"}, "data": DATA, "model": section}).model
    model = build_model(config, avg_num_neighbors=7.5, energy_scale=2.0, trained_types=[True, False] * 10)
    assert name_of(model.spec) == network
    assert (model.spec.cutoff_A, model.spec.symmetry, model.spec.n_layers) == (7.0, "O3", 2)
    assert (model.spec.avg_num_neighbors, model.spec.energy_scale) == (7.5, 2.0)
    assert model.spec.trained_types == (True, False) * 10
    assert hash(model) == hash(model_from_json(json.loads(json.dumps(model_to_json(model)))))
    assert model == model_from_json(json.loads(json.dumps(model_to_json(model))))


def test_specs_without_a_name_are_of_allegro():
    """As they were written before there were other networks; so they still are, and their digests stay."""
    data = spec_to_json(SPECS["allegro"])
    assert set(data) == {field.name for field in fields(SPECS["allegro"])}
    assert spec_from_json(data) == SPECS["allegro"]
    assert spec_from_json({"network": "allegro", **data}) == SPECS["allegro"]
    assert spec_to_json(SPECS["painn"])["network"] == "painn"
    with pytest.raises(ValueError, match="network `mace` is not known here"):
        spec_from_json({**data, "network": "mace"})
    with pytest.raises(TypeError):
        spec_from_json({**data, "network": "painn"})

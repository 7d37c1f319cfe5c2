"""The whole energy: forces, invariances, padding, replicas, derivatives of the loss, and how it is written down."""

import json
from functools import partial

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgloop.config.model import PRESETS, AllegroConfig
from cgloop.model.graph import Graph, batch_graphs, pad_graph
from cgloop.model.hybrid import (
    bead_energies,
    build_model,
    energy_and_forces,
    energy_terms,
    flatten_params,
    init_params,
    ml_forces,
    model_from_json,
    model_to_json,
    prior_forces,
    term_forces,
    unflatten_params,
)
from cgloop.model.terms import TERM_NAMES
from tests.model.systems import (
    PRIOR,
    chain,
    chain_graph,
    compiled,
    evaluate,
    evaluate_as_is,
    in_room,
    minus_slope,
    random_rotation,
    small_model,
    small_params,
    total_energy,
)

MODEL = small_model()
DEGREE_2 = dict(max_ell=2, hidden="2x0e+2x1o+2x2e")
SEEDS = st.integers(0, 10**6)
FEW = settings(max_examples=10, deadline=None)


def close(a, b, rtol=1e-10):
    """Equal within `rtol` of the largest value."""
    np.testing.assert_allclose(a, b, atol=rtol * np.max(np.abs(b)), rtol=0)


@pytest.mark.parametrize("energy_kind", ["hybrid", "ml-only"])
def test_forces_are_the_gradient_of_the_energy(energy_kind):
    model = small_model(energy_kind) if energy_kind == "hybrid" else small_model(energy_kind, **DEGREE_2)
    params, x = small_params(model), chain(6, seed=4)
    graph = chain_graph(x)
    forces = evaluate(model, params, x, graph)[1]
    numeric = minus_slope(lambda x: evaluate(model, params, x, graph)[0][0], x)
    close(forces, numeric, 1e-6)


@FEW
@given(seed=SEEDS)
def test_rotation_and_translation(seed):
    params, x = small_params(MODEL), chain(6, seed=seed)
    rotation, shift = random_rotation(seed), np.random.default_rng(seed).normal(scale=20, size=3)
    graph = chain_graph(x)
    energies, forces, terms = evaluate(MODEL, params, x, graph)
    moved = evaluate(MODEL, params, x @ rotation.T + shift, graph)
    close(moved[0], energies)
    close(moved[1], forces @ rotation.T)
    close(moved[2], terms)


@FEW
@given(seed=SEEDS)
def test_order_of_beads_and_edges_does_not_matter(seed):
    params, x = small_params(MODEL), chain(6, seed=seed)
    rng = np.random.default_rng(seed)
    graph = chain_graph(x)
    new_place = rng.permutation(len(x))
    old_place = np.argsort(new_place)
    edges = rng.permutation(len(graph.senders))
    shuffled = graph._replace(
        types=graph.types[old_place],
        senders=new_place[graph.senders][edges],
        receivers=new_place[graph.receivers][edges],
        edge_mask=graph.edge_mask[edges],
        separation=graph.separation[edges],
        bonds=new_place[graph.bonds],
        angles=new_place[graph.angles],
        dihedrals=new_place[graph.dihedrals],
    )
    energies, forces, terms = evaluate(MODEL, params, x, graph)
    moved = evaluate(MODEL, params, x[old_place], shuffled)
    close(moved[0], energies)
    close(moved[1], forces[old_place])
    close(moved[2], terms)


@pytest.mark.parametrize("extra", [dict(beads=11, replicas=3), dict(edges=77, bonds=9, angles=9, dihedrals=9)])
def test_padding_changes_nothing(extra):
    params, x = small_params(MODEL), chain(6, seed=8)
    graph = chain_graph(x)
    padded = pad_graph(graph, **extra)
    positions = np.zeros((len(padded.types), 3))
    positions[: len(x)] = x
    energies, forces, terms = evaluate_as_is(MODEL, params, x, graph)
    more_energies, more_forces, more_terms = evaluate_as_is(MODEL, params, positions, padded)
    close(more_energies[:1], energies, 1e-12)
    close(more_forces[: len(x)], forces, 1e-12)
    close(more_terms[:1], terms, 1e-12)
    assert np.all(more_forces[len(x) :] == 0.0)
    assert np.all(more_terms[1:] == 0.0)


def test_replicas_do_not_feel_each_other():
    """Energies and forces of each replica are those it has alone, even where they lie on top of each other."""
    params = small_params(MODEL)
    frames = np.stack([chain(6, seed) for seed in range(3)])
    energies, forces, terms = evaluate(MODEL, params, frames, chain_graph(frames))
    for i, x in enumerate(frames):
        alone = evaluate(MODEL, params, x, chain_graph(x))
        close(energies[i : i + 1], alone[0], 1e-12)
        close(forces[6 * i : 6 * i + 6], alone[1], 1e-12)
        close(terms[i : i + 1], alone[2], 1e-12)


def test_a_batch_of_different_proteins():
    params = small_params(MODEL)
    frames = [chain(5), chain(7, 1)]
    batch = evaluate(MODEL, params, np.concatenate(frames), batch_graphs([chain_graph(x) for x in frames]))
    alone = [evaluate(MODEL, params, x, chain_graph(x)) for x in frames]
    close(batch[0], np.concatenate([part[0] for part in alone]), 1e-12)
    close(batch[1], np.concatenate([part[1] for part in alone]), 1e-12)


def test_sums_over_beads_terms_and_replicas_agree():
    params = small_params(MODEL)
    frames = np.stack([chain(6, seed) for seed in range(2)])
    graph = chain_graph(frames)
    room = in_room(frames, graph)
    energies, forces, terms = evaluate(MODEL, params, frames, graph)
    by_bead = np.asarray(compiled(MODEL, bead_energies)(params, *room))[:12]
    close(by_bead.reshape(2, -1).sum(axis=1), energies, 1e-12)
    close(terms.sum(axis=1), energies, 1e-12)
    close(total_energy(MODEL, params, frames, graph), energies.sum(), 1e-12)
    by_term = np.asarray(compiled(MODEL, term_forces)(params, *room))[:, :12]
    close(by_term.sum(axis=0), forces, 1e-12)
    close(compiled(MODEL, prior_forces)(params, *room)[:12], by_term[:-1].sum(axis=0))
    close(compiled(MODEL, ml_forces)(params, *room)[:12], by_term[-1])
    np.testing.assert_allclose(forces.reshape(2, -1, 3).sum(axis=1), 0.0, atol=1e-10)


def test_forces_of_the_prior_need_no_network():
    """Neither its parameters nor its computation; and an `ml-only` model has none, whatever prior it is given."""
    x = chain(6)
    room, params = in_room(x, chain_graph(x)), {"prior": PRIOR}
    alone = compiled(small_model("prior-only"), prior_forces)(params, *room)
    assert np.max(np.abs(alone)) > 1.0
    text = [
        str(jax.make_jaxpr(partial(prior_forces, small_model(kind)))(params, *room))
        for kind in ("hybrid", "prior-only")
    ]
    assert text[0] == text[1]
    assert np.all(np.asarray(compiled(small_model("ml-only"), prior_forces)(params, *room)) == 0.0)


@pytest.mark.parametrize("energy_kind", ["hybrid", "prior-only", "ml-only"])
def test_every_kind_of_model_has_all_terms(energy_kind):
    model = small_model(energy_kind)
    x = chain(5)
    terms = compiled(model, energy_terms)(small_params(model), *in_room(x, chain_graph(x)))
    assert set(terms) == set(TERM_NAMES)
    off = {"electrostatics", "contact"}
    absent = {"hybrid": off, "prior-only": off | {"ml"}, "ml-only": set(TERM_NAMES) - {"ml"}}[energy_kind]
    assert {name for name in TERM_NAMES if np.all(terms[name] == 0.0)} == absent


@pytest.mark.parametrize("case", ["coincident", "line", "far", "nearly coincident"])
def test_degenerate_geometries_have_finite_forces_in_single_precision(case):
    x = {
        "coincident": np.zeros((5, 3)),
        "line": np.arange(5)[:, None] * np.array([3.8, 0.0, 0.0]),
        "far": chain(5) + 1e5,
        "nearly coincident": chain(5) * 1e-9,
    }[case].astype(np.float32)
    graph, params = chain_graph(x), jax.tree.map(np.float32, small_params(MODEL))
    energies, forces, _ = evaluate(MODEL, params, x, graph)
    assert forces.dtype == energies.dtype == np.float32
    assert np.all(np.isfinite(energies))
    assert np.all(np.isfinite(forces))


def test_single_precision_is_close_to_double():
    x = chain(8)
    params, graph = small_params(MODEL), chain_graph(x)
    double = evaluate(MODEL, params, x, graph)
    single = evaluate(MODEL, params, x.astype(np.float32), graph)
    assert {part.dtype for part in single} == {np.dtype(np.float32)}
    close(single[0], double[0], 1e-5)
    close(single[1], double[1], 1e-5)


def test_exports_with_symbolic_sizes():
    """One module for every protein, down to a single bead without edges."""
    x = chain(4).astype(np.float32)
    model, graph = MODEL, chain_graph(x)
    params = jax.tree.map(np.float32, small_params(model))
    letters = dict(zip(Graph._fields, list("nnnreeeebbaadd"), strict=True))
    sizes = dict(zip("nrebad", jax.export.symbolic_shape("n,r,e,b,a,d"), strict=True))
    shapes = [
        jax.ShapeDtypeStruct((sizes[letters[name]], *array.shape[1:]), array.dtype)
        for name, array in zip(Graph._fields, graph, strict=True)
    ]
    function = jax.jit(lambda x, *arrays: energy_and_forces(model, params, x, Graph(*arrays)))
    exported = jax.export.export(function)(jax.ShapeDtypeStruct((sizes["n"], 3), np.float32), *shapes)
    for part, reference in zip(exported.call(x, *graph), evaluate(model, params, x, graph), strict=True):
        close(part, reference, 1e-5)
    single = chain_graph(x[:1])
    assert np.all(np.asarray(exported.call(x[:1], *single)[1]) == 0.0)


def test_models_and_parameters_survive_writing():
    model = build_model(
        AllegroConfig(preset="nano"), avg_num_neighbors=7.5, energy_scale=2.0, trained_types=[True, False] * 10
    )
    assert model_from_json(json.loads(json.dumps(model_to_json(model)))) == model
    none = build_model(AllegroConfig(energy="prior-only", preset="nano"))
    assert model_from_json(json.loads(json.dumps(model_to_json(none)))) == none
    params = init_params(model, PRIOR, jax.random.key(1))
    flat = flatten_params(params)
    assert list(flat) == sorted(flat)
    assert {"prior/bond_k", "ml/layer_0/environment", "ml/readout"} <= set(flat)
    again = unflatten_params(flat)
    assert jax.tree.structure(again) == jax.tree.structure(params)
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(params), strict=True))
    assert unflatten_params(flatten_params(init_params(none, PRIOR, jax.random.key(0))))["ml"] == {}


@pytest.mark.parametrize("preset", list(PRESETS))
def test_presets_make_models(preset):
    model = build_model(AllegroConfig(preset=preset))
    params = init_params(model, None, jax.random.key(0))
    assert model.spec is not None
    assert f"layer_{model.spec.n_layers - 1}" in params["ml"]
    assert hash(model) == hash(build_model(AllegroConfig(preset=preset)))

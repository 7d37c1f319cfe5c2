"""The bound of the learned energy: it holds, it changes little where energies are small, and forces follow it."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from cgloop.config.model import AllegroConfig
from cgloop.export.bundle import describe_energy
from cgloop.model.hybrid import Model, bead_energies, build_model, energy_terms, model_from_json, model_to_json
from cgloop.model.terms import TERM_NAMES
from tests.model.systems import (
    CUTOFF_A,
    PRIOR,
    chain,
    chain_graph,
    compiled,
    evaluate,
    in_room,
    minus_slope,
    small_model,
    small_painn,
    small_params,
    small_spec,
)

BOUND = 0.7
FREE = {name: Model(spec, "ml-only", CUTOFF_A) for name, spec in (("edges", small_spec()), ("beads", small_painn()))}
BOUNDED = {name: replace(model, ml_energy_bound_kcal_per_mol=BOUND) for name, model in FREE.items()}

of_either_kind = pytest.mark.parametrize("kind", list(FREE))


def by_bead(model, params, x, graph):
    """Energies [20] of the beads, padding included."""
    return np.asarray(compiled(model, bead_energies)(params, *in_room(x, graph)))


@of_either_kind
def test_is_the_hyperbolic_tangent_of_the_energy_of_every_bead(kind):
    """Also of several replicas, with padding: in every table the same energies."""
    frames = np.stack([chain(6, seed) for seed in range(2)])
    params, graph = small_params(FREE[kind]), chain_graph(frames)
    expected = BOUND * np.tanh(by_bead(FREE[kind], params, frames, graph) / BOUND)
    assert np.max(np.abs(expected)) > 0.3 * BOUND
    found = by_bead(BOUNDED[kind], params, frames, graph)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert np.all(found[12:] == 0.0)
    energies, _, terms = evaluate(BOUNDED[kind], params, frames, graph)
    np.testing.assert_allclose(energies, expected[:12].reshape(2, 6).sum(axis=1), rtol=1e-12)
    np.testing.assert_allclose(terms[:, -1], energies, rtol=1e-12)


@of_either_kind
def test_forces_are_the_gradient_of_the_energy(kind):
    model, x = BOUNDED[kind], chain(5, seed=4)
    params, graph = small_params(model), chain_graph(x)
    forces = evaluate(model, params, x, graph)[1]
    numeric = minus_slope(lambda x: evaluate(model, params, x, graph)[0][0], x)
    np.testing.assert_allclose(forces, numeric, atol=1e-6 * np.max(np.abs(forces)))


@of_either_kind
@pytest.mark.parametrize("size", [1.0, 0.05, 1e-9])
def test_holds_for_absurd_energies_and_positions_in_single_precision(kind, size):
    model, x = BOUNDED[kind], (size * chain(8)).astype(np.float32)
    params = jax.tree.map(np.float32, small_params(model, readout=1e4))
    graph = chain_graph(x)
    # Rounded, tanh may be one.
    assert np.all(np.abs(by_bead(model, params, x, graph)) <= np.float32(BOUND))
    energies, forces, _ = evaluate(model, params, x, graph)
    assert abs(energies[0]) <= 8.001 * BOUND
    assert np.all(np.isfinite(forces))


@of_either_kind
def test_changes_nothing_to_first_order(kind):
    """The relative change of an energy is (E/B)²/3."""
    x, params = chain(6), small_params(FREE[kind])
    graph = chain_graph(x)
    weak = {**params, "ml": {**params["ml"], "readout": 1e-3 * params["ml"]["readout"]}}
    free, bounded = (evaluate(models[kind], weak, x, graph) for models in (FREE, BOUNDED))
    largest = np.max(np.abs(by_bead(FREE[kind], weak, x, graph))) / BOUND
    assert 1e-5 < largest < 1e-2
    assert np.max(np.abs(bounded[1] - free[1])) <= largest**2 * np.max(np.abs(free[1])) * 2
    assert 0 < abs(bounded[0][0] - free[0][0]) <= largest**2 * abs(free[0][0])


def test_prior_terms_are_not_bounded():
    x, free = chain(6), small_model()
    params, room = small_params(free), in_room(x, chain_graph(x))
    bounded = replace(free, ml_energy_bound_kcal_per_mol=BOUND)
    found, expected = (compiled(model, energy_terms)(params, *room) for model in (bounded, free))
    for name in TERM_NAMES:
        assert (float(found[name][0]) == pytest.approx(float(expected[name][0]), rel=1e-12)) == (name != "ml")


def test_is_given_in_the_config_and_written_down():
    config = AllegroConfig(preset="nano", ml_energy_bound_kcal_per_mol=2.5)
    model = build_model(config)
    assert model.ml_energy_bound_kcal_per_mol == 2.5
    assert model_from_json(json.loads(json.dumps(model_to_json(model)))) == model
    free = build_model(AllegroConfig(preset="nano"))
    # As it was written before there were bounds.
    assert set(model_to_json(free)) == {"spec", "energy", "cutoff_A", "forms"}
    assert model_from_json(json.loads(json.dumps(model_to_json(free)))).ml_energy_bound_kcal_per_mol is None
    with_bound, without = (describe_energy(one, {"prior": PRIOR, "ml": {}}) for one in (model, free))
    assert with_bound["consists_of"] == "prior terms plus the network Allegro (at most 2.5 kcal/mol a bead)"
    assert with_bound["ml_energy_bound_kcal_per_mol"] == 2.5
    assert without["consists_of"] == "prior terms plus the network Allegro"
    assert without["ml_energy_bound_kcal_per_mol"] is None

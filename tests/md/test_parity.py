"""Parity passes for a sound bundle, and every case fails for the fault that it is there for."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save

from cgloop.errors import UserError
from cgloop.export.bundle import load_bundle
from cgloop.export.chemtrain_deploy import PTB, write_ptb
from cgloop.md import session
from cgloop.md.evaluate import compile_model
from cgloop.md.evaluation import N_TERMS
from cgloop.md.parity import Frames, Row, judge, parity_stage
from cgloop.md.parity_cases import CASES, compare, make_setup, relabel
from cgloop.md.parity_emulation import emulate_ptb
from cgloop.md.parity_native import NATIVE_CASES
from cgloop.md.parity_uncompiled import UNCOMPILED_CASES
from cgloop.model.graph import build_graph
from cgloop.model.hybrid import init_params
from cgloop.model.topology import build_topology
from tests.md.model_worlds import PRIOR, config, protein, small_painn, system, write_world
from tests.md.toy import CUTOFF_A, toy_exact, toy_model

SYSTEM = system(10)
FRAMES = protein(10).positions[:4].astype(float)


@pytest.mark.slow
def test_a_sound_bundle_passes(world, tmp_path):
    result = parity_stage(config(), world["export"], world["train"], world["prep"], tmp_path)
    assert result["emulation"]["verdict"] == "pass"
    assert 0 < result["emulation"]["force"] < 1e-5
    assert result["emulation"]["cases"] == 4
    assert json.loads((tmp_path / "parity.json").read_text()) == json.loads(json.dumps(result))
    assert result["verdict"] == "pass"
    assert result["frames"] == 4
    assert result["same_parameters"]
    assert [case["name"] for case in result["cases"]] == [*CASES, *NATIVE_CASES, *UNCOMPILED_CASES]
    artifact, double = (case for case in result["cases"] if case["name"] in UNCOMPILED_CASES)
    assert 0 < artifact["max_force_difference_over_rms"] < 2e-5
    assert double["max_force_difference_over_rms"] < 1e-10
    assert result["skipped"] == {}
    native = [case for case in result["cases"] if case["name"] in NATIVE_CASES]
    assert all(0 < case["max_force_difference_over_rms"] < 2e-5 for case in native)
    assert all(case["energy_difference_relative"] < 2e-6 for case in native)
    assert 0 < result["force"]["value"] < 2e-5
    assert result["energy"]["value"] < 2e-6
    assert 0 < result["single_precision_force_error"] < 1e-4


@pytest.mark.slow
def test_a_network_with_energies_of_beads_passes(tmp_path):
    paths = write_world(tmp_path / "world", made=small_painn())
    result = parity_stage(config(), paths["export"], paths["train"], paths["prep"], tmp_path)
    assert result["verdict"] == "pass"
    assert 0 < result["force"]["value"] < 2e-5


@pytest.mark.slow
def test_other_parameters_are_found_and_named(world, tmp_path):
    paths = write_world(tmp_path / "world", "prior-only")
    params = load_file(paths["train"] / "params.safetensors")
    params["prior/bond_k"] = np.asarray(1.01 * params["prior/bond_k"], np.float32)
    (paths["train"] / "params.safetensors").write_bytes(save(params))
    (tmp_path / "out").mkdir()
    result = parity_stage(config(), paths["export"], paths["train"], paths["prep"], tmp_path / "out")
    assert result["verdict"] == "fail"
    case = result["cases"][0]
    assert case["verdict"] == "fail"
    assert case["likely_cause"] == "the bundle holds other parameters than the training"
    assert case["term"] == "bond"
    assert case["residue"].split()[0] in {"TYR", "ASP", "PRO", "GLU", "THR", "GLY", "TRP"}
    assert case["frame"].startswith("test, replica 1, frame ")


def test_a_file_for_the_plugin_of_another_network_fails(world, tmp_path):
    """Also where all else in the bundle is right; without a file there is nothing to check."""
    bundle = dataclasses.replace(load_bundle(world["export"]), path=tmp_path)
    one, frame = system(10), protein(10).positions[25].astype(float)
    given = bundle.model, bundle.params, one, frame, 1e-4
    assert emulate_ptb(bundle, *given)["verdict"] == "skipped"
    other = init_params(bundle.model, PRIOR, jax.random.key(5))
    write_ptb(tmp_path / PTB, bundle.model, other)
    found = emulate_ptb(bundle, *given)
    assert found["verdict"] == "fail"
    assert found["force"] > 0.1
    assert "another network" in found["likely_cause"]


def test_a_damaged_bundle_is_refused(tmp_path):
    paths = write_world(tmp_path / "world", "prior-only")
    with open(paths["export"] / "model.cpu.stablehlo", "ab") as file:
        file.write(b"x")
    with pytest.raises(UserError, match="does not match its digest"):
        parity_stage(config(), paths["export"], paths["train"], paths["prep"], tmp_path)


def exact_reference(one):
    def reference(frame):
        forces, energy = toy_exact(one, frame)
        return forces, np.eye(N_TERMS)[0] * energy

    return reference


def run_case(case, model):
    setup = make_setup(case, compile_model(model, CUTOFF_A), SYSTEM, FRAMES, 2.0, seed=0)
    frames = Frames(SYSTEM, FRAMES, [str(i) for i in range(len(FRAMES))])
    rows = [Row(case, frames, difference) for difference in compare(setup, exact_reference(setup.system), 0.64)]
    return judge(rows, 1e-4, 1e-5, same=True)["cases"][list(CASES).index(case)]


@pytest.mark.parametrize("case", CASES)
def test_every_case_passes_for_a_sound_model(case):
    """Against all pairs in float64: not the model's own reference."""
    result = run_case(case, toy_model)
    assert result["verdict"] == "pass"
    assert 0 < result["max_force_difference_over_rms"] < 2e-5


def order_dependent(positions, graph):
    """Springs join beads that follow each other, whatever the topology says."""
    n = len(graph.bonds)
    beads = jnp.arange(n)
    return toy_model(positions, graph._replace(bonds=jnp.stack([beads, beads + 1], axis=1)))


def topology_baked_in(positions, graph):
    """All nine bonds of the protein are there, whatever their mask says."""
    bonds = build_topology(SYSTEM.linked).bonds
    known = jnp.arange(len(graph.bonds)) < len(bonds)
    baked = jnp.asarray(graph.bonds).at[: len(bonds)].set(bonds)
    return toy_model(positions, graph._replace(bonds=baked, bond_mask=known | graph.bond_mask))


def edges_unmasked(positions, graph):
    """Padded edges count as pairs at distance zero, which costs energy and no force."""
    return toy_model(positions, graph._replace(edge_mask=jnp.ones_like(graph.edge_mask)))


def replicas_mixed(positions, graph):
    """Forces come back with the first two replicas exchanged."""
    energies, forces, terms = toy_model(positions, graph)
    n = len(graph.types) // len(graph.replica_mask)
    if len(graph.replica_mask) < 2:
        return energies, forces, terms
    return energies, jnp.concatenate([forces[n : 2 * n], forces[:n], forces[2 * n :]]), terms


@pytest.mark.parametrize(
    ("case", "model"),
    [
        ("padded", edges_unmasked),
        ("permuted", order_dependent),
        ("two chains", topology_baked_in),
        ("replicas", replicas_mixed),
    ],
)
def test_each_case_finds_its_fault(case, model):
    assert run_case(case, model)["verdict"] == "fail"
    assert run_case("held-out", model)["verdict"] == "pass"


def test_a_missing_centring_is_found(monkeypatch):
    from cgloop.md import evaluate

    original = evaluate.ModelEvaluator.__call__

    def not_centred(self, positions):
        centre = positions.mean(axis=1, keepdims=True)
        return original(self, (positions.astype(np.float32) - centre.astype(np.float32)).astype(float))

    monkeypatch.setattr(evaluate.ModelEvaluator, "__call__", not_centred)
    assert run_case("far from the origin", toy_model)["verdict"] == "fail"


def test_a_missing_unwrapping_is_found(monkeypatch):
    monkeypatch.setattr(session.Atoms, "unwrapped", lambda self: self.positions.copy())
    assert run_case("across the boundary", toy_model)["verdict"] == "fail"


def test_numbers_that_are_none_fail():
    frames = Frames(SYSTEM, FRAMES, ["0", "1", "2", "3"])
    setup = make_setup("held-out", compile_model(toy_model, CUTOFF_A), SYSTEM, FRAMES, 2.0, seed=0)
    good = [Row(case, frames, d) for case in CASES for d in compare(setup, exact_reference(SYSTEM), 0.64)]
    assert judge(good, 1e-4, 1e-5, same=True)["verdict"] == "pass"
    broken = good[5].difference.forces.copy()
    broken[2, 1] = np.nan
    bad = [*good[:5], dataclasses.replace(good[5], difference=dataclasses.replace(good[5].difference, forces=broken))]
    result = judge([*bad, *good[6:]], 1e-4, 1e-5, same=True)
    assert result["verdict"] == "fail"
    failed = [case for case in result["cases"] if case["verdict"] == "fail"]
    assert [case["name"] for case in failed] == [list(CASES)[1]]
    assert failed[0]["bead"] == 2
    # A case that was not run is no pass either.
    assert judge(good[4:], 1e-4, 1e-5, same=True)["verdict"] == "fail"


def test_relabelled_graph_is_the_same_protein():
    order = np.random.default_rng(1).permutation(10)
    frame = FRAMES[0]
    graph = build_graph(SYSTEM.residue_type, SYSTEM.linked, frame, 8.0)
    other = relabel(graph, order)
    distance = np.linalg.norm(frame[graph.senders] - frame[graph.receivers], axis=1)
    moved = frame[order]
    again = np.linalg.norm(moved[other.senders] - moved[other.receivers], axis=1)
    np.testing.assert_allclose(np.sort(again), np.sort(distance))
    np.testing.assert_allclose(moved[other.dihedrals], frame[graph.dihedrals])
    assert (np.diff(other.receivers) >= 0).all()


def test_the_bundle_of_the_world_loads(world):
    assert load_bundle(world["export"]).temperature_K == 320.0

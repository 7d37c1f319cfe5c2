"""The exported module against the model it was made from, for every kind of size."""

import subprocess
import sys

import jax
import numpy as np
import pytest
from jax import export

from cgloop.export.stablehlo import ARGUMENTS, RESULTS, export_model, readable_text
from cgloop.model.graph import Graph, build_graph, pad_graph
from cgloop.model.hybrid import energy_and_forces
from tests.md.model_worlds import CUTOFF_A, protein, small_model, small_painn

MODEL, PARAMS = small_model()


@pytest.fixture(scope="module")
def serialized():
    return export_model(MODEL, PARAMS).serialize()


@pytest.fixture(scope="module")
def module(serialized):
    """As another process would load it."""
    return export.deserialize(bytearray(serialized))


def graph_of(n_beads, n_replicas=1, chains=1):
    one = protein(n_beads, chains=chains)
    frames = one.positions[:n_replicas]
    graph = build_graph(one.residue_type, one.linked, frames, CUTOFF_A)
    return frames.reshape(-1, 3), graph


reference = jax.jit(lambda positions, graph: energy_and_forces(MODEL, PARAMS, positions, graph))


def assert_same(module, positions, graph):
    """Against the model in JAX, for which everything is padded to one size."""
    n, r = len(graph.types), len(graph.replica_mask)
    padded = pad_graph(graph, beads=40, replicas=5, edges=400, bonds=40, angles=40, dihedrals=40)
    more = np.concatenate([positions, np.zeros((40 - n, 3), np.float32)])
    energies, forces, terms = reference(more, padded)
    found = module.call(positions, *graph)
    for value, expected in zip(found, (energies[:r], forces[:n], terms[:r]), strict=True):
        np.testing.assert_allclose(value, expected, atol=2e-4, rtol=2e-6)


@pytest.mark.parametrize(("n_beads", "n_replicas", "chains"), [(1, 1, 1), (2, 1, 1), (3, 2, 1), (10, 3, 1), (12, 1, 2)])
def test_any_size(module, n_beads, n_replicas, chains):
    assert_same(module, *graph_of(n_beads, n_replicas, chains))


@pytest.mark.slow
def test_a_network_with_energies_of_beads():
    model, params = small_painn()
    module = export.deserialize(bytearray(export_model(model, params).serialize()))
    positions, graph = graph_of(10, 3)
    found = jax.jit(module.call)(positions, *graph)
    expected = jax.jit(lambda positions, graph: energy_and_forces(model, params, positions, graph))(positions, graph)
    for value, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, other, atol=2e-4, rtol=2e-6)
    assert np.all(np.asarray(found[2])[:, -1] != 0.0)


def test_no_edges_no_bonds(module):
    """Two unlinked beads out of reach: everything is padding."""
    positions = np.array([[0, 0, 0], [50, 0, 0]], np.float32)
    graph = build_graph(np.array([3, 4]), np.array([False]), positions, CUTOFF_A)
    assert not graph.edge_mask.any()
    assert not graph.bond_mask.any()
    energies, forces, _ = module.call(positions, *graph)
    np.testing.assert_array_equal(energies, [0.0])
    np.testing.assert_array_equal(forces, np.zeros((2, 3)))


def test_padding_changes_nothing(module):
    positions, graph = graph_of(10, 3)
    energies, forces, _ = module.call(positions, *graph)
    padded = pad_graph(graph, beads=35, replicas=4, edges=len(graph.senders) + 7, bonds=30, angles=30, dihedrals=30)
    more = np.concatenate([positions, np.zeros((5, 3), np.float32)])
    energies_2, forces_2, _ = module.call(more, *padded)
    np.testing.assert_allclose(forces_2[:30], forces, atol=1e-4)
    np.testing.assert_array_equal(forces_2[30:], 0.0)
    np.testing.assert_allclose(energies_2[:3], energies, rtol=1e-6)


def test_forces_are_the_gradient_of_the_energy(module):
    positions, graph = graph_of(10, 3)
    _, forces, _ = module.call(positions, *graph)
    for bead, axis in ((0, 0), (3, 2), (5, 1)):
        step = np.zeros_like(positions)
        step[bead, axis] = 0.02
        up, down = (float(module.call(positions + sign * step, *graph)[0][0]) for sign in (1, -1))
        assert float(forces[bead, axis]) == pytest.approx(-(up - down) / 0.04, rel=0.02, abs=0.05)


def test_no_place_of_this_machine_is_in_it(serialized, repository):
    text = readable_text(export_model(MODEL, PARAMS)).encode()
    for content in (bytes(serialized), text):
        for trace in (str(repository), "cgloop", "site-packages", ".py", sys.prefix):
            assert trace.encode() not in content
    assert b"loc(" not in text
    assert text.startswith(b"module @")
    assert b"stablehlo.dot_general" in text


def test_same_bytes_in_another_process(serialized, repository):
    code = (
        "import sys; from tests.md.model_worlds import small_model; from cgloop.export.stablehlo import export_model;"
        "sys.stdout.buffer.write(export_model(*small_model()).serialize())"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, check=True).stdout
    assert found == bytes(serialized)


def test_signature_is_as_documented(module):
    assert list(ARGUMENTS) == ["positions", *Graph._fields]
    assert [str(a.dtype) for a in module.in_avals] == [dtype for _, dtype in ARGUMENTS.values()]
    assert [str(a.dtype) for a in module.out_avals] == [dtype for _, dtype in RESULTS.values()]
    for aval, (shape, _) in zip(module.in_avals, ARGUMENTS.values(), strict=True):
        assert ", ".join(str(size) for size in aval.shape) == shape
    assert module.platforms == ("cpu", "cuda")


def test_configuration_is_restored(module):
    assert jax.config.jax_traceback_in_locations_limit != 0
    assert jax.config.jax_hlo_source_file_canonicalization_regex != ".*"

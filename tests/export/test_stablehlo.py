"""The exported module against the model it was made from, for every kind of size."""

import subprocess
import sys

import jax
import numpy as np
import pytest
from jax import export

from cgloop.export.stablehlo import ARGUMENTS, RESULTS, export_model, readable_text, readable_texts, signature
from cgloop.model.graph import Graph, build_graph, pad_graph
from cgloop.model.hybrid import energy_and_forces
from cgloop.model.terms import TERM_NAMES
from tests.md.model_worlds import CUTOFF_A, protein, small_model, small_painn

MODEL, PARAMS = small_model()


@pytest.fixture(scope="module")
def modules():
    return export_model(MODEL, PARAMS)


@pytest.fixture(scope="module")
def serialized(modules):
    return {platform: bytes(module.serialize()) for platform, module in modules.items()}


@pytest.fixture(scope="module")
def module(serialized):
    """As another process would load it."""
    return export.deserialize(bytearray(serialized["cpu"]))


def graph_of(n_beads, n_replicas=1, chains=1):
    one = protein(n_beads, chains=chains)
    frames = one.positions[:n_replicas]
    graph = build_graph(one.residue_type, one.linked, frames, CUTOFF_A)
    return frames.reshape(-1, 3), graph


def graph_and_positions(n_beads):
    positions, graph = graph_of(n_beads)
    return positions, *graph


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
    module = export.deserialize(bytearray(export_model(model, params, ["cpu"])["cpu"].serialize()))
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


def test_beads_out_of_reach_of_each_other(module):
    """Bonds, and no pair within the cutoff: the edges are all padding, the bonds are not."""
    positions = np.array([[0, 0, 0], [CUTOFF_A + 1, 0, 0]], np.float32)
    graph = build_graph(np.array([3, 4]), np.array([True]), positions, CUTOFF_A)
    assert not graph.edge_mask.any()
    assert graph.bond_mask.all()
    assert_same(module, positions, graph)
    # 150 kcal/mol/Å² on both sides of a bond that is 7.2 Å too long.
    energy = module.call(positions, *graph)[0][0]
    assert energy == pytest.approx(0.5 * 150.0 * (CUTOFF_A + 1 - 3.8) ** 2, rel=1e-5)


def test_pairs_without_bonds(module):
    """Three beads of three chains: no bond, no angle, no dihedral, and still a repulsion."""
    positions = np.array([[0, 0, 0], [4, 0, 0], [0, 4.2, 0]], np.float32)
    graph = build_graph(np.array([0, 7, 19]), np.zeros(2, bool), positions, CUTOFF_A)
    assert graph.edge_mask.sum() == 6
    assert not graph.bond_mask.any()
    assert_same(module, positions, graph)
    terms = np.asarray(module.call(positions, *graph)[2])[0]
    assert terms[TERM_NAMES.index("repulsion")] > 0
    assert terms[TERM_NAMES.index("bond")] == 0.0


@pytest.mark.parametrize(("n_beads", "n_replicas"), [(10, 2), (1, 1)])
def test_a_replica_that_is_all_padding(module, n_beads, n_replicas):
    """As a rank that has nothing to do: it costs nothing and changes nobody."""
    positions, graph = graph_of(n_beads, n_replicas)
    padded = pad_graph(graph, beads=len(positions) + n_beads, replicas=n_replicas + 1)
    more = np.concatenate([positions, np.ones((n_beads, 3), np.float32)])
    energies, forces, terms = module.call(more, *padded)
    np.testing.assert_array_equal(energies[n_replicas:], 0.0)
    np.testing.assert_array_equal(terms[n_replicas:], 0.0)
    np.testing.assert_array_equal(forces[len(positions) :], 0.0)
    expected = module.call(positions, *graph)
    np.testing.assert_allclose(energies[:n_replicas], expected[0], rtol=1e-6)
    np.testing.assert_allclose(forces[: len(positions)], expected[1], atol=1e-4)


def test_nothing_but_padding(module):
    """A rank without any replica calls the module with sizes of 1, and gets zeros."""
    positions, graph = graph_of(1)
    nothing = graph._replace(bead_mask=np.zeros(1, bool), replica_mask=np.zeros(1, bool))
    assert not any(getattr(nothing, name).any() for name in nothing._fields if name.endswith("mask"))
    for result in module.call(positions, *nothing):
        np.testing.assert_array_equal(result, 0.0)


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


def test_no_place_of_this_machine_is_in_it(serialized, modules, repository):
    (text,) = (text.encode() for text, _ in readable_texts(modules).values())
    for content in (*serialized.values(), text):
        for trace in (str(repository), "cgloop", "site-packages", ".py", sys.prefix):
            assert trace.encode() not in content
    assert b"loc(" not in text
    assert text.startswith(b"module @")
    assert b"stablehlo.dot_general" in text


def test_same_bytes_in_another_process(serialized, repository):
    """Whichever platforms are exported, and in which order."""
    code = (
        "import sys; from tests.md.model_worlds import small_model; from cgloop.export.stablehlo import export_model;"
        "found = export_model(*small_model(), ('cuda', 'cpu'));"
        "sys.stdout.buffer.write(found['cpu'].serialize() + found['cuda'].serialize())"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, check=True).stdout
    assert found == serialized["cpu"] + serialized["cuda"]


def test_the_module_for_cuda_is_that_for_the_processor_but_for_its_name(serialized, modules):
    """So that what is tested here, without a GPU, is what runs there."""
    assert modules["cuda"].platforms == ("cuda",)
    assert export.deserialize(bytearray(serialized["cuda"])).platforms == ("cuda",)
    assert readable_texts(modules) == {"model.mlir": (readable_text(modules["cpu"]), ["cpu", "cuda"])}
    with pytest.raises(ValueError, match="cuda"):
        modules["cuda"].call(*graph_and_positions(2))


def test_texts_that_differ_have_files_of_their_own(modules):
    other = export_model(*small_model("prior-only"), ["cpu"])["cpu"]
    texts = readable_texts({"cpu": modules["cpu"], "cuda": other, "rocm": modules["cuda"]})
    assert {name: of for name, (_, of) in texts.items()} == {"model.mlir": ["cpu", "rocm"], "model.cuda.mlir": ["cuda"]}
    assert texts["model.cuda.mlir"][0] == readable_text(other)


def test_signature_is_as_documented(module):
    assert list(ARGUMENTS) == ["positions", *Graph._fields]
    assert signature(module) == (ARGUMENTS, RESULTS)
    assert module.platforms == ("cpu",)


def test_configuration_is_restored(module):
    assert jax.config.jax_traceback_in_locations_limit != 0
    assert jax.config.jax_hlo_source_file_canonicalization_regex != ".*"

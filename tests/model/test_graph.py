"""Edges, padding and batching of graphs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from MDAnalysis.lib.distances import self_capped_distance

from cgloop.model.graph import CapacityError, batch_graphs, build_graph, find_edges, graph_sizes, pad_graph
from tests.model.systems import chain, chain_graph


@settings(max_examples=20, deadline=None)
@given(n_beads=st.integers(2, 260), seed=st.integers(0, 1000), cutoff=st.floats(2.0, 15.0))
def test_edges_are_those_of_mdanalysis(n_beads, seed, cutoff):
    """Both directions of every pair within the cutoff; 192 beads are where the method changes."""
    positions = np.random.default_rng(seed).uniform(0, 25, size=(n_beads, 3)).astype(np.float32)
    senders, receivers = find_edges(positions, cutoff)
    pairs, distances = self_capped_distance(positions, max_cutoff=cutoff + 1e-3)
    sure = {tuple(sorted(pair)) for pair, d in zip(pairs.tolist(), distances, strict=True) if d < cutoff - 1e-3}
    possible = {tuple(sorted(pair)) for pair in pairs.tolist()}
    found = set(zip(senders.tolist(), receivers.tolist(), strict=True))
    assert len(found) == len(senders)
    assert found == {(j, i) for i, j in found}
    assert sure <= {pair for pair in found if pair[0] < pair[1]} <= possible
    assert np.all(np.diff(receivers) >= 0)


def test_large_and_small_proteins_are_built_alike(monkeypatch):
    positions = np.stack([chain(12, seed) for seed in range(3)])
    dense = chain_graph(positions)
    monkeypatch.setattr("cgloop.model.graph.DENSE_BEADS", 1)
    tree = chain_graph(positions)
    assert all(np.array_equal(a, b) for a, b in zip(dense, tree, strict=True))


def test_replicas_do_not_touch_each_other():
    graph = chain_graph(np.stack([chain(6), chain(6), chain(6)]))
    assert np.array_equal(graph.replica[graph.senders], graph.replica[graph.receivers])
    assert np.array_equal(graph.replica[graph.dihedrals].min(1), graph.replica[graph.dihedrals].max(1))
    assert graph_sizes(graph)["dihedrals"] == 9


def test_every_dimension_is_at_least_one():
    graph = build_graph(np.array([3]), np.zeros(0, dtype=bool), np.zeros((1, 1, 3)), 5.0)
    assert set(graph_sizes(graph).values()) == {1}
    assert graph.bead_mask.tolist() == [True]
    assert not any(mask.any() for mask in (graph.edge_mask, graph.bond_mask, graph.angle_mask, graph.dihedral_mask))


def test_too_small_a_capacity_is_an_error_that_tells_what_is_needed():
    positions = chain(6)
    needed = int(chain_graph(positions).edge_mask.sum())
    with pytest.raises(CapacityError, match=f"edges: {needed} > 3") as error:
        build_graph(np.zeros(6, dtype=int), np.ones(5, dtype=bool), positions, 9.0, edge_capacity=3)
    assert error.value.needed["edges"] == needed
    with pytest.raises(CapacityError, match="beads"):
        pad_graph(chain_graph(positions), beads=0)


def test_batch_is_the_union_and_drops_padding_of_edges():
    first, second = chain_graph(chain(5)), chain_graph(chain(7, 1))
    padded = pad_graph(first, edges=300, bonds=9)
    batch = batch_graphs([padded, second])
    sizes = [graph_sizes(graph) for graph in (first, second)]
    assert graph_sizes(batch) == {name: sizes[0][name] + sizes[1][name] for name in sizes[0]}
    n_edges = len(first.senders)
    assert np.array_equal(batch.senders[n_edges:] - 5, second.senders)
    assert np.array_equal(batch.types[batch.dihedrals[-1]], second.types[second.dihedrals[-1]])
    assert batch.replica.tolist() == [0] * 5 + [1] * 7
    with pytest.raises(ValueError, match="no graphs"):
        batch_graphs([])

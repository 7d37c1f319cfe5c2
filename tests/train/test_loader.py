"""Batches against the graphs of single frames."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgloop.model.graph import Graph, build_graph
from cgloop.train.loader import FrameSet, epoch_order

CUTOFF_A = 9.0


@pytest.fixture(scope="module")
def proteins(make_protein):
    return [
        make_protein("long", "0 7 4 7 0 19 3", frames=8),
        make_protein("pair", "5 6", frames=5, seed=2),
        make_protein("short", "1 2 3 4", frames=6, seed=3),
    ]


@pytest.fixture(scope="module")
def mixed(proteins):
    return FrameSet(proteins, CUTOFF_A)


def _interactions(graph: Graph, positions: np.ndarray, target: np.ndarray, replica: int) -> dict[str, np.ndarray]:
    """What one replica consists of, whatever the bead indices are."""
    beads = np.flatnonzero(graph.bead_mask & (graph.replica == replica))
    first = beads[0]
    own = {"types": graph.types[beads], "positions": positions[beads], "target": target[beads]}
    edges = graph.edge_mask & np.isin(graph.receivers, beads)
    assert np.isin(graph.senders[edges], beads).all()
    own["edges"] = np.stack([graph.senders[edges] - first, graph.receivers[edges] - first, graph.separation[edges]])
    for name in ("bond", "angle", "dihedral"):
        items = getattr(graph, f"{name}s")[getattr(graph, f"{name}_mask")]
        own[name] = items[np.isin(items[:, 0], beads)] - first
    return own


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_batch_holds_exactly_the_frames(mixed, proteins, data):
    frames = data.draw(st.lists(st.integers(0, mixed.n_frames - 1), min_size=1, max_size=6, unique=True))
    size = data.draw(st.integers(len(frames), 8))
    batch = mixed.batch(np.array(frames), mixed.shape(size))
    graph = batch.graph
    assert graph.replica_mask.sum() == len(frames)
    assert not batch.target[~graph.bead_mask].any()
    local = np.concatenate([np.arange(p.n_frames) for p in proteins])
    for replica, frame in enumerate(frames):
        protein, index = proteins[mixed.protein[frame]], local[frame]
        alone = build_graph(protein.residue_type, protein.linked, protein.positions[index], CUTOFF_A)
        expected = _interactions(alone, protein.positions[index], protein.forces[index], 0)
        found = _interactions(graph, batch.positions, batch.target, replica)
        for name in expected:
            np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    # Nothing besides: as many real items as the frames have together.
    assert graph.bead_mask.sum() == mixed.beads.counts[frames].sum()
    assert (np.diff(graph.receivers) >= 0).all()


def test_all_batches_of_a_set_have_one_shape_and_none_overflows(mixed):
    shape = mixed.shape(4)
    shapes = set()
    for epoch in range(5):
        order = epoch_order(mixed.n_frames, seed=3, epoch=epoch)
        for start in range(0, mixed.n_frames, 4):
            batch = mixed.batch(order[start : start + 4], shape)
            shapes.add(tuple((a.shape, a.dtype) for a in (batch.positions, batch.target, *batch.graph)))
    assert len(shapes) == 1
    # The tightest bound that is safe: the frames with most beads, or edges, in one batch.
    assert shape.beads == 4 * 7
    widest = np.argsort(mixed.edges.counts)[-4:]
    assert mixed.batch(widest, shape).graph.edge_mask.all()


def test_more_frames_than_the_shape_is_for_are_refused(mixed):
    with pytest.raises(AssertionError, match="capacity"):
        mixed.batch(np.arange(8), mixed.shape(2))


def test_batch_larger_than_the_set(make_protein):
    frames = FrameSet([make_protein(frames=3)], CUTOFF_A)
    batch = frames.batch(np.arange(3), frames.shape(16))
    assert batch.graph.replica_mask.tolist() == [True] * 3
    assert frames.n_batches(16) == 1


def test_two_distant_beads_have_no_edges_but_a_shape(make_protein):
    protein = make_protein("pair", "5 6", frames=4)
    frames = FrameSet([protein], cutoff_A=0.5)
    graph = frames.batch(np.arange(2), frames.shape(2)).graph
    assert len(graph.senders) == 1
    assert not graph.edge_mask.any()
    assert frames.mean_neighbors == 1.0


def test_epoch_order_is_a_permutation_and_depends_on_seed_and_epoch_alone():
    order = epoch_order(50, seed=7, epoch=3)
    assert sorted(order) == list(range(50))
    np.testing.assert_array_equal(order, epoch_order(50, seed=7, epoch=3))
    assert (order != epoch_order(50, seed=7, epoch=4)).any()
    assert (order != epoch_order(50, seed=8, epoch=3)).any()
    # Written down: a change of order would break the continuation of trainings made by earlier versions.
    assert epoch_order(6, seed=1, epoch=2).tolist() == [4, 2, 0, 1, 5, 3]

"""Bonded topology and separations of broken chains."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cgloop.model.topology import UNLINKED, build_topology, separation_matrix


def test_two_pieces():
    topology = build_topology(np.array([True, True, True, False, True]))
    assert topology.bonds.tolist() == [[0, 1], [1, 2], [2, 3], [4, 5]]
    assert topology.angles.tolist() == [[0, 1, 2], [1, 2, 3]]
    assert topology.dihedrals.tolist() == [[0, 1, 2, 3]]


def test_a_single_bead_has_no_bonded_terms():
    topology = build_topology(np.zeros(0, dtype=bool))
    assert [part.shape for part in topology] == [(0, 2), (0, 3), (0, 4)]


@given(st.lists(st.booleans(), min_size=0, max_size=12))
def test_separation_is_the_shortest_path_along_bonds(linked):
    """Against Floyd and Warshall's algorithm on the graph of bonds."""
    n = len(linked) + 1
    distance = np.where(np.eye(n, dtype=bool), 0, UNLINKED)
    for i, is_linked in enumerate(linked):
        if is_linked:
            distance[i, i + 1] = distance[i + 1, i] = 1
    for k in range(n):
        distance = np.minimum(distance, distance[:, k : k + 1] + distance[k : k + 1])
    assert np.array_equal(separation_matrix(np.array(linked, dtype=bool)), np.minimum(distance, UNLINKED))

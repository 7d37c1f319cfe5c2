"""Flat graphs: a disjoint union of systems (replicas, or frames of a batch) as padded index arrays. NumPy and SciPy.

Positions are no part of a graph: they travel beside it as float [N, 3], in the same flat order of beads.
"""

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from cgloop.model.topology import UNLINKED, build_topology, pair_separation, piece_of_bead

DENSE_BEADS = 192
"""Up to this many beads all distances at once are faster than a tree."""


class CapacityError(ValueError):
    """A graph does not fit into the size asked for; `needed` tells the sizes it needs."""

    def __init__(self, needed: dict[str, int], capacity: dict[str, int]):
        self.needed = needed
        too_small = [f"{name}: {needed[name]} > {capacity[name]}" for name in needed if needed[name] > capacity[name]]
        super().__init__("graph does not fit (" + ", ".join(too_small) + ")")


class Graph(NamedTuple):
    """Who interacts with whom. All arrays may be padded; every dimension is at least 1 (jax.export needs that).

    N beads, R replicas, E directed edges, B bonds, A angles, D dihedrals. Receiver = centre i, sender = neighbour j,
    r_ij = x_j − x_i; both directions are listed. Padding has its mask False and may hold any valid index.

    Attributes:
        types: int32 [N], residue type 0..19.
        bead_mask: bool [N].
        replica: int32 [N], the replica (or frame) a bead belongs to.
        replica_mask: bool [R].
        senders, receivers: int32 [E].
        edge_mask: bool [E].
        separation: int32 [E], |i − j| along an unbroken piece of chain, else 999.
        bonds, bond_mask: int32 [B, 2], bool [B].
        angles, angle_mask: int32 [A, 3], bool [A].
        dihedrals, dihedral_mask: int32 [D, 4], bool [D].
    """

    types: np.ndarray
    bead_mask: np.ndarray
    replica: np.ndarray
    replica_mask: np.ndarray
    senders: np.ndarray
    receivers: np.ndarray
    edge_mask: np.ndarray
    separation: np.ndarray
    bonds: np.ndarray
    bond_mask: np.ndarray
    angles: np.ndarray
    angle_mask: np.ndarray
    dihedrals: np.ndarray
    dihedral_mask: np.ndarray


def find_edges(positions: np.ndarray, cutoff_A: float) -> tuple[np.ndarray, np.ndarray]:
    """All ordered pairs of beads closer than a cutoff, sorted by receiver, then sender.

    Args:
        positions: [N, 3] Å, finite.
        cutoff_A: distance, Å; a skin is the caller's to add.

    Returns:
        senders, receivers: int32 [E].
    """
    positions = np.asarray(positions)
    if len(positions) <= DENSE_BEADS:
        _, receivers, senders = _dense_edges(positions[None], cutoff_A)
    else:
        pairs = cKDTree(positions).query_pairs(cutoff_A, output_type="ndarray")
        receivers, senders = np.concatenate([pairs, pairs[:, ::-1]]).T
        order = np.lexsort((senders, receivers))
        receivers, senders = receivers[order], senders[order]
    return senders.astype(np.int32), receivers.astype(np.int32)


def _dense_edges(positions: np.ndarray, cutoff_A: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Replica, receiver and sender of every ordered pair within the cutoff, for positions [R, N, 3]."""
    vectors = positions[:, :, None] - positions[:, None, :]
    near = np.einsum("rijk,rijk->rij", vectors, vectors) <= cutoff_A**2
    near &= ~np.eye(positions.shape[1], dtype=bool)
    replica, receivers, senders = np.nonzero(near)
    return replica, receivers, senders


def build_graph(
    types: np.ndarray,
    linked: np.ndarray,
    positions: np.ndarray,
    cutoff_A: float,
    *,
    edge_capacity: int | None = None,
) -> Graph:
    """Graph of several conformations of one protein that do not see each other.

    Args:
        types: int [N], residue types.
        linked: bool [N-1], True where bead i and i+1 are bonded.
        positions: [n_replicas, N, 3] (or [N, 3] for one) Å.
        cutoff_A: pairs up to this distance become edges, Å; it may include a skin.
        edge_capacity: pad the edges to this many.

    Raises:
        CapacityError: more edges than `edge_capacity`.
    """
    positions = np.asarray(positions)
    positions = positions[None] if positions.ndim == 2 else positions
    n_replicas, n_beads = positions.shape[:2]
    if n_beads <= DENSE_BEADS:
        where, receivers, senders = _dense_edges(positions, cutoff_A)
    else:
        found = [find_edges(frame, cutoff_A) for frame in positions]
        where = np.repeat(np.arange(n_replicas), [len(senders) for senders, _ in found])
        senders, receivers = (np.concatenate(part) for part in zip(*found, strict=True))
    separation = pair_separation(piece_of_bead(linked), receivers, senders)
    offset = where * n_beads
    bonds, angles, dihedrals = (_repeat_shifted(items, n_replicas, n_beads) for items in build_topology(linked))
    graph = Graph(
        types=np.tile(np.asarray(types, dtype=np.int32), n_replicas),
        bead_mask=np.ones(n_replicas * n_beads, dtype=bool),
        replica=np.repeat(np.arange(n_replicas, dtype=np.int32), n_beads),
        replica_mask=np.ones(n_replicas, dtype=bool),
        senders=(senders + offset).astype(np.int32),
        receivers=(receivers + offset).astype(np.int32),
        edge_mask=np.ones(len(senders), dtype=bool),
        separation=separation,
        bonds=bonds,
        bond_mask=np.ones(len(bonds), dtype=bool),
        angles=angles,
        angle_mask=np.ones(len(angles), dtype=bool),
        dihedrals=dihedrals,
        dihedral_mask=np.ones(len(dihedrals), dtype=bool),
    )
    return pad_graph(graph, edges=edge_capacity)


def _repeat_shifted(items: np.ndarray, n_copies: int, shift: int) -> np.ndarray:
    """Bead indices [M, k] of one system, listed for `n_copies` systems of `shift` beads each."""
    offsets = np.arange(n_copies, dtype=np.int32)[:, None, None] * np.int32(shift)
    return (items[None] + offsets).reshape(-1, items.shape[1])


def graph_sizes(graph: Graph) -> dict[str, int]:
    """Lengths of all dimensions of a graph, padding included; keys are the keywords of `pad_graph`."""
    return {
        "beads": len(graph.types),
        "replicas": len(graph.replica_mask),
        "edges": len(graph.senders),
        "bonds": len(graph.bonds),
        "angles": len(graph.angles),
        "dihedrals": len(graph.dihedrals),
    }


def pad_graph(
    graph: Graph,
    beads: int | None = None,
    replicas: int | None = None,
    edges: int | None = None,
    bonds: int | None = None,
    angles: int | None = None,
    dihedrals: int | None = None,
) -> Graph:
    """The same graph with padding at the end of every dimension; None keeps a size, but at least 1.

    Positions need the same padding; their values do not matter as long as they are finite.

    Raises:
        CapacityError: a size is smaller than the graph.
    """
    have = graph_sizes(graph)
    asked = dict(beads=beads, replicas=replicas, edges=edges, bonds=bonds, angles=angles, dihedrals=dihedrals)
    size = {name: max(have[name], 1) if asked[name] is None else int(asked[name] or 0) for name in have}
    if any(size[name] < max(have[name], 1) for name in have):
        raise CapacityError({name: max(have[name], 1) for name in have}, size)
    last_bead, last_replica = size["beads"] - 1, size["replicas"] - 1
    return Graph(
        types=_pad(graph.types, size["beads"], 0),
        bead_mask=_pad(graph.bead_mask, size["beads"], False),
        replica=_pad(graph.replica, size["beads"], last_replica),
        replica_mask=_pad(graph.replica_mask, size["replicas"], False),
        senders=_pad(graph.senders, size["edges"], last_bead),
        receivers=_pad(graph.receivers, size["edges"], last_bead),
        edge_mask=_pad(graph.edge_mask, size["edges"], False),
        separation=_pad(graph.separation, size["edges"], UNLINKED),
        bonds=_pad(graph.bonds, size["bonds"], last_bead),
        bond_mask=_pad(graph.bond_mask, size["bonds"], False),
        angles=_pad(graph.angles, size["angles"], last_bead),
        angle_mask=_pad(graph.angle_mask, size["angles"], False),
        dihedrals=_pad(graph.dihedrals, size["dihedrals"], last_bead),
        dihedral_mask=_pad(graph.dihedral_mask, size["dihedrals"], False),
    )


def _pad(array: np.ndarray, size: int, value: int | bool) -> np.ndarray:
    """`array` lengthened to `size` along its first axis with `value`."""
    if len(array) == size:
        return array
    out = np.full((size, *array.shape[1:]), value, dtype=array.dtype)
    out[: len(array)] = array
    return out


def batch_graphs(graphs: list[Graph]) -> Graph:
    """Disjoint union of graphs, in order. Padding of beads and replicas stays where it is, so that positions can
    simply be concatenated; padding of edges, bonds, angles and dihedrals is dropped (but one entry is always left).

    Raises:
        ValueError: an empty list.
    """
    if not graphs:
        raise ValueError("no graphs to batch")
    bead_offset = _offsets([len(graph.types) for graph in graphs])
    replica_offset = _offsets([len(graph.replica_mask) for graph in graphs])

    def join(name: str, mask: str | None = None, offsets: np.ndarray | None = None) -> np.ndarray:
        parts = [getattr(graph, name) for graph in graphs]
        if mask is not None:
            parts = [part[getattr(graph, mask)] for part, graph in zip(parts, graphs, strict=True)]
        if offsets is not None:
            parts = [part + offset for part, offset in zip(parts, offsets, strict=True)]
        return np.concatenate(parts)

    batch = Graph(
        types=join("types"),
        bead_mask=join("bead_mask"),
        replica=join("replica", offsets=replica_offset),
        replica_mask=join("replica_mask"),
        senders=join("senders", "edge_mask", bead_offset),
        receivers=join("receivers", "edge_mask", bead_offset),
        edge_mask=join("edge_mask", "edge_mask"),
        separation=join("separation", "edge_mask"),
        bonds=join("bonds", "bond_mask", bead_offset),
        bond_mask=join("bond_mask", "bond_mask"),
        angles=join("angles", "angle_mask", bead_offset),
        angle_mask=join("angle_mask", "angle_mask"),
        dihedrals=join("dihedrals", "dihedral_mask", bead_offset),
        dihedral_mask=join("dihedral_mask", "dihedral_mask"),
    )
    return pad_graph(batch)


def _offsets(sizes: list[int]) -> np.ndarray:
    """int32: sum of all earlier sizes."""
    return np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int32)

"""Pairs within the cutoff, found in compiled code: pure functions of positions.

Measured on two cores, `nano`, 12 Å: finding them takes 2 to 6 % of the time of the model, and the pairs of a skin of
2 Å would make the model a third slower.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cgloop.model.graph import Graph, find_edges
from cgloop.model.topology import UNLINKED, pair_separation, piece_of_bead, separation_matrix

DENSE_BEADS = 128
"""Up to this size all pairs are looked at; beyond it those on a list."""


class Candidates(NamedTuple):
    """Pairs that may be within the cutoff, sorted by receiver, then sender; a bead with itself is none.

    Either all pairs of a protein of N beads, then `senders` and `receivers` are empty and `separation` is [N, N]; or a
    list for each of R replicas, all three int32 [R, C], indices of beads within the replica.
    """

    senders: np.ndarray
    receivers: np.ndarray
    separation: np.ndarray


def has_all_pairs(n_beads: int, room: int) -> bool:
    """Whether a protein is small and the room of a replica is for all its pairs."""
    return 1 < n_beads <= DENSE_BEADS and room >= n_beads * (n_beads - 1)


def all_pairs(linked: np.ndarray) -> Candidates:
    """All pairs of one protein; linked: bool [N-1], as everywhere."""
    none = np.zeros(0, np.int32)
    return Candidates(none, none, separation_matrix(linked))


def listed_pairs(linked: np.ndarray, positions: np.ndarray, reach_A: float, room: int = 0) -> Candidates:
    """The pairs within reach of every replica, found by a tree.

    Args:
        linked: bool [N-1].
        positions: [R, N, 3] Å.
        reach_A: cutoff and skin.
        room: list so many pairs of a replica at least; a fifth more than are needed where that is too little.
    """
    found = [find_edges(frame, reach_A) for frame in positions]
    needed = max(len(senders) for senders, _ in found)
    room = room if needed <= room else int(1.2 * needed) + 1
    # Padding: the last bead with itself.
    senders, receivers = np.full((2, len(positions), room), positions.shape[1] - 1, np.int32)
    for row, (of_row, to_row) in enumerate(found):
        senders[row, : len(of_row)], receivers[row, : len(to_row)] = of_row, to_row
    return Candidates(senders, receivers, pair_separation(piece_of_bead(linked), receivers, senders))


def with_edges(
    graph: Graph, positions: jax.Array, candidates: Candidates, cutoff_A: float, room: int
) -> tuple[Graph, jax.Array]:
    """A graph with the candidates that are within the cutoff as its edges; traceable.

    Each replica has its own `room` places, sorted by receiver, then sender, and padding behind them. With room for all
    pairs of a small protein nothing is looked for: they are the edges of the graph already.

    Args:
        graph: of R replicas of N beads, without padding of either; its edges do not matter unless they are all pairs.
        positions: [R, N, 3] Å.
        candidates: of the protein.
        cutoff_A: distance, Å.
        room: edges of each replica.

    Returns:
        the graph, and how many pairs each replica has, int32 [R]. Where that is more than `room` the last are missing.
    """
    n_replicas, n_beads, _ = positions.shape
    if has_all_pairs(n_beads, room):
        return graph, jnp.full(n_replicas, room, jnp.int32)
    dense = candidates.senders.ndim == 1
    near = _near(positions, candidates, cutoff_A, dense)
    place = jax.vmap(lambda row: jnp.nonzero(row, size=room, fill_value=0)[0])(near.reshape(n_replicas, -1))
    place = place.astype(jnp.int32)
    found = near.reshape(n_replicas, -1).sum(axis=1, dtype=jnp.int32)
    filled = jnp.arange(place.shape[1], dtype=jnp.int32) < found[:, None]
    if dense:
        receivers, senders = place // n_beads, place % n_beads
        separation = jnp.asarray(candidates.separation).reshape(-1)[place]
    else:
        receivers, senders, separation = (
            jnp.take_along_axis(jnp.asarray(part), place, axis=1)
            for part in (candidates.receivers, candidates.senders, candidates.separation)
        )
    first = (n_beads * jnp.arange(n_replicas, dtype=jnp.int32))[:, None]
    edges = {
        "senders": jnp.where(filled, senders, n_beads - 1) + first,
        "receivers": jnp.where(filled, receivers, n_beads - 1) + first,
        "separation": jnp.where(filled, separation, UNLINKED),
        "edge_mask": filled,
    }
    return graph._replace(**{name: values.reshape(-1) for name, values in edges.items()}), found


def _near(positions: jax.Array, candidates: Candidates, cutoff_A: float, dense: bool) -> jax.Array:
    """bool: [R, N, N] (receiver, sender), or [R, C] of a list. A bead whose place is not a number is near nobody."""
    if dense:
        vectors = positions[:, :, None] - positions[:, None]
        others = ~jnp.eye(positions.shape[1], dtype=bool)
    else:
        ends = (
            jnp.take_along_axis(positions, jnp.asarray(part)[:, :, None], axis=1)
            for part in (candidates.receivers, candidates.senders)
        )
        to, of = ends
        vectors, others = to - of, jnp.asarray(candidates.receivers) != jnp.asarray(candidates.senders)
    return (jnp.sum(vectors**2, axis=-1) <= cutoff_A**2) & others

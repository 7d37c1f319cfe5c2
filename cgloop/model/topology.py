"""Bonded topology of linear chains, from which beads are linked. NumPy only."""

from typing import NamedTuple

import numpy as np

UNLINKED = 999
"""Separation along the chain of two beads that no chain of bonds joins."""


class Topology(NamedTuple):
    """Bead indices of the bonded terms of one protein.

    Attributes:
        bonds: int32 [B, 2], beads i, i+1.
        angles: int32 [A, 3], beads i … i+2; the angle is at the middle bead.
        dihedrals: int32 [D, 4], beads i … i+3.
    """

    bonds: np.ndarray
    angles: np.ndarray
    dihedrals: np.ndarray


def build_topology(linked: np.ndarray) -> Topology:
    """Bonds, angles and dihedrals along every unbroken piece of chain.

    Args:
        linked: bool [N-1], True where bead i and i+1 are bonded (same chain, no break).
    """
    linked = np.asarray(linked, dtype=bool)
    return Topology(*(_runs(linked, n_beads) for n_beads in (2, 3, 4)))


def piece_of_bead(linked: np.ndarray) -> np.ndarray:
    """int32 [N]: number of the unbroken piece of chain that each bead belongs to, counted from 0."""
    linked = np.asarray(linked, dtype=bool)
    return np.concatenate([[0], np.cumsum(~linked)]).astype(np.int32)


def separation_matrix(linked: np.ndarray) -> np.ndarray:
    """int32 [N, N]: |i − j| along an unbroken piece of chain, `UNLINKED` between pieces.

    Args:
        linked: bool [N-1], True where bead i and i+1 are bonded.
    """
    piece = piece_of_bead(linked)
    index = np.arange(len(piece))
    return pair_separation(piece, index[:, None], index[None, :])


def pair_separation(piece: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """int32: separation of beads i and j (arrays that broadcast), given `piece_of_bead`."""
    return np.where(piece[i] == piece[j], np.abs(i - j), UNLINKED).astype(np.int32)


def _runs(linked: np.ndarray, n_beads: int) -> np.ndarray:
    """int32 [M, n_beads]: all runs of `n_beads` consecutive beads with a bond at each step."""
    n_starts = len(linked) + 2 - n_beads
    if n_starts < 1:
        return np.zeros((0, n_beads), dtype=np.int32)
    unbroken = np.ones(n_starts, dtype=bool)
    for step in range(n_beads - 1):
        unbroken &= linked[step : step + n_starts]
    return (np.flatnonzero(unbroken)[:, None] + np.arange(n_beads)).astype(np.int32)

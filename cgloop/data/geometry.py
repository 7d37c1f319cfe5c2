"""Bonds, angles, dihedrals and size of bead chains, frame by frame. Å and radians."""

import numpy as np


def chain_indices(linked: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bonds [B, 2], angles [A, 3] and dihedrals [D, 4] along linked beads; `linked` is bool [N-1]."""
    found = []
    for length in (2, 3, 4):
        starts = np.arange(max(0, len(linked) + 2 - length))
        whole = np.array([linked[start : start + length - 1].all() for start in starts], bool)
        found.append(starts[whole][:, None] + np.arange(length))
    return found[0], found[1], found[2]


def bond_lengths(positions: np.ndarray, bonds: np.ndarray) -> np.ndarray:
    """Distances [F, B], Å, of bead pairs [B, 2], bonded or not, in positions [F, N, 3]."""
    return np.linalg.norm(positions[:, bonds[:, 1]] - positions[:, bonds[:, 0]], axis=2)


def bond_angles(positions: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """[F, A], radians in [0, π], at the middle bead; from sine and cosine, accurate at both ends."""
    first, middle, last = (positions[:, angles[:, i]] for i in range(3))
    u, v = first - middle, last - middle
    return np.arctan2(np.linalg.norm(np.cross(u, v), axis=2), (u * v).sum(axis=2))


def dihedral_angles(positions: np.ndarray, dihedrals: np.ndarray) -> np.ndarray:
    """[F, D], radians in (−π, π], IUPAC sign: trans ±π, clockwise along the middle bond positive."""
    a, b, c, d = (positions[:, dihedrals[:, i]] for i in range(4))
    left, right = np.cross(b - a, c - b), np.cross(c - b, d - c)
    sine = np.linalg.norm(c - b, axis=2) * ((b - a) * right).sum(axis=2)
    return np.arctan2(sine, (left * right).sum(axis=2))


def radius_of_gyration(positions: np.ndarray) -> np.ndarray:
    """[F], Å, beads of equal weight."""
    centred = positions - positions.mean(axis=1, keepdims=True)
    return np.sqrt((centred**2).sum(axis=2).mean(axis=1))

"""Per-frame observables of bead coordinates: arrays in, arrays out."""

from dataclasses import dataclass

import numpy as np


def kabsch_rmsd(positions: np.ndarray, native: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """RMSD after optimal superposition on a structure, and on its mirror image.

    With the singular values s₁ ≥ s₂ ≥ s₃ of the covariance C = Σ xᵀy and d = sign det C, the smallest mean
    square deviation over proper rotations is (Σx² + Σy² − 2(s₁ + s₂ + d·s₃))/N (Kabsch, Acta Cryst. A 34, 827,
    1978). Improper rotations reach the other sign of d: that is the RMSD to the mirror image.

    Args:
        positions: [F, N, 3], Å.
        native: [N, 3], Å.

    Returns:
        RMSD and mirror RMSD, [F] each, Å; NaN for frames that are not finite.
    """
    x = np.asarray(positions, float)
    y = np.asarray(native, float)
    x = x - x.mean(axis=1, keepdims=True)
    y = y - y.mean(axis=0)
    covariance = np.einsum("fni,nj->fij", x, y)
    finite = np.isfinite(covariance).all(axis=(1, 2))
    covariance[~finite] = 0.0
    s = np.linalg.svd(covariance, compute_uv=False)
    sign = np.where(np.linalg.det(covariance) < 0, -1.0, 1.0)
    squares = (x**2).sum(axis=(1, 2)) + (y**2).sum()
    both = s[:, 0] + s[:, 1]

    def rmsd(handedness: np.ndarray) -> np.ndarray:
        root = np.sqrt(np.maximum(squares - 2 * (both + handedness * s[:, 2]), 0.0) / len(y))
        return np.where(finite, root, np.nan)

    return rmsd(sign), rmsd(-sign)


def radius_of_gyration(positions: np.ndarray) -> np.ndarray:
    """√⟨|x − x̄|²⟩ with equal weight on every bead, [F], Å."""
    x = np.asarray(positions, float)
    return np.sqrt(((x - x.mean(axis=1, keepdims=True)) ** 2).sum(axis=2).mean(axis=1))


def distant_pairs(linked: np.ndarray, min_separation: int) -> np.ndarray:
    """Pairs i < j at least `min_separation` apart along the chain, or on different pieces: int [P, 2].

    Args:
        linked: bool [N-1], True where beads i and i+1 are bonded.
        min_separation: smallest |i − j| within a linked piece.
    """
    piece = np.concatenate([[0], np.cumsum(~np.asarray(linked, bool))])
    i, j = np.triu_indices(len(piece), 1)
    chosen = (j - i >= min_separation) | (piece[i] != piece[j])
    return np.stack([i[chosen], j[chosen]], axis=1)


def pair_distances(positions: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Distances [F, P] in Å of positions [F, N, 3] and pairs [P, 2]."""
    i, j = np.asarray(pairs).T
    # One component after the other: a sum over a last axis of three is several times slower.
    components = np.moveaxis(np.asarray(positions, float), 2, 0)
    return np.sqrt(sum((x[:, j] - x[:, i]) ** 2 for x in components))


@dataclass(frozen=True)
class NativeContacts:
    """The contacts of the native structure.

    Attributes:
        pairs: int [C, 2].
        distance_A: native distance [C].
    """

    pairs: np.ndarray
    distance_A: np.ndarray


def native_contacts(native: np.ndarray, pairs: np.ndarray, cutoff_A: float) -> NativeContacts:
    """Those of `pairs` [P, 2] that are closer than the cutoff in the native structure [N, 3]."""
    distance = pair_distances(np.asarray(native)[None], pairs)[0]
    close = distance < cutoff_A
    return NativeContacts(pairs[close], distance[close])


def fraction_native(positions: np.ndarray, contacts: NativeContacts, beta_per_A: float, lam: float) -> np.ndarray:
    """Fraction of native contacts Q [F] of Best, Hummer & Eaton, PNAS 110, 17874 (2013), their equation 1.

    Q = ⟨1 / (1 + exp(β (r − λ r₀)))⟩ over the native contacts; NaN if there are none. λ = 1.2 suits CA beads,
    their 1.8 is for heavy atoms.
    """
    if not len(contacts.pairs):
        return np.full(len(positions), np.nan)
    excess = beta_per_A * (pair_distances(positions, contacts.pairs) - lam * contacts.distance_A)
    return (0.5 * (1.0 - np.tanh(0.5 * excess))).mean(axis=1)

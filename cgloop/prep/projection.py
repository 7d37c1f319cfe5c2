"""Forces on atoms to forces on beads.

A linear map of forces is consistent with a position map that puts bead I at atom c(I) if each bead takes its own atom
with weight 1, no other bead's atom, and if atoms held together by rigid bonds enter with one common weight (Noid et
al., J. Chem. Phys. 128, 244114 (2008); Krämer et al., J. Phys. Chem. Lett. 14, 3970 (2023)). Bonds to hydrogen are
rigid in the reference, and reported forces lack the constraint forces: the force on CA alone (`slice`) is biased,
the sum over CA and its hydrogens (`basic`), in which the constraint forces cancel, is not. Of all such maps `optimal`
(prep/optimal.py) has the least noise.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

RIGID_HYDROGEN_A = 1.3
"""A hydrogen so close to CA is bonded to it (C–H bonds are 1.09 Å long; the next hydrogens are at 2 Å)."""


class ForceMap(Protocol):
    """A linear map of the forces on A atoms to those on N beads."""

    def project(self, forces: np.ndarray) -> np.ndarray:
        """Forces on atoms [F, A, 3] to forces on beads, float32 [F, N, 3], same unit; summed in float64."""

    def weights(self, n_atoms: int) -> np.ndarray:
        """The map as a matrix, float64 [N, A]."""


@dataclass(frozen=True, eq=False)
class GroupSum:
    """Bead I's force is the sum over `atoms[starts[I]:starts[I + 1]]`.

    Attributes:
        atoms: int [M], rows of the all-atom arrays, grouped by bead.
        starts: int [N], first entry of each bead in `atoms`.
    """

    atoms: np.ndarray
    starts: np.ndarray

    def project(self, forces: np.ndarray) -> np.ndarray:
        gathered = forces[:, self.atoms].astype(np.float64)
        return np.add.reduceat(gathered, self.starts, axis=1).astype(np.float32)

    def weights(self, n_atoms: int) -> np.ndarray:
        matrix = np.zeros((len(self.starts), n_atoms))
        bead = np.searchsorted(self.starts, np.arange(len(self.atoms)), side="right") - 1
        matrix[bead, self.atoms] = 1.0
        return matrix


@dataclass(frozen=True, eq=False)
class MatrixMap:
    """Bead I's force is the sum over all atoms with weights `matrix[I]`, float64 [N, A]."""

    matrix: np.ndarray

    def project(self, forces: np.ndarray) -> np.ndarray:
        # One product for the whole block: a product per frame would have only three columns.
        n_frames, n_atoms, _ = forces.shape
        by_atom = forces.transpose(1, 0, 2).reshape(n_atoms, -1).astype(np.float64)
        by_bead = (self.matrix @ by_atom).reshape(len(self.matrix), n_frames, 3)
        return by_bead.transpose(1, 0, 2).astype(np.float32)

    def weights(self, n_atoms: int) -> np.ndarray:
        return self.matrix


def force_map(projection: str, bead_atoms: np.ndarray, is_hydrogen: np.ndarray, positions: np.ndarray) -> GroupSum:
    """The maps that follow from the structure alone.

    Args:
        projection: `basic` (CA and the hydrogens rigidly bonded to it) or `slice` (CA alone).
        bead_atoms: int [N], row of each bead's CA.
        is_hydrogen: bool [A].
        positions: [A, 3], Å, any intact structure: rigid bonds have the same length in all.
    """
    groups = []
    for atom in bead_atoms:
        group = [int(atom)]
        if projection == "basic":
            near = np.linalg.norm(positions - positions[atom], axis=1) < RIGID_HYDROGEN_A
            group += [int(i) for i in np.flatnonzero(near & is_hydrogen)]
        groups.append(group)
    sizes = np.array([len(group) for group in groups])
    return GroupSum(np.concatenate([np.array(group) for group in groups]), np.cumsum(sizes) - sizes)

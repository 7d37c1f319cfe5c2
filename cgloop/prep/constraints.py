"""Which atoms were held rigid: guessed from how little their distances fluctuate.

A force map has to give atoms that are joined by rigid bonds one common weight: the constraint forces, which no
trajectory reports, then cancel (Ciccotti, Kapral, Vanden-Eijnden, ChemPhysChem 6, 1809 (2005); Krämer et al., J. Phys.
Chem. Lett. 14, 3970 (2023)). A rigid bond varies by 1e-5 Å at most, the stiffest flexible one by 0.02 Å: a threshold
of 1e-3 Å tells them apart. Where coordinates were rounded, the rounding is allowed for.
"""

from dataclasses import dataclass

import numpy as np

from cgloop.errors import UserError

REACH_A = 3.0
"""Only pairs closer than this in the first frame are looked at: bonds are below 2.1 Å, atoms one angle apart below
2.8 Å, and atoms further apart are joined through these."""

MIN_FRAMES = 5
"""With fewer frames the spread of a distance says little."""

STEPS_A = (0.1, 0.01, 0.001)
"""Roundings of coordinates that occur (compressed trajectories, text formats)."""

ROUNDING_MARGIN = 0.6
"""A distance of two rounded positions scatters by 0.41 steps (each coordinate by step/√12); times 1.5 for luck."""

COARSEST_THRESHOLD_A = 0.012
"""From here on the stiffest flexible bonds (0.02 Å) would look rigid."""


@dataclass(frozen=True, eq=False)
class RigidGroups:
    """Atoms in groups that move as one; an atom without rigid bonds is a group of its own.

    Attributes:
        label: int [A], group of each atom, 0 … G−1, numbered by first atom.
        pairs: int [P, 2], the rigid pairs, i < j.
        threshold_A: distances that vary less are rigid.
        rounding_A: step of the coordinates, 0 if they were not rounded.
    """

    label: np.ndarray
    pairs: np.ndarray
    threshold_A: float
    rounding_A: float

    @property
    def n_groups(self) -> int:
        return int(self.label.max(initial=-1)) + 1

    @property
    def sizes(self) -> np.ndarray:
        """int [G], atoms in each group."""
        return np.bincount(self.label, minlength=self.n_groups)

    def hold(self, weights: np.ndarray) -> bool:
        """Whether weights [beads, A] are constant within every group, that is, whether constraint forces cancel."""
        first = np.unique(self.label, return_index=True)[1][self.label]
        return bool(np.allclose(weights, weights[:, first], rtol=0, atol=1e-9))


def guess_rigid_groups(positions: np.ndarray, threshold_A: float = 1e-3) -> RigidGroups:
    """Rigid groups from a few frames.

    Args:
        positions: [F, A, 3], Å, at least `MIN_FRAMES` frames that are not all alike.
        threshold_A: standard deviation of a rigid distance at most, before rounding is allowed for.

    Raises:
        UserError: too few frames, or coordinates too coarse to tell.
    """
    if len(positions) < MIN_FRAMES:
        raise UserError(f"{len(positions)} frames are too few to find rigid bonds, {MIN_FRAMES} are needed")
    rounding = coordinate_step(positions)
    limit = float(np.hypot(threshold_A, ROUNDING_MARGIN * rounding))
    if limit > COARSEST_THRESHOLD_A:
        raise UserError(
            f"coordinates are rounded to {rounding:g} Å: rigid bonds cannot be told from flexible ones",
            remedy="use `projection: basic`, or a trajectory of higher precision",
        )
    pairs = _close_pairs(positions[0])
    spread = np.std(_distances(positions, pairs), axis=0)
    rigid = pairs[spread < limit]
    return RigidGroups(_components(positions.shape[1], rigid), rigid, limit, rounding)


def coordinate_step(positions: np.ndarray) -> float:
    """The step in Å to which coordinates were rounded; 0 if to none of `STEPS_A`."""
    sample = np.asarray(positions, np.float64).ravel()[:: max(1, positions.size // 20_000)]
    for step in STEPS_A:
        offset = np.abs(sample / step - np.round(sample / step))
        # Of values that were not rounded, the median offset is a quarter.
        if np.median(offset) < 0.05:
            return step
    return 0.0


def _close_pairs(positions: np.ndarray) -> np.ndarray:
    from scipy.spatial import cKDTree

    pairs = cKDTree(positions).query_pairs(REACH_A, output_type="ndarray")
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _distances(positions: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    positions = np.asarray(positions, np.float64)
    return np.linalg.norm(positions[:, pairs[:, 0]] - positions[:, pairs[:, 1]], axis=2)


def _components(n_atoms: int, pairs: np.ndarray) -> np.ndarray:
    """Connected components of a graph: each atom takes the smallest label among its neighbours until none changes."""
    label = np.arange(n_atoms)
    while True:
        smallest = label.copy()
        np.minimum.at(smallest, pairs[:, 0], label[pairs[:, 1]])
        np.minimum.at(smallest, pairs[:, 1], label[pairs[:, 0]])
        if np.array_equal(smallest, label):
            return np.unique(label, return_inverse=True)[1]
        label = smallest

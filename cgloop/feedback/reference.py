"""What the training data covers, and how far outside of it a frame lies."""

from dataclasses import dataclass

import numpy as np

from cgloop.data.protein import ProteinData
from cgloop.validate.geometry import kabsch_rmsd, pair_distances, radius_of_gyration

# Distances of at most so many (frame, pair) are looked at; beyond that evenly spaced frames stand for all.
MAX_DISTANCES = 1e8
BLOCK_DISTANCES = 4e6


@dataclass(frozen=True, eq=False)
class Coverage:
    """Ranges of the reference frames of one protein.

    Attributes:
        what: `training` or `reference`: which frames these are.
        n_frames: how many were looked at.
        residue_type: int [N]; linked: bool [N-1].
        minimum, maximum, mean, deviation: [P] of the distance of each pair i < j, Å, row by row.
        bond_mean_A: mean length of all bonds; NaN without bonds.
        force_rms: root mean square length of the force on a bead, kcal/mol/Å.
        rmsd_max_A: largest CA-RMSD to the native structure.
        rg_min_A, rg_max_A: smallest and largest radius of gyration.
    """

    what: str
    n_frames: int
    residue_type: np.ndarray
    linked: np.ndarray
    minimum: np.ndarray
    maximum: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    bond_mean_A: float
    force_rms: float
    rmsd_max_A: float
    rg_min_A: float
    rg_max_A: float

    @property
    def n_beads(self) -> int:
        return len(self.residue_type)

    def pair(self, i: int, j: int) -> dict[str, float]:
        """Range of one pair's distance in the reference: `min`, `max`, `mean`, `sd`, Å."""
        low, high = sorted((int(i), int(j)))
        index = low * self.n_beads - low * (low + 1) // 2 + high - low - 1
        columns = {"min": self.minimum, "max": self.maximum, "mean": self.mean, "sd": self.deviation}
        return {name: float(values[index]) for name, values in columns.items()}

    def outside(self, positions: np.ndarray) -> np.ndarray:
        """How far the pair that is furthest out lies beyond its range, Å, [F]; 0 inside, NaN if not finite.

        Args:
            positions: [F, N, 3], Å.
        """
        result, every = np.full(len(positions), np.nan), _all_pairs(self.n_beads)
        for k, frame in enumerate(positions):
            if np.isfinite(frame).all() and len(every):
                distance = pair_distances(frame[None], every)[0]
                beyond = np.maximum(self.minimum - distance, distance - self.maximum)
                result[k] = max(0.0, float(beyond.max()))
        return result


def _all_pairs(n_beads: int) -> np.ndarray:
    """All pairs i < j, row by row, [P, 2]."""
    return np.stack(np.triu_indices(n_beads, 1), axis=1)


def _force_rms(protein: ProteinData) -> float:
    """Root mean square force on a bead, kcal/mol/Å; not a number without frames."""
    if not protein.n_frames:
        return float("nan")
    return float(np.sqrt(np.mean(np.sum(protein.forces.astype(float) ** 2, axis=-1))))


def coverage_of(protein: ProteinData, what: str) -> Coverage:
    """Ranges of all frames of `protein`, which must have some.

    Args:
        protein: frames at the temperature of the run.
        what: `training` or `reference`, as they are called in words.
    """
    every = _all_pairs(protein.n_beads)
    n_pairs = len(every)
    stride = max(1, int(np.ceil(protein.n_frames * max(n_pairs, 1) / MAX_DISTANCES)))
    frames = protein.positions[::stride].astype(float)
    minimum, maximum = np.full(n_pairs, np.inf), np.full(n_pairs, -np.inf)
    total, squares = np.zeros(n_pairs), np.zeros(n_pairs)
    block = max(1, int(BLOCK_DISTANCES // max(n_pairs, 1)))
    for start in range(0, len(frames), block):
        distance = pair_distances(frames[start : start + block], every)
        minimum, maximum = np.minimum(minimum, distance.min(axis=0)), np.maximum(maximum, distance.max(axis=0))
        total += distance.sum(axis=0)
        squares += (distance**2).sum(axis=0)
    mean = total / len(frames)
    bonded, size = np.flatnonzero(protein.linked), radius_of_gyration(frames)
    lengths = np.linalg.norm(frames[:, bonded + 1] - frames[:, bonded], axis=-1)
    return Coverage(
        what=what,
        n_frames=len(frames),
        residue_type=protein.residue_type.astype(int),
        linked=protein.linked,
        minimum=minimum,
        maximum=maximum,
        mean=mean,
        deviation=np.sqrt(np.maximum(squares / len(frames) - mean**2, 0.0)),
        bond_mean_A=float(lengths.mean()) if lengths.size else float("nan"),
        force_rms=_force_rms(protein.with_forces()),
        rmsd_max_A=float(kabsch_rmsd(frames, protein.native)[0].max()),
        rg_min_A=float(size.min()),
        rg_max_A=float(size.max()),
    )

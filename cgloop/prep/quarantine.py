"""Frames that must not enter a data set, and why. Nothing is dropped without being counted.

A damaged tail (an overflow or zeros from some frame to the end of a trajectory, as a few mdCATH files have) is
quarantined whatever its length. Bad frames elsewhere are quarantined while they are few; many of them mean that the
file is not what it should be, and that is an error.
"""

from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np

from cgloop.errors import UserError

GOOD = ""
NON_FINITE_POSITIONS = "non-finite positions"
NON_FINITE_FORCES = "non-finite forces"
ZERO_POSITIONS = "all positions zero"
ZERO_FORCES = "all forces zero"
BOND = "CA-CA bond out of range"
FORCE = "bead force too large"


@dataclass(frozen=True)
class Limits:
    """What a physical frame looks like.

    Attributes:
        bond_A: allowed CA–CA distance of bonded beads (cis 2.9 Å, trans 3.8 Å, and thermal motion).
        force: largest force on a bead, kcal/mol/Å (thermal forces have an RMS of about 45).
        bad_fraction: part of a trajectory's frames that may be bad, its damaged tail not counted.
    """

    bond_A: tuple[float, float] = (2.4, 4.8)
    force: float = 1000.0
    bad_fraction: float = 0.10


def all_atom_reasons(positions: np.ndarray, forces: np.ndarray) -> np.ndarray:
    """Why each frame is bad, from all atoms; "" where it is not.

    Args:
        positions: [F, A, 3], Å.
        forces: [F, A, 3], kcal/mol/Å.

    Returns:
        object [F] of strings, the first reason that applies.
    """
    reasons = np.full(len(positions), GOOD, object)
    # In reverse order of precedence: later assignments win.
    reasons[~forces.any(axis=(1, 2))] = ZERO_FORCES
    reasons[~positions.any(axis=(1, 2))] = ZERO_POSITIONS
    reasons[~np.isfinite(forces).all(axis=(1, 2))] = NON_FINITE_FORCES
    reasons[~np.isfinite(positions).all(axis=(1, 2))] = NON_FINITE_POSITIONS
    return reasons


def bead_reasons(positions: np.ndarray, forces: np.ndarray, linked: np.ndarray, limits: Limits) -> np.ndarray:
    """As `all_atom_reasons`, from beads: bonds in range, forces not absurd. NaN is out of range.

    Args:
        positions: [F, N, 3], Å. forces: [F, N, 3], kcal/mol/Å.
        linked: bool [N-1].
        limits: the ranges.
    """
    reasons = np.full(len(positions), GOOD, object)
    positions, forces = positions.astype(np.float64), forces.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(np.diff(positions, axis=1), axis=2)[:, linked]
        magnitudes = np.linalg.norm(forces, axis=2)
    reasons[~(magnitudes <= limits.force).all(axis=1)] = FORCE
    reasons[~((lengths >= limits.bond_A[0]) & (lengths <= limits.bond_A[1])).all(axis=1)] = BOND
    return reasons


@dataclass
class TrajectoryRecord:
    """What happened to the frames of one trajectory.

    Attributes:
        temperature_K, replica: which one.
        source_frame, reason: one entry per frame that was read.
    """

    temperature_K: float
    replica: int
    source_frame: list[int] = field(default_factory=list)
    reason: list[str] = field(default_factory=list)

    def add(self, source_frame: np.ndarray, reasons: np.ndarray) -> None:
        self.source_frame += source_frame.tolist()
        self.reason += reasons.tolist()

    def tail_start(self) -> int:
        """Row from which on every frame is bad; the number of rows if the last is good."""
        start = len(self.reason)
        while start and self.reason[start - 1] != GOOD:
            start -= 1
        return start

    def require_mostly_good(self, limits: Limits, where: str) -> None:
        """Raise `UserError` if bad frames before the tail are too many, or if no frame is good."""
        start = self.tail_start()
        bad = [i for i in range(start) if self.reason[i] != GOOD]
        if start and len(bad) <= limits.bad_fraction * len(self.reason):
            return
        rows = bad or range(len(self.reason))
        raise UserError(
            f"{len(rows)} of {len(self.reason)} frames are bad, the first is frame {self.source_frame[rows[0]]}: "
            f"{self.reason[rows[0]]}",
            where=where,
            remedy="leave this replica out (`data.sources.replicas`) or mend the file",
        )

    def to_json(self) -> dict[str, Any]:
        """Counts, and bad frames as ranges."""
        counts = Counter(reason for reason in self.reason if reason != GOOD)
        rows = range(len(self.reason))
        ranges = []
        for reason, group in groupby(rows, key=lambda row: self.reason[row]):
            members = list(group)
            if reason != GOOD:
                first, last = (self.source_frame[members[i]] for i in (0, -1))
                ranges.append({"first": first, "last": last, "reason": reason})
        return {
            "temperature_K": self.temperature_K,
            "replica": self.replica,
            "frames_read": len(self.reason),
            "frames_kept": len(self.reason) - sum(counts.values()),
            "damaged_tail": len(self.reason) - self.tail_start(),
            "reasons": dict(counts),
            "bad": ranges,
        }

"""Frames that must not enter a data set, and why. Nothing is dropped without being counted.

Most reasons are seen in the frame itself. Two need others: a frame that is the same as an earlier one of the protein,
and forces far from what they usually are at that temperature, which is known only when all frames have been read.

A damaged tail (an overflow or zeros from some frame to the end of a trajectory, as a few mdCATH files have) is
quarantined whatever its length. Bad frames elsewhere are quarantined while they are few; many of them mean that the
file is not what it should be, and that is an error.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
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
OVERLAP = "overlapping heavy atoms"
BOND = "CA-CA bond out of range"
FORCE = "bead force too large"
DUPLICATE = "duplicate of an earlier frame"
UNUSUAL_FORCE = "atom forces outside their usual range"


@dataclass(frozen=True)
class Limits:
    """What a physical frame looks like.

    Attributes:
        overlap_A: heavy atoms nearer than this overlap (the shortest bond, C=O, is 1.23 Å long).
        bond_A: allowed CA–CA distance of bonded beads (cis 2.9 Å, trans 3.8 Å, and thermal motion).
        force: largest force on a bead, kcal/mol/Å (thermal forces have an RMS of about 45).
        force_factor, force_deviations: the frame's RMS and its largest force on an atom may differ from their medians
            at that temperature by this factor, or by so many robust standard deviations (1.4826 MAD) of their
            logarithm, whichever allows more.
        bad_fraction: part of a trajectory's frames that may be bad, its damaged tail not counted.
    """

    overlap_A: float = 0.9
    bond_A: tuple[float, float] = (2.4, 4.8)
    force: float = 1000.0
    force_factor: float = 2.0
    force_deviations: float = 12.0
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


def overlapping(positions: np.ndarray, heavy: np.ndarray, nearest_A: float) -> np.ndarray:
    """bool [F], frames in which two heavy atoms are nearer than `nearest_A`.

    Args:
        positions: [F, A, 3], Å, finite.
        heavy: int [H], indices of heavy atoms.
        nearest_A: Å.
    """
    from scipy.spatial import cKDTree

    found = np.zeros(len(positions), bool)
    for row, frame in enumerate(positions[:, heavy]):
        # Neither balancing nor shrinking the tree pays for one search.
        tree = cKDTree(frame, balanced_tree=False, compact_nodes=False)
        found[row] = len(tree.query_pairs(nearest_A, output_type="ndarray")) > 0
    return found


def force_size(forces: np.ndarray) -> np.ndarray:
    """Logarithms of RMS and largest magnitude of the forces on atoms: [F, 2] from [F, A, 3] in kcal/mol/Å."""
    squares = np.einsum("fad,fad->fa", forces, forces, dtype=np.float64)
    return 0.5 * np.log(np.stack([squares.mean(axis=1) / 3.0, squares.max(axis=1)], axis=1))


def unusual(sizes: np.ndarray, limits: Limits) -> np.ndarray:
    """bool [F], frames whose force is far from the others'; none if they are fewer than `MIN_FOR_RANGE`.

    Args:
        sizes: [F, 2] of `force_size`, all at one temperature.
        limits: the ranges.
    """
    if len(sizes) < MIN_FOR_RANGE:
        return np.zeros(len(sizes), bool)
    away = np.abs(sizes - np.median(sizes, axis=0))
    deviation = 1.4826 * np.median(away, axis=0)
    return (away > np.maximum(np.log(limits.force_factor), limits.force_deviations * deviation)).any(axis=1)


MIN_FOR_RANGE = 20


class Screen:
    """Looks at the frames of one protein as they come, and at the end once more at all of them.

    Args:
        is_hydrogen: bool [A].
        linked: bool [N-1].
        limits: what a physical frame looks like.
    """

    def __init__(self, is_hydrogen: np.ndarray, linked: np.ndarray, limits: Limits):
        self.limits = limits
        self._heavy, self._linked = np.flatnonzero(~is_hydrogen), linked
        self._seen: set[bytes] = set()
        self._sizes: list[np.ndarray] = []

    def look(
        self, positions: np.ndarray, forces: np.ndarray, bead_positions: np.ndarray, bead_forces: np.ndarray
    ) -> np.ndarray:
        """Why each frame is bad, object [F]; "" where nothing is wrong with it so far.

        Args:
            positions, forces: of atoms, [F, A, 3], Å and kcal/mol/Å.
            bead_positions, bead_forces: of beads, [F, N, 3].
        """
        reasons = all_atom_reasons(positions, forces)
        with np.errstate(over="ignore", invalid="ignore"):
            of_beads = bead_reasons(bead_positions, bead_forces, self._linked, self.limits)
        reasons = np.where(reasons == GOOD, of_beads, reasons)
        good = np.flatnonzero(reasons == GOOD)
        reasons[good[overlapping(positions[good], self._heavy, self.limits.overlap_A)]] = OVERLAP
        self._without_repeated(positions, reasons)
        self._sizes.append(force_size(forces[reasons == GOOD]))
        return reasons

    def look_without_forces(self, positions: np.ndarray, bead_positions: np.ndarray, *, same_atoms: bool) -> np.ndarray:
        """As `look`, of frames without forces.

        Args:
            positions: of atoms, [F, A, 3] Å.
            bead_positions: of beads, [F, N, 3] Å.
            same_atoms: whether the atoms are those that it was made for; else they all count as heavy ones.
        """
        atoms, beads = np.ones_like(positions), np.zeros_like(bead_positions)
        reasons = all_atom_reasons(positions, atoms)
        with np.errstate(over="ignore", invalid="ignore"):
            reasons = np.where(reasons == GOOD, bead_reasons(bead_positions, beads, self._linked, self.limits), reasons)
        good = np.flatnonzero(reasons == GOOD)
        heavy = self._heavy if same_atoms else np.arange(positions.shape[1])
        reasons[good[overlapping(positions[good], heavy, self.limits.overlap_A)]] = OVERLAP
        self._without_repeated(positions, reasons)
        self._sizes.append(np.full((int((reasons == GOOD).sum()), 2), np.nan))
        return reasons

    def _without_repeated(self, positions: np.ndarray, reasons: np.ndarray) -> None:
        """Give a reason to frames that were there before."""
        for row in np.flatnonzero(reasons == GOOD):
            key = hashlib.blake2b(np.ascontiguousarray(positions[row]).data, digest_size=16).digest()
            if key in self._seen:
                reasons[row] = DUPLICATE
            self._seen.add(key)

    def unusual(self, temperature_K: np.ndarray) -> np.ndarray:
        """bool, of all frames that were good so far, those whose forces are far from the others' at that temperature.

        Args:
            temperature_K: of these frames, in the order in which they were looked at.
        """
        sizes = np.concatenate([np.zeros((0, 2)), *self._sizes])
        found = np.zeros(len(sizes), bool)
        for temperature in np.unique(temperature_K):
            here = (temperature_K == temperature) & ~np.isnan(sizes).any(axis=1)
            found[here] = unusual(sizes[here], self.limits)
        return found


@dataclass
class TrajectoryRecord:
    """What happened to the frames of one trajectory.

    Attributes:
        temperature_K, replica: which one.
        source_frame, reason: one entry per frame that was read.
        frames_moved: frames in which atoms were moved to another periodic image.
    """

    temperature_K: float
    replica: int
    source_frame: list[int] = field(default_factory=list)
    reason: list[str] = field(default_factory=list)
    frames_moved: int = 0

    def add(self, source_frame: np.ndarray, reasons: np.ndarray, moved: np.ndarray | None = None) -> None:
        """Record frames that were read: their numbers, what is wrong with each, and where images were changed."""
        self.source_frame += source_frame.tolist()
        self.reason += reasons.tolist()
        self.frames_moved += 0 if moved is None else int(moved.sum())

    def set_aside(self, good_rows: np.ndarray, reason: str) -> None:
        """Give a reason to frames that were good so far; `good_rows` is bool, one entry per such frame."""
        good = [row for row, one in enumerate(self.reason) if one == GOOD]
        for row, bad in zip(good, good_rows, strict=True):
            if bad:
                self.reason[row] = reason

    @property
    def n_good(self) -> int:
        return self.reason.count(GOOD)

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
            "frames_moved": self.frames_moved,
            "damaged_tail": len(self.reason) - self.tail_start(),
            "reasons": dict(counts),
            "bad": ranges,
        }


def table_row(records: Sequence[TrajectoryRecord]) -> dict[str, Any]:
    """The row of a protein in the table of what was set aside."""
    counts: Counter[str] = Counter()
    for record in records:
        counts.update(reason for reason in record.reason if reason != GOOD)
    read = sum(len(record.reason) for record in records)
    return {
        "frames_read": read,
        "frames_kept": read - counts.total(),
        "frames_moved": sum(record.frames_moved for record in records),
        "reasons": dict(counts),
    }

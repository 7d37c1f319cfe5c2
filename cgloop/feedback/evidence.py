"""Measurements on a crash: how the worst quantity developed, and which energy term is behind the force."""

from dataclasses import dataclass

import numpy as np

from cgloop.feedback.crash import TERM_NAMES, Crash

# A rise by less than this part of the fall so far does not end the fall: beads vibrate on their way.
REVERSAL = 0.25
PLATEAU = 0.03


@dataclass(frozen=True)
class Development:
    """The last run of a quantity in one direction.

    Attributes:
        first, last: values at its begin and end.
        duration_fs: time between.
        whole: it goes back to the first frame that was kept, and may have begun before.
    """

    first: float
    last: float
    duration_fs: float
    whole: bool


def development(values: np.ndarray, time_fs: np.ndarray, logarithmic: bool = False) -> Development | None:
    """How `values` [K] came to its last finite one, without larger reversals on the way.

    Args:
        values: any quantity, oldest first; non-finite values are left out.
        time_fs: [K].
        logarithmic: judge reversals by ratios, for quantities that grow by orders of magnitude.

    Returns:
        None with fewer than two finite values or no change.
    """
    finite = np.flatnonzero(np.isfinite(values))
    if len(finite) < 2:
        return None
    values, time_fs = values[finite], time_fs[finite]
    scale = np.log(np.maximum(values, 1e-12)) if logarithmic else values
    starts = [_start(scale, direction) for direction in (-1.0, 1.0)]
    # Of "how far it fell" and "how far it rose", the larger one is what happened.
    start = max(starts, key=lambda index: abs(scale[index] - scale[-1]))
    if start == len(values) - 1:
        return None
    return Development(float(values[start]), float(values[-1]), float(time_fs[-1] - time_fs[start]), start == 0)


def _start(scale: np.ndarray, direction: float) -> int:
    """Index at which the final fall (direction −1) or rise (+1) of a series began."""
    height = -direction * (scale - scale[-1])
    start, best = len(scale) - 1, 0.0
    for k in range(len(scale) - 2, -1, -1):
        if height[k] >= best:
            start, best = k, height[k]
        elif height[k] < best * (1.0 - REVERSAL):
            break
    # A plateau before it is not part of it.
    return start + int(np.flatnonzero(height[start:] >= best * (1.0 - PLATEAU))[-1])


def pair_split(crash: Crash, i: int, j: int) -> dict[str, float] | None:
    """Force with which each term moves two beads towards each other at the last frame, kcal/mol/Å.

    Half of (F_i − F_j)·u with u the unit vector from i to j: positive pulls them together, negative apart.
    None if the forces or positions are not finite.
    """
    if crash.term_forces is None:
        return None
    separation = crash.positions[-1, j] - crash.positions[-1, i]
    length = np.linalg.norm(separation)
    if not (np.isfinite(length) and length > 0):
        return None
    closing = 0.5 * (crash.term_forces[:, i] - crash.term_forces[:, j]) @ (separation / length)
    return _named(closing)


def bead_split(crash: Crash, bead: int) -> dict[str, float] | None:
    """Part of each term in the force on one bead at the last frame: its component along the total, kcal/mol/Å.

    The parts add up to the length of the force. None if it is zero or not finite.
    """
    if crash.term_forces is None:
        return None
    total = crash.term_forces[:, bead].sum(axis=0)
    length = np.linalg.norm(total)
    if not (np.isfinite(length) and length > 0):
        return None
    return _named(crash.term_forces[:, bead] @ (total / length))


def energy_changes(crash: Crash) -> dict[str, float]:
    """Change of each term's energy over the frames that were kept, kcal/mol."""
    return _named(crash.terms[-1] - crash.terms[0])


def last_energy_changes(crash: Crash) -> dict[str, float]:
    """Change of each term's energy in the last step, kcal/mol; zero if only one frame was kept."""
    return _named(crash.terms[-1] - crash.terms[-2:][0])


def non_finite_terms(crash: Crash) -> list[str]:
    """Terms whose force at the last frame is not finite."""
    if crash.term_forces is None:
        return []
    return [name for name, force in zip(TERM_NAMES, crash.term_forces, strict=True) if not np.isfinite(force).all()]


def force_growth(crash: Crash) -> float:
    """Largest force on a bead in any frame over the median of the first half; 1 if that is not defined."""
    largest = crash.force_norms.max(axis=1)
    finite = largest[np.isfinite(largest)]
    early = finite[: max(1, len(finite) // 2)]
    if not len(finite) or not np.median(early) > 0:
        return 1.0
    return float(finite.max() / np.median(early))


def most_pushed(crash: Crash) -> int:
    """The bead with the largest force at the last finite frame."""
    return int(np.argmax(last_finite(crash.force_norms)))


def last_finite(values: np.ndarray) -> np.ndarray:
    """Last row of [K, …] without a non-finite number; zeros if there is none."""
    rows = np.flatnonzero(np.isfinite(values.reshape(len(values), -1)).all(axis=1))
    return values[rows[-1]] if len(rows) else np.zeros_like(values[0])


def closest_pair(positions: np.ndarray, linked: np.ndarray) -> tuple[int, int, float] | None:
    """The two beads of a frame [N, 3] that are closest without being bonded, and their distance in Å."""
    i, j = np.triu_indices(len(positions), 1)
    bonded = (j - i == 1) & np.concatenate([linked, [False]])[i]
    i, j = i[~bonded], j[~bonded]
    distance = np.linalg.norm(positions[j] - positions[i], axis=-1)
    if not len(distance) or not np.isfinite(distance).all():
        return None
    k = int(distance.argmin())
    return int(i[k]), int(j[k]), float(distance[k])


def _named(values: np.ndarray) -> dict[str, float]:
    return dict(zip(TERM_NAMES, map(float, values), strict=True))

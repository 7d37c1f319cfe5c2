"""Plausibility of the periodic cell of a trajectory, judged from some of its frames.

Files contain cells that are not those of a simulation: the `1 1 1` of a CRYST1 record, the bounding box of the
molecules, values of another system. Moving atoms by such vectors would break whole molecules.
"""

from dataclasses import dataclass

import numpy as np

from cgloop.data.periodic import LONGEST_LINK_A, Molecules, Parts, has_cell, widths

NARROWEST_A = 10.0
"""A periodic simulation of a protein needs more than twice the cutoff of its interactions between opposite faces."""

BREATHING = 0.01
"""Largest relative standard deviation of a cell length that a barostat causes."""

MIN_FRAMES = 5
"""Smallest number of frames in which a bounding box can be recognized."""


def plausible_cell(cell: np.ndarray) -> bool:
    """Return whether vectors [3, 3] in Å are wide enough for a simulation and oriented as in MD programs.

    That is, a lies along x and b in the xy plane.
    """
    return bool(has_cell(cell)) and not np.triu(cell, 1).any() and bool(widths(cell).min() >= NARROWEST_A)


@dataclass(frozen=True)
class CellFinding:
    """Interpretation of the cell of a trajectory.

    Attributes:
        periodic: whether atoms may be moved by its vectors.
        note: assumption and reason, for the user; empty for a normal cell or none.
        hopeless: chains are cut, and the cell cannot be used to make them whole.
    """

    periodic: bool
    note: str = ""
    hopeless: bool = False


def question_cells(positions: np.ndarray, cells: np.ndarray, molecules: Molecules) -> CellFinding:
    """Decide how to interpret the cell of a trajectory.

    Args:
        positions: some frames [F, A, 3], Å, as read, finite.
        cells: their vectors [F, 3, 3], Å; zeros where there is none.
        molecules: the atoms.
    """
    there = has_cell(cells)
    if not there.any():
        # Zeros mean that there is no cell; anything else is an invalid one.
        if np.isfinite(cells).all() and not cells.any():
            return CellFinding(False)
        return _rejected("its cell has no volume or is not finite", positions, molecules.parts)
    parts = molecules.parts
    some, vectors = positions[there].astype(float), cells[there]
    least = widths(vectors).min()
    if least < NARROWEST_A:
        return _rejected(f"its cell is {least:.3g} Å wide, too little for a simulation", positions, parts)
    joined = np.stack([x + parts.shifts(x, cell) @ cell for x, cell in zip(some, vectors, strict=True)])
    if (axis := _follows(joined, vectors)) is not None:
        return CellFinding(
            False, f"its cell follows the extent of the molecules along {'xyz'[axis]}, frame by frame: a bounding box, "
            "taken as not periodic"
        )  # fmt: skip
    extent = float(np.median([_extent(x @ np.linalg.inv(c), parts) for x, c in zip(joined, vectors, strict=True)]))
    note = "" if there.all() else f"{len(there) - there.sum()} of {len(there)} frames that were looked at have no cell"
    if extent <= 1.0:
        return CellFinding(True, note)
    if _cut(some, parts) and not _cut(joined, parts):
        return CellFinding(True, "a chain is longer than the cell; it is joined along its bonds")
    return CellFinding(False, "its cell is smaller than a chain, which is whole: taken as not periodic")


def _rejected(why: str, positions: np.ndarray, parts: Parts) -> CellFinding:
    return CellFinding(False, f"{why}: taken as not periodic", hopeless=_cut(positions, parts))


def _cut(positions: np.ndarray, parts: Parts) -> bool:
    """Return whether bonded atoms lie far apart in most of these frames."""
    longest = [float((parts.steps(x) ** 2).sum(axis=1).max(initial=0.0)) for x in positions.astype(float)]
    return float(np.median(longest)) > LONGEST_LINK_A**2


def _extent(fractions: np.ndarray, parts: Parts) -> float:
    """Return the largest extent of a part in fractional coordinates [A, 3]."""
    return max(float(np.ptp(fractions[parts.part == number], axis=0).max()) for number in range(parts.n_parts))


def _follows(joined: np.ndarray, cells: np.ndarray) -> int | None:
    """Return the axis along which the cell length varies with the extent of the molecules, if there is one."""
    if len(joined) < MIN_FRAMES:
        return None
    lengths = np.diagonal(cells, axis1=1, axis2=2)
    spare = lengths - np.ptp(joined, axis=1)
    varies = lengths.std(axis=0) > BREATHING * lengths.mean(axis=0)
    axes = np.flatnonzero(varies & (spare.std(axis=0) < 0.25 * lengths.std(axis=0)))
    return int(axes[0]) if len(axes) else None

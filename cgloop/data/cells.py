"""Whether the cell of a trajectory can be the cell of a simulation, from some of its frames.

Files carry cells that are none: the `1 1 1` of a CRYST1 record, the bounding box that a program wrote around the
molecules, numbers left over from another system. Moving atoms by such vectors would break what is whole.
"""

from dataclasses import dataclass

import numpy as np

from cgloop.data.periodic import LONGEST_LINK_A, Molecules, Parts, has_cell, widths

NARROWEST_A = 10.0
"""A periodic simulation of a protein needs more than twice the cutoff of its interactions between opposite faces."""

BREATHING = 0.01
"""Relative standard deviation of a cell's length up to which a barostat explains it."""

MIN_FRAMES = 5
"""Frames from which a length can be seen to follow the molecules."""


def plausible_cell(cell: np.ndarray) -> bool:
    """Whether vectors [3, 3] in Å can be the cell of a simulation: wide enough, and oriented as MD programs do (a along
    x, b in the plane of x and y)."""
    return bool(has_cell(cell)) and not np.triu(cell, 1).any() and bool(widths(cell).min() >= NARROWEST_A)


@dataclass(frozen=True)
class CellFinding:
    """What a cell is taken for.

    Attributes:
        periodic: atoms may be moved by its vectors.
        note: what is assumed and why, for the user; empty where there is nothing to say.
        hopeless: chains are cut, and the cell cannot join them.
    """

    periodic: bool
    note: str = ""
    hopeless: bool = False


def question_cells(positions: np.ndarray, cells: np.ndarray, molecules: Molecules) -> CellFinding:
    """Judge what the cell of a trajectory is to be taken for.

    Args:
        positions: some frames [F, A, 3], Å, as read, finite.
        cells: their vectors [F, 3, 3], Å; zeros where there is none.
        molecules: whose positions they are.
    """
    there = has_cell(cells)
    if not there.any():
        # Zeros stand for no cell; anything else was meant as one.
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
    """Whether atoms that are bonded lie far apart in most of these frames."""
    longest = [float((parts.steps(x) ** 2).sum(axis=1).max(initial=0.0)) for x in positions.astype(float)]
    return float(np.median(longest)) > LONGEST_LINK_A**2


def _extent(fractions: np.ndarray, parts: Parts) -> float:
    """Largest extent of a part, in parts of the cell's width, from fractional coordinates [A, 3]."""
    return max(float(np.ptp(fractions[parts.part == number], axis=0).max()) for number in range(parts.n_parts))


def _follows(joined: np.ndarray, cells: np.ndarray) -> int | None:
    """The axis along which cells vary as the molecules' extents do, if there is one."""
    if len(joined) < MIN_FRAMES:
        return None
    lengths = np.diagonal(cells, axis1=1, axis2=2)
    spare = lengths - np.ptp(joined, axis=1)
    varies = lengths.std(axis=0) > BREATHING * lengths.mean(axis=0)
    axes = np.flatnonzero(varies & (spare.std(axis=0) < 0.25 * lengths.std(axis=0)))
    return int(axes[0]) if len(axes) else None

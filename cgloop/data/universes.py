"""Periodic images of what MDAnalysis reads: molecules of a selection, their bonds, and whether to believe the cell."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cgloop.data.cells import CellFinding, plausible_cell, question_cells
from cgloop.data.periodic import Molecules, Unwrapper, has_cell
from cgloop.errors import UserError

READ_ERRORS = (OSError, EOFError, ValueError, TypeError, KeyError, IndexError, RuntimeError, AttributeError)
"""What MDAnalysis raises at a file that it cannot read."""

LOOKED_AT = 20
"""Frames of a trajectory by which its cell is questioned."""


@dataclass(frozen=True, eq=False)
class Images:
    """Periodic images of the selected atoms of one trajectory.

    Attributes:
        molecules: what images depend on.
        finding: what the cell of the trajectory is taken for.
    """

    molecules: Molecules
    finding: CellFinding

    def unwrapper(self) -> Unwrapper | None:
        """What joins the molecules of consecutive frames, from the first on; None where no frame is to be changed."""
        return Unwrapper(self.molecules) if self.finding.periodic else None

    def join(self, positions: np.ndarray, cells: np.ndarray, unwrapper: Unwrapper | None) -> np.ndarray:
        """Join molecules [F, A, 3] in place, as `Unwrapper` does; bool [F], the frames that were changed."""
        return np.zeros(len(positions), bool) if unwrapper is None else unwrapper(positions, cells)


def images_of(selected: Any, topology: Path, where: Path) -> Images:
    """Periodic images of a selection, from the topology's bonds and coordinates and some frames of the trajectory.

    Args:
        selected: atoms of a universe with a trajectory; it is left at its first frame.
        topology: file of the universe; its own coordinates say how chains lie to each other. Of one that has none the
            first frame does.
        where: the trajectory, for messages.

    Raises:
        UserError: chains are cut, and the file has no cell that could join them.
    """
    positions, cells = _some_frames(selected)
    molecules = _molecules(selected, topology, positions, cells)
    finding = question_cells(positions, cells, molecules)
    if finding.hopeless:
        raise UserError(
            f"chains are cut by periodic boundaries, but {finding.note.split(':')[0]}", where=where,
            remedy="write it with the cell of the simulation, or with molecules made whole",
        )  # fmt: skip
    return Images(molecules, finding)


def cell_of(step: Any) -> np.ndarray:
    """Vectors of the cell of a frame, [3, 3] Å: zeros where it has none, NaN where what it has is no cell."""
    if step.dimensions is None:
        return np.zeros((3, 3))
    vectors = np.asarray(step.triclinic_dimensions, float)
    return vectors if has_cell(vectors) else np.full((3, 3), np.nan)


def _some_frames(selected: Any) -> tuple[np.ndarray, np.ndarray]:
    """Evenly spaced frames [F, A, 3] with finite positions, and their cells [F, 3, 3]; frames to a damaged one."""
    trajectory = selected.universe.trajectory
    positions, cells = [], []
    try:
        for frame in sorted({int(place) for place in np.linspace(0, trajectory.n_frames - 1, LOOKED_AT)}):
            step = trajectory[frame]
            if np.isfinite(selected.positions).all():
                positions.append(selected.positions)
                cells.append(cell_of(step))
        trajectory[0]
    except READ_ERRORS:
        pass
    shape = (len(positions), len(selected), 3)
    return np.array(positions, float).reshape(shape), np.array(cells, float).reshape(-1, 3, 3)


def _molecules(selected: Any, topology: Path, positions: np.ndarray, cells: np.ndarray) -> Molecules:
    own = _own_coordinates(topology, selected)
    structure, cell = own or (selected.positions.astype(float), np.zeros((3, 3)))
    if own is None and len(positions):
        structure = positions[0]
    if not plausible_cell(cell):
        cell = cells[0] if len(cells) and plausible_cell(cells[0]) else np.zeros((3, 3))
    return Molecules(
        chain=np.unique(chain_names(selected), return_inverse=True)[1],
        residue=np.asarray(selected.resindices, int),
        positions=structure,
        cell=cell,
        bonds=_bonds(selected),
    )


def chain_names(selected: Any) -> list[str]:
    """Segment and chain of every atom, as one text; TER records and chain letters make them."""
    segments = [str(name) for name in getattr(selected, "segids", [""] * len(selected))]
    chains = getattr(selected, "chainIDs", segments)
    return [f"{segment}/{chain}" for segment, chain in zip(segments, chains, strict=True)]


def _bonds(selected: Any) -> np.ndarray:
    """Bonds [B, 2] between selected atoms, as rows of the selection."""
    if not hasattr(selected, "bonds"):
        return np.zeros((0, 2), int)
    row = np.full(len(selected.universe.atoms), -1)
    row[selected.indices] = np.arange(len(selected))
    pairs = row[np.asarray(selected.bonds.indices, int).reshape(-1, 2)]
    return pairs[(pairs >= 0).all(axis=1)]


def _own_coordinates(topology: Path, selected: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Coordinates [A, 3] and cell of the topology itself; None where it has none."""
    import MDAnalysis

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            own = MDAnalysis.Universe(str(topology)).atoms[selected.indices]
            positions, cell = own.positions.astype(float), cell_of(own.universe.trajectory.ts)
        except READ_ERRORS:
            return None
    return (positions, cell) if np.isfinite(positions).all() and positions.any() else None

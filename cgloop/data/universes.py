"""Periodic images of trajectories that MDAnalysis reads: molecules, bonds and cell of a selection."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cgloop.data.cells import CellFinding, plausible_cell, question_cells
from cgloop.data.periodic import Molecules, Unwrapper, has_cell
from cgloop.errors import UserError

READ_ERRORS = (OSError, EOFError, ValueError, TypeError, KeyError, IndexError, RuntimeError, AttributeError)
"""Exceptions that MDAnalysis raises for unreadable files."""

LOOKED_AT = 20
"""Number of frames from which the cell of a trajectory is judged."""


@dataclass(frozen=True, eq=False)
class Images:
    """Periodic images of the selected atoms of one trajectory.

    Attributes:
        molecules: the atoms and their reference structure.
        finding: interpretation of the cell.
    """

    molecules: Molecules
    finding: CellFinding

    def unwrapper(self) -> Unwrapper | None:
        """Return the repair of consecutive frames, starting anew; None if no frame may be changed."""
        return Unwrapper(self.molecules) if self.finding.periodic else None

    def join(self, positions: np.ndarray, cells: np.ndarray, unwrapper: Unwrapper | None) -> np.ndarray:
        """Make molecules [F, A, 3] whole in place; return whether each frame was changed, bool [F]."""
        return np.zeros(len(positions), bool) if unwrapper is None else unwrapper(positions, cells)


def images_of(selected: Any, topology: Path, where: Path) -> Images:
    """Analyze a selection: bonds and coordinates of the topology, and the cell in some frames of the trajectory.

    Args:
        selected: atoms of a universe; its trajectory is left at the first frame.
        topology: file of the universe. Its own coordinates are the reference structure; if it has none, the first
            frame is.
        where: the trajectory, for messages.

    Raises:
        UserError: chains are cut, and the file has no usable cell.
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
    """Return the cell vectors of a frame, [3, 3] Å: zeros if it has no cell, NaN if its cell is invalid."""
    if step.dimensions is None:
        return np.zeros((3, 3))
    vectors = np.asarray(step.triclinic_dimensions, float)
    return vectors if has_cell(vectors) else np.full((3, 3), np.nan)


def _some_frames(selected: Any) -> tuple[np.ndarray, np.ndarray]:
    """Read evenly spaced frames [F, A, 3] with finite positions, and their cells; stop at a damaged frame."""
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
    """Return segment and chain of every atom as one string."""
    segments = [str(name) for name in getattr(selected, "segids", [""] * len(selected))]
    chains = getattr(selected, "chainIDs", segments)
    return [f"{segment}/{chain}" for segment, chain in zip(segments, chains, strict=True)]


def _bonds(selected: Any) -> np.ndarray:
    """Return the bonds [B, 2] between selected atoms, as rows of the selection."""
    if not hasattr(selected, "bonds"):
        return np.zeros((0, 2), int)
    row = np.full(len(selected.universe.atoms), -1)
    row[selected.indices] = np.arange(len(selected))
    pairs = row[np.asarray(selected.bonds.indices, int).reshape(-1, 2)]
    return pairs[(pairs >= 0).all(axis=1)]


def _own_coordinates(topology: Path, selected: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Return coordinates [A, 3] and cell of the topology file; None if it has none."""
    import MDAnalysis

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            own = MDAnalysis.Universe(str(topology)).atoms[selected.indices]
            positions, cell = own.positions.astype(float), cell_of(own.universe.trajectory.ts)
        except READ_ERRORS:
            return None
    return (positions, cell) if np.isfinite(positions).all() and positions.any() else None

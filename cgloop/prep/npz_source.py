"""Coarse-grained frames of the older padded NPZ as a source: every bead is an atom already, and its own map."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cgloop.data.npz import NpzArchive, NpzProtein
from cgloop.prep.mapping import Atom
from cgloop.prep.reference import ALL_FRAMES, Block, Frames

BLOCK_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, eq=False)
class NpzTrajectory:
    """All frames of one protein of an archive; the archive does not say where one trajectory ends."""

    archive: NpzArchive
    protein: NpzProtein
    temperature_K: float
    replica: int
    frame_ps: float | None = None
    started_from: int | None = None
    has_forces: bool = True
    relaxation_frames: int = 0
    bead_atoms: np.ndarray | None = None

    @property
    def n_frames(self) -> int:
        return len(self.protein.rows)

    @property
    def where(self) -> str:
        return f"{self.archive.path}, protein {self.protein.name}"

    @property
    def key(self) -> tuple[float, int]:
        return self.temperature_K, self.replica

    def blocks(self, frames: Frames = ALL_FRAMES) -> Iterator[Block]:
        """The wanted frames, in order, in blocks of bounded size."""
        wanted = np.array(frames.of(self.n_frames))
        size = max(1, BLOCK_BYTES // (12 * max(1, len(self.protein.beads))))
        for first in range(0, len(wanted), size):
            part = wanted[first : first + size]
            positions, forces = self.archive.read(self.protein, self.protein.rows[part])
            yield Block(part, positions, forces if self.has_forces else None)


class NpzReference:
    """One protein of an archive. Bonds follow from residue numbers and distances in its first frame."""

    def __init__(
        self,
        archive: NpzArchive,
        index: int,
        temperature_K: float,
        replica: int,
        *,
        forces: bool = True,
        relaxation_frames: int = 0,
    ):
        protein = archive.proteins[index]
        self.path, self.name = archive.path, protein.name
        self.notes: list[str] = []
        has_forces = forces and archive.forces is not None
        self.trajectories = [
            NpzTrajectory(
                archive, protein, temperature_K, replica, has_forces=has_forces, relaxation_frames=relaxation_frames
            )
        ]
        first, _ = archive.read(protein, protein.rows[:1])
        self.atoms = [
            Atom(i, "CA", "", name, "/0", int(resid), "", "C", (float(x), float(y), float(z)))
            for i, (name, resid, (x, y, z)) in enumerate(
                zip(protein.residue_names, protein.resid, first[0], strict=True)
            )
        ]

    def is_hydrogen(self) -> np.ndarray:
        """bool [N], False."""
        return np.zeros(len(self.atoms), bool)

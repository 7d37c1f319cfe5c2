"""What preparation needs of an all-atom source, whatever its format."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from cgloop.prep.mapping import Atom


@dataclass(frozen=True)
class Frames:
    """Which frames of a trajectory are wanted: `range(start, stop, stride)`; stop None means to its end."""

    start: int = 0
    stop: int | None = None
    stride: int = 1

    def of(self, n_frames: int) -> range:
        """Indices in a trajectory of `n_frames` frames."""
        return range(n_frames)[self.start : self.stop : self.stride]

    def part(self, first: int, last: int) -> "Frames":
        """The wanted frames number `first` to `last - 1`."""
        return Frames(self.start + first * self.stride, self.start + (last - 1) * self.stride + 1, self.stride)


ALL_FRAMES = Frames()


@dataclass(frozen=True, eq=False)
class Block:
    """Consecutive wanted frames of one trajectory; f frames, A atoms.

    Attributes:
        source_frame: int [f], indices in the trajectory.
        positions: [f, A, 3], Å, with molecules joined that periodic boundaries had cut.
        forces: [f, A, 3], kcal/mol/Å; images do not change them; None where the source has none.
        moved: bool [f], frames in which atoms were moved to another image; None: there is none.
    """

    source_frame: np.ndarray
    positions: np.ndarray
    forces: np.ndarray | None
    moved: np.ndarray | None = None


class Trajectory(Protocol):
    """One replica at one temperature."""

    @property
    def temperature_K(self) -> float: ...

    @property
    def replica(self) -> int: ...

    @property
    def n_frames(self) -> int: ...

    @property
    def where(self) -> str:
        """File, and the place in it, for messages."""

    @property
    def key(self) -> tuple[float, int]:
        """(temperature in K, replica)."""

    @property
    def frame_ps(self) -> float | None:
        """Time between frames; None if the source does not say."""

    @property
    def started_from(self) -> int | None:
        """Replica from one of whose frames it was begun; None for an own start."""

    @property
    def has_forces(self) -> bool:
        """Whether its blocks have forces."""

    @property
    def relaxation_frames(self) -> int:
        """Frames at its start that relax from it."""

    @property
    def bead_atoms(self) -> np.ndarray | None:
        """int [N], atoms of its blocks that are the beads; None where its atoms are those of the reference."""

    def blocks(self, frames: Frames = ALL_FRAMES) -> Iterator[Block]:
        """The wanted frames, in order, in blocks of bounded size. Raises UserError if the file is damaged there."""


class Reference(Protocol):
    """An open source.

    Attributes:
        path: shown in messages.
        name: id of the protein.
        atoms: of the protein, one per row of positions and forces.
        notes: what the user should know of the source, e.g. trajectories without frames.
    """

    path: Path
    name: str
    atoms: list[Atom]
    notes: list[str]

    def is_hydrogen(self) -> np.ndarray:
        """bool [A]."""

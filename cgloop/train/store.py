"""Where positions, forces and edges of frames are held: in memory, or in files (`files`).

Of the edges of a frame only the senders are kept, sorted by receiver, and how many each receiver has: two bytes an
edge and two a bead. Separations along the chain follow from the protein.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from cgloop.data.dataset import ProteinData
from cgloop.model.graph import find_edges
from cgloop.train.noise import skin
from cgloop.train.rows import Rows

Forces = Iterable[tuple[np.ndarray, np.ndarray]]
"""Indices of frames, and forces [B, 3] on their beads, again and again."""


@dataclass(frozen=True, eq=False)
class Index:
    """What is known of every frame of a set without reading it.

    Attributes:
        protein: int64 [F], which protein.
        replica: int32 [F], trajectory in the source.
        temperature_K: float32 [F].
        n_edges: int64 [F], directed edges, those of the skin included.
        n_near: directed edges within the cutoff, of all frames.
    """

    protein: np.ndarray
    replica: np.ndarray
    temperature_K: np.ndarray
    n_edges: np.ndarray
    n_near: int


class Geometry(NamedTuple):
    """Frames, one after the other.

    Attributes:
        positions: float32 [B, 3], Å.
        degrees: unsigned [B], edges that each bead receives.
        senders: unsigned [E], index within its frame of each edge's sender, sorted by receiver.
    """

    positions: np.ndarray
    degrees: np.ndarray
    senders: np.ndarray


class Store(Protocol):
    """Holds frames; read from several threads at once."""

    @property
    def own(self) -> np.ndarray:
        """Frames whose target this process has to compute."""

    def geometry(self, frames: np.ndarray) -> Geometry:
        """Positions and edges of frames."""

    def reference(self, frames: np.ndarray) -> np.ndarray:
        """float32 [B, 3], forces of the data, kcal/mol/Å."""

    def target(self, frames: np.ndarray) -> np.ndarray:
        """float32 [B, 3], what the learned part should give: `reference` until `subtract`."""

    def subtract(self, forces: Forces, what: str) -> None:
        """The target is the reference less these forces on the frames of `own`; `what` tells where they come from."""

    def open_target(self) -> None:
        """To be called when all processes have called `subtract`."""

    def close(self) -> None:
        """Let go of everything."""


def index_type(n_beads: int) -> np.dtype:
    """Of indices within frames of at most so many beads."""
    return np.dtype(np.uint16 if n_beads <= 2**16 else np.uint32)


def frame_edges(
    positions: np.ndarray, cutoff_A: float, noise_A: float, kind: np.dtype
) -> tuple[np.ndarray, np.ndarray, int]:
    """Senders and degrees of a frame as a `Geometry` holds them, and how many edges are within the cutoff.

    With noise there are also edges that it may bring within the cutoff.
    """
    senders, receivers = find_edges(positions, cutoff_A + skin(noise_A))
    near = len(senders)
    if noise_A:
        near = int(np.sum(np.sum((positions[senders] - positions[receivers]) ** 2, axis=1) <= cutoff_A**2))
    return senders.astype(kind), np.bincount(receivers, minlength=len(positions)).astype(kind), near


class InMemory:
    """Everything in flat arrays."""

    def __init__(self, beads: Rows, edges: Rows, whole: Geometry, reference: np.ndarray):
        self._beads, self._edges = beads, edges
        self._whole, self._reference = whole, reference
        self._target = reference

    @property
    def own(self) -> np.ndarray:
        return np.arange(len(self._beads.counts))

    def geometry(self, frames: np.ndarray) -> Geometry:
        whole = self._whole
        return Geometry(
            self._beads.gather(whole.positions, frames),
            self._beads.gather(whole.degrees, frames),
            self._edges.gather(whole.senders, frames),
        )

    def reference(self, frames: np.ndarray) -> np.ndarray:
        return self._beads.gather(self._reference, frames)

    def target(self, frames: np.ndarray) -> np.ndarray:
        return self._beads.gather(self._target, frames)

    def subtract(self, forces: Forces, what: str) -> None:
        target = self._reference.copy()
        for frames, values in forces:
            target[self._beads.take(frames)[0]] -= values
        self._target = target

    def open_target(self) -> None:
        pass

    def close(self) -> None:
        pass


def held_in_memory(proteins: Sequence[ProteinData], cutoff_A: float, noise_A: float) -> tuple[Index, InMemory]:
    """All frames of proteins, each of which has some."""
    frames = [p.n_frames for p in proteins]
    kind = index_type(max(p.n_beads for p in proteins))
    senders, degrees, counts, near = [], [], [], 0
    for protein in proteins:
        for positions in protein.positions:
            found = frame_edges(positions, cutoff_A, noise_A, kind)
            senders.append(found[0])
            degrees.append(found[1])
            counts.append(len(found[0]))
            near += found[2]
    index = Index(
        protein=np.repeat(np.arange(len(proteins)), frames),
        replica=np.concatenate([p.replica for p in proteins]),
        temperature_K=np.concatenate([p.temperature_K for p in proteins]),
        n_edges=np.array(counts, np.int64),
        n_near=near,
    )
    beads = Rows.of_lengths(np.repeat([p.n_beads for p in proteins], frames))
    positions, forces = (
        np.concatenate([getattr(p, field).reshape(-1, 3) for p in proteins]).astype(np.float32)
        for field in ("positions", "forces")
    )
    whole = Geometry(positions, np.concatenate(degrees), np.concatenate(senders))
    return index, InMemory(beads, Rows.of_lengths(counts), whole, forces)

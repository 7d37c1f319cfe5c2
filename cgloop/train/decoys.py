"""Decoys as further frames of a training, with a target of zero on the beads that count.

A frozen prior is taken off the reference before, so that zero is the target of the network alone. What describes the
model (neighbours, types, scales) comes from the data and not from decoys.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cgloop.config.feedback import DecoysConfig
from cgloop.data.decoys import Decoys, read_decoys
from cgloop.data.protein import SPLITS, ProteinData
from cgloop.train.loader import FrameSet
from cgloop.train.rows import Rows
from cgloop.train.store import Forces, Geometry, InMemory, Store, held_in_memory
from cgloop.validate.geometry import kabsch_rmsd

NO_REPLICA = -1
"""Trajectory of decoys: together they are a block of their own."""


def distinct(positions: np.ndarray, min_rmsd_A: float, at_most: int, others: np.ndarray | None = None) -> np.ndarray:
    """Indices of frames that differ from each other, the first ones first.

    Args:
        positions: [F, N, 3], Å, in order of preference.
        min_rmsd_A: a frame nearer to one that was chosen, after superposition, is left out. A mirror image differs.
        at_most: so many.
        others: [G, N, 3], frames from which the chosen ones have to differ, too.
    """
    chosen: list[int] = []
    nearest = np.full(len(positions), np.inf)
    for other in () if others is None else others:
        nearest = np.minimum(nearest, kabsch_rmsd(positions, other)[0])
    for k in range(len(positions)):
        if len(chosen) >= at_most:
            break
        if nearest[k] >= min_rmsd_A:
            chosen.append(k)
            nearest = np.minimum(nearest, kabsch_rmsd(positions, positions[k])[0])
    return np.array(chosen, int)


def gather(paths: Sequence[Path], names: Sequence[str], n_frames: int, config: DecoysConfig) -> list[Decoys]:
    """Decoys of several cycles together: the newest first, near ones once, no more than the share allows.

    Args:
        paths: decoys.h5 of earlier cycles, the oldest first.
        names: proteins that have training frames; what was held out stays unseen.
        n_frames: number of training frames.
        config: bounds.

    Raises:
        UserError: a file is damaged.
    """
    merged: dict[str, Decoys] = {}
    for path in reversed(paths):
        for one in read_decoys(path):
            if one.protein in names and len(one):
                earlier = merged.get(one.protein)
                merged[one.protein] = one if earlier is None else _joined(earlier, one)
    room = int(config.max_share * n_frames)
    kept = []
    for number, one in enumerate(merged.values()):
        share = room // (len(merged) - number)
        own = one.select(distinct(one.positions.astype(float), config.min_rmsd_A, share))
        room -= len(own)
        kept.append(own)
    return [one for one in kept if len(one)]


def _joined(one: Decoys, other: Decoys) -> Decoys:
    both = {name: np.concatenate([one.origin[name], other.origin[name]]) for name in one.origin}
    positions, mask = (np.concatenate([getattr(one, f), getattr(other, f)]) for f in ("positions", "mask"))
    return replace(one, positions=positions, mask=mask, origin=both)


def with_decoys(
    frames: FrameSet, decoys: Sequence[Decoys], config: DecoysConfig, cutoff_A: float, temperature_K: float
) -> FrameSet:
    """Training frames and decoys as one set; the first frames are those of `frames`, whose target is ready.

    Args:
        frames: of the data; every decoy is of one of its proteins.
        decoys: what to add.
        config: with the weight.
        cutoff_A: of the edges.
        temperature_K: of the model.
    """
    if not decoys:
        return frames
    index, store = held_in_memory([_as_protein(one, temperature_K) for one in decoys], cutoff_A, frames.noise_A)
    place = np.array([frames.names.index(one.protein) for one in decoys])
    index = replace(index, protein=place[index.protein])
    counts = np.concatenate([[len(one.residue_type)] * len(one) for one in decoys]).astype(np.int64)
    joined = Joined(
        frames.store,
        store,
        Rows.of_lengths(np.concatenate([frames.beads.counts, counts])),
        Rows.of_lengths(np.concatenate([frames.edges.counts, index.n_edges])),
        frames.n_frames,
    )
    masked = np.concatenate([one.mask.reshape(-1) for one in decoys]).astype(np.float32)
    own = np.ones(frames.n_frames, np.float32) if frames.weight is None else frames.weight
    weight = np.concatenate([own, np.full(len(counts), config.weight, np.float32)])
    bead_mask = np.concatenate([np.ones(frames.n_beads, np.float32), masked])
    return frames.extended(index, joined, weight, bead_mask)


def _as_protein(decoys: Decoys, temperature_K: float) -> ProteinData:
    n, d = len(decoys.residue_type), len(decoys)
    return ProteinData(
        name=decoys.protein,
        residue_type=decoys.residue_type,
        chain=np.zeros(n, np.int16),
        resid=np.arange(n, dtype=np.int32),
        native=decoys.positions[0],
        linked=decoys.linked,
        positions=decoys.positions,
        # The target: no learned force.
        forces=np.zeros_like(decoys.positions),
        temperature_K=np.full(d, temperature_K, np.float32),
        replica=np.full(d, NO_REPLICA, np.int32),
        source_frame=np.arange(d, dtype=np.int32),
        split=np.full(d, SPLITS["train"], np.int8),
    )


class Joined:
    """Frames of one store, followed by those of a second in memory, whose target is its reference."""

    def __init__(self, first: Store, second: InMemory, beads: Rows, edges: Rows, n_first: int):
        """With rows of beads and edges of all frames, of which `n_first` are in the first."""
        self._first, self._second = first, second
        self._beads, self._edges, self._n_first = beads, edges, n_first

    @property
    def own(self) -> np.ndarray:
        return self._first.own

    def _parts(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Frames of the first store, of the second, and where each of `frames` comes in the two after another."""
        later = frames >= self._n_first
        place = np.where(later, np.cumsum(later) - 1 + int((~later).sum()), np.cumsum(~later) - 1)
        return frames[~later], frames[later] - self._n_first, place

    def _ordered(self, frames: np.ndarray, place: np.ndarray, rows: Rows, parts: list[np.ndarray]) -> np.ndarray:
        lengths = np.empty(len(frames), np.int64)
        lengths[place] = rows.counts[frames]
        return Rows.of_lengths(lengths).gather(np.concatenate(parts), place)

    def geometry(self, frames: np.ndarray) -> Geometry:
        one, other, place = self._parts(frames)
        first, second = self._first.geometry(one), self._second.geometry(other)
        positions, degrees, senders = (
            self._ordered(frames, place, rows, [mine, further])
            for rows, mine, further in zip((self._beads, self._beads, self._edges), first, second, strict=True)
        )
        return Geometry(positions, degrees, senders)

    def reference(self, frames: np.ndarray) -> np.ndarray:
        one, other, place = self._parts(frames)
        return self._ordered(frames, place, self._beads, [self._first.reference(one), self._second.reference(other)])

    def target(self, frames: np.ndarray) -> np.ndarray:
        one, other, place = self._parts(frames)
        return self._ordered(frames, place, self._beads, [self._first.target(one), self._second.reference(other)])

    def subtract(self, forces: Forces, what: str) -> None:
        self._first.subtract(forces, what)

    def open_target(self) -> None:
        self._first.open_target()

    def close(self) -> None:
        self._first.close()

"""Frames in files, for data sets that are larger than memory.

What is known per frame stays in memory; positions, edges and forces lie in files (`shards`) in the order of the frames,
and those of a batch are read with one `preadv` a frame and file. Memory maps would do the same, but what they touch
counts as memory of the process. The system's file cache keeps what fits.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cgloop.errors import Interrupted, UserError
from cgloop.executors.world import World
from cgloop.interrupt import stop_requested
from cgloop.stages import digest_of
from cgloop.train.rows import Rows
from cgloop.train.shards import GEOMETRY, REFERENCE, REMEDY, Shard, flushed, is_whole, mark
from cgloop.train.store import Forces, Geometry, index_type

TARGET = "target.bin"


@dataclass(frozen=True)
class Place:
    """Where frames may be kept in files.

    Attributes:
        folder: for them; made when it is needed.
        memory_MB: sets that need less stay in memory.
        world: the processes that share the folder.
    """

    folder: Path
    memory_MB: float
    world: World

    def agree(self, name: str) -> None:
        """Wait for the other processes. Raises Interrupted, in all of them, if one was asked to stop."""
        if self.world.any(stop_requested()):
            raise Interrupted(f"asked to stop while {name}")


class Files:
    """The store of several shards, one after the other."""

    def __init__(self, shards: Sequence[Shard], beads: Rows, edges: Rows, number: int, key: str):
        """Open.

        Args:
            shards: whole.
            beads, edges: rows of all frames.
            number: of the shard of this process.
            key: of that shard.
        """
        frames = [len(shard.index.protein) for shard in shards]
        self._first = np.cumsum([0, *frames])
        self._beads, self._edges, self._number, self._key = beads, edges, number, key
        self._kind = index_type(int(max(shard.lengths.max(initial=0) for shard in shards)))
        self._folders = [shard.folder for shard in shards]
        self._open: dict[str, list[int]] = {}
        self._has_target = False
        bead = np.append(beads.starts, beads.total)[self._first[:-1]]
        edge = np.append(edges.starts, edges.total)[self._first[:-1]]
        self._start_bead, self._start_edge = bead, edge
        for name in (GEOMETRY, REFERENCE):
            self._open_all(name)

    def _open_all(self, name: str) -> None:
        self._open[name] = [os.open(folder / name, os.O_RDONLY) for folder in self._folders]

    @property
    def own(self) -> np.ndarray:
        return np.arange(self._first[self._number], self._first[self._number + 1])

    def geometry(self, frames: np.ndarray) -> Geometry:
        beads, edges, item = self._beads.counts[frames], self._edges.counts[frames], self._kind.itemsize
        shard = self._shard_of(frames)
        bead = self._beads.starts[frames] - self._start_bead[shard]
        edge = self._edges.starts[frames] - self._start_edge[shard]
        offsets = (12 + item) * bead + item * edge
        found = Geometry(
            np.empty((int(beads.sum()), 3), np.float32),
            np.empty(int(beads.sum()), self._kind),
            np.empty(int(edges.sum()), self._kind),
        )
        self._announce(shard, offsets, (12 + item) * beads + item * edges)
        b, e = np.cumsum([0, *beads]).tolist(), np.cumsum([0, *edges]).tolist()
        for i, (one, offset) in enumerate(zip(shard.tolist(), offsets.tolist(), strict=True)):
            row = slice(b[i], b[i + 1])
            self._read(
                GEOMETRY, one, [found.positions[row], found.degrees[row], found.senders[e[i] : e[i + 1]]], offset
            )
        return found

    def _announce(self, shard: np.ndarray, offsets: np.ndarray, sizes: np.ndarray) -> None:
        """All reads of a batch are under way before the first is waited for; not every system can be told."""
        if hasattr(os, "posix_fadvise"):
            files = self._open[GEOMETRY]
            for one, offset, size in zip(shard.tolist(), offsets.tolist(), sizes.tolist(), strict=True):
                os.posix_fadvise(files[one], offset, size, os.POSIX_FADV_WILLNEED)

    def reference(self, frames: np.ndarray) -> np.ndarray:
        return self._forces(REFERENCE, frames)

    def target(self, frames: np.ndarray) -> np.ndarray:
        return self._forces(TARGET if self._has_target else REFERENCE, frames)

    def _forces(self, name: str, frames: np.ndarray) -> np.ndarray:
        if not len(frames):
            return np.empty((0, 3), np.float32)
        shard = self._shard_of(frames)
        starts = self._beads.starts[frames] - self._start_bead[shard]
        ends = np.cumsum(self._beads.counts[frames])
        found = np.empty((int(ends[-1]), 3), np.float32)
        # Frames that follow each other, as in an evaluation, are read at once.
        whole = np.flatnonzero((np.diff(frames, prepend=-2) != 1) | (np.diff(shard, prepend=-1) != 0))
        last = [*whole[1:], len(frames)]
        for i, stop in zip(whole.tolist(), last, strict=True):
            row = slice(int(ends[i - 1]) if i else 0, int(ends[stop - 1]))
            self._read(name, int(shard[i]), [found[row]], 12 * int(starts[i]))
        return found

    def _shard_of(self, frames: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._first, frames, side="right") - 1

    def _read(self, name: str, shard: int, parts: list[Any], offset: int) -> None:
        """Fill the parts, in order, from an offset on."""
        wanted = sum(part.nbytes for part in parts)
        if not wanted:
            return
        file = self._open[name][shard]
        try:
            got = os.preadv(file, parts, offset)
            while got < wanted:
                # The system reads 2 GB at most at once, and a network file system less where it likes.
                more = os.preadv(file, _after(parts, got), offset + got)
                if not more:
                    raise OSError("it ends too early")
                got += more
        except OSError as error:
            raise UserError(
                f"frames kept in files cannot be read: {error}", where=self._folders[shard] / name, remedy=REMEDY
            ) from None

    def subtract(self, forces: Forces, what: str) -> None:
        folder, key = self._folders[self._number], digest_of([self._key, what])
        if is_whole(folder, "target", key):
            return
        with open(folder / TARGET, "wb") as file:
            for frames, values in forces:
                if stop_requested():
                    return
                file.seek(12 * int(self._beads.starts[frames[0]] - self._start_bead[self._number]))
                file.write((self.reference(frames) - values).data)
            size = flushed(file)
        mark(folder, "target", key, {TARGET: size})

    def open_target(self) -> None:
        self._open_all(TARGET)
        self._has_target = True

    def close(self) -> None:
        for files in self._open.values():
            for file in files:
                os.close(file)
        self._open = {}


def _after(parts: list[Any], n_bytes: int) -> list[Any]:
    """Views of what is left of buffers of which so many bytes are filled."""
    left = []
    for part in parts:
        view = memoryview(part.reshape(-1)).cast("B") if part.size else memoryview(b"")
        left.append(view[min(n_bytes, len(view)) :])
        n_bytes = max(0, n_bytes - len(view))
    return [view for view in left if len(view)]

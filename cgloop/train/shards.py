"""Frames of a data set written to files by one process, and read by all.

Each process writes a shard, the frames of its share of the proteins, and all read all shards: of several nodes the
folder must be on a file system that they share, as a run is. A shard whose marker is there, with the key of what it was
made from and the sizes of its files, is whole and is used again.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cgloop.data.dataset import DatasetReader, ProteinData
from cgloop.errors import UserError
from cgloop.interrupt import stop_requested
from cgloop.stages import digest_of, write_json
from cgloop.train.store import Index, frame_edges, index_type

VERSION = 1
"""Of the layout of the files."""

BUFFER_BYTES, BLOCK_BYTES = 2**20, 2**22
"""Of what is written, and of positions and forces that are read, at once."""

GEOMETRY, REFERENCE, INDEX = "geometry.bin", "reference.bin", "index.npz"
REMEDY = "remove the folder and run the same command again"


@dataclass(frozen=True)
class Part:
    """Which frames of a data set, and how far their edges reach.

    Attributes:
        split: part of the data; None for all.
        temperature_K: K; None for all.
        cutoff_A, noise_A: see `frame_edges`.
    """

    split: str | None
    temperature_K: float | None
    cutoff_A: float
    noise_A: float = 0.0


def expected_MB(reader: DatasetReader, part: Part, probes: int = 8) -> float:
    """Size of the flat arrays of a part in memory: of beads from the manifest, of edges from a few proteins."""
    beads = {name: expected_frames(reader, name, part) * _n_beads(reader, name) for name in reader.names}
    total = sum(beads.values())
    if not total:
        return 0.0
    # Proteins in the middles of equal parts of the beads, as frames and lengths have them.
    ends, names = np.cumsum(list(beads.values())), list(beads)
    middles = (np.arange(probes) + 0.5) * total / probes
    degrees = [_mean_degree(reader, name, part) for name in sorted({names[i] for i in np.searchsorted(ends, middles)})]
    known = [degree for degree in degrees if degree is not None]
    size = index_type(max(_n_beads(reader, name) for name in names)).itemsize
    per_bead = 3 * 3 * 4 + size * (1 + (float(np.mean(known)) if known else 0.0))
    return total * per_bead / 1e6


def _n_beads(reader: DatasetReader, name: str) -> int:
    return int(reader.manifest["proteins"][name]["beads"])


def expected_frames(reader: DatasetReader, name: str, part: Part) -> float:
    """Frames of a protein, from the manifest alone: exact but where several temperatures are mixed."""
    entry = reader.manifest["proteins"][name]
    frames = float(entry["frames"] if part.split is None else entry["frames_per_split"][part.split])
    if part.temperature_K is None:
        return frames
    return frames * entry["frames_per_temperature"].get(f"{part.temperature_K:g}", 0) / max(entry["frames"], 1)


def _mean_degree(reader: DatasetReader, name: str, part: Part) -> float | None:
    kind = index_type(_n_beads(reader, name))
    for block in reader.blocks(name, part.split, part.temperature_K, at_most=4):
        found = [frame_edges(positions, part.cutoff_A, part.noise_A, kind) for positions in block.positions]
        return sum(len(senders) for senders, _, _ in found) / block.positions[..., 0].size
    return None


def require_finite(protein: ProteinData, folder: Path) -> None:
    """Raise UserError for the first frame of a protein that is not finite."""
    broken = ~np.isfinite(protein.forces).all(axis=(1, 2)) | ~np.isfinite(protein.positions).all(axis=(1, 2))
    if broken.any():
        raise UserError(
            f"frame {protein.source_frame[broken][0]} of replica {protein.replica[broken][0]} is not finite",
            where=folder / f"{protein.name}.h5",
            remedy="run `cgloop prep` again",
        )


@dataclass(frozen=True, eq=False)
class Shard:
    """The frames of some proteins, as one process wrote them.

    Attributes:
        folder: of its files.
        names: of the proteins that have frames.
        lengths: beads of these.
        residue_type, linked: of all their beads, and of all but the last bead of each.
        index: of its frames; `protein` counts from 0 in `names`.
    """

    folder: Path
    names: list[str]
    lengths: np.ndarray
    residue_type: np.ndarray
    linked: np.ndarray
    index: Index


def write_shard(
    reader: DatasetReader,
    part: Part,
    names: Sequence[str],
    folder: Path,
    key: str,
    told: Callable[[int], None] = lambda frames: None,
) -> None:
    """Write the frames of these proteins, unless that is done; returns without a marker when asked to stop.

    Args:
        reader: of the data set.
        part: which frames.
        names: of the proteins, in the order of the data set.
        folder: of the shard.
        key: see `shard_key`.
        told: of how many frames were written, again and again.

    Raises:
        UserError: a frame is not finite, or a file of the data set is damaged.
    """
    if is_whole(folder, "shard", key):
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("shard", "target"):
        (folder / f"{name}.json").unlink(missing_ok=True)
    kind = index_type(max((_n_beads(reader, name) for name in reader.names), default=0))
    rows = _IndexRows()
    with (
        open(folder / GEOMETRY, "wb", buffering=BUFFER_BYTES) as geometry,
        open(folder / REFERENCE, "wb", buffering=BUFFER_BYTES) as reference,
    ):
        for name in names:
            n_frames = max(1, BLOCK_BYTES // (24 * _n_beads(reader, name)))
            for every in reader.blocks(name, part.split, part.temperature_K, n_frames=n_frames):
                if stop_requested():
                    return
                block = every.with_forces()
                require_finite(block, reader.folder)
                rows.add(block, [_write_frame(geometry, frame, part, kind) for frame in block.positions])
                reference.write(np.ascontiguousarray(block.forces, np.float32).data)
                told(block.n_frames)
        sizes = {GEOMETRY: flushed(geometry), REFERENCE: flushed(reference)}
    with open(folder / INDEX, "wb") as index:
        rows.save(index)
        sizes[INDEX] = flushed(index)
    mark(folder, "shard", key, sizes)


def _write_frame(file: BinaryIO, positions: np.ndarray, part: Part, kind: np.dtype) -> tuple[int, int]:
    """Positions, degrees, senders; returns the numbers of edges and of those within the cutoff."""
    senders, degrees, near = frame_edges(positions, part.cutoff_A, part.noise_A, kind)
    for values in (np.ascontiguousarray(positions, np.float32), degrees, senders):
        file.write(values.data)
    return len(senders), near


class _IndexRows:
    """Gathers the index of a shard, block by block."""

    def __init__(self) -> None:
        self._chains: dict[str, ProteinData] = {}
        self._columns: dict[str, list[np.ndarray]] = {
            "protein": [], "replica": [], "temperature_K": [], "n_edges": []
        }  # fmt: skip
        self._near = 0

    def add(self, block: ProteinData, edges: list[tuple[int, int]]) -> None:
        self._chains.setdefault(block.name, block)
        self._columns["protein"].append(np.full(block.n_frames, len(self._chains) - 1, np.int64))
        self._columns["replica"].append(block.replica)
        self._columns["temperature_K"].append(block.temperature_K)
        self._columns["n_edges"].append(np.array([n for n, _ in edges], np.int64))
        self._near += sum(near for _, near in edges)

    def save(self, file: BinaryIO) -> None:
        chains = self._chains.values()
        kinds = {"protein": np.int64, "replica": np.int32, "temperature_K": np.float32, "n_edges": np.int64}
        columns: dict[str, Any] = {
            name: np.concatenate([np.zeros(0, kinds[name]), *rows]) for name, rows in self._columns.items()
        }
        np.savez(
            file,
            **columns,
            names=np.array(list(self._chains), np.str_),
            n_near=self._near,
            lengths=np.array([chain.n_beads for chain in chains], np.int64),
            residue_type=np.concatenate([np.zeros(0, np.int8), *(chain.residue_type for chain in chains)]),
            linked=np.concatenate([np.zeros(0, bool), *(chain.linked for chain in chains)]),
        )


def read_shard(folder: Path) -> Shard:
    """A shard that is whole."""
    try:
        with np.load(folder / INDEX) as found:
            columns = {name: found[name] for name in ("protein", "replica", "temperature_K", "n_edges")}
            index = Index(**columns, n_near=int(found["n_near"]))
            return Shard(
                folder, found["names"].tolist(), found["lengths"], found["residue_type"], found["linked"], index
            )
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"frames kept in files cannot be read: {error}", where=folder, remedy=REMEDY) from None


def shares(reader: DatasetReader, part: Part, size: int) -> list[list[str]]:
    """The proteins of each of so many shards: consecutive, of about as many beads."""
    weights = np.array([expected_frames(reader, name, part) * _n_beads(reader, name) for name in reader.names])
    middle = (np.cumsum(weights) - 0.5 * weights) / max(weights.sum(), 1e-12)
    owner = np.minimum((middle * size).astype(int), size - 1)
    return [[name for name, one in zip(reader.names, owner, strict=True) if one == number] for number in range(size)]


def shard_key(reader: DatasetReader, part: Part, number: int, size: int) -> str:
    """Digest of everything that a shard depends on."""
    return digest_of([VERSION, reader.manifest, part.__dict__, number, size])


def joined_index(shards: Sequence[Shard]) -> Index:
    """Of shards, one after the other."""
    first = np.cumsum([0, *(len(shard.names) for shard in shards)])
    parts = [shard.index for shard in shards]
    return Index(
        protein=np.concatenate([part.protein + shift for part, shift in zip(parts, first, strict=False)]),
        replica=np.concatenate([part.replica for part in parts]),
        temperature_K=np.concatenate([part.temperature_K for part in parts]),
        n_edges=np.concatenate([part.n_edges for part in parts]),
        n_near=sum(part.n_near for part in parts),
    )


def is_whole(folder: Path, name: str, key: str) -> bool:
    """Whether a marker tells of files that were written from what the key stands for, and they are still there."""
    try:
        marker = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        return marker["key"] == key and all((folder / f).stat().st_size == n for f, n in marker["sizes"].items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def mark(folder: Path, name: str, key: str, sizes: dict[str, int]) -> None:
    """Say that files of these sizes are whole."""
    write_json(folder / f"{name}.json", {"key": key, "sizes": sizes})


def flushed(file: BinaryIO) -> int:
    """Size of a file that is written and safe on the disk."""
    file.flush()
    os.fsync(file.fileno())
    return os.fstat(file.fileno()).st_size

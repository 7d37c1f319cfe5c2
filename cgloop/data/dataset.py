"""The coarse-grained data set on disk: one HDF5 file per protein and a manifest.

Units are those of `cgloop.units`: Å, kcal/mol/Å, K. Files are read in slices, so that no step needs a whole data set
in memory.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cgloop.data.protein import (
    BEAD_FIELDS,
    FRAME_FIELDS,
    SPLIT_NAMES,
    SPLITS,
    TEMPERATURE_TOLERANCE_K,
    ProteinData,
    TrajectoryFacts,
    choose_frames,
)
from cgloop.data.writer import MANIFEST, SCHEMA_VERSION, TRAJECTORIES, ProteinWriter, write_manifest, write_protein
from cgloop.errors import UserError
from cgloop.stages import digest_file

BLOCK_BYTES = 32 * 1024 * 1024
"""Largest size of a block of positions and forces in memory."""

__all__ = [
    "BEAD_FIELDS",
    "FRAME_FIELDS",
    "MANIFEST",
    "SPLITS",
    "SPLIT_NAMES",
    "TEMPERATURE_TOLERANCE_K",
    "DatasetReader",
    "ProteinData",
    "ProteinWriter",
    "TrajectoryFacts",
    "write_manifest",
    "write_protein",
]


class DatasetReader:
    """Reads a data set folder; a file is checked against its digest when it is first loaded.

    Attributes:
        folder: where the data set lies.
        manifest: contents of `manifest.json`.
    """

    def __init__(self, folder: Path):
        """Raises: UserError if there is no manifest or it cannot be understood."""
        self.folder = Path(folder)
        self.manifest = _read_manifest(self.folder / MANIFEST)
        self._verified: set[str] = set()

    @classmethod
    def open(cls, folder: Path) -> "DatasetReader":
        """The data set in a folder. Raises UserError if there is none."""
        return cls(folder)

    @property
    def names(self) -> list[str]:
        """The proteins, sorted."""
        return sorted(self.manifest["proteins"])

    @property
    def temperature_K(self) -> float:
        """The model's one temperature."""
        return float(self.manifest["temperature_K"])

    def load(
        self,
        name: str,
        split: str | None = None,
        temperature_K: float | None = None,
        *,
        frames: np.ndarray | None = None,
    ) -> ProteinData:
        """Frames of one protein; only those asked for are read.

        Args:
            name: one of `names`.
            split: a name of `SPLITS`, or None for all.
            temperature_K: K, or None for all.
            frames: int, ascending, which of these frames; None for all.

        Raises:
            UserError: unknown protein, missing or damaged file.
        """
        path = self._verified_path(name)
        code = None if split is None else SPLITS[split]
        try:
            with h5py.File(path) as file:
                beads, small = _read_small(file)
                chosen = choose_frames(small["split"], small["temperature_K"], code, temperature_K)
                if frames is not None:
                    chosen = _only(np.flatnonzero(chosen)[frames], len(chosen))
                return _assemble(name, file, beads, small, chosen)
        except (OSError, KeyError) as error:
            raise _damaged(path, error) from None

    def temperatures(self, name: str, split: str | None = None) -> np.ndarray:
        """Temperature of every frame of a part, float32 [F], K; nothing else is read. Raises as `load`."""
        path = self._verified_path(name)
        try:
            with h5py.File(path) as file:
                codes, temperature_K = (file[FRAME_FIELDS[field][0]][:] for field in ("split", "temperature_K"))
        except (OSError, KeyError) as error:
            raise _damaged(path, error) from None
        return temperature_K[choose_frames(codes, temperature_K, None if split is None else SPLITS[split], None)]

    def count(self, name: str, split: str | None = None, temperature_K: float | None = None) -> int:
        """How many frames `load` would give, without reading them. Raises as `load`."""
        temperatures = self.temperatures(name, split)
        if temperature_K is None:
            return len(temperatures)
        return int((np.abs(temperatures - temperature_K) < TEMPERATURE_TOLERANCE_K).sum())

    def sample(self, split: str | None, temperature_K: float | None, at_most: int) -> Iterator[ProteinData]:
        """At most so many frames, evenly chosen from those of all proteins; proteins that give none are left out.

        Each protein gives in proportion to its frames, less than one more or fewer. Nothing but the chosen ones is
        read. Arguments as for `load`.
        """
        counts = [self.count(name, split, temperature_K) for name in self.names]
        bounds, total = np.cumsum([0, *counts]), sum(counts)
        n_chosen = min(at_most, total)
        # The middles of equal parts: with the ends among them the first and the last protein would give too much.
        chosen = (2 * np.arange(n_chosen) + 1) * total // (2 * max(n_chosen, 1))
        for name, first, last in zip(self.names, bounds[:-1], bounds[1:], strict=True):
            own = chosen[(chosen >= first) & (chosen < last)] - first
            if len(own):
                yield self.load(name, split, temperature_K, frames=own)

    def structure(self, name: str) -> ProteinData:
        """One protein without its frames. Raises as `load`."""
        return self.load(name, temperature_K=-np.inf)

    def blocks(
        self,
        name: str,
        split: str | None = None,
        temperature_K: float | None = None,
        *,
        n_frames: int | None = None,
        at_most: int | None = None,
    ) -> Iterator[ProteinData]:
        """As `load`, in parts of bounded size.

        Args:
            name, split, temperature_K: as for `load`.
            n_frames: frames in a part; None for as many as fit 32 MB.
            at_most: so many evenly spaced ones of the frames that are asked for; None for all.
        """
        path = self._verified_path(name)
        code = None if split is None else SPLITS[split]
        try:
            with h5py.File(path) as file:
                beads, small = _read_small(file)
                chosen = np.flatnonzero(choose_frames(small["split"], small["temperature_K"], code, temperature_K))
                if at_most is not None and len(chosen) > at_most:
                    chosen = chosen[np.linspace(0, len(chosen) - 1, at_most).astype(int)]
                size = n_frames or max(1, BLOCK_BYTES // (24 * max(1, len(beads["residue_type"]))))
                for first in range(0, len(chosen), size):
                    part = _only(chosen[first : first + size], len(small["split"]))
                    yield _assemble(name, file, beads, small, part)
        except (OSError, KeyError) as error:
            raise _damaged(path, error) from None

    def _verified_path(self, name: str) -> Path:
        entry = self.manifest["proteins"].get(name)
        if entry is None:
            raise UserError(
                f"no protein `{name}` in the data set", where=self.folder, remedy=f"it has: {', '.join(self.names)}"
            )
        path = self.folder / entry["file"]
        if name not in self._verified:
            if not path.is_file():
                raise UserError("missing data set file", where=path, remedy="run `cgloop prep` again")
            if digest_file(path) != entry["sha256"]:
                raise UserError(
                    "does not match its digest in manifest.json: damaged or changed",
                    where=path,
                    remedy="run `cgloop prep` again",
                )
            self._verified.add(name)
        return path


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError("no data set here", where=path.parent, remedy="`cgloop prep` makes one") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot be read: {error}", where=path, remedy="run `cgloop prep` again") from None
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if version != SCHEMA_VERSION:
        raise UserError(
            f"schema version {version}, this cgloop reads {SCHEMA_VERSION}",
            where=path,
            remedy="run `cgloop prep` again",
        )
    return manifest


Arrays = dict[str, np.ndarray]


def _read_small(file: h5py.File) -> tuple[Arrays, Arrays]:
    """Arrays of beads, and of frames less positions and forces."""
    beads = {field: file[row[0]][:] for field, row in BEAD_FIELDS.items()}
    small = {field: file[row[0]][:] for field, row in FRAME_FIELDS.items() if field not in ("positions", "forces")}
    return beads, small


def _assemble(name: str, file: h5py.File, beads: Arrays, small: Arrays, chosen: np.ndarray) -> ProteinData:
    large = {field: read_frames(file[field], chosen) for field in ("positions", "forces")}
    facts = tuple(TrajectoryFacts(*row) for row in json.loads(file.attrs.get(TRAJECTORIES, "[]")))
    frames = {field: rows[chosen] for field, rows in small.items()}
    return ProteinData(name=name, **beads, **large, **frames, trajectories=facts)


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(f"damaged data set file: {error}", where=path, remedy="run `cgloop prep` again")


def _only(rows: np.ndarray, n_frames: int) -> np.ndarray:
    """bool [n_frames], True at `rows`."""
    chosen = np.zeros(n_frames, bool)
    chosen[rows] = True
    return chosen


def read_frames(dataset: h5py.Dataset, chosen: np.ndarray) -> np.ndarray:
    """Rows of `dataset` where `chosen` is True, read run by run: h5py's own masks read element by element."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(np.int8)))
    out = np.empty((int(chosen.sum()), *dataset.shape[1:]), dataset.dtype)
    filled = 0
    for start, stop in edges.reshape(-1, 2):
        out[filled : filled + stop - start] = dataset[start:stop]
        filled += stop - start
    return out

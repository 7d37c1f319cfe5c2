"""The coarse-grained data set on disk: one HDF5 file per protein and a manifest.

Units are those of `cgloop.units`: Å, kcal/mol/Å, K. A file is chunked by frame and read in slices, so that no
step needs a whole data set in memory. Nothing in a file depends on when or where it was written.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cgloop.errors import UserError
from cgloop.residues import sequence
from cgloop.stages import digest_file, write_json

SCHEMA_VERSION = 1
SPLITS = {"train": 0, "validation": 1, "test": 2, "unused": 3}
SPLIT_NAMES = {code: name for name, code in SPLITS.items()}
MANIFEST = "manifest.json"

# Field of ProteinData -> (dataset in the file, type, unit); one row per frame, or one per bead.
FRAME_FIELDS = {
    "positions": ("positions", np.float32, "angstrom"),
    "forces": ("forces", np.float32, "kcal/mol/angstrom"),
    "temperature_K": ("temperature", np.float32, "K"),
    "replica": ("replica", np.int32, ""),
    "source_frame": ("source_frame", np.int32, ""),
    "split": ("split", np.int8, ""),
}
BEAD_FIELDS = {
    "residue_type": ("residue_type", np.int8, ""),
    "chain": ("chain", np.int16, ""),
    "resid": ("resid", np.int32, ""),
    "native": ("native", np.float32, "angstrom"),
    "linked": ("linked", np.bool_, ""),
}
# Chunks of about this many bytes: large enough to read fast, small enough to read single frames.
CHUNK_BYTES = 128 * 1024
TEMPERATURE_TOLERANCE_K = 0.01


@dataclass(frozen=True, eq=False)
class ProteinData:
    """Frames of one protein; F frames, N beads.

    Attributes:
        name: id of the protein, also the stem of its file.
        residue_type: int8 [N], ids of `cgloop.residues`.
        chain: int16 [N], 0, 1, … in order of appearance.
        resid: int32 [N], residue number in the source's PDB text (may repeat: insertion codes).
        native: float32 [N, 3], Å, the structure that RMSD and native contacts refer to.
        linked: bool [N-1], True where beads i and i+1 are bonded (same chain, no break).
        positions: float32 [F, N, 3], Å.
        forces: float32 [F, N, 3], kcal/mol/Å, projected on the beads.
        temperature_K: float32 [F].
        replica: int32 [F], trajectory in the source.
        source_frame: int32 [F], index of the frame in that trajectory.
        split: int8 [F], a value of `SPLITS`.
    """

    name: str
    residue_type: np.ndarray
    chain: np.ndarray
    resid: np.ndarray
    native: np.ndarray
    linked: np.ndarray
    positions: np.ndarray
    forces: np.ndarray
    temperature_K: np.ndarray
    replica: np.ndarray
    source_frame: np.ndarray
    split: np.ndarray

    def __post_init__(self):
        n, f = len(self.residue_type), len(self.positions)
        expected = {
            "residue_type": (n,), "chain": (n,), "resid": (n,), "native": (n, 3), "linked": (max(n - 1, 0),),
            "positions": (f, n, 3), "forces": (f, n, 3),
            "temperature_K": (f,), "replica": (f,), "source_frame": (f,), "split": (f,),
        }  # fmt: skip
        for field, shape in expected.items():
            if getattr(self, field).shape != shape:
                raise ValueError(f"{self.name}.{field} has shape {getattr(self, field).shape}, not {shape}")

    @property
    def n_beads(self) -> int:
        return len(self.residue_type)

    @property
    def n_frames(self) -> int:
        return len(self.positions)

    @property
    def sequence(self) -> str:
        """One-letter sequence over all chains."""
        return sequence(self.residue_type)

    def select(
        self, split: str | None = None, temperature_K: float | None = None, replica: int | None = None
    ) -> "ProteinData":
        """The frames that fulfil every condition given, in their order.

        Args:
            split: a name of `SPLITS`.
            temperature_K: K.
            replica: trajectory id in the source.
        """
        code = None if split is None else SPLITS[split]
        chosen = _choose(self.split, self.temperature_K, code, temperature_K)
        if replica is not None:
            chosen &= self.replica == replica
        return replace(self, **{field: getattr(self, field)[chosen] for field in FRAME_FIELDS})


def _choose(codes: np.ndarray, temperatures: np.ndarray, code: int | None, temperature_K: float | None) -> np.ndarray:
    chosen = np.ones(len(codes), bool)
    if code is not None:
        chosen &= codes == code
    if temperature_K is not None:
        chosen &= np.abs(temperatures - temperature_K) < TEMPERATURE_TOLERANCE_K
    return chosen


class ProteinWriter:
    """Writes one protein's file piece by piece; `finish` adds what is known only at the end.

    Use as a context manager. A file that was not finished has no `split` and cannot be read.

    Args:
        path: file to write, overwritten.
        beads: the arrays of `BEAD_FIELDS`.
        attributes: stored on the file; readers expect `mapping`, `projection`, `source`, `source_sha256`.
    """

    def __init__(self, path: Path, beads: Mapping[str, np.ndarray], attributes: Mapping[str, Any]):
        self._file = h5py.File(path, "w")
        self._rows: dict[str, list[np.ndarray]] = {"temperature_K": [], "replica": [], "source_frame": []}
        n_beads = len(beads["residue_type"])
        for field, (dataset, dtype, unit) in BEAD_FIELDS.items():
            self._write(dataset, np.asarray(beads[field], dtype), unit)
        chunk = (max(1, min(256, CHUNK_BYTES // (12 * n_beads))), n_beads, 3)
        for field in ("positions", "forces"):
            dataset, dtype, unit = FRAME_FIELDS[field]
            self._file.create_dataset(dataset, (0, n_beads, 3), dtype, maxshape=(None, n_beads, 3), chunks=chunk)
            self._file[dataset].attrs["unit"] = unit
        self._file.attrs.update(
            {
                "schema_version": SCHEMA_VERSION,
                "sequence": sequence(beads["residue_type"]),
                "units": "angstrom, kcal/mol/angstrom, K",
                "splits": json.dumps(SPLITS),
                **attributes,
            }
        )

    def __enter__(self) -> "ProteinWriter":
        return self

    def __exit__(self, *exception) -> None:
        self._file.close()

    def append(
        self,
        positions: np.ndarray,
        forces: np.ndarray,
        temperature_K: np.ndarray,
        replica: np.ndarray,
        source_frame: np.ndarray,
    ) -> None:
        """Add frames: positions [f, N, 3] Å, forces [f, N, 3] kcal/mol/Å, and three rows of length f."""
        for dataset, values in (("positions", positions), ("forces", forces)):
            target = self._file[dataset]
            start = len(target)
            target.resize(start + len(values), axis=0)
            target[start:] = values
        for field, rows in (("temperature_K", temperature_K), ("replica", replica), ("source_frame", source_frame)):
            self._rows[field].append(np.asarray(rows, FRAME_FIELDS[field][1]))

    def rows(self, field: str) -> np.ndarray:
        """What was appended so far of `temperature_K`, `replica` or `source_frame`."""
        parts = self._rows[field]
        return np.concatenate(parts) if parts else np.empty(0, FRAME_FIELDS[field][1])

    def finish(self, split: np.ndarray) -> None:
        """Write the per-frame rows and the split (int8 [F]) of all appended frames."""
        if len(split) != len(self._file["positions"]):
            raise ValueError(f"{len(split)} split codes for {len(self._file['positions'])} frames")
        for field in self._rows:
            dataset, _, unit = FRAME_FIELDS[field]
            self._write(dataset, self.rows(field), unit)
        self._write("split", np.asarray(split, np.int8), "")

    def _write(self, dataset: str, values: np.ndarray, unit: str) -> None:
        self._file[dataset] = values
        if unit:
            self._file[dataset].attrs["unit"] = unit


def write_protein(path: Path, protein: ProteinData, attributes: Mapping[str, Any]) -> None:
    """Write one protein's file in one go.

    Args:
        path: file to write; `DatasetReader` expects `<name>.h5`.
        protein: all frames.
        attributes: stored on the file: `mapping`, `projection`, `source`, `source_sha256`, …
    """
    with ProteinWriter(path, {field: getattr(protein, field) for field in BEAD_FIELDS}, attributes) as writer:
        writer.append(protein.positions, protein.forces, protein.temperature_K, protein.replica, protein.source_frame)
        writer.finish(protein.split)


def write_manifest(
    folder: Path, names: Sequence[str], *, temperature_K: float, mapping: str, projection: str
) -> dict[str, Any]:
    """Describe the files `<name>.h5` of a folder in `manifest.json`, with their digests and frame counts.

    Args:
        folder: holds the files.
        names: the proteins.
        temperature_K: the model's one temperature.
        mapping: how atoms became beads.
        projection: how atom forces became bead forces.

    Returns:
        The manifest.
    """
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "temperature_K": float(temperature_K),
        "mapping": mapping,
        "projection": projection,
        "units": {"length": "angstrom", "force": "kcal/mol/angstrom", "temperature": "K"},
        "proteins": {name: _describe(Path(folder) / f"{name}.h5") for name in names},
    }
    write_json(Path(folder) / MANIFEST, manifest)
    return manifest


def _describe(path: Path) -> dict[str, Any]:
    with h5py.File(path) as file:
        split, temperature = file["split"][:], file["temperature"][:]
        per_split = Counter(SPLIT_NAMES[int(code)] for code in split)
        return {
            "file": path.name,
            "sha256": digest_file(path),
            "sequence": str(file.attrs["sequence"]),
            "beads": len(file["residue_type"]),
            "frames": len(split),
            "frames_per_split": {name: per_split[name] for name in SPLITS},
            "frames_per_temperature": dict(Counter(f"{value:g}" for value in temperature)),
            "source": str(file.attrs.get("source", "")),
            "source_sha256": str(file.attrs.get("source_sha256", "")),
        }


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

    def load(self, name: str, split: str | None = None, temperature_K: float | None = None) -> ProteinData:
        """Frames of one protein; only those asked for are read.

        Args:
            name: one of `names`.
            split: a name of `SPLITS`, or None for all.
            temperature_K: K, or None for all.

        Raises:
            UserError: unknown protein, missing or damaged file.
        """
        path = self._verified_path(name)
        code = None if split is None else SPLITS[split]
        try:
            with h5py.File(path) as file:
                beads = {field: file[row[0]][:] for field, row in BEAD_FIELDS.items()}
                small = {f: file[row[0]][:] for f, row in FRAME_FIELDS.items() if f not in ("positions", "forces")}
                chosen = _choose(small["split"], small["temperature_K"], code, temperature_K)
                large = {field: _read_frames(file[field], chosen) for field in ("positions", "forces")}
        except (OSError, KeyError) as error:
            raise UserError(f"damaged data set file: {error}", where=path, remedy="run `cgloop prep` again") from None
        return ProteinData(name=name, **beads, **large, **{field: rows[chosen] for field, rows in small.items()})

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


def _read_frames(dataset: h5py.Dataset, chosen: np.ndarray) -> np.ndarray:
    """Rows of `dataset` where `chosen` is True, read run by run: h5py's own masks read element by element."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(np.int8)))
    out = np.empty((int(chosen.sum()), *dataset.shape[1:]), dataset.dtype)
    filled = 0
    for start, stop in edges.reshape(-1, 2):
        out[filled : filled + stop - start] = dataset[start:stop]
        filled += stop - start
    return out

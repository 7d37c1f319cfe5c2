"""Writing the data set: one HDF5 file per protein, chunked by frame, and the manifest.

Nothing in a file depends on when or where it was written.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cgloop.data.protein import BEAD_FIELDS, FRAME_FIELDS, SPLIT_NAMES, SPLITS, ProteinData, TrajectoryFacts
from cgloop.residues import sequence
from cgloop.stages import digest_file, write_json

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
TRAJECTORIES = "trajectories"
"""Attribute of a protein's file: what the source says about trajectories, a JSON list of `TrajectoryFacts`."""
# Chunks of about this many bytes: large enough to read fast, small enough to read single frames.
CHUNK_BYTES = 128 * 1024
MOVED_BYTES = 16 * 1024 * 1024


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

    def keep(self, chosen: np.ndarray) -> None:
        """Drop appended frames where `chosen` (bool [F]) is False; the others move up."""
        if chosen.all():
            return
        rows = np.flatnonzero(chosen)
        for dataset in ("positions", "forces"):
            target = self._file[dataset]
            size = max(1, MOVED_BYTES // (12 * target.shape[1]))
            for first in range(0, len(rows), size):
                part = rows[first : first + size]
                target[first : first + len(part)] = target[part[0] : part[-1] + 1][part - part[0]]
            target.resize(len(rows), axis=0)
        for field in self._rows:
            self._rows[field] = [self.rows(field)[chosen]]

    def rows(self, field: str) -> np.ndarray:
        """What was appended so far of `temperature_K`, `replica` or `source_frame`."""
        parts = self._rows[field]
        return np.concatenate(parts) if parts else np.empty(0, FRAME_FIELDS[field][1])

    def frames(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions and forces [f, N, 3] of some frames appended so far; `rows` ascending, without repetition."""
        return self._file["positions"][rows], self._file["forces"][rows]

    def describe(self, attributes: Mapping[str, Any]) -> None:
        """Store attributes that are known only after the frames; None is left out."""
        self._file.attrs.update({key: value for key, value in attributes.items() if value is not None})

    def describe_trajectories(self, facts: Sequence[TrajectoryFacts]) -> None:
        """Store what the source says about trajectories; those about which it says nothing are left out."""
        known = [fact for fact in facts if fact != TrajectoryFacts(fact.temperature_K, fact.replica)]
        if known:
            self._file.attrs[TRAJECTORIES] = json.dumps(
                [fact if fact.relaxation_frames else fact[:-1] for fact in known]
            )

    def attach(self, dataset: str, values: np.ndarray) -> None:
        """Store an array of its own beside the frames."""
        self._file.create_dataset(dataset, data=values, compression="gzip", shuffle=True)

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
        writer.describe_trajectories(protein.trajectories)


def write_manifest(
    folder: Path,
    names: Sequence[str],
    *,
    temperature_K: float,
    mapping: str,
    projection: str,
    excluded: Sequence[Mapping[str, str]] = (),
) -> dict[str, Any]:
    """Describe the files `<name>.h5` of a folder in `manifest.json`, with their digests and frame counts.

    Args:
        folder: holds the files.
        names: the proteins.
        temperature_K: the model's one temperature.
        mapping: how atoms became beads.
        projection: how atom forces became bead forces.
        excluded: source files that could not be used, each with `source` and `reason`.

    Returns:
        The manifest.
    """
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "temperature_K": float(temperature_K),
        "mapping": mapping,
        "projection": projection,
        "units": {"length": "angstrom", "force": "kcal/mol/angstrom", "temperature": "K"},
        "excluded_files": [dict(one) for one in excluded],
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
            "force_noise": _optional(file.attrs.get("force_noise")),
            "source": str(file.attrs.get("source", "")),
            "source_sha256": str(file.attrs.get("source_sha256", "")),
        }


def _optional(value: Any) -> float | None:
    return None if value is None else float(value)

"""Looking at a data set: what is in it, and whether it is sound."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cgloop.data.dataset import MANIFEST, SPLIT_NAMES, SPLITS, DatasetReader, ProteinData
from cgloop.data.geometry import bond_lengths, chain_indices
from cgloop.data.statistics import gather
from cgloop.errors import UserError
from cgloop.residues import RESIDUES

BOND_RANGE_A = (2.4, 4.8)
"""CA–CA bonds of proteins, thermal motion included."""


def find_dataset(place: Path) -> Path:
    """The folder of the data set that `place` means: itself, or the newest of a run directory.

    Raises:
        UserError: there is none.
    """
    place = Path(place)
    if (place / MANIFEST).is_file():
        return place
    prepared = sorted(folder.parent for folder in place.glob(f"cycle_*/prep/{MANIFEST}"))
    if prepared:
        return prepared[-1]
    raise UserError("no data set here", where=place, remedy="give the folder of one, or of a run after `cgloop prep`")


def describe(folder: Path) -> dict[str, Any]:
    """Everything that `cgloop data info` tells, as plain data.

    Raises:
        UserError: no data set, or a damaged one.
    """
    reader = DatasetReader.open(folder)
    statistics = gather(reader)
    projection = read_beside(folder, "projection.json").get("proteins", {})
    proteins = {}
    for name in reader.names:
        entry = reader.manifest["proteins"][name]
        noise, force = entry.get("force_noise"), statistics.proteins[name]["rms_force"]
        proteins[name] = {
            **{
                key: entry[key] for key in ("sequence", "beads", "frames", "frames_per_split", "frames_per_temperature")
            },
            **statistics.proteins[name],
            "force_noise": noise,
            # What a perfect model of the beads would explain of the mean squared force.
            "explainable": 1.0 - (noise / force) ** 2 if noise and force else None,
            "mean_squared_force": projection.get(name, {}).get("mean_squared_force", {}),
        }
    return {
        "temperature_K": reader.temperature_K,
        "projection": reader.manifest["projection"],
        "proteins": proteins,
        "residues": statistics.residues,
        "excluded_files": reader.manifest.get("excluded_files", []),
        "quarantine": _quarantine_table(folder),
    }


def read_beside(folder: Path, name: str) -> dict[str, Any]:
    """A JSON file of the data set's folder; empty if it is not there."""
    try:
        return json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"cannot be read: {error}", where=folder / name, remedy="run `cgloop prep` again") from None


def _quarantine_table(folder: Path) -> dict[str, dict[str, Any]]:
    proteins = read_beside(folder, "quarantine.json").get("proteins", {})
    kept = ("frames_read", "frames_kept", "frames_moved", "reasons")
    return {name: {key: entry[key] for key in kept if key in entry} for name, entry in sorted(proteins.items())}


@dataclass(frozen=True)
class Finding:
    """Something that is wrong (`error`) or worth knowing (`note`)."""

    level: str
    protein: str
    text: str


def check(folder: Path) -> list[Finding]:
    """Look at every frame of a data set.

    Raises:
        UserError: no data set, or its manifest cannot be understood.
    """
    reader = DatasetReader.open(folder)
    findings: list[Finding] = []
    trained = np.zeros(len(RESIDUES), bool)
    judged = np.zeros(len(RESIDUES), bool)
    for name in reader.names:
        try:
            findings += [Finding(level, name, text) for level, text in _check_protein(reader, name)]
        except UserError as error:
            findings.append(Finding("error", name, str(error)))
            continue
        types = reader.structure(name).residue_type
        counts = reader.manifest["proteins"][name]["frames_per_split"]
        trained[types] |= counts["train"] > 0
        judged[types] = True
    for kind in np.flatnonzero(judged & ~trained):
        findings.append(Finding("note", "", f"{RESIDUES[kind].name} occurs, but in no training frame"))
    for one in reader.manifest.get("excluded_files", []):
        findings.append(Finding("note", "", f"{one['source']} was excluded: {one['reason']}"))
    return findings


def _check_protein(reader: DatasetReader, name: str) -> Iterator[tuple[str, str]]:
    seen: dict[tuple[float, int, int], str] = {}
    hashes: dict[bytes, str] = {}
    counted = dict.fromkeys(SPLITS, 0)
    for block in reader.blocks(name):
        yield from _check_numbers(block)
        for row in range(block.n_frames):
            part = SPLIT_NAMES[int(block.split[row])]
            counted[part] += 1
            key = (float(block.temperature_K[row]), int(block.replica[row]), int(block.source_frame[row]))
            place = f"{key[0]:g} K, replica {key[1]}, frame {key[2]}"
            if key in seen:
                yield "error", f"{place} is there twice ({seen[key]}, {part})"
            seen[key] = part
            print_of = block.positions[row].tobytes()
            if hashes.setdefault(print_of, part) != part:
                yield "error", f"{place} has the positions of another frame, in {hashes[print_of]} and in {part}"
    if counted != reader.manifest["proteins"][name]["frames_per_split"]:
        yield "error", f"frames per part are {counted}, the manifest says otherwise"
    yield from _check_order(seen)


def _check_numbers(block: ProteinData) -> Iterator[tuple[str, str]]:
    for field in ("positions", "forces"):
        values = getattr(block.with_forces() if field == "forces" else block, field)
        bad = np.flatnonzero(~np.isfinite(values).all(axis=(1, 2)))
        if len(bad):
            yield "error", f"{len(bad)} frames have non-finite {field}, the first is source frame {_source(block, bad)}"
    still = np.flatnonzero(~block.forces.any(axis=(1, 2)))
    if len(still):
        yield "error", f"{len(still)} frames have no forces, the first is source frame {_source(block, still)}"
    bonds, _, _ = chain_indices(block.linked)
    lengths = bond_lengths(block.positions.astype(np.float64), bonds)
    wrong = np.flatnonzero(~((lengths >= BOND_RANGE_A[0]) & (lengths <= BOND_RANGE_A[1])).all(axis=1))
    if len(wrong):
        yield (
            "error",
            f"{len(wrong)} frames have a bond out of range, the first is source frame {_source(block, wrong)}",
        )


def _source(block: ProteinData, rows: np.ndarray) -> int:
    return int(block.source_frame[rows[0]])


def _check_order(parts: dict[tuple[float, int, int], str]) -> Iterator[tuple[str, str]]:
    """Neighbours in time in different parts: one is nearly a copy of the other."""
    before: tuple[tuple[float, int, int], str] | None = None
    steps = [b[2] - a[2] for a, b in zip(sorted(parts), sorted(parts)[1:], strict=False) if a[:2] == b[:2]]
    stride = min(steps, default=0)
    for key in sorted(parts):
        part = parts[key]
        if before and before[0][:2] == key[:2] and key[2] - before[0][2] == stride:
            earlier = before[1]
            if part != earlier and "unused" not in (part, earlier):
                place = f"{key[0]:g} K, replica {key[1]}, frame {key[2]}"
                yield "note", f"{place} is for {part}, the frame before it for {earlier}: no gap between them"
        before = key, part

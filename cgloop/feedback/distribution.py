"""How unusual a frame is: z-scores against the training frames, and the training frame that is nearest."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cgloop.data.dataset import DatasetReader
from cgloop.data.geometry import bond_angles, bond_lengths, chain_indices, dihedral_angles
from cgloop.data.protein import ProteinData
from cgloop.feedback.reference import Coverage, coverage_of
from cgloop.feedback.words import length
from cgloop.validate.geometry import kabsch_rmsd

UNUSUAL = 4.0
"""Standard deviations beyond which a quantity is counted as unusual."""

MAX_COMPARED = 20_000
"""Training frames that a frame is superposed on; of more, evenly spaced ones."""

KINDS = ("pairs", "bonds", "angles", "dihedrals")


@dataclass(frozen=True, eq=False)
class Quantity:
    """One kind of internal coordinates of a protein.

    Attributes:
        beads: [Q, k], which beads each is of.
        mean, deviation: [Q] over the training frames, Å or degrees; those of dihedrals are circular.
        unit: of these.
    """

    beads: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    unit: str


@dataclass(frozen=True, eq=False)
class Distribution:
    """The training frames of one protein.

    Attributes:
        coverage: ranges of distances.
        frames: those that it is of.
        quantities: by kind of `KINDS`.
    """

    coverage: Coverage
    frames: ProteinData
    quantities: dict[str, Quantity]

    def scores(self, frame: np.ndarray) -> dict[str, dict[str, Any]]:
        """For each kind the most unusual coordinate of a frame [N, 3].

        Returns:
            By kind: `z` (standard deviations from the mean, with sign), `beads`, `value`, `mean`, `sd`, `unit`, and
            `unusual`, the share of coordinates of this kind with |z| > `UNUSUAL`. Kinds that the protein does not have,
            or that do not vary, are left out.
        """
        found = {}
        for kind, one in self.quantities.items():
            value = _measure(kind, frame[None], one.beads)[0]
            difference = value - one.mean
            if kind == "dihedrals":
                difference = _wrapped(difference)
            usable = np.isfinite(difference) & (one.deviation > 0)
            if not usable.any():
                continue
            z = np.divide(difference, one.deviation, out=np.zeros_like(difference), where=usable)
            worst = int(np.argmax(np.abs(z)))
            found[kind] = {
                "z": float(z[worst]),
                "beads": one.beads[worst].tolist(),
                "value": float(value[worst]),
                "mean": float(one.mean[worst]),
                "sd": float(one.deviation[worst]),
                "unit": one.unit,
                "unusual": float((np.abs(z[usable]) > UNUSUAL).mean()),
            }
        return found

    def nearest(self, frame: np.ndarray) -> dict[str, Any]:
        """The training frame with the smallest RMSD after superposition on `frame` [N, 3], and where it comes from."""
        stride = max(1, -(-self.frames.n_frames // MAX_COMPARED))
        rmsd = kabsch_rmsd(self.frames.positions[::stride], frame)[0]
        k = int(np.argmin(rmsd))
        row = k * stride
        return {
            "rmsd_A": float(rmsd[k]),
            "replica": int(self.frames.replica[row]),
            "source_frame": int(self.frames.source_frame[row]),
            "temperature_K": float(self.frames.temperature_K[row]),
        }

    def place(self, frame: np.ndarray) -> dict[str, Any] | None:
        """Scores, nearest frame and Å beyond the ranges of a frame [N, 3]; None if it is not finite."""
        if not np.isfinite(frame).all():
            return None
        return {
            "scores": self.scores(frame),
            "nearest": self.nearest(frame),
            "outside_A": float(self.coverage.outside(frame[None])[0]),
        }


def distribution_of(protein: ProteinData, what: str) -> Distribution:
    """Of all frames of `protein`, which must have some; `what` they are called in words."""
    coverage = coverage_of(protein, what)
    bonds, angles, dihedrals = chain_indices(protein.linked)
    pairs = np.stack(np.triu_indices(protein.n_beads, 1), axis=1)
    quantities = {"pairs": Quantity(pairs, coverage.mean, coverage.deviation, "Å")}
    positions = protein.positions.astype(float)
    for kind, beads, unit in (("bonds", bonds, "Å"), ("angles", angles, "°"), ("dihedrals", dihedrals, "°")):
        values = _measure(kind, positions, beads)
        if kind == "dihedrals":
            radians = np.radians(values)
            mean = np.degrees(np.arctan2(np.sin(radians).mean(axis=0), np.cos(radians).mean(axis=0)))
            deviation = np.sqrt((_wrapped(values - mean) ** 2).mean(axis=0))
        else:
            mean, deviation = values.mean(axis=0), values.std(axis=0)
        quantities[kind] = Quantity(beads, mean, deviation, unit)
    return Distribution(coverage, protein, quantities)


def load_distribution(dataset_dir: Path, name: str) -> Distribution | None:
    """That of a protein's training frames at the model's temperature, or of all frames where none are for training.

    Returns:
        None if the data set does not have the protein.

    Raises:
        UserError: the data set is missing or damaged.
    """
    reader = DatasetReader.open(dataset_dir)
    if name not in reader.names:
        return None
    for what, split in (("training", "train"), ("reference", None)):
        protein = reader.load(name, split=split, temperature_K=reader.temperature_K)
        if protein.n_frames:
            return distribution_of(protein, what)
    return None


def in_words(place: dict[str, Any], what: str, residues: tuple[str, ...]) -> str:
    """One or two sentences on `Distribution.place`; `what` the frames are called, `residues` names of the beads."""
    near = place["nearest"]
    text = (
        f"The nearest of the {what} frames is {length(near['rmsd_A'])} away after superposition (trajectory "
        f"{near['replica']}, frame {near['source_frame']})."
    )
    scores = place["scores"]
    if scores:
        kind = max(scores, key=lambda name: abs(scores[name]["z"]))
        one = scores[kind]
        beads = ", ".join(residues[b] for b in one["beads"])
        form = ".2f" if one["unit"] == "Å" else ".0f"
        space = " " if one["unit"] == "Å" else ""
        text += (
            f" Most unusual is the {WORDS[kind]} {beads}: {one['value']:{form}}{space}{one['unit']}, "
            f"{abs(one['z']):.1f} standard deviations {'above' if one['z'] > 0 else 'below'} the mean."
        )
    return text


WORDS = {"pairs": "distance", "bonds": "bond", "angles": "angle", "dihedrals": "dihedral"}


def _measure(kind: str, positions: np.ndarray, beads: np.ndarray) -> np.ndarray:
    """[F, Q], Å or degrees."""
    if kind == "angles":
        return np.degrees(bond_angles(positions, beads))
    if kind == "dihedrals":
        return np.degrees(dihedral_angles(positions, beads))
    return bond_lengths(positions, beads)


def _wrapped(degrees: np.ndarray) -> np.ndarray:
    """Into [−180, 180)."""
    return (degrees + 180.0) % 360.0 - 180.0

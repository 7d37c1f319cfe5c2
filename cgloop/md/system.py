"""One protein as the dynamics see it: beads, bonds, masses, and what its reference data say about both."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cgloop.config.md import MDConfig
from cgloop.data.dataset import DatasetReader, ProteinData
from cgloop.errors import UserError
from cgloop.md.evaluation import Evaluate
from cgloop.model.topology import build_topology
from cgloop.residues import RESIDUES, masses

log = logging.getLogger("cgloop.md")

TermForces = Callable[[np.ndarray], np.ndarray]
"""Frames [F, N, 3] Å of one protein to their forces split by term, [F, n_terms, N, 3] in order of `TERM_NAMES`; NaN
for frames that are not finite."""


@dataclass(frozen=True, eq=False)
class System:
    """N beads of one protein.

    Attributes:
        name: of the protein.
        residue_type: int [N], ids of `cgloop.residues`.
        chain: int [N].
        resid: int [N], residue numbers.
        linked: bool [N-1], True where beads i and i+1 are bonded.
        native: [N, 3] Å.
        bond_mean_A: [B], mean length of each bond in the reference, Å.
        type_masses: masses of the 20 types, g/mol.
    """

    name: str
    residue_type: np.ndarray
    chain: np.ndarray
    resid: np.ndarray
    linked: np.ndarray
    native: np.ndarray
    bond_mean_A: np.ndarray
    type_masses: tuple[float, ...] = masses()

    @classmethod
    def of(cls, reference: ProteinData, type_masses: Sequence[float] = masses()) -> "System":
        """From reference frames at the model's temperature; there has to be at least one."""
        first, second = build_topology(reference.linked).bonds.T
        vectors = reference.positions[:, first].astype(float) - reference.positions[:, second]
        return cls(
            name=reference.name,
            residue_type=reference.residue_type,
            chain=reference.chain,
            resid=reference.resid,
            linked=reference.linked,
            native=reference.native,
            bond_mean_A=np.linalg.norm(vectors, axis=-1).mean(axis=0),
            type_masses=tuple(type_masses),
        )

    @property
    def n_beads(self) -> int:
        return len(self.residue_type)

    @property
    def masses(self) -> np.ndarray:
        """[N], g/mol."""
        return np.asarray(self.type_masses)[np.asarray(self.residue_type, int)]

    def residue_label(self, bead: int) -> str:
        """As `TYR 1`."""
        return f"{RESIDUES[int(self.residue_type[bead])].name} {int(self.resid[bead])}"


@dataclass(frozen=True, eq=False)
class StartFrames:
    """Frames that replicas start from.

    Attributes:
        positions: [R, N, 3] Å.
        split: their part, `test`, `validation` or `train`.
        source_replica, source_frame: int [R], where each comes from.
    """

    positions: np.ndarray
    split: str
    source_replica: np.ndarray
    source_frame: np.ndarray

    def describe(self, replica: int) -> dict[str, Any]:
        """Where a replica starts, as plain data."""
        return {
            "start_split": self.split,
            "start_replica": int(self.source_replica[replica]),
            "start_frame": int(self.source_frame[replica]),
        }


@dataclass(frozen=True)
class ModelSource:
    """Where forces come from, for whoever wants to compute them again.

    Attributes:
        bundle: its folder.
        skin_A: reach of pair lists beyond the cutoff.
        edges_per_replica: room for so many directed pairs of each replica.
    """

    bundle: Path
    skin_A: float
    edges_per_replica: int


@dataclass(frozen=True, eq=False)
class Subject:
    """What is simulated.

    Attributes:
        system: the protein.
        starts: where each replica of the protein begins, whoever runs it.
        new_evaluator: makes a fresh model for these beads; used for one stage, or for one replica after another.
        term_forces: splits the force on a replica by energy term.
        replicas: ids of those that run here.
        source: of the model; None if it is no bundle.
    """

    system: System
    starts: StartFrames
    new_evaluator: Callable[[], Evaluate]
    term_forces: TermForces
    replicas: list[int]
    source: ModelSource | None = None


PARTS = ("test", "validation", "train")
"""From what training saw least to what it was fitted to."""


def least_seen_part(reader: DatasetReader, name: str, temperature_K: float) -> str | None:
    """The first of `PARTS` in which a protein has frames at this temperature; None if it has no such frames."""
    return next((part for part in PARTS if reader.count(name, part, temperature_K)), None)


def least_seen(reader: DatasetReader, name: str, temperature_K: float) -> tuple[ProteinData, str]:
    """The frames of a protein that training saw least of, and the name of their part.

    Those of its test part, else validation. A protein of which all frames are for training has only these: the part
    says so, and they are never called held out.

    Raises:
        UserError: it has no frames at this temperature.
    """
    part = least_seen_part(reader, name, temperature_K)
    if part is None:
        raise UserError(
            f"no frames of {name} at {temperature_K:g} K in any part of the data set",
            where=reader.folder,
            remedy="change `data.split` or `data.temperature_K`",
        )
    return reader.load(name, split=part, temperature_K=temperature_K), part


def simulated_proteins(reader: DatasetReader, config: MDConfig, temperature_K: float) -> list[str]:
    """Proteins that are simulated: those named, else those with held-out frames, first those of the test part.

    Of more than `max_proteins` so many, spread over the sizes of each part.

    Raises:
        UserError: no protein has held-out frames.
    """
    if config.proteins:
        return list(config.proteins)
    parts = {name: least_seen_part(reader, name, temperature_K) for name in reader.names}
    found: list[str] = []
    for part in ("test", "validation"):
        names = [name for name in reader.names if parts[name] == part]
        found += _spread_over_sizes(reader, names, config.max_proteins - len(found))
    if not found:
        raise UserError(
            f"no protein has held-out frames at {temperature_K:g} K",
            where=reader.folder,
            remedy="give `data.split` a test or validation part, or name proteins in `md.proteins`",
        )
    held_out = sum(part in ("test", "validation") for part in parts.values())
    if held_out > len(found):
        log.info("%d of %d proteins with held-out frames are simulated (`md.max_proteins`)", len(found), held_out)
    return found


def _spread_over_sizes(reader: DatasetReader, names: list[str], at_most: int) -> list[str]:
    if len(names) <= at_most:
        return names
    by_size = sorted(names, key=lambda name: (reader.manifest["proteins"][name]["beads"], name))
    return [by_size[i] for i in spread(len(by_size), at_most)] if at_most else []


def spread(n_frames: int, n_wanted: int) -> np.ndarray:
    """Indices of `n_wanted` frames spread evenly over `n_frames`; they repeat if there are too few."""
    return ((np.arange(n_wanted) + 0.5) * n_frames / n_wanted).astype(int)


def start_frames(reader: DatasetReader, name: str, temperature_K: float, n_replicas: int) -> StartFrames:
    """A different frame for each replica, spread evenly over those that training saw least of."""
    frames, split = least_seen(reader, name, temperature_K)
    if split == "train":
        log.warning("%s has no held-out frames: its replicas start from frames that were trained on", name)
    if frames.n_frames < n_replicas:
        log.warning("%s: %d replicas start from only %d %s frames", name, n_replicas, frames.n_frames, split)
    chosen = spread(frames.n_frames, n_replicas)
    return StartFrames(
        frames.positions[chosen].astype(float), split, frames.replica[chosen], frames.source_frame[chosen]
    )

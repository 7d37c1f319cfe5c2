"""One protein as a refinement sees it: beads, frames of each part of the data, lineages, and where chains start."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from cgloop.config.validate import ValidateConfig
from cgloop.data.dataset import SPLITS, DatasetReader, ProteinData
from cgloop.errors import UserError
from cgloop.model.topology import build_topology
from cgloop.residues import masses
from cgloop.validate.lineages import lineages_of
from cgloop.validate.observables import Frames, Protein, observe
from cgloop.validate.sample import equilibrated

FEWEST_FRAMES = 50
"""Training frames that a refinement needs."""

MOST_FRAMES = 20_000
"""Frames of a part that are held in memory; of more, evenly spaced ones are taken."""

EXTENDED_ANGLE = 120.0
"""Bond angle of an extended chain, degrees."""


@dataclass(frozen=True, eq=False)
class Part:
    """Frames of one part of the data at the model's temperature; F of them count in averages.

    Attributes:
        positions: float32 [F, N, 3] Å, centered.
        lineages: rows of `positions` of each lineage, in order of time, behind its equilibration.
        replicas: numbers of the trajectories.
        force_positions: float32 [G, N, 3] Å, centered, frames with reference forces.
        forces: float32 [G, N, 3] kcal/mol/Å.
        force_replica: int [G].
    """

    positions: np.ndarray
    lineages: tuple[np.ndarray, ...]
    replicas: tuple[int, ...]
    force_positions: np.ndarray
    forces: np.ndarray
    force_replica: np.ndarray

    @property
    def n_frames(self) -> int:
        """Number of frames that count in averages."""
        return len(self.positions)

    @classmethod
    def of(cls, data: ProteinData, protein: Protein, settings: ValidateConfig) -> "Part":
        """Return a part of the data from its frames at one temperature, cut by the rules of the gate.

        What continues a lineage belongs to it, what was begun from another one's frame is cut at its start, and every
        lineage at its equilibration, judged by the CA-RMSD.
        """
        centered = (data.positions - data.positions.mean(axis=1, keepdims=True)).astype(np.float32)
        lineages = lineages_of(data, settings.lineages, settings.branch_skip_ps)
        observed = [observe(centered[one.rows], protein, settings).rmsd for one in lineages]
        starts = equilibrated(observed, observed, settings.max_trim).starts if lineages else []
        rows = [one.rows[start:] for one, start in zip(lineages, starts, strict=True)]
        stride = max(1, -(-sum(map(len, rows)) // MOST_FRAMES))
        rows = [part[::stride] for part in rows]
        ends = np.cumsum([0, *map(len, rows)])
        known = np.flatnonzero(np.isfinite(data.forces).all(axis=(1, 2)))
        known = known[:: max(1, -(-len(known) // MOST_FRAMES))]
        return cls(
            centered[np.concatenate(rows)] if rows else centered[:0],
            tuple(np.arange(first, last) for first, last in pairwise(ends)),
            tuple(sorted({int(number) for one in lineages for number in one.replicas})),
            centered[known],
            np.asarray(data.forces[known], np.float32),
            np.asarray(data.replica[known], int),
        )


@dataclass(frozen=True, eq=False)
class Subject:
    """A protein of N beads that a model is refined on.

    Attributes:
        name: in the data set.
        residue_type, linked: int [N] and bool [N-1].
        masses: [N], g/mol.
        bond_mean_A: [B], mean length of each bond in the training frames.
        protein: definitions of the observables.
        settings: section `validate`, for observables and lineages.
        training: frames that are matched.
        validation: frames that decide when to stop; without frames if there are none.
        outside: float32 [H, N, 3], conformations that are no training frames at the model's temperature.
        outside_from: what these are, in words.
        observed, observed_validation: observables of the two parts.
    """

    name: str
    residue_type: np.ndarray
    linked: np.ndarray
    masses: np.ndarray
    bond_mean_A: np.ndarray
    protein: Protein
    settings: ValidateConfig
    training: Part
    validation: Part
    outside: np.ndarray
    outside_from: str
    observed: Frames
    observed_validation: Frames

    @property
    def n_beads(self) -> int:
        """Number of beads."""
        return len(self.residue_type)

    def start(self, chains: int, outside_share: float) -> tuple[np.ndarray, int]:
        """Return start positions [R, N, 3] of chains, and how many of them, the last, are outside.

        Args:
            chains: number of chains; those that are not outside are spread over the training frames.
            outside_share: largest share of chains that start outside.
        """
        n_outside = int(outside_share * chains)
        chosen = np.linspace(0, self.training.n_frames - 1, chains - n_outside).round().astype(int)
        far = np.linspace(0, len(self.outside) - 1, n_outside).round().astype(int)
        return np.concatenate([self.training.positions[chosen], self.outside[far]]), n_outside


def read_subjects(
    reader: DatasetReader, temperature_K: float, settings: ValidateConfig
) -> tuple[list[Subject], list[str]]:
    """Return the proteins with training frames at the model's temperature, and the names of all others.

    Raises:
        UserError: there is no such protein, or one has too few training frames.
    """
    subjects, others = [], []
    for name in reader.names:
        data = reader.load(name)
        if data.select(temperature_K=temperature_K, split="train").n_frames:
            subjects.append(subject_of(data, temperature_K, settings))
        else:
            others.append(name)
    if not subjects:
        raise UserError(
            f"no training frames at {temperature_K:g} K to refine on",
            where=reader.folder,
            remedy="change `data.split` or `data.temperature_K`, or set `refine.when: never`",
        )
    return subjects, others


def subject_of(data: ProteinData, temperature_K: float, settings: ValidateConfig) -> Subject:
    """Return a protein as a refinement sees it, from all its frames.

    Raises:
        UserError: fewer than `FEWEST_FRAMES` training frames at the temperature.
    """
    protein = Protein.of(data.native.astype(float), data.linked, settings, data.residue_type)
    at = data.select(temperature_K=temperature_K)
    training, validation = (Part.of(at.select(split=name), protein, settings) for name in ("train", "validation"))
    if training.n_frames < FEWEST_FRAMES:
        raise UserError(
            f"`{data.name}` has {training.n_frames} training frames at {temperature_K:g} K behind their "
            f"equilibration; a refinement needs {FEWEST_FRAMES}",
            remedy="add frames, change `data.split`, or set `refine.when: never`",
        )
    first, second = build_topology(data.linked).bonds.T
    vectors = training.positions[:, first].astype(float) - training.positions[:, second]
    bonds = np.linalg.norm(vectors, axis=-1).mean(axis=0)
    outside, outside_from = _outside(data, temperature_K, bonds)
    return Subject(
        data.name, np.asarray(data.residue_type, int), np.asarray(data.linked, bool),
        np.asarray(masses())[np.asarray(data.residue_type, int)], bonds, protein, settings, training, validation,
        outside, outside_from,
        *(observe(part.positions, protein, settings) for part in (training, validation)),
    )  # fmt: skip


def _outside(data: ProteinData, temperature_K: float, bonds: np.ndarray) -> tuple[np.ndarray, str]:
    """Return conformations outside the training frames, and what they are."""
    hottest = float(data.temperature_K.max())
    rows = np.flatnonzero((data.temperature_K == data.temperature_K.max()) & (data.split == SPLITS["train"]))
    if hottest > temperature_K + 1.0 and len(rows):
        frames = data.positions[rows[:: max(1, len(rows) // 256)]]
        return (frames - frames.mean(axis=1, keepdims=True)).astype(np.float32), f"frames at {hottest:g} K"
    return extended(data.linked, bonds)[None], "an extended chain"


def extended(linked: np.ndarray, bond_lengths: np.ndarray) -> np.ndarray:
    """Return an extended zigzag, float32 [N, 3] Å; pieces that are not linked follow each other 10 Å apart.

    Args:
        linked: bool [N-1].
        bond_lengths: Å of each bond, in order.
    """
    half = np.radians(EXTENDED_ANGLE / 2.0)
    positions = np.zeros((len(linked) + 1, 3))
    lengths = iter(bond_lengths)
    for bead, bonded in enumerate(linked):
        if bonded:
            length = next(lengths)
            step = length * np.array([np.sin(half), (-1.0) ** bead * np.cos(half), 0.0])
        else:
            step = np.array([10.0, 0.0, 0.0])
        positions[bead + 1] = positions[bead] + step
    return (positions - positions.mean(axis=0)).astype(np.float32)

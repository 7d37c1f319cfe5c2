"""The reference of a protein: which frames of a data set a model is judged by, and what they show."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cgloop.config.validate import ValidateConfig
from cgloop.data.dataset import SPLITS, DatasetReader, ProteinData
from cgloop.data.refined import Refined
from cgloop.errors import UserError
from cgloop.validate.geometry import kabsch_rmsd
from cgloop.validate.lineages import Lineage, lineages_of, require_replicas
from cgloop.validate.observables import Frames, Protein, observe
from cgloop.validate.structure import Target
from cgloop.validate.unseen import unseen_rows, unseen_target

SAME_TEMPERATURE_K = 0.01

ONE_CONFORMATION_A = 2.0
"""CA-RMSD up to which the starts of trajectories are one conformation."""


@dataclass(frozen=True, eq=False)
class Reference:
    """Reference frames of one protein at the MD's temperature and at the one farthest from it.

    Attributes:
        data: all frames of the protein.
        target: what models are judged by, at the MD's temperature; without frames if there are none. Of a protein that
            was refined these are the lineages that the refinement did not use, where they suffice.
        other: observables per lineage at `other_temperature_K`; empty if there is one temperature only.
        bonds_A: mean length of every bond at the model's temperature.
        description: which frames these are.
        whole: the whole reference, where `target` is a part of it.
    """

    data: ProteinData
    target: Target
    other: list[Frames]
    other_temperature_K: float
    bonds_A: np.ndarray
    description: dict[str, Any]
    whole: Target | None = None

    @property
    def name(self) -> str:
        return self.data.name

    @property
    def protein(self) -> Protein:
        return self.target.protein

    @property
    def frames(self) -> list[Frames]:
        """Observables per lineage at the MD's temperature, of what models are judged by."""
        return self.target.frames

    @property
    def trained_frames(self) -> int:
        """How many of the frames were in training; 0 for a protein that training has not seen."""
        return int(self.description["splits"]["train"])


def read_reference(
    reader: DatasetReader,
    name: str,
    temperature: dict[str, Any],
    settings: ValidateConfig,
    refined: Refined | None = None,
) -> Reference:
    """The reference ensemble of a protein: all its frames at the MD's temperature, of every split.

    Structure is judged against the whole ensemble, because what it decides is whether the model lives where the
    protein lives; what was held out matters for force errors. Of a protein that was not in training these are held-out
    frames alone; of one that has no others, training frames, which the verdict then says (`cgloop.cautions`). A refined
    model has these frames as its target: it is judged by what the refinement did not use, where that suffices.

    Raises:
        UserError: no frames at the model's temperature, or frames that are not finite.
    """
    return reference_of(
        reader.load(name), temperature["md_K"], temperature["model_K"], settings, reader.folder, refined
    )


def reference_of(
    data: ProteinData,
    md_K: float,
    model_K: float,
    settings: ValidateConfig,
    where: str | Path,
    refined: Refined | None = None,
) -> Reference:
    """The reference in frames of a protein.

    Args:
        data: all frames of the protein.
        md_K, model_K: temperatures of the dynamics to be judged and of the model.
        settings: definitions and limits.
        where: the data came from, for messages.
        refined: what a refinement of the model used of this protein; None if it was not refined on it.

    Raises:
        UserError: no frames at the model's temperature, frames that are not finite, or lineages of replicas that the
            protein does not have.
    """
    if not np.isfinite(data.positions).all():
        raise UserError(f"non-finite positions of `{data.name}`", where=where, remedy="run `cgloop prep` again")
    require_replicas(data, settings.lineages)
    native = data.select(temperature_K=model_K)
    temperatures = np.unique(data.temperature_K)
    if not native.n_frames:
        known = ", ".join(f"{t:g}" for t in temperatures)
        raise UserError(f"no frames of `{data.name}` at {model_K:g} K", where=where, remedy=f"there are: {known}")
    protein = Protein.of(data.native.astype(float), data.linked, settings, data.residue_type)
    others = temperatures[np.abs(temperatures - md_K) >= SAME_TEMPERATURE_K]
    other_K = float(others[np.argmax(np.abs(others - md_K))]) if len(others) else float("nan")
    bonded = np.flatnonzero(data.linked)
    at = data.select(temperature_K=md_K)
    lineages, frames = _observed(at, protein, settings)
    target = Target(
        protein, frames, md_K, settings, tuple(one.name for one in lineages), _begun_in_one_conformation(at, lineages)
    )
    part, compared = (None, {}) if refined is None or not frames else _unseen(target, at, lineages, refined)
    return Reference(
        data=data,
        target=part or target,
        whole=target if part else None,
        other=_observed(data.select(temperature_K=other_K), protein, settings)[1] if len(others) else [],
        other_temperature_K=other_K,
        bonds_A=np.linalg.norm(
            native.positions[:, bonded + 1].astype(float) - native.positions[:, bonded], axis=2
        ).mean(axis=0),
        description={
            "temperature_K": md_K,
            "frames": at.n_frames,
            "replicas": np.unique(at.replica),
            "lineages": [list(one.replicas) for one in lineages],
            "skipped_frames": sum(one.skipped for one in lineages),
            "splits": {split: int(np.sum(at.split == code)) for split, code in SPLITS.items()},
            "native_contacts": len(protein.contacts.pairs),
            **compared,
        },
    )


def _unseen(
    target: Target, data: ProteinData, lineages: list[Lineage], refined: Refined
) -> tuple[Target | None, dict[str, Any]]:
    """Return the part of the reference that a refinement did not use, and what to say of it in the description."""
    own = [lineages[row] for row in unseen_rows(lineages, refined)]
    part, compared = unseen_target(target, lineages, refined, _begun_in_one_conformation(data, own))
    return part, {"compared": compared.to_json()}


def _observed(data: ProteinData, protein: Protein, settings: ValidateConfig) -> tuple[list[Lineage], list[Frames]]:
    """Return the lineages of frames at one temperature, and what is observed of each."""
    lineages = lineages_of(data, settings.lineages, settings.branch_skip_ps)
    return lineages, [observe(data.positions[one.rows], protein, settings) for one in lineages]


def _begun_in_one_conformation(data: ProteinData, lineages: list[Lineage]) -> bool:
    """Return whether the first frames of all lineages are within `ONE_CONFORMATION_A` of each other.

    What continues a lineage begins where its parent ended, and says nothing about the start.
    """
    first = [int(np.flatnonzero(data.replica == one.replicas[0])[0]) for one in lineages]
    starts = data.positions[first].astype(float)
    return len(starts) > 1 and all(
        float(kabsch_rmsd(starts[number + 1 :], starts[number])[0].max()) <= ONE_CONFORMATION_A
        for number in range(len(starts) - 1)
    )

"""The reference of a protein: which frames of a data set a model is judged by, and what they show."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from cgloop.config import Config
from cgloop.data.dataset import SPLITS, DatasetReader, ProteinData
from cgloop.errors import UserError
from cgloop.validate import structure
from cgloop.validate.structure import Frames, Protein

SAME_TEMPERATURE_K = 0.01


@dataclass(frozen=True)
class Reference:
    """Reference frames of one protein at the MD's temperature and at the one farthest from it.

    Attributes:
        data: all frames of the protein.
        protein: geometry that observables refer to.
        frames: observables per replica at the MD's temperature.
        other: the same at `other_temperature_K`; empty if there is one temperature only.
        bonds_A: mean length of every bond at the model's temperature.
        description: which frames these are.
    """

    data: ProteinData
    protein: Protein
    frames: list[Frames]
    other: list[Frames]
    other_temperature_K: float
    bonds_A: np.ndarray
    description: dict[str, Any]


def read_reference(reader: DatasetReader, name: str, temperature: dict[str, Any], config: Config) -> Reference:
    """The reference ensemble of a protein: all its frames at the MD's temperature, of every split.

    Structure is judged against the whole ensemble, because what it decides is whether the model lives where the
    protein lives; what was held out matters for force errors. Of a protein that was not in training these are held-out
    frames alone; of one that has no others, training frames, which the verdict then says (`cgloop.cautions`).

    Raises:
        UserError: no frames at the model's temperature, or frames that are not finite.
    """
    data = reader.load(name)
    if not np.isfinite(data.positions).all():
        raise UserError(f"non-finite positions of `{name}`", where=reader.folder, remedy="run `cgloop prep` again")
    native = data.select(temperature_K=temperature["model_K"])
    if not native.n_frames:
        known = ", ".join(f"{t:g}" for t in np.unique(data.temperature_K))
        raise UserError(
            f"no frames of `{name}` at {temperature['model_K']:g} K", where=reader.folder, remedy=f"there are: {known}"
        )
    protein = Protein.of(data.native.astype(float), data.linked, config.validate_)
    temperatures = np.unique(data.temperature_K)
    others = temperatures[np.abs(temperatures - temperature["md_K"]) >= SAME_TEMPERATURE_K]
    other_K = float(others[np.argmax(np.abs(others - temperature["md_K"]))]) if len(others) else float("nan")
    bonded = np.flatnonzero(data.linked)
    at = data.select(temperature_K=temperature["md_K"])
    return Reference(
        data=data,
        protein=protein,
        frames=_observed(at, protein, config),
        other=_observed(data.select(temperature_K=other_K), protein, config) if len(others) else [],
        other_temperature_K=other_K,
        bonds_A=np.linalg.norm(
            native.positions[:, bonded + 1].astype(float) - native.positions[:, bonded], axis=2
        ).mean(axis=0),
        description={
            "temperature_K": temperature["md_K"],
            "frames": at.n_frames,
            "replicas": np.unique(at.replica),
            "splits": {split: int(np.sum(at.split == code)) for split, code in SPLITS.items()},
            "native_contacts": len(protein.contacts.pairs),
        },
    )


def _observed(data: ProteinData, protein: Protein, config: Config) -> list[Frames]:
    return [
        structure.observe(data.positions[data.replica == number], protein, config.validate_)
        for number in np.unique(data.replica)
    ]

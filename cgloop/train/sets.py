"""The frames of a data set that a training uses, by part, with their edges and weights."""

from dataclasses import dataclass

import numpy as np

from cgloop.config.train import TrainConfig
from cgloop.data.dataset import DatasetReader
from cgloop.errors import UserError
from cgloop.train.loader import FrameSet


@dataclass
class Sets:
    """The frames of each part of the data; `test` is None if nothing was set apart for it."""

    training: FrameSet
    validation: FrameSet
    test: FrameSet | None

    def all(self) -> list[FrameSet]:
        return [frames for frames in (self.training, self.validation, self.test) if frames is not None]


def load_sets(
    reader: DatasetReader, temperature_K: float, cutoff_A: float, mixed: bool = False, noise_A: float = 0.0
) -> Sets:
    """All frames at one temperature by part, with their edges. Raises UserError if there are none to use.

    With `mixed` the training frames of all temperatures; what is held out is always at the model's. Noise is for
    training frames.
    """
    training, validation, test = (
        load_frames(reader, split, None if mixed and split == "train" else temperature_K, cutoff_A, noise)
        for split, noise in (("train", noise_A), ("validation", 0.0), ("test", 0.0))
    )
    if training is None or validation is None:
        missing = "training" if training is None else "validation"
        raise UserError(
            f"no {missing} frames at {temperature_K:g} K",
            where=reader.folder,
            remedy="change `data.split` or `data.temperature_K`",
        )
    return Sets(training, validation, test)


def load_frames(
    reader: DatasetReader, split: str | None, temperature_K: float | None, cutoff_A: float, noise_A: float = 0.0
) -> FrameSet | None:
    """Frames of all proteins of one part (None: of all) at one temperature (None: at all); None if there are none.

    Raises:
        UserError: a frame is not finite.
    """
    proteins = [reader.load(name, split, temperature_K) for name in reader.names]
    proteins = [protein for protein in proteins if protein.n_frames]
    for protein in proteins:
        broken = ~np.isfinite(protein.forces).all(axis=(1, 2)) | ~np.isfinite(protein.positions).all(axis=(1, 2))
        if broken.any():
            raise UserError(
                f"frame {protein.source_frame[broken][0]} of replica {protein.replica[broken][0]} is not finite",
                where=reader.folder / f"{protein.name}.h5",
                remedy="run `cgloop prep` again",
            )
    return FrameSet(proteins, cutoff_A, noise_A) if proteins else None


def weigh(sets: Sets, config: TrainConfig) -> None:
    """Set the weights of the config; a protein or temperature that is not there is a UserError.

    Frames of validation are all at one temperature.
    """
    training = sets.training
    unknown = sorted(set(config.protein_weights) - set(training.names))
    if unknown:
        raise UserError(
            f"`train.protein_weights` names `{unknown[0]}`, which has no training frames",
            remedy=f"known: {', '.join(training.names)}",
        )
    present = np.unique(training.temperature_K)
    for temperature in config.temperature_weights:
        if not (np.abs(present - temperature) < 0.5).any():
            raise UserError(
                f"`train.temperature_weights` names {temperature:g} K, at which there are no training frames",
                remedy=f"known: {', '.join(f'{one:g}' for one in present)}; `priors.temperatures: mixed` adds more",
            )
    training.set_weights(config.protein_weights, config.temperature_weights, config.normalize)
    sets.validation.set_weights(config.protein_weights, {}, config.normalize)


def force_noise(reader: DatasetReader) -> dict[str, float | None]:
    """Noise of a component of the mapped forces of every protein, kcal/mol/Å; None where it is not known."""
    return {name: reader.manifest["proteins"][name].get("force_noise") for name in reader.names}

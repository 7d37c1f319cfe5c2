"""The frames of a data set that a training uses, by part, with their edges and weights."""

import logging
import shutil
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from cgloop.config.train import TrainConfig
from cgloop.data.dataset import DatasetReader
from cgloop.errors import UserError
from cgloop.progress import progress
from cgloop.train.files import Files, Place
from cgloop.train.loader import Chain, FrameSet
from cgloop.train.rows import Rows
from cgloop.train.shards import (
    Part,
    Shard,
    expected_frames,
    expected_MB,
    joined_index,
    read_shard,
    require_finite,
    shard_key,
    shares,
    write_shard,
)

log = logging.getLogger("cgloop.train")


@dataclass
class Sets:
    """The frames of each part of the data; `test` is None if nothing was set apart for it."""

    training: FrameSet
    validation: FrameSet
    test: FrameSet | None

    def all(self) -> list[FrameSet]:
        return [frames for frames in (self.training, self.validation, self.test) if frames is not None]

    def close(self) -> None:
        """Let go of all frames; those in files can be removed then."""
        for frames in self.all():
            frames.store.close()


def load_sets(
    reader: DatasetReader,
    temperature_K: float,
    cutoff_A: float,
    mixed: bool = False,
    noise_A: float = 0.0,
    place: Place | None = None,
) -> Sets:
    """All frames at one temperature by part, with their edges. Raises UserError if there are none to use.

    With `mixed` the training frames of all temperatures; what is held out is always at the model's. Noise is for
    training frames. With a place they are kept in files if together they are too large for memory.
    """
    parts = {
        "train": Part("train", None if mixed else temperature_K, cutoff_A, noise_A),
        "validation": Part("validation", temperature_K, cutoff_A),
        "test": Part("test", temperature_K, cutoff_A),
    }
    kept = place_if_needed(reader, parts.values(), place)
    training, validation, test = (load_frames(reader, part, kept) for part in parts.values())
    if training is None or validation is None:
        missing = "training" if training is None else "validation"
        raise UserError(
            f"no {missing} frames with forces at {temperature_K:g} K",
            where=reader.folder,
            remedy="change `data.split` or `data.temperature_K`, or add a source with forces",
        )
    return Sets(training, validation, test)


def place_if_needed(reader: DatasetReader, parts: Iterable[Part], place: Place | None) -> Place | None:
    """The place if the parts need more memory than they may take."""
    if place is None:
        return None
    needed = sum(expected_MB(reader, part) for part in parts)
    if needed <= place.memory_MB:
        return None
    log.info("frames need %.0f MB of memory, more than train.memory_MB: they are kept in files", needed)
    return place


def load_frames(reader: DatasetReader, part: Part, place: Place | None = None) -> FrameSet | None:
    """The frames of a part of a data set; None if there are none. Raises UserError for a frame that is not finite.

    Args:
        reader: of the data set.
        part: which frames.
        place: where they are kept in files; None for memory.
    """
    if place is not None:
        return _load_files(reader, part, place)
    proteins = [reader.load(name, part.split, part.temperature_K).with_forces() for name in reader.names]
    proteins = [protein for protein in proteins if protein.n_frames]
    for protein in proteins:
        require_finite(protein, reader.folder)
    return FrameSet(proteins, part.cutoff_A, part.noise_A) if proteins else None


def _load_files(reader: DatasetReader, part: Part, place: Place) -> FrameSet | None:
    """Write the shard of this process, wait for the others, and open all."""
    folder, world = place.folder / (part.split or "all"), place.world
    folders = [folder / f"shard_{number:04d}_of_{world.size:04d}" for number in range(world.size)]
    if world.is_primary and folder.exists():
        for other in set(folder.iterdir()) - set(folders):
            shutil.rmtree(other)
    names, key = shares(reader, part, world.size)[world.rank], shard_key(reader, part, world.rank, world.size)
    total = sum(expected_frames(reader, name, part) for name in names)
    with progress("train frames", total=total, unit="frame") if world.is_primary else nullcontext() as bar:
        told = (lambda frames: None) if bar is None else bar.advance
        write_shard(reader, part, names, folders[world.rank], key, told)
    place.agree("frames were written")
    shards = [read_shard(one) for one in folders]
    chains = [chain for shard in shards for chain in chains_of(shard)]
    if not chains:
        return None
    index = joined_index(shards)
    lengths = np.concatenate([shard.lengths for shard in shards])
    beads, edges = Rows.of_lengths(lengths[index.protein]), Rows.of_lengths(index.n_edges)
    return FrameSet.stored(chains, index, Files(shards, beads, edges, place.world.rank, key), part.noise_A)


def chains_of(shard: Shard) -> list[Chain]:
    """The proteins of a shard that have frames."""
    beads, links = np.cumsum(shard.lengths)[:-1], np.cumsum(shard.lengths - 1)[:-1]
    types, linked = np.split(shard.residue_type, beads), np.split(shard.linked, links)
    return [Chain(*one) for one in zip(shard.names, types, linked, strict=False)]


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


def holds_out_proteins(reader: DatasetReader) -> bool:
    """Whether the data set is divided by whole proteins: none that is judged was then seen in training."""
    parts = [entry["frames_per_split"] for entry in reader.manifest["proteins"].values()]
    return all(sum(one[split] > 0 for split in ("train", "validation", "test")) <= 1 for one in parts)

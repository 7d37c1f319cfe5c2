"""Frames of a failed cycle's dynamics, for the refinement that is tried as a remedy against it."""

import json
from pathlib import Path

import h5py
import numpy as np

from cgloop.data.dataset import DatasetReader
from cgloop.data.protein import TEMPERATURE_TOLERANCE_K
from cgloop.errors import UserError
from cgloop.md.observables import SERIES
from cgloop.refine.first_frames import FirstFrames
from cgloop.validate.trajectory import read_dcd

MOST_FRAMES = 512
"""Frames of a protein, at most, evenly spaced in time: neighbors in a trajectory say little more."""


def read_first_frames(md_dir: Path, dataset_dir: Path, trim: float) -> list[FirstFrames]:
    """Return the equilibrated NVT frames of every protein of a cycle that is in the data set.

    Args:
        md_dir: output of the stage `md`: `md.json` and `<protein>/nvt/`.
        dataset_dir: output of the stage `prep`.
        trim: share cut from the start of each trajectory: the most that the gate's rule of equilibration may cut
            (`validate.max_trim`), since a model that fails leaves the start structures.

    Returns:
        A protein each, without replicas that broke a limit or were frozen, and without proteins that have no others;
        none where the dynamics ran at another temperature than the model's.

    Raises:
        UserError: the trajectories are missing or damaged.
    """
    remedy = "run `cgloop md` again"
    try:
        md = json.loads((md_dir / "md.json").read_text(encoding="utf-8"))
        starts = {
            name: [int(one["start_replica"]) for one in entry["starts"]] for name, entry in md["proteins"].items()
        }
        if abs(float(md["temperature_K"]) - float(md["model_temperature_K"])) > TEMPERATURE_TOLERANCE_K:
            return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"no MD to refine from: {error}", where=md_dir, remedy=remedy) from None
    reader = DatasetReader.open(dataset_dir)
    found = []
    for name in sorted(set(starts) & set(reader.names)):
        n_beads = reader.structure(name).n_beads
        try:
            survivors = _survivors(md_dir / name / "nvt", n_beads, trim)
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise UserError(f"damaged: {error}", where=md_dir / name / "nvt", remedy=remedy) from None
        if survivors:
            begun = tuple(sorted({starts[name][number] for number in survivors}))
            found.append(FirstFrames(name, tuple(_thinned(list(survivors.values()))), begun))
    return found


def _survivors(folder: Path, n_beads: int, trim: float) -> dict[int, np.ndarray]:
    """Return the frames of every replica that survived, behind the cut, by its number."""
    with h5py.File(folder / SERIES) as file:
        survived = sorted(
            int(name.removeprefix("replica_"))
            for name, group in file.items()
            if name.startswith("replica_") and bool(group.attrs.get("survived", False))
        )
    parts = {}
    for number in survived:
        positions = read_dcd(folder / f"replica_{number:03d}.dcd", n_beads)
        kept = positions[int(np.ceil(trim * len(positions))) :]
        if len(kept) and np.isfinite(kept).all():
            parts[number] = kept.astype(np.float32)
    return parts


def _thinned(replicas: list[np.ndarray]) -> list[np.ndarray]:
    """Return every k-th frame, with the smallest k that leaves at most `MOST_FRAMES` of all replicas."""
    total = sum(map(len, replicas))
    step = max(1, -(-total // MOST_FRAMES))
    return [positions[step - 1 :: step] for positions in replicas if len(positions[step - 1 :: step])]

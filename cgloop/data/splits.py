"""Which frames train, which decide when to stop, which judge. Never by shuffled frames.

Neighbouring frames of a trajectory are correlated over many picoseconds: shuffled, every validation frame would have
a near copy in training. So a part gets whole trajectories, or consecutive blocks with a gap between them.
"""

from pathlib import Path

import numpy as np

from cgloop.config.data import SplitConfig
from cgloop.data.protein import SPLITS, TEMPERATURE_TOLERANCE_K
from cgloop.errors import UserError

PARTS = ("train", "validation", "test")


def assign_splits(
    replica: np.ndarray,
    temperature_K: np.ndarray,
    config: SplitConfig,
    *,
    model_temperature_K: float | None = None,
    where: str | Path | None = None,
) -> np.ndarray:
    """The part that each frame belongs to.

    Args:
        replica: int [F], trajectory of each frame; frames of a trajectory are in order of time.
        temperature_K: [F], K; one replica id at two temperatures is two trajectories.
        config: how to divide.
        model_temperature_K: frames at other temperatures do not count towards `min_frames`; None: all count.
        where: named in the error.

    Returns:
        int8 [F], values of `SPLITS`; frames in no part are "unused".

    Raises:
        UserError: a part that is wanted has fewer than `min_frames` frames. An empty list `test` wants none.
    """
    replica, temperature_K = np.asarray(replica), np.asarray(temperature_K)
    split = np.full(len(replica), SPLITS["unused"], np.int8)
    if config.by == "replica":
        for part in PARTS:
            split[np.isin(replica, getattr(config, part) or [])] = SPLITS[part]
    else:
        for temperature in np.unique(temperature_K):
            for one in np.unique(replica):
                frames = np.flatnonzero((temperature_K == temperature) & (replica == one))
                split[frames] = _time_blocks(len(frames), config.fractions, config.gap_frames)
    _require_frames(split, replica, temperature_K, config, model_temperature_K, where)
    return split


def _time_blocks(n_frames: int, fractions: tuple[float, float, float], gap: int) -> np.ndarray:
    """Codes of one trajectory: train, gap, validation, gap, test."""
    codes = np.full(n_frames, SPLITS["unused"], np.int8)
    usable = n_frames - 2 * gap
    if usable < len(PARTS):
        return codes
    bounds = np.round(np.cumsum((0.0, *fractions)) / sum(fractions) * usable).astype(int)
    for i, part in enumerate(PARTS):
        codes[bounds[i] + i * gap : bounds[i + 1] + i * gap] = SPLITS[part]
    return codes


def train_window(n_frames: int, replica: int, config: SplitConfig) -> int:
    """How many of the first frames of a trajectory train, if all its frames are kept.

    Fewer kept frames move the bounds of time blocks to the left: a frame beyond them may then serve another part.
    """
    if config.by == "replica":
        return n_frames if replica in (config.train or ()) else 0
    return int((_time_blocks(n_frames, config.fractions, config.gap_frames) == SPLITS["train"]).sum())


def _require_frames(
    split: np.ndarray,
    replica: np.ndarray,
    temperature_K: np.ndarray,
    config: SplitConfig,
    model_temperature_K: float | None,
    where: str | Path | None,
) -> None:
    counted = np.ones(len(split), bool)
    at = ""
    if model_temperature_K is not None:
        counted = np.abs(temperature_K - model_temperature_K) < TEMPERATURE_TOLERANCE_K
        at = f" at {model_temperature_K:g} K"
    for part in PARTS:
        if config.by == "replica" and not getattr(config, part):
            continue
        found = int((counted & (split == SPLITS[part])).sum())
        if found >= config.min_frames:
            continue
        if config.by == "replica":
            there = ", ".join(f"{one} ({(counted & (replica == one)).sum()} frames)" for one in np.unique(replica))
            remedy = f"replicas there: {there or 'none'}; change `data.split.{part}` or `data.split.min_frames`"
        else:
            remedy = "give more frames, change `data.split.fractions`, or lower `data.split.min_frames`"
        raise UserError(f"split `{part}` has {found} frames{at}, needs {config.min_frames}", where=where, remedy=remedy)

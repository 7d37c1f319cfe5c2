"""Which frames train, which decide when to stop, which judge. Never by shuffled frames.

Neighbouring frames of a trajectory are correlated over many picoseconds: shuffled, every validation frame would have
a near copy in training. So a part gets whole proteins, whole trajectories, or consecutive blocks with a gap between
them.
"""

import difflib
import hashlib
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from cgloop.config.data import SplitConfig
from cgloop.data.protein import SPLITS, TEMPERATURE_TOLERANCE_K
from cgloop.errors import UserError

PARTS = ("train", "validation", "test")

MOST_NAMES = 10
"""So many proteins are listed in an error."""


def assign_splits(
    replica: np.ndarray,
    temperature_K: np.ndarray,
    config: SplitConfig,
    *,
    protein: str,
    model_temperature_K: float | None = None,
    where: str | Path | None = None,
) -> np.ndarray:
    """The part that each frame of a protein belongs to. Depends on no other protein.

    Args:
        replica: int [F], trajectory of each frame; frames of a trajectory are in order of time.
        temperature_K: [F], K; one replica id at two temperatures is two trajectories.
        config: how to divide.
        protein: its name.
        model_temperature_K: frames at other temperatures do not count towards `min_frames`; None: all count.
        where: named in the error.

    Returns:
        int8 [F], values of `SPLITS`; frames in no part are "unused".

    Raises:
        UserError: a part that is wanted has fewer than `min_frames` frames. An empty list `test` wants none.
    """
    replica, temperature_K = np.asarray(replica), np.asarray(temperature_K)
    split = np.full(len(replica), SPLITS["unused"], np.int8)
    if config.by == "protein":
        split[:] = SPLITS[part_of(protein, config)]
    elif config.by == "replica":
        for part in PARTS:
            split[np.isin(replica, getattr(config, part) or [])] = SPLITS[part]
    else:
        for temperature in np.unique(temperature_K):
            for one in np.unique(replica):
                frames = np.flatnonzero((temperature_K == temperature) & (replica == one))
                split[frames] = _time_blocks(len(frames), config.fractions, config.gap_frames)
    wanted = [part_of(protein, config)] if config.by == "protein" else _wanted(config)
    _require_frames(split, wanted, replica, temperature_K, config, model_temperature_K, where)
    return split


def part_of(protein: str, config: SplitConfig) -> str:
    """The part of all frames of a protein, with `by: protein`.

    From lists: the one that has its name, else the one with a pattern that fits, else training. From fractions: by
    sha256 of seed and name, so that it is the same on every machine and whatever else the data set holds.
    """
    if config.validation is None and config.test is None:
        digest = hashlib.sha256(f"{config.seed}:{protein}".encode()).digest()
        place = int.from_bytes(digest[:8]) / 2**64
        bounds = np.cumsum(config.fractions)
        return PARTS[min(int(np.searchsorted(bounds, place, side="right")), len(PARTS) - 1)]
    return next(iter(_naming(protein, config) or _fitting(protein, config)), "train")


def _naming(protein: str, config: SplitConfig) -> list[str]:
    """Parts that list this name as it is; there is one at most."""
    return [part for part in PARTS[1:] if protein in _listed(config, part)]


def _fitting(protein: str, config: SplitConfig) -> list[str]:
    """Parts with a pattern for this name."""
    return [part for part in PARTS[1:] if any(fnmatchcase(protein, one) for one in _listed(config, part))]


def _listed(config: SplitConfig, part: str) -> list[str]:
    return [str(one) for one in getattr(config, part) or ()]


def require_parts(proteins: Iterable[str], config: SplitConfig, excluded: Iterable[str] = ()) -> None:
    """Check `by: protein` over a whole data set; nothing to check otherwise, since there every protein has all parts.

    Args:
        proteins: names of all that can be used.
        config: how they were divided.
        excluded: files that could not be used, for the message.

    Raises:
        UserError: a name or pattern in the lists that no protein has, one protein in two parts, or a part without any.
    """
    if config.by != "protein":
        return
    parts = {name: part_of(name, config) for name in proteins}
    for part in PARTS[1:]:
        for listed in _listed(config, part):
            if not any(name == listed or fnmatchcase(name, listed) for name in parts):
                raise _unmatched(part, listed, parts, excluded)
    for name in parts:
        if len(_fitting(name, config)) > 1 and not _naming(name, config):
            raise UserError(
                f"protein `{name}` fits a pattern of `validation` and one of `test`",
                where="data.split",
                remedy="list it by its name in one of them",
            )
    counts = {part: sum(one == part for one in parts.values()) for part in PARTS}
    for part in _wanted(config):
        if not counts[part]:
            have = ", ".join(f"{count} {one}" for one, count in counts.items())
            remedy = "list proteins in `data.split.validation` and `data.split.test`"
            if config.validation is None:
                remedy += ", or change `data.split.fractions` or `data.split.seed`"
            raise UserError(f"split `{part}` has no protein ({have})", where="data.split", remedy=remedy)


def _unmatched(part: str, listed: str, parts: Mapping[str, str], excluded: Iterable[str]) -> UserError:
    close = difflib.get_close_matches(listed, parts, n=1, cutoff=0.5)
    lost = [label for label in excluded if listed in label]
    if lost:
        remedy = f"{lost[0]} was excluded"
    elif close:
        remedy = f"did you mean `{close[0]}`?"
    else:
        some = sorted(parts)[:MOST_NAMES]
        more = f" and {len(parts) - MOST_NAMES} more" if len(parts) > MOST_NAMES else ""
        remedy = f"known: {', '.join(some)}{more}"
    return UserError(f"no protein is called `{listed}`", where=f"data.split.{part}", remedy=remedy)


def _wanted(config: SplitConfig) -> list[str]:
    """Parts that must not be empty. An empty list `test` wants none."""
    if config.by == "time_block" or (config.by == "protein" and config.validation is None):
        return list(PARTS)
    return [part for part in PARTS if part == "train" or getattr(config, part)]


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


def fit_window(n_frames: int, replica: int, config: SplitConfig) -> int:
    """How many of the first frames of a trajectory the force map may be fitted to, if all its frames are kept.

    Those that train; with `by: protein` all, since the map of a protein serves no other one and its own frames have no
    other use. Fewer kept frames move the bounds of time blocks to the left: a frame beyond them may then serve another
    part.
    """
    if config.by == "protein":
        return n_frames
    if config.by == "replica":
        return n_frames if replica in (config.train or ()) else 0
    return int((_time_blocks(n_frames, config.fractions, config.gap_frames) == SPLITS["train"]).sum())


def _require_frames(
    split: np.ndarray,
    wanted: Iterable[str],
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
    for part in wanted:
        found = int((counted & (split == SPLITS[part])).sum())
        if found >= config.min_frames:
            continue
        if config.by == "replica":
            there = ", ".join(f"{one} ({(counted & (replica == one)).sum()} frames)" for one in np.unique(replica))
            remedy = f"replicas there: {there or 'none'}; change `data.split.{part}` or `data.split.min_frames`"
        elif config.by == "protein":
            remedy = "give more frames, or lower `data.split.min_frames`"
        else:
            remedy = "give more frames, change `data.split.fractions`, or lower `data.split.min_frames`"
        raise UserError(f"split `{part}` has {found} frames{at}, needs {config.min_frames}", where=where, remedy=remedy)

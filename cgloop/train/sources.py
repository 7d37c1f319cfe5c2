"""Which source of the config each frame comes from, and what it weighs.

Sources may be named (`data.sources[].label`), as misfolded, unfolded or high-temperature, and weighted. Data sets do
not record that: a source is known by what its frames have, so that other weights need no other data set.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cgloop.config.data import DataConfig, SourceConfig
from cgloop.data.sources import expand_sources
from cgloop.errors import UserError
from cgloop.prep.jobs import mda_name
from cgloop.train.loader import FrameSet

UNNAMED = "other"
"""Label of sources that have none."""


def tells_sources_apart(config: DataConfig) -> bool:
    """Whether the config names or weighs any source."""
    return any(source.label is not None or source.weight != 1.0 for source in config.sources)


def labels_and_weights(
    frames: FrameSet, config: DataConfig, manifest: Mapping[str, Any]
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Label and weight of every frame.

    Args:
        frames: of the data set.
        config: section `data`.
        manifest: of the data set.

    Returns:
        the labels, in order of the config; int [F], which of them each frame has; float [F], weights.

    Raises:
        UserError: a frame comes from none of the sources, or a file is missing.
    """
    sources = expand_sources(config)
    labels = list(dict.fromkeys(source.label or UNNAMED for source in sources))
    which, weight = np.full(frames.n_frames, -1), np.ones(frames.n_frames)
    for number, name in enumerate(frames.names):
        own = frames.protein == number
        for source in _giving(name, sources, manifest):
            rows = own & _rows(frames, source, config)
            which[rows], weight[rows] = labels.index(source.label or UNNAMED), source.weight
        if (which[own] < 0).any():
            raise UserError(
                f"frames of {name} come from none of `data.sources`",
                where="data.sources",
                remedy="run `cgloop prep` again",
            )
    return labels, which, weight


def weigh_by_source(frames: FrameSet, config: DataConfig, manifest: Mapping[str, Any]) -> None:
    """Multiply the weights of frames with those of their sources. Raises as `labels_and_weights`."""
    if all(source.weight == 1.0 for source in config.sources):
        return
    weight = labels_and_weights(frames, config, manifest)[2]
    frames.weight = (weight * (1.0 if frames.weight is None else frames.weight)).astype(np.float32)


def _giving(protein: str, sources: Sequence[SourceConfig], manifest: Mapping[str, Any]) -> list[SourceConfig]:
    """The sources that a protein of the data set is made from."""
    file = manifest["proteins"][protein].get("source", "")
    return [
        source
        for source in sources
        if (mda_name(source) == protein if source.format == "mdanalysis" else source.path.name == file)
    ]


def _rows(frames: FrameSet, source: SourceConfig, config: DataConfig) -> np.ndarray:
    """bool [F], frames of this source among those of its protein: trajectories have temperature and replica."""
    if source.format != "mdanalysis":
        return np.ones(frames.n_frames, bool)
    temperature = source.temperature_K or config.temperature_K
    return (np.abs(frames.temperature_K - temperature) < 0.5) & (frames.replica == source.replica)

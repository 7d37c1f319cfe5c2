"""The older padded NPZ to a data set, without a run."""

import shutil
from pathlib import Path
from typing import Any

from cgloop.config.data import DataConfig
from cgloop.errors import UserError
from cgloop.prep.pipeline import prepare
from cgloop.stages import explained, replace_folder


def npz_to_dataset(
    path: Path, folder: Path, temperature_K: float, *, gap_frames: int = 5, min_frames: int = 20
) -> dict[str, Any]:
    """Make a data set of an archive. Its frames are divided by time, in the order in which they stand in it.

    Args:
        path: the archive.
        folder: to make; must not exist.
        temperature_K: of the frames.
        gap_frames: dropped between the parts.
        min_frames: every part needs so many.

    Returns:
        The manifest.

    Raises:
        UserError: the folder exists, or the archive cannot be used.
    """
    if folder.exists():
        raise UserError("exists already", where=folder, remedy="give another name, or remove it")
    config = DataConfig.model_validate(
        {
            "sources": [{"path": path.resolve(), "format": "npz"}],
            "temperature_K": temperature_K,
            "projection": "slice",
            "split": {"by": "time_block", "gap_frames": gap_frames, "min_frames": min_frames},
        }
    )
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with explained(folder):
            partial.mkdir(parents=True)
            manifest = prepare(config, partial)
            replace_folder(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest

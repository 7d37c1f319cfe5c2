"""`prep`: reference trajectories in, the coarse-grained data set out; streamed, memory bounded by a block of frames."""

import logging
import re
from pathlib import Path
from typing import Any

from cgloop.config.data import DataConfig, SourceConfig
from cgloop.data.dataset import write_manifest
from cgloop.errors import UserError
from cgloop.prep.mdcath import MdcathFile
from cgloop.prep.quarantine import Limits
from cgloop.prep.reference import Frames
from cgloop.prep.stream import ProteinResult, prepare_protein
from cgloop.progress import progress
from cgloop.stages import digest_file, write_json

log = logging.getLogger("cgloop.prep")

SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def prepare(config: DataConfig, out: Path) -> dict[str, Any]:
    """Write the data set of a config: `<protein>.h5`, `manifest.json`, `quarantine.json`, `projection.json`.

    Args:
        config: the section `data`.
        out: an existing folder.

    Returns:
        The manifest.

    Raises:
        UserError: a source that is missing, damaged, without forces, with an unknown residue, without the wanted
            temperature or replica, with too many bad frames, or too short for its split.
    """
    results: dict[str, ProteinResult] = {}
    for source in config.sources:
        with MdcathFile(source.path) as file:
            if not SAFE_NAME.fullmatch(file.name):
                raise UserError(f"protein id `{file.name}` cannot be a file name", where=source.path)
            if file.name in results:
                raise UserError(
                    f"a second source gives protein `{file.name}`",
                    where=source.path,
                    remedy="list all temperatures and replicas of a protein in one source",
                )
            results[file.name] = _prepare_file(file, source, config, out)
    quarantine = {name: result.quarantine for name, result in results.items()}
    write_json(out / "quarantine.json", {"limits": vars(Limits()), "proteins": quarantine})
    projection = {name: result.projection for name, result in results.items()}
    write_json(out / "projection.json", {"unit": "kcal/mol/angstrom", "proteins": projection})
    return write_manifest(
        out,
        sorted(results),
        temperature_K=config.temperature_K,
        mapping=config.mapping,
        projection=config.projection,
    )


def _prepare_file(file: MdcathFile, source: SourceConfig, config: DataConfig, out: Path) -> ProteinResult:
    trajectories = file.select(source.temperatures_K or [config.temperature_K], source.replicas)
    frames = Frames(stride=source.stride)
    attributes = {
        "mapping": config.mapping,
        "projection": config.projection,
        "temperature_K": config.temperature_K,
        "source": file.path.name,
        "source_sha256": digest_file(file.path),
        "stride": source.stride,
    }
    total = sum(len(frames.of(t.n_frames)) for t in trajectories)
    with progress(f"prep {file.name}", total, "frames") as bar:
        path = out / f"{file.name}.h5"
        result = prepare_protein(
            file, trajectories, frames, config, path, attributes, lambda read, kept: bar.advance(read, kept=kept)
        )
    _tell(result)
    return result


def _tell(result: ProteinResult) -> None:
    trajectories = result.quarantine["trajectories"]
    read = sum(t["frames_read"] for t in trajectories)
    kept = sum(t["frames_kept"] for t in trajectories)
    log.info("%s: %d beads, %d of %d frames kept", result.name, result.quarantine["beads"], kept, read)
    if kept < read:
        log.warning("%s: %d frames quarantined, see quarantine.json", result.name, read - kept)
    for group in result.quarantine["empty_groups"]:
        log.warning("%s: %s has no frames", result.name, group)

"""`prep`: reference trajectories in, the coarse-grained data set out; streamed, memory bounded by a block of frames."""

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np

from cgloop.config.data import DataConfig, SourceConfig
from cgloop.data.dataset import ProteinWriter, write_manifest
from cgloop.data.splits import assign_splits
from cgloop.errors import UserError
from cgloop.interrupt import check_stop
from cgloop.prep.mapping import Beads, map_to_ca
from cgloop.prep.mdcath import MdcathFile, Trajectory
from cgloop.prep.projection import ForceMap, force_map
from cgloop.prep.quarantine import GOOD, Limits, TrajectoryRecord, all_atom_reasons, bead_reasons
from cgloop.progress import Progress, progress
from cgloop.stages import digest_file, write_json

log = logging.getLogger("cgloop.prep")

SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def prepare(config: DataConfig, out: Path) -> dict[str, Any]:
    """Write the data set of a config: `<protein>.h5`, `manifest.json`, `quarantine.json`.

    Args:
        config: the section `data`.
        out: an existing folder.

    Returns:
        The manifest.

    Raises:
        UserError: a source that is missing, damaged, without forces, with an unknown residue, without the wanted
            temperature or replica, with too many bad frames, or too short for its split.
    """
    limits = Limits()
    quarantine: dict[str, Any] = {}
    for source in config.sources:
        with MdcathFile(source.path) as file:
            if not SAFE_NAME.fullmatch(file.name):
                raise UserError(f"protein id `{file.name}` cannot be a file name", where=source.path)
            if file.name in quarantine:
                raise UserError(
                    f"a second source gives protein `{file.name}`",
                    where=source.path,
                    remedy="list all temperatures and replicas of a protein in one source",
                )
            quarantine[file.name] = _prepare_protein(file, source, config, limits, out)
    write_json(out / "quarantine.json", {"limits": vars(limits), "proteins": quarantine})
    return write_manifest(
        out,
        sorted(quarantine),
        temperature_K=config.temperature_K,
        mapping=config.mapping,
        projection=config.projection,
    )


def _prepare_protein(
    file: MdcathFile, source: SourceConfig, config: DataConfig, limits: Limits, out: Path
) -> dict[str, Any]:
    trajectories = file.select(source.temperatures_K or [config.temperature_K], source.replicas)
    beads = map_to_ca(file.atoms, file.path)
    structure = np.array([atom.position for atom in file.atoms])
    forces = force_map(config.projection, beads.atom, file.is_hydrogen(), structure)
    attributes = {
        "mapping": config.mapping,
        "projection": config.projection,
        "temperature_K": config.temperature_K,
        "source": file.path.name,
        "source_sha256": digest_file(file.path),
        "stride": source.stride,
    }
    arrays = {name: getattr(beads, name) for name in ("residue_type", "chain", "resid", "native", "linked")}
    records = []
    total = sum(-(-t.n_frames // source.stride) for t in trajectories)
    with (
        progress(f"prep {file.name}", total, "frames") as bar,
        ProteinWriter(out / f"{file.name}.h5", arrays, attributes) as writer,
    ):
        for trajectory in trajectories:
            record = _stream(trajectory, source.stride, beads, forces, limits, writer, bar)
            records.append(record)
        temperature, replica = writer.rows("temperature_K"), writer.rows("replica")
        split = assign_splits(
            replica, temperature, config.split, model_temperature_K=config.temperature_K, where=file.path
        )
        writer.finish(split)
    summary = {"trajectories": [record.to_json() for record in records], "empty_groups": file.empty}
    _tell(file.name, len(beads.atom), summary)
    return summary


def _stream(
    trajectory: Trajectory,
    stride: int,
    beads: Beads,
    forces: ForceMap,
    limits: Limits,
    writer: ProteinWriter,
    bar: Progress,
) -> TrajectoryRecord:
    """Copy the good frames of one trajectory, block by block, as beads."""
    record = TrajectoryRecord(trajectory.temperature_K, trajectory.replica)
    for block in trajectory.blocks(stride):
        check_stop()
        positions = block.positions[:, beads.atom]
        with np.errstate(over="ignore", invalid="ignore"):
            bead_forces = forces.project(block.forces)
        reasons = all_atom_reasons(block.positions, block.forces)
        of_beads = bead_reasons(positions, bead_forces, beads.linked, limits)
        reasons = np.where(reasons == GOOD, of_beads, reasons)
        record.add(block.source_frame, reasons)
        good = reasons == GOOD
        writer.append(
            positions[good],
            bead_forces[good],
            np.full(good.sum(), trajectory.temperature_K),
            np.full(good.sum(), trajectory.replica),
            block.source_frame[good],
        )
        bar.advance(len(good), kept=int(good.sum()))
    record.require_mostly_good(limits, f"{trajectory.file}, {trajectory.group.name}")
    return record


def _tell(name: str, n_beads: int, summary: dict[str, Any]) -> None:
    read = sum(t["frames_read"] for t in summary["trajectories"])
    kept = sum(t["frames_kept"] for t in summary["trajectories"])
    log.info("%s: %d beads, %d of %d frames kept", name, n_beads, kept, read)
    if kept < read:
        log.warning("%s: %d frames quarantined, see quarantine.json", name, read - kept)
    for group in summary["empty_groups"]:
        log.warning("%s: %s has no frames", name, group)

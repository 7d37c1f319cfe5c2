"""`prep`: reference trajectories in, the coarse-grained data set out.

Files are independent jobs (prep/jobs.py) on a pool of processes (prep/pool.py), each streamed in blocks of frames.
"""

import logging
import shutil
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from cgloop.config.data import DataConfig
from cgloop.data.dataset import write_manifest
from cgloop.data.sources import expand_sources
from cgloop.errors import UserError
from cgloop.prep.jobs import Job, JobResult, make_jobs, run_job
from cgloop.prep.pool import run_all, usable_cores
from cgloop.prep.quarantine import Limits
from cgloop.prep.stream import ProteinResult
from cgloop.progress import progress
from cgloop.stages import write_json

log = logging.getLogger("cgloop.prep")

WORKSHOP = ".jobs"
"""Folder in which jobs work; what is finished there is found again after an interruption."""

QUIET_FROM = 50
"""With so many files, what went well is not told for each."""


def prepare(config: DataConfig, out: Path) -> dict[str, Any]:
    """Write the data set of a config: `<protein>.h5`, `manifest.json`, `quarantine.json`, `projection.json`.

    What an interrupted call left in `out` is used.

    Args:
        config: the section `data`.
        out: an existing folder.

    Returns:
        The manifest.

    Raises:
        UserError: a source that is missing, damaged, without forces, with an unknown residue, without the wanted
            temperature or replica, with too many bad frames, or too short for its split; with `on_bad_file: exclude`
            only if no source can be used.
        Interrupted: a stop was requested; what is finished stays.
    """
    jobs = make_jobs(expand_sources(config), config, out / WORKSHOP)
    done, excluded = _run(jobs, config)
    results = _collect(done, out)
    shutil.rmtree(out / WORKSHOP, ignore_errors=True)
    quarantine = {result.name: result.quarantine for result in results}
    write_json(out / "quarantine.json", {"limits": vars(Limits()), "proteins": quarantine, "excluded_files": excluded})
    projection = {result.name: result.projection for result in results}
    write_json(out / "projection.json", {"unit": "kcal/mol/angstrom", "proteins": projection})
    return write_manifest(
        out,
        sorted(quarantine),
        temperature_K=config.temperature_K,
        mapping=config.mapping,
        projection=config.projection,
        excluded=excluded,
    )


def _run(jobs: Sequence[Job], config: DataConfig) -> tuple[list[tuple[Job, JobResult]], list[dict[str, str]]]:
    """Results of the jobs in their order, and files that cannot be used with the reasons."""
    done: list[tuple[Job, JobResult]] = []
    bad: list[tuple[Job, UserError]] = []
    workers = config.workers or usable_cores()
    with progress("prep", len(jobs), "files") as bar, closing(run_all(run_job, jobs, workers)) as outcomes:
        for job, outcome in outcomes:
            if isinstance(outcome, UserError):
                if config.on_bad_file == "error":
                    raise _with_advice(outcome, len(jobs))
                log.warning("excluded: %s", outcome)
                bad.append((job, outcome))
            else:
                for protein in outcome.proteins:
                    _tell(protein, quiet=len(jobs) >= QUIET_FROM)
                done.append((job, outcome))
            bar.advance(1, excluded=len(bad))
    if not done:
        raise bad[0][1]
    order = {job.folder: place for place, job in enumerate(jobs)}
    done.sort(key=lambda pair: order[pair[0].folder])
    bad.sort(key=lambda pair: order[pair[0].folder])
    return done, [{"source": job.label, "reason": _without_folders(job, str(error))} for job, error in bad]


def _with_advice(error: UserError, n_jobs: int) -> UserError:
    if n_jobs == 1:
        return error
    advice = "or `data.on_bad_file: exclude` to go on without such files"
    remedy = f"{error.remedy}; {advice}" if error.remedy else advice.removeprefix("or ")
    return UserError(error.message, where=error.where, remedy=remedy)


def _without_folders(job: Job, text: str) -> str:
    """The same text in every place that the files may lie in."""
    for source in job.sources:
        for path in (source.path, source.topology):
            text = text.replace(str(path), path.name) if path is not None else text
    return text


def _collect(done: Sequence[tuple[Job, JobResult]], out: Path) -> list[ProteinResult]:
    """Move the files of all jobs to their final place."""
    owner: dict[str, Job] = {}
    for job, outcome in done:
        for protein in outcome.proteins:
            if protein.name in owner:
                raise UserError(
                    f"a second source gives protein `{protein.name}`: {owner[protein.name].label} does, too",
                    where=job.sources[0].path,
                    remedy="list all temperatures and replicas of a protein in one source",
                )
            owner[protein.name] = job
    for job, outcome in done:
        for name in outcome.files:
            (job.folder / name).replace(out / name)
    return [protein for _, outcome in done for protein in outcome.proteins]


def _tell(protein: ProteinResult, *, quiet: bool) -> None:
    trajectories = protein.quarantine["trajectories"]
    read = sum(t["frames_read"] for t in trajectories)
    kept = sum(t["frames_kept"] for t in trajectories)
    level = logging.DEBUG if quiet else logging.INFO
    log.log(level, "%s: %d beads, %d of %d frames kept", protein.name, protein.quarantine["beads"], kept, read)
    if kept < read:
        log.warning("%s: %d frames quarantined, see quarantine.json", protein.name, read - kept)
    for note in protein.notes:
        log.warning("%s: %s", protein.name, note)

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
from cgloop.data.splits import require_parts
from cgloop.errors import Unfinished, UserError
from cgloop.executors.machine import usable_cores
from cgloop.prep.jobs import Job, JobResult, make_jobs, run_job
from cgloop.prep.pool import run_all
from cgloop.prep.quarantine import Limits
from cgloop.prep.stream import ProteinResult
from cgloop.progress import progress
from cgloop.stages import write_json

log = logging.getLogger("cgloop.prep")

WORKSHOP = ".jobs"
"""Folder in which jobs work; what is finished there is found again after an interruption."""

QUIET_FROM = 50
"""With so many files, what went well is not told for each."""

MOST_REASONS = 3
"""So many files that cannot be used are told of with their reasons; of more, only the names."""


def prepare(config: DataConfig, out: Path) -> dict[str, Any]:
    """Write the data set of a config: `<protein>.h5`, `manifest.json`, `quarantine.json`, `projection.json`.

    What an interrupted call left in `out` is used.

    Args:
        config: the section `data`.
        out: an existing folder.

    Returns:
        The manifest.

    Raises:
        UserError: a source that is not there; or no source that can be used, because it is damaged, without forces,
            with an unknown residue, without the wanted temperature or replica, with too many bad frames, or too short.
        Unfinished: some sources cannot be used and `on_bad_file` is `error`; a protein is there twice; a part of the
            division of proteins is empty or names a protein that is not there. Finished jobs stay.
        Interrupted: a stop was requested; finished jobs stay.
    """
    jobs = make_jobs(expand_sources(config), config, out / WORKSHOP)
    done, excluded = _run(jobs, config)
    try:
        results = _distinct(done)
        require_parts([result.name for result in results], config.split, [one["source"] for one in excluded])
    except UserError as error:
        raise Unfinished.after(error) from None
    _move(done, out)
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
                if len(jobs) > 1:
                    log.warning("cannot be used: %s", outcome)
                bad.append((job, outcome))
            else:
                for protein in outcome.proteins:
                    _tell(protein, quiet=len(jobs) >= QUIET_FROM)
                done.append((job, outcome))
            bar.advance(1, unusable=len(bad))
    order = {job.folder: place for place, job in enumerate(jobs)}
    done.sort(key=lambda pair: order[pair[0].folder])
    bad.sort(key=lambda pair: order[pair[0].folder])
    if bad and not done:
        raise _summed_up(bad, len(jobs))
    if bad and config.on_bad_file == "error":
        raise Unfinished.after(_with_advice(_summed_up(bad, len(jobs))))
    if bad:
        log.warning("%d of %d files are excluded, with reasons in manifest.json", len(bad), len(jobs))
    return done, [{"source": job.label, "reason": _without_folders(job, str(error))} for job, error in bad]


def _summed_up(bad: Sequence[tuple[Job, UserError]], n_jobs: int) -> UserError:
    """One error that names all files that cannot be used."""
    if len(bad) == 1:
        return bad[0][1]
    told = [str(error) for _, error in bad[:MOST_REASONS]]
    if rest := [job.label for job, _ in bad[MOST_REASONS:]]:
        told.append(f"and {', '.join(rest)}")
    return UserError(f"{len(bad)} of {n_jobs} files cannot be used: {'; '.join(told)}")


def _with_advice(error: UserError) -> UserError:
    """With `on_bad_file: error` and files that could be used."""
    advice = "or `data.on_bad_file: exclude` to go on without such files; what is finished is kept"
    remedy = f"{error.remedy}; {advice}" if error.remedy else advice.removeprefix("or ")
    return UserError(error.message, where=error.where, remedy=remedy)


def _without_folders(job: Job, text: str) -> str:
    """The same text in every place that the files may lie in."""
    for source in job.sources:
        for path in (source.path, source.topology):
            text = text.replace(str(path), path.name) if path is not None else text
    return text


def _distinct(done: Sequence[tuple[Job, JobResult]]) -> list[ProteinResult]:
    """The proteins of all jobs; the same name twice is an error."""
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
    return [protein for _, outcome in done for protein in outcome.proteins]


def _move(done: Sequence[tuple[Job, JobResult]], out: Path) -> None:
    """Move the files of all jobs to their final place."""
    for job, outcome in done:
        for name in outcome.files:
            (job.folder / name).replace(out / name)


def _tell(protein: ProteinResult, *, quiet: bool) -> None:
    trajectories = protein.quarantine["trajectories"]
    read = sum(t["frames_read"] for t in trajectories)
    kept = sum(t["frames_kept"] for t in trajectories)
    level = logging.DEBUG if quiet else logging.INFO
    log.log(level, "%s: %d beads, %d of %d frames kept", protein.name, protein.quarantine["beads"], kept, read)
    if kept < read:
        log.warning("%s: %d frames quarantined, see quarantine.json", protein.name, read - kept)
    if moved := protein.quarantine["frames_moved"]:
        log.log(level, "%s: periodic images of atoms changed in %d of %d frames", protein.name, moved, read)
    for note in protein.notes:
        log.warning("%s: %s", protein.name, note)
    for note in set(protein.quarantine["notes"]) - set(protein.notes):
        log.log(level, "%s: %s", protein.name, note)

"""`cgloop submit`: scripts into the run directory, jobs into SLURM's queue, and a record of both."""

import json
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from cgloop.config import Config
from cgloop.errors import UserError
from cgloop.executors import slurm
from cgloop.executors.script import Job, plan_jobs
from cgloop.lock import locked
from cgloop.pipeline import stages_of
from cgloop.rundir import RunDirectory, write_config
from cgloop.stages import explained, require_space, write_json


def jobs_of(config: Config) -> tuple[str, ...]:
    """Return the subcommands that make up one cycle, each of which can be a job of its own."""
    return (*(stage.name for stage in stages_of(config)), "gate")


@dataclass(frozen=True)
class Submitted:
    """A job in SLURM's hands: what it runs, its id, its script, where its output goes."""

    name: str
    id: str
    script: str
    log: str


def submit_run(
    config: Config, run: RunDirectory, *, nodes: int | None = None, dry_run: bool = False, take_over: bool = False
) -> tuple[str, ...]:
    """Submit a run, or what is left of it: a job does only what is not up to date.

    The jobs read the resolved config in the run directory, so that later changes of the user's file do not reach them.

    Args:
        config: of the run; section `slurm` says which jobs, and with which resources.
        run: where; made if it is not there.
        nodes: instead of `slurm.nodes`.
        dry_run: write the scripts, submit nothing.
        take_over: see `cgloop.lock`.

    Returns:
        Lines for the person who asked.

    Raises:
        UserError: wrong template, a run that is in use or in the queue already, no SLURM here, or SLURM refuses;
            then no job is left in the queue.
    """
    if nodes is not None:
        config = config.model_copy(update={"slurm": config.slurm.model_copy(update={"nodes": nodes})})
    if config.slurm.jobs == "stages" and config.cycles > 1:
        remedy = "use `slurm.jobs: cycle`, or `cycles: 1`"
        raise UserError(f"`slurm.jobs: stages` makes the jobs of one cycle, not of {config.cycles}", remedy=remedy)
    place = RunDirectory(run.path.resolve())
    jobs = plan_jobs(config.slurm, place.path, config.run.name, jobs_of(config), Path.cwd(), sys.executable)
    _refuse_twice(place, dry_run)
    scripts = _write(config, place, jobs, take_over)
    if dry_run:
        return (*(f"wrote {script}" for script in scripts), "nothing was submitted")
    submitted = _submit_all(jobs, scripts)
    write_json(record_of(place), {"time": datetime.now(UTC).isoformat(), "jobs": [asdict(job) for job in submitted]})
    place.event("submitted", nodes=config.slurm.nodes or 1, jobs={job.name: job.id for job in submitted})
    return (*(f"job {job.id}  {job.name}: output in {job.log}" for job in submitted), f"see `cgloop status {run.path}`")


def record_of(run: RunDirectory) -> Path:
    """The file that says what was submitted last."""
    return run.path / "slurm" / "submission.json"


def read_submission(run: RunDirectory) -> list[Submitted]:
    """The jobs that were submitted last; none if the run never was."""
    try:
        return [Submitted(**job) for job in json.loads(record_of(run).read_text())["jobs"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def submission_lines(run: RunDirectory) -> list[str]:
    """A line for each job that was submitted last, with its state."""
    jobs = read_submission(run)
    if not jobs:
        return []
    try:
        states = slurm.states([job.id for job in jobs])
    except UserError as error:
        states = dict.fromkeys((job.id for job in jobs), f"state unknown: {error.message}")
    return [f"job      {job.id} {job.name}: {states[job.id]}" for job in jobs]


def _refuse_twice(run: RunDirectory, dry_run: bool) -> None:
    """Refuse while jobs of this run wait or run: they read its config, and two would be in each other's way."""
    jobs = read_submission(run)
    if not jobs:
        return
    try:
        states = slurm.states([job.id for job in jobs])
    except UserError:
        if dry_run:  # also where there is no SLURM
            return
        raise
    live = {job: state for job, state in states.items() if slurm.is_live(state)}
    if live:
        shown = ", ".join(f"job {job} is {state}" for job, state in live.items())
        raise UserError(
            f"submitted already: {shown}", where=run.path, remedy=f"`scancel {' '.join(live)}` first, or wait"
        )


def _write(config: Config, run: RunDirectory, jobs: list[Job], take_over: bool) -> list[Path]:
    """Config and scripts, written while nobody works in the run directory; the lock is free again when a job starts."""
    with explained(run.path):
        require_space(run.path, config.run.min_free_gb)
        folder = run.path / "slurm"
        folder.mkdir(parents=True, exist_ok=True)
        with locked(run.path, take_over=take_over):
            write_config(config, run.config)
            for old in folder.glob("*.sbatch"):
                old.unlink()
            scripts = [folder / f"{number:02d}-{job.name}.sbatch" for number, job in enumerate(jobs, 1)]
            for script, job in zip(scripts, jobs, strict=True):
                script.write_text(job.script, encoding="utf-8")
    return scripts


def _submit_all(jobs: list[Job], scripts: list[Path]) -> list[Submitted]:
    """All jobs in a chain, or none."""
    done: list[Submitted] = []
    try:
        for job, script in zip(jobs, scripts, strict=True):
            number = slurm.submit(script, after=done[-1].id if done else None)
            log = script.parent / f"{job.name}-{number}.log"
            done.append(Submitted(job.name, number, str(script), str(log)))
    except UserError:
        if done:
            slurm.cancel([job.id for job in done])
        raise
    return done

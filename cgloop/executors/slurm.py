"""SLURM's commands: submit, ask, cancel. Each refusal of SLURM is one line with what it said."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from cgloop.errors import UserError
from cgloop.jax_environment import environment_for_other_programs

FINISHED = "not in the queue any more"
"""State of a job that SLURM no longer knows."""

TIMEOUT_S = 60


def submit(script: Path, after: str | None = None) -> str:
    """Submit a script; returns the job's id.

    Args:
        script: file to submit.
        after: id of a job that must succeed first. If it cannot any more, this one is cancelled.

    Raises:
        UserError: there is no sbatch here, or it refuses.
    """
    dependency = [f"--dependency=afterok:{after}", "--kill-on-invalid-dep=yes"] if after else []
    done = _call(["sbatch", "--parsable", *dependency, str(script)], f"{script}: sbatch refuses it")
    # The id may come with the name of the cluster, and after warnings.
    return done.split()[-1].partition(";")[0]


def cancel(jobs: Sequence[str]) -> None:
    """Cancel jobs; one that is gone already is no mistake."""
    subprocess.run(["scancel", *jobs], capture_output=True, timeout=TIMEOUT_S, check=False)


def states(jobs: Sequence[str]) -> dict[str, str]:
    """State of each job, in SLURM's words, and why it waits; `FINISHED` if SLURM no longer knows it.

    Raises:
        UserError: SLURM cannot be asked here.
    """
    # An unknown id among several is left out of the answer; one that is asked for alone is an error. So ask twice.
    wanted = ",".join([*jobs, *jobs])
    text = _call(["squeue", "--noheader", "--states=all", f"--jobs={wanted}", "--format=%i %T %r"], "squeue fails")
    known = {}
    for line in text.splitlines():
        job, state, reason = [*line.split(None, 2), "", ""][:3]
        waits = state == "PENDING" and reason not in ("None", "")
        known[job] = f"{state} ({reason})" if waits else state
    return {job: known.get(job, FINISHED) for job in jobs}


def is_live(state: str) -> bool:
    """Whether a job in this state waits or runs."""
    return state.split()[0] in (
        "PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED", "REQUEUE_HOLD", "RESIZING",
        "SIGNALING", "STAGE_OUT", "STOPPED",
    )  # fmt: skip


def _call(command: list[str], refusal: str) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment_for_other_programs()
        )
    except FileNotFoundError:
        remedy = "run this on a login node of the cluster, or load SLURM first; `--dry-run` only writes the scripts"
        raise UserError(f"no {command[0]} on the path", remedy=remedy) from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{command[0]} does not answer within {TIMEOUT_S} s", remedy="try again later") from None
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())
        raise UserError(f"{refusal}: {said or f'exit code {done.returncode}'}")
    return done.stdout

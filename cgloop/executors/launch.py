"""Work of one process that it spreads over all tasks of its SLURM job.

A cycle is one process: it holds the lock and writes the run directory. For training on many devices it starts a step of
its own on all tasks of the job (`srun … python -m cgloop.train.worker`) and waits for it. So no process ever has to
guess whether it is one of several, and everything else runs as on a laptop.
"""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

from cgloop.errors import ExitCode, Interrupted, UserError
from cgloop.executors.world import launched
from cgloop.interrupt import check_stop, stop_requested

log = logging.getLogger("cgloop.executors")

POLL_S = 0.2


def tasks_of_job() -> int:
    """Tasks that this process may start: those of the SLURM job it leads; 1 elsewhere, and in a task of a step."""
    if "SLURM_JOB_ID" not in os.environ or launched().size > 1:
        return 1
    number = os.environ.get("SLURM_NTASKS") or os.environ.get("SLURM_JOB_NUM_NODES", "1")
    return int(number) if number.isdigit() else 1


def srun_command(tasks: int, command: Sequence[str]) -> list[str]:
    """The step that runs `command` on so many tasks of this job."""
    # No PMI: the processes meet through JAX. Since 22.05 a step does not inherit the job's processors per task.
    options = [f"--ntasks={tasks}", "--mpi=none", "--kill-on-bad-exit=1", "--wait=0"]
    if cpus := os.environ.get("SLURM_CPUS_PER_TASK"):
        options.append(f"--cpus-per-task={cpus}")
    return ["srun", *options, *command]


def run_on_tasks(tasks: int, module: str, arguments: Sequence[str]) -> None:
    """Run `python -m module arguments` on all tasks of this job, and wait for the end.

    A request to stop is passed on as SIGUSR1, which srun forwards to every task.

    Raises:
        UserError: the module ended with exit code 2 (it has said why), or there is no srun.
        Interrupted: it was asked to stop and did.
        RuntimeError: it broke.
    """
    check_stop()
    command = srun_command(tasks, [sys.executable, "-m", module, *arguments])
    log.info("%s on %d tasks", module, tasks)
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise UserError("no srun on the path", remedy="load SLURM in `slurm.setup`") from None
    try:
        stopped = _wait(process)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    code = process.returncode
    if code == ExitCode.INTERRUPTED or (stopped and code in (-signal.SIGUSR1, 128 + signal.SIGUSR1)):
        check_stop()
        raise Interrupted(f"{module} was stopped")
    if code == ExitCode.BAD_INPUT:
        raise UserError(f"{module} refused its input", remedy="its message is above")
    if code != 0:
        raise RuntimeError(f"{module} on {tasks} tasks ended with exit code {code}; its output is above")


def _wait(process: subprocess.Popen[bytes]) -> bool:
    """Wait for the end; whether a request to stop was passed on."""
    passed_on = False
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(POLL_S)
            return passed_on
        if stop_requested() and not passed_on:
            process.send_signal(signal.SIGUSR1)
            passed_on = True

"""Work of one process that it spreads over all tasks of its SLURM job.

A cycle is one process: it holds the lock and writes the run directory. For training on many devices it starts a step of
its own on all tasks of the job, `srun … python -m MODULE`, and waits for it. So no process ever has to guess whether it
is one of several, and everything else runs as on a laptop.

`run_on_tasks` is the side of the process that leads, `run_task` the side of each task:

    # in the stage                                        # cgloop/train/worker.py
    if (tasks := tasks_of_job()) > 1:                     def main() -> int:
        run_on_tasks(tasks, "cgloop.train.worker", …)         return run_task(lambda world: train(…, world))
"""

import json
import logging
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from cgloop.allocator import share_memory
from cgloop.console import log_to_file, setup_logging, verbosity
from cgloop.errors import ExitCode, Interrupted, UserError
from cgloop.executors.child import LOG, OUTCOME, VERBOSITY, mistake, told
from cgloop.executors.world import World, initialize_world, launched
from cgloop.interrupt import check_stop, stop_on_signals, stop_requested

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
    options = [f"--ntasks={tasks}", "--mpi=none", "--kill-on-bad-exit=1"]
    if cpus := os.environ.get("SLURM_CPUS_PER_TASK"):
        options.append(f"--cpus-per-task={cpus}")
    return ["srun", *options, *command]


def run_on_tasks(tasks: int, module: str, arguments: Sequence[str], folder: Path, log_file: Path | None = None) -> None:
    """Run `python -m module arguments`, whose body is `run_task`, on all tasks of this job, and wait for the end.

    A request to stop is passed on as SIGUSR1, which srun forwards to every task.

    Args:
        tasks: how many.
        module, arguments: what they run.
        folder: that exists on all nodes; how the tasks ended is passed through it, and nothing stays there.
        log_file: that the first task appends to.

    Raises:
        UserError: as a task raised it, or there is no srun.
        Interrupted: the tasks were asked to stop and did.
        RuntimeError: a task broke.
    """
    check_stop()
    # A name that was never asked for: a network file system may remember for a minute that a file is not there.
    outcome = folder.resolve() / f".outcome-{uuid.uuid4().hex}.json"
    environment = {**os.environ, OUTCOME: str(outcome), VERBOSITY: str(verbosity())}
    if log_file:
        environment[LOG] = str(log_file.resolve())
    command = srun_command(tasks, [sys.executable, "-m", module, *arguments])
    log.info("%s on %d tasks", module, tasks)
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment)
    except FileNotFoundError:
        raise UserError("no srun on the path", remedy="load SLURM in `slurm.setup`") from None
    try:
        stopped = _wait(process)
        said = _read_outcome(outcome)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    finally:
        outcome.unlink(missing_ok=True)
    code = process.returncode
    if said is not None:
        raise said
    # A task that was told to stop before it could listen to signals dies of the signal, and srun ends the others;
    # nothing is lost.
    if stopped and code - 128 in (signal.SIGUSR1, signal.SIGTERM):
        check_stop()
    if code != 0:
        raise RuntimeError(f"{module} on {tasks} tasks ended with exit code {code}; its output says why")


def run_task(work: Callable[[World], object]) -> int:
    """Body of a program that runs on several tasks: meet the others, work, end so that the leader understands it.

    `work` must be left by all tasks in the same way: a request to stop, which reaches them one after the other, is to
    be agreed on with `World.any`. A mistake of the user, or of ours, may be raised by one task alone; the others are
    then ended.

    Returns:
        The exit code of the process, unless it has to leave at once.
    """
    share_memory()
    setup_logging(int(os.environ.get(VERBOSITY, "0")))
    with stop_on_signals():
        try:
            world = initialize_world()
            if world.is_primary and LOG in os.environ:
                log_to_file(Path(os.environ[LOG]))
            try:
                work(world)
            except Interrupted as error:
                world.barrier("stopped")
                # srun ends all tasks when one leaves with an error, also while another is still on its way out.
                if not _write_outcome({"interrupted": str(error)}, world.is_primary):
                    return ExitCode.INTERRUPTED
                return ExitCode.PASS
            world.barrier("done")
            return ExitCode.PASS
        except UserError as error:
            if not _write_outcome(mistake(error)):
                print(f"error: {error}", file=sys.stderr)
            code = ExitCode.BAD_INPUT
        except Exception:
            log.exception("task %d broke", launched().rank)
            code = ExitCode.DEFECT
    # The ordinary way out waits for the others, who wait for us.
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


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


def _write_outcome(outcome: dict[str, str | None], wanted: bool = True) -> bool:
    """Tell the leader how it ended; the first task that writes wins. False if there is no leader."""
    if OUTCOME not in os.environ:
        return False
    if wanted:
        path = Path(os.environ[OUTCOME])
        draft = path.with_name(f"{path.name}.{launched().rank}")
        draft.write_text(json.dumps(outcome), encoding="utf-8")
        with suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return True


def _read_outcome(path: Path) -> UserError | Interrupted | None:
    if not path.exists():
        return None
    return told(json.loads(path.read_text(encoding="utf-8")))

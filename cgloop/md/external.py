"""The external engine: rendered scripts under an `lmp` of the user's, one process and one replica a run.

Nothing of ours runs inside that process, so no step is watched while it is done. A crash is told from the exit code,
the log and the thermo table, and then the run is repeated from its last restart file with every step written out: there
the limits of the monitors are judged step by step, as they are in-process. Random numbers of `fix langevin` are not in
a restart file; a repeated NVT run meets other ones, and may not break where the first one did.
"""

import contextlib
import logging
import math
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cgloop.errors import UserError
from cgloop.interrupt import stop_requested
from cgloop.md.external_dump import Dense, first_violation, read_dense
from cgloop.md.external_log import Log, read_log, reason_of
from cgloop.md.monitors import Limits, Violation
from cgloop.md.recorder import Clock
from cgloop.md.system import System

log = logging.getLogger("cgloop.md")

LOG, OUTPUT, DENSE, REPLAY = "log.lammps", "output.txt", "dense.dump", "replay"
RESTARTS = ("restart.a", "restart.b")
LAST_RESTART = "last.restart"
MAX_DENSE_STEPS = 100_000
"""Repetitions from the start are not longer: every step is written as text."""

GRACE_S = 10.0
"""Time that a process gets to end after SIGTERM."""

_POLL_S = 0.05


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one run.

    Attributes:
        survived: all steps were done, and nothing in the log speaks against it.
        steps_asked, steps_done: of the run; the second from the thermo table.
        limit: why it ended, "" if it survived: a limit of the monitors, one of `cgloop.md.ending.FAILURES`,
            `missing_plugin`, or `interrupted`.
        value, threshold: of the limit; NaN where it has no number.
        message: LAMMPS's or the system's words.
        crash_step: step at which the limit was broken, counted from the start; None if it is not known.
        thermo: columns [T] of the log.
        dense: the steps before the end, every one, from the repetition; None without a crash.
        dense_path: their file.
        reproduced: whether the repetition broke a limit, too.
    """

    survived: bool
    steps_asked: int
    steps_done: int
    limit: str = ""
    value: float = math.nan
    threshold: float = math.nan
    message: str = ""
    crash_step: int | None = None
    thermo: dict[str, np.ndarray] = field(default_factory=dict)
    dense: Dense | None = None
    dense_path: Path | None = None
    reproduced: bool = False


@dataclass(frozen=True)
class Ended:
    """How a process ended: exit code (negative: signal), and whether we ended it and why."""

    code: int
    stopped: str
    seconds: float


NOT_REPEATED = ("interrupted", "timeout", "missing_plugin", "out_of_memory")
"""Ends that say nothing about the dynamics, or would come again in the same way."""


def run_external(
    lmp: Sequence[str],
    folder: Path,
    script: str,
    system: System,
    clock: Clock,
    limits: Limits,
    *,
    variables: Mapping[str, object] | None = None,
    timeout_s: float | None = None,
) -> Outcome:
    """Run a script of a folder made by `write_plain_inputs`, and repeat its end densely if it crashed.

    Args:
        lmp: the program and its first arguments, as `["mpiexec", "-n", "2", "/opt/lammps/bin/lmp"]`.
        folder: of the inputs; outputs are written there, and `replay/` after a crash.
        script: its name there, `plain_nvt.in` or `plain_nve.in`.
        system: the protein.
        clock: time step and steps; override the script's variables.
        limits: of the monitors.
        variables: others of the script to be set.
        timeout_s: the process is ended after it.

    Raises:
        UserError: there is no such program, or it may not be executed.
    """
    steps = clock.equilibration_steps + clock.steps
    given = {**(variables or {}), "timestep_fs": clock.timestep_fs, "steps": clock.steps}
    if script == "plain_nvt.in":
        given["equilibration_steps"] = clock.equilibration_steps
    for name in RESTARTS:
        (folder / name).unlink(missing_ok=True)
    ended = execute(lmp, folder, script, given, timeout_s)
    text = read_log(folder / LOG)
    outcome = judge_run(ended, text, steps, system, limits, _tail(folder / OUTPUT))
    if outcome.survived or outcome.limit in NOT_REPEATED or not outcome.thermo:
        return outcome
    log.warning("%s %s: %s (%s), repeated from the last restart", system.name, script, outcome.limit, outcome.message)
    return _repeated(lmp, folder, script, system, clock, limits, given, outcome, timeout_s)


def execute(
    lmp: Sequence[str], folder: Path, script: str, variables: Mapping[str, object], timeout_s: float | None
) -> Ended:
    """Run one process to its end; a request to stop is passed on as SIGTERM. Raises UserError as `run_external`."""
    arguments = [*lmp, "-in", script, "-log", LOG, "-screen", "none", "-nocite"]
    for name, value in variables.items():
        arguments += ["-var", name, f"{value:.12g}" if isinstance(value, float) else str(value)]
    began, stopped = time.monotonic(), ""
    with open(folder / OUTPUT, "wb") as output:
        try:
            # A session of its own: `lmp` may be a script, or `mpiexec`, and what it starts has to end with it.
            process = subprocess.Popen(
                arguments, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        except OSError as error:
            raise UserError(
                f"cannot be run: {error.strerror}", where=lmp[0] if lmp else "lmp", remedy="give the path of an `lmp`"
            ) from None
        try:
            while process.poll() is None:
                if stop_requested():
                    stopped = "interrupted"
                elif timeout_s is not None and time.monotonic() - began > timeout_s:
                    stopped = "timeout"
                if stopped:
                    break
                time.sleep(_POLL_S)
        finally:
            _end(process)
    return Ended(process.returncode, stopped, time.monotonic() - began)


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the process and all that it started, and SIGKILL if that does not help."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
            if not _group_lives(process.pid):
                return


def _group_lives(group: int) -> bool:
    """Whether a process group still has members, after a moment for them to end."""
    for _ in range(int(GRACE_S / _POLL_S)):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(_POLL_S)
    return True


def judge_run(ended: Ended, text: Log, steps: int, system: System, limits: Limits, output: str = "") -> Outcome:
    """The outcome of a process, before anything is repeated.

    Args:
        ended: how the process ended.
        text: its log.
        steps: all that were asked for.
        system, limits: the beads, and what they may not do.
        output: last lines that the process wrote beside its log.
    """
    thermo = text.thermo
    done = int(thermo["Step"][-1]) if thermo else 0

    def outcome(limit: str, message: str, **numbers: float) -> Outcome:
        return Outcome(not limit, steps, done, limit, message=message, thermo=thermo, **numbers)  # type: ignore[arg-type]

    if ended.stopped:
        return outcome(ended.stopped, f"ended after {ended.seconds:.1f} s")
    broken = _thermo_violation(thermo, system, limits)
    reason = reason_of(text.errors)
    if broken is not None and reason in (None, "engine_error", "lost_atoms", "non-finite"):
        limit, value, threshold, step = broken
        message = text.errors[0] if text.errors else f"at step {step}"
        return outcome(limit, message, value=value, threshold=threshold, crash_step=step)
    if reason is not None:
        return outcome(reason, text.errors[0])
    if ended.code:
        number = -ended.code if ended.code < 0 else ended.code - 128
        name = signal.Signals(number).name if number in set(signal.Signals) else f"exit code {ended.code}"
        return outcome("killed" if number in set(signal.Signals) else "engine_error", f"{name} {output}".strip())
    if done < steps:
        return outcome("engine_error", f"ended at step {done} of {steps}")
    return outcome("", "")


def _thermo_violation(
    thermo: dict[str, np.ndarray], system: System, limits: Limits
) -> tuple[str, float, float, int] | None:
    """The first row of the thermo table that breaks a limit: its name, value, threshold and step."""
    if not thermo:
        return None
    values = np.stack([thermo[name] for name in ("KinEng", "PotEng", "Fmax") if name in thermo])
    # LAMMPS's temperature leaves out three degrees of freedom, ours does not.
    scale = max(1, 3 * system.n_beads - 3) / (3 * system.n_beads)
    temperature = scale * thermo["Temp"]
    for row, step in enumerate(thermo["Step"].astype(int).tolist()):
        if not np.isfinite(values[:, row]).all():
            return "non-finite", math.nan, 0.0, step
        if not thermo["Fmax"][row] <= limits.max_force:
            return "max_force", float(thermo["Fmax"][row]), limits.max_force, step
        if not temperature[row] <= limits.temperature_instant_K:
            return "temperature_instant", float(temperature[row]), limits.temperature_instant_K, step
    return None


def _repeated(
    lmp: Sequence[str], folder: Path, script: str, system: System, clock: Clock, limits: Limits,
    given: Mapping[str, object], outcome: Outcome, timeout_s: float | None,
) -> Outcome:  # fmt: skip
    """Repeat the end of a crashed run with every step written out.

    From the newest restart file that was written before a limit was broken: a run that goes on behind its crash writes
    restart files there, too. From the start if there is none and the crash came early.
    """
    known = outcome.thermo["Step"].astype(int).tolist()
    last = outcome.crash_step if outcome.crash_step is not None else outcome.steps_done
    rows_apart = known[1] - known[0] if len(known) > 1 else outcome.steps_asked
    end = min(outcome.steps_asked, last + rows_apart)
    written = [path for name in RESTARTS if (path := folder / name).is_file()]
    starts: list[Path | None] = [*sorted(written, key=lambda path: path.stat().st_mtime_ns, reverse=True)]
    if end <= MAX_DENSE_STEPS:
        starts.append(None)
    for start in starts:
        replay = _replay_folder(folder, start)
        variables = {**given, "dense_every": 1, "thermo_every": 1, "steps": end - clock.equilibration_steps}
        if script != "plain_nvt.in":
            variables["steps"] = end
        if start is not None:
            variables["restart_file"] = LAST_RESTART
        execute(lmp, replay, script, variables, timeout_s)
        dense = read_dense(replay / DENSE, system.n_beads)
        if dense is None:
            continue
        found = first_violation(dense, system, limits, clock.timestep_fs)
        if found is not None and found[0] == 0 and start is not None:
            continue
        return _with_dense(outcome, dense, replay / DENSE, found)
    return outcome


def _replay_folder(folder: Path, restart: Path | None) -> Path:
    """A fresh folder with the inputs of a run, and the restart file to begin with."""
    replay = folder / REPLAY
    shutil.rmtree(replay, ignore_errors=True)
    replay.mkdir()
    for path in folder.iterdir():
        if path.suffix in (".in", ".table", ".data", ".ptb"):
            shutil.copyfile(path, replay / path.name)
    if restart is not None:
        shutil.copyfile(restart, replay / LAST_RESTART)
    return replay


def _with_dense(outcome: Outcome, dense: Dense, path: Path, found: tuple[int, Violation] | None) -> Outcome:
    """The outcome with what its repetition showed."""
    if found is None:
        return replace(outcome, dense=dense, dense_path=path)
    row, violation = found
    return replace(
        outcome, dense=dense.until(row), dense_path=path, reproduced=True, limit=violation.limit, value=violation.value,
        threshold=violation.threshold, crash_step=int(dense.step[row]), steps_done=max(0, int(dense.step[row]) - 1),
    )  # fmt: skip


def _tail(path: Path, n_bytes: int = 300) -> str:
    """The last words of a file in one line."""
    text = path.read_bytes()[-n_bytes:].decode("utf-8", "replace") if path.is_file() else ""
    return " ".join(text.split())

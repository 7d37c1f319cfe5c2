"""The external engine: rendered scripts under an `lmp` of the user's, one process and one replica a run.

Nothing of ours runs inside that process, so no step is watched while it is done. A crash is told from the exit code,
the log, the thermo table and the frames, and then the run is repeated from its last restart file with every step
written out: there the limits of the monitors are judged step by step, as they are in-process. Random numbers of
`fix langevin` are not in a restart file; a repeated NVT run meets other ones, and may not break where the first did.
"""

import contextlib
import logging
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cgloop.errors import UserError
from cgloop.interrupt import stop_requested
from cgloop.jax_environment import environment_for_other_programs
from cgloop.md import leash
from cgloop.md.external_dump import Dense, first_violation, read_dense
from cgloop.md.external_log import Log, read_log, reason_of
from cgloop.md.external_parts import LOG, read_parts, set_aside
from cgloop.md.failure import killed_for_memory
from cgloop.md.monitors import Limits, Violation
from cgloop.md.recorder import Clock
from cgloop.md.system import System

log = logging.getLogger("cgloop.md")

OUTPUT, DENSE, REPLAY = "log.output", "dense.dump", "replay"
RESTARTS = ("restart.a", "restart.b")
LAST_RESTART = "last.restart"
MAX_DENSE_STEPS = 100_000
"""Repetitions from the start are not longer: every step is written as text."""

GRACE_S = leash.GRACE_S + 5.0
"""Time that a process gets to end after SIGTERM."""

_POLL_S = 0.05
_PROBE_S = 120.0


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
    """How a process ended: exit code (negative: signal), whether we ended it and why, and whether the kernel killed a
    process for memory meanwhile."""

    code: int
    stopped: str
    seconds: float
    memory: bool = False


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
    degrees_of_freedom: int | None = None,
    variables: Mapping[str, object] | None = None,
    timeout_s: float | None = None,
    go_on: bool = False,
) -> Outcome:
    """Run a script of a folder made by `write_plain_inputs`, and repeat its end densely if it crashed.

    Args:
        lmp: the program and its first arguments, as `["mpiexec", "-n", "2", "/opt/lammps/bin/lmp"]`.
        folder: of the inputs; outputs are written there, and `replay/` after a crash.
        script: its name there, `plain_nvt.in` or `plain_nve.in`.
        system: the protein.
        clock: time step and steps; override the script's variables.
        limits: of the monitors.
        degrees_of_freedom: that they are for; default: three a bead.
        variables: others of the script to be set.
        timeout_s: the process is ended after it.
        go_on: from the last restart file that an earlier attempt left there; otherwise that begins anew.

    Raises:
        UserError: there is no such program, or it may not be executed.
    """
    steps = clock.equilibration_steps + clock.steps
    given = {**(variables or {}), "timestep_fs": clock.timestep_fs, "steps": clock.steps}
    if script == "plain_nvt.in":
        given["equilibration_steps"] = clock.equilibration_steps
    freedom = degrees_of_freedom or 3 * system.n_beads
    number, restarts = set_aside(folder, RESTARTS, keep=go_on)
    if number and "seed" in given:
        # The same seed again would be the same noise as at the beginning.
        given["seed"] = int(str(given["seed"])) + number
    ended = _execute_from(restarts, lmp, folder, script, given, timeout_s)
    parts = read_parts(folder)
    outcome = judge_run(ended, parts.log, steps, system, limits, _tail(folder / OUTPUT), freedom)
    if outcome.survived:
        outcome = _judge_frames(outcome, Dense.still(parts.steps, parts.frames), system, limits, clock)
    if outcome.survived or outcome.limit in NOT_REPEATED or not outcome.thermo:
        return outcome
    log.warning("%s %s: %s (%s), repeated from the last restart", system.name, script, outcome.limit, outcome.message)
    return _repeated(lmp, folder, script, system, clock, limits, freedom, given, outcome, timeout_s)


def _execute_from(
    restarts: Sequence[Path], lmp: Sequence[str], folder: Path, script: str, given: Mapping[str, object],
    timeout_s: float | None,
) -> Ended:  # fmt: skip
    """Run from the first of these restart files that can be read, or from the start."""
    for path in restarts:
        shutil.copyfile(path, folder / LAST_RESTART)
        ended = execute(lmp, folder, script, {**given, "restart_file": LAST_RESTART}, timeout_s)
        if ended.stopped or read_log(folder / LOG).thermo:
            return ended
        log.warning("%s cannot be read, perhaps a kill cut it short", path)
    if restarts:
        set_aside(folder, RESTARTS, keep=False)
    return execute(lmp, folder, script, given, timeout_s)


def _judge_frames(outcome: Outcome, frames: Dense, system: System, limits: Limits, clock: Clock) -> Outcome:
    """An outcome with what the frames of the trajectory say about distances and bonds."""
    found = first_violation(frames, system, limits, clock.timestep_fs)
    if found is None:
        return outcome
    row, violation = found
    step = int(frames.step[row])
    return replace(
        outcome, survived=False, limit=violation.limit, value=violation.value, threshold=violation.threshold,
        crash_step=step, message=f"in the frame of step {step}",
    )  # fmt: skip


def execute(
    lmp: Sequence[str], folder: Path, script: str, variables: Mapping[str, object], timeout_s: float | None
) -> Ended:
    """Run one process to its end; a request to stop is passed on as SIGTERM. Raises UserError as `run_external`."""
    arguments = [*found_program(lmp), "-in", script, "-log", LOG, "-screen", "none", "-nocite"]
    for name, value in variables.items():
        arguments += ["-var", name, f"{value:.12g}" if isinstance(value, float) else str(value)]
    began, stopped, kills = time.monotonic(), "", killed_for_memory()
    with open(folder / OUTPUT, "wb") as output:
        # A session of its own: `lmp` may be a script, or `mpiexec`, and what it starts has to end with it.
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", leash.__file__, *arguments],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            env=environment_for_other_programs(),
        )  # fmt: skip
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
    return Ended(process.returncode, stopped, time.monotonic() - began, killed_for_memory() > kills)


def found_program(lmp: Sequence[str]) -> list[str]:
    """The command with the full path of its program. Raises UserError as `run_external`."""
    path = shutil.which(lmp[0])
    if path is None:
        reason = "Permission denied" if Path(lmp[0]).exists() else "No such file or directory"
        raise UserError(f"cannot be run: {reason}", where=lmp[0], remedy="give the path of an `lmp` in `md.lmp`")
    return [str(Path(path).absolute()), *lmp[1:]]


def pair_styles(lmp: Sequence[str], folder: Path) -> tuple[set[str], int]:
    """The pair styles that a program knows, plugins included, and its version.

    Args:
        lmp: as for `run_external`.
        folder: for its input and output.

    Raises:
        UserError: it cannot be run, or is no LAMMPS.
    """
    (folder / "styles.in").write_text(
        'print "cgloop-version $(version:%.0f)"\ninfo styles pair out append styles.txt\n'
    )
    (folder / "styles.txt").unlink(missing_ok=True)
    ended = execute(lmp, folder, "styles.in", {}, _PROBE_S)
    text = (folder / LOG).read_text(errors="replace") if (folder / LOG).is_file() else ""
    version = re.search(r"^cgloop-version (\d+)", text, re.MULTILINE)
    if version is None or not (folder / "styles.txt").is_file():
        said = _tail(folder / OUTPUT) or f"exit code {ended.code}"
        raise UserError(
            f"is no LAMMPS that runs here: {said}", where=lmp[0], remedy="give that of an `lmp` in `md.lmp`"
        )
    return set((folder / "styles.txt").read_text(errors="replace").split()), int(version[1])


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


def judge_run(
    ended: Ended, text: Log, steps: int, system: System, limits: Limits, output: str = "",
    degrees_of_freedom: int | None = None,
) -> Outcome:  # fmt: skip
    """The outcome of a process, before anything is repeated.

    Args:
        ended: how the process ended.
        text: its log.
        steps: all that were asked for.
        system, limits: the beads, and what they may not do.
        output: last lines that the process wrote beside its log.
        degrees_of_freedom: that the limits are for; default: three a bead.
    """
    thermo = text.thermo
    done = int(thermo["Step"][-1]) if thermo else 0

    def outcome(limit: str, message: str, **numbers: float) -> Outcome:
        return Outcome(not limit, steps, done, limit, message=message, thermo=thermo, **numbers)  # type: ignore[arg-type]

    if ended.stopped:
        return outcome(ended.stopped, f"ended after {ended.seconds:.1f} s")
    broken = _thermo_violation(thermo, system, limits, degrees_of_freedom or 3 * system.n_beads)
    reason = reason_of(text.errors)
    if broken is not None and reason in (None, "engine_error", "lost_atoms", "non-finite"):
        limit, value, threshold, step = broken
        message = text.errors[0] if text.errors else f"at step {step}"
        return outcome(limit, message, value=value, threshold=threshold, crash_step=step)
    if reason is not None:
        return outcome(reason, text.errors[0])
    if ended.code:
        number = _signal_of(ended.code)
        if number is None:
            return outcome("engine_error", f"exit code {ended.code} {output}".strip())
        limit = "out_of_memory" if ended.memory and number == signal.SIGKILL else "killed"
        return outcome(limit, f"{number.name} {output}".strip())
    if done < steps:
        return outcome("engine_error", f"ended at step {done} of {steps}")
    return outcome("", "")


def _signal_of(code: int) -> signal.Signals | None:
    """The signal that an exit code tells of: of a process itself, of one that a shell ran, or that a script passed on
    as a negative number, as the wheel's `lmp` does."""
    number = -code if code < 0 else code - 128 if 128 < code < 192 else 256 - code
    return next((one for one in signal.Signals if one == number and one != signal.SIGHUP), None)


def _thermo_violation(
    thermo: dict[str, np.ndarray], system: System, limits: Limits, degrees_of_freedom: int
) -> tuple[str, float, float, int] | None:
    """The first row of the thermo table that breaks a limit: its name, value, threshold and step."""
    if not thermo:
        return None
    values = np.stack([thermo[name] for name in ("KinEng", "PotEng", "Fmax") if name in thermo])
    # LAMMPS's temperature leaves out three degrees of freedom once. A minimisation has none.
    scale = max(1, 3 * system.n_beads - 3) / degrees_of_freedom
    temperature = scale * thermo.get("Temp", np.zeros(values.shape[1]))
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
    degrees_of_freedom: int, given: Mapping[str, object], outcome: Outcome, timeout_s: float | None,
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
        if execute(lmp, replay, script, variables, timeout_s).stopped == "interrupted":
            return replace(outcome, limit="interrupted")
        dense = read_dense(replay / DENSE, system.n_beads)
        if dense is None:
            continue
        found = first_violation(dense, system, limits, clock.timestep_fs, degrees_of_freedom)
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

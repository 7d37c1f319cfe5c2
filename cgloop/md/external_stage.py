"""The stages of a job under an external `lmp`: one replica a run, with the files of the in-process engine.

Every replica has a folder of its own, `lmp_003/`, with its scripts and log. What is known of a finished one lies there
until all are done, so that a job that was stopped goes on with the others, and one in the middle of its dynamics from
its restart files. Its thermostat is `fix langevin`: other random numbers than the in-process ones, the same statistics.
"""

import json
import logging
import math
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cgloop.checks import jsonable
from cgloop.config.md import MDConfig
from cgloop.errors import Interrupted, UserError
from cgloop.export.bundle import Bundle
from cgloop.export.chemtrain_deploy import PTB
from cgloop.interrupt import check_stop
from cgloop.md.crash_files import CrashWriter
from cgloop.md.dynamics import SECONDS_PER_DAY
from cgloop.md.ending import StageResult, State, not_started, outcome_at
from cgloop.md.evaluation import Evaluate
from cgloop.md.external import Outcome, execute, judge_run, pair_styles, run_external
from cgloop.md.external_dump import Measured, measure, read_dense, write_series
from cgloop.md.external_log import read_log
from cgloop.md.external_parts import LOG, read_parts
from cgloop.md.failure import FAILURES, Failure
from cgloop.md.minimize import Minimized, centred, largest_move, read_results, rms_move, write_ends, write_results
from cgloop.md.monitors import Violation, limits_of
from cgloop.md.observables import StageInfo
from cgloop.md.plain import PlainSettings, write_plain_inputs
from cgloop.md.plan import Plan
from cgloop.md.recorder import Clock
from cgloop.md.system import StartFrames, Subject, System
from cgloop.md.thermostat import LAMMPS_SEEDS
from cgloop.md.trajectory import write_topology
from cgloop.progress import progress
from cgloop.stages import write_json
from cgloop.units import FS_PER_NS, FS_PER_PS

log = logging.getLogger("cgloop.md")

FINAL, KEPT, FACTS = "final.dump", "measured.npz", "measured.json"
PLUGIN_STYLE = "chemtrain_deploy"
_NOT_KEPT = ("*.table", PTB, "*.restart", "restart.*", "*.dump", "*.dcd", KEPT, FACTS, "minimized.data")


def require_lmp(config: MDConfig, bundle: Bundle, folder: Path) -> int:
    """Refuse a program that cannot run this model, before anything is run; its version, as 20250722.

    Args:
        config: which program.
        bundle: the model.
        folder: for its output.

    Raises:
        UserError: there is no such program, it is no LAMMPS, or the model has a network and it has no plugin.
    """
    folder.mkdir(exist_ok=True)
    styles, version = pair_styles(config.lmp, folder)
    shutil.rmtree(folder)
    if bundle.model.has_ml:
        if not (bundle.path / PTB).is_file():
            raise UserError(
                f"no {PTB} in the bundle, which an external `lmp` needs for the network",
                where=bundle.path, remedy="export again, or set `md.engine: lammps`",
            )  # fmt: skip
        if PLUGIN_STYLE not in styles:
            raise UserError(
                f"missing_plugin: {FAILURES['missing_plugin']}",
                where=config.lmp[0], remedy="give one with chemtrain-deploy's plugin, or set `md.engine: lammps`",
            )  # fmt: skip
    return version


def minimize_external(
    subject: Subject, bundle: Bundle, config: MDConfig, temperature_K: float, out: Path
) -> dict[int, Minimized]:
    """Minimise every replica of a job in a process of its own; see `minimize.minimize_all`.

    Raises:
        Interrupted: stopped on request.
        UserError: the program cannot be run.
    """
    done = read_results(out)
    if done is not None:
        return done
    frames = centred(subject.starts, subject.replicas)
    write_topology(out / "topology.pdb", subject.system, next(iter(frames.values())))
    evaluate, results = subject.new_evaluator(), {}
    settings = PlainSettings(
        temperature_K, force_tolerance=config.minimize.force_tolerance, max_steps=config.minimize.max_steps,
        device=config.lmp_device,
    )  # fmt: skip
    for replica, frame in frames.items():
        folder = _fresh(out / f"lmp_{replica:03d}")
        write_plain_inputs(folder, bundle, subject.system, frame, np.zeros_like(frame), settings, config.lammps_inputs)
        results[replica] = _minimize_one(subject.system, evaluate, frame, config, folder)
        if not results[replica].failed:
            write_ends(out, replica, frame, results[replica].positions, config.timestep_fs)
        _tidy(folder)
    write_results(out, subject.system, results, config)
    return results


def _minimize_one(system: System, evaluate: Evaluate, frame: np.ndarray, config: MDConfig, folder: Path) -> Minimized:
    ended = execute(config.lmp, folder, "plain_minimize.in", {}, None)
    check_stop()
    text = read_log(folder / LOG)
    # Started from frames of the data, forces may be large: only what is not a number ends a minimisation.
    limits = replace(limits_of(config.monitors, 1.0, 1), max_force=math.inf)
    outcome, final = judge_run(ended, text, 0, system, limits), read_dense(folder / FINAL, system.n_beads)
    if not outcome.survived or final is None:
        failure = Failure(outcome.limit or "engine_error", outcome.message or "it left no final frame")
        log.error("%s minimize, %s: %s: %s", system.name, folder.name, failure.limit, failure.message)
        return Minimized.nothing(frame, failure)
    energies, strongest = text.thermo["PotEng"], float(np.linalg.norm(final.forces[-1], axis=-1).max())
    return Minimized(
        positions=final.positions[-1],
        energy_initial=float(energies[0]),
        energy_final=float(energies[-1]),
        max_force_initial=float(evaluate(frame[None]).max_force[0]),
        max_force_final=strongest,
        max_move_A=largest_move(frame, final.positions[-1]),
        rmsd_A=rms_move(frame, final.positions[-1]),
        steps=int(text.thermo["Step"][-1]),
        converged=strongest <= config.minimize.force_tolerance,
        failed=False,
    )


@dataclass(frozen=True, eq=False)
class Finished:
    """One replica that has come to its end: its outcome, its series, and where it is if it survived."""

    outcome: dict[str, Any]
    measured: Measured
    positions: np.ndarray | None
    velocities: np.ndarray | None
    seconds: float

    def write(self, folder: Path) -> None:
        """Keep it in the replica's folder."""
        ends = {"positions": self.positions, "velocities": self.velocities}
        known = {name: values for name, values in ends.items() if values is not None}
        np.savez(folder / KEPT, allow_pickle=False, **vars(self.measured), **known)
        write_json(folder / FACTS, jsonable({"outcome": self.outcome, "seconds": self.seconds}))

    @classmethod
    def read(cls, folder: Path) -> "Finished | None":
        """What `write` kept; None if the replica is not done."""
        if not (folder / FACTS).is_file():
            return None
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        with np.load(folder / KEPT) as file:
            arrays = {name: file[name] for name in file.files}
        end = arrays.pop("positions", None), arrays.pop("velocities", None)
        outcome = {name: math.nan if value is None else value for name, value in facts["outcome"].items()}
        return cls(outcome, Measured(**arrays), *end, facts["seconds"])


def run_external_dynamics(plan: Plan, subject: Subject, bundle: Bundle, start: State, out: Path) -> StageResult:
    """Run a stage, one replica after the other, and write its files; see `dynamics.run_dynamics`.

    Raises:
        Interrupted: stopped on request.
        UserError: the program cannot be run.
    """
    done = StageResult.read(out)
    if done is not None:
        return done
    system, evaluate = subject.system, subject.new_evaluator()
    write_topology(
        out / "topology.pdb", system, (start.positions if len(start.replicas) else subject.starts.positions)[0]
    )
    crash_writer = CrashWriter(
        out, plan.stage, system, plan.temperature_K, plan.clock, subject.term_forces,
        degrees_of_freedom=plan.degrees_of_freedom,
    )  # fmt: skip
    finished: dict[int, Finished] = {}
    total_ps = (
        len(start.replicas) * (plan.clock.equilibration_steps + plan.clock.steps) * plan.clock.timestep_fs / FS_PER_PS
    )
    with progress(f"md {system.name} {plan.stage}", total_ps, "ps") as bar:
        for row, replica in enumerate(start.replicas):
            folder = out / f"lmp_{replica:03d}"
            found = Finished.read(folder)
            if found is None:
                _prepare(plan, system, bundle, start.positions[row], start.velocities[row], replica, folder)
                found = _run_one(plan, system, evaluate, crash_writer, replica, folder)
                found.write(folder)
            finished[replica] = found
            bar.advance(total_ps / len(start.replicas))
    return _conclude(plan, system, subject.starts, subject.replicas, finished, out)


def abandon_external_dynamics(
    plan: Plan, system: System, starts: StartFrames, start: State, replicas: list[int], out: Path, failure: Failure
) -> StageResult:
    """End a stage whose process is gone: replicas that had come to their end count, the others have failed.

    Args: as for `dynamics.abandon_dynamics`.
    """
    done = StageResult.read(out)
    if done is not None:
        return done
    out.mkdir(parents=True, exist_ok=True)
    finished = {}
    for replica in start.replicas:
        folder = out / f"lmp_{replica:03d}"
        thermo = read_parts(folder).log.thermo
        last = int(thermo["Step"][-1]) if thermo else -1
        finished[replica] = Finished.read(folder) or Finished(
            outcome_at(last, plan.clock, None, failure), Measured.nothing(system.n_beads), None, None, 0.0
        )
    ended = {replica: replace(one, positions=None, velocities=None) for replica, one in finished.items()}
    return _conclude(plan, system, starts, replicas, ended, out)


def _prepare(
    plan: Plan,
    system: System,
    bundle: Bundle,
    positions: np.ndarray,
    velocities: np.ndarray,
    replica: int,
    folder: Path,
) -> None:
    """The inputs of one replica, whole or not there."""
    if folder.is_dir():
        return
    clock, every = plan.clock, math.gcd(*_intervals(plan), plan.clock.equilibration_steps)
    settings = PlainSettings(
        temperature_K=plan.temperature_K,
        friction_per_ps=plan.config.nvt.friction_per_ps,
        timestep_fs=clock.timestep_fs,
        seed=_seed(plan, replica),
        equilibration_steps=clock.equilibration_steps,
        steps=clock.steps,
        thermo_every=every,
        dump_every=every,
        restart_every=max(1, round(plan.config.restart_every_ps * FS_PER_PS / clock.timestep_fs)),
        device=plan.config.lmp_device,
    )
    draft = _fresh(folder.with_name(f".{folder.name}.draft"))
    write_plain_inputs(draft, bundle, system, positions, velocities, settings, plan.config.lammps_inputs)
    draft.rename(folder)


def _intervals(plan: Plan) -> tuple[int, int]:
    """Of observables and of frames, in steps."""
    observe, dump = (
        max(1, round(interval * FS_PER_PS / plan.clock.timestep_fs))
        for interval in (plan.config.observe_every_ps, plan.config.dump_every_ps)
    )
    return observe, dump


def _run_one(
    plan: Plan, system: System, evaluate: Evaluate, crash_writer: CrashWriter, replica: int, folder: Path
) -> Finished:
    began, config, clock, freedom = time.perf_counter(), plan.config, plan.clock, plan.degrees_of_freedom
    outcome = run_external(
        config.lmp, folder, f"plain_{plan.stage}.in", system, clock,
        limits_of(config.monitors, plan.temperature_K, freedom), degrees_of_freedom=freedom,
        variables={"kinetic_by_type": 1} | ({"seed": _seed(plan, replica)} if plan.stage == "nvt" else {}), go_on=True,
    )  # fmt: skip
    if outcome.limit == "interrupted":
        check_stop()
        raise Interrupted(outcome.message)
    parts, end = read_parts(folder), read_dense(folder / FINAL, system.n_beads)
    last = outcome.crash_step - 1 if outcome.crash_step is not None else outcome.steps_done
    sound = np.isfinite(parts.frames).all(axis=(1, 2)) & (parts.steps <= last)
    measured = measure(
        parts.steps[sound], parts.frames[sound], outcome.thermo, evaluate, whole=outcome.survived, where=folder
    )
    outcome = _judge_energies(outcome, measured, plan, system)
    described = _describe(outcome, last, clock) | _recorded(
        outcome, crash_writer, replica, evaluate, freedom, config.crash_frames
    )
    if not outcome.survived or end is None:
        if outcome.survived:
            raise UserError("no final frame", where=folder, remedy="let the script write `final.dump`")
        log.warning("%s %s: replica %d: %s (%s)", system.name, plan.stage, replica, outcome.limit, outcome.message)
        return Finished(described, measured, None, None, time.perf_counter() - began)
    return Finished(described, measured, end.positions[-1], end.velocities[-1], time.perf_counter() - began)


def _seed(plan: Plan, replica: int) -> int:
    """Of `fix langevin`; far enough from those of other replicas that each may have several attempts."""
    return 1 + (plan.seed + 7919 * replica) % (LAMMPS_SEEDS - 100_000)


def _judge_energies(outcome: Outcome, measured: Measured, plan: Plan, system: System) -> Outcome:
    """A run whose energies are not the model's was one of another model."""
    if not outcome.survived:
        return outcome
    difference = measured.energy_difference(system.n_beads, plan.temperature_K)
    if difference <= plan.config.lmp_energy_limit:
        return outcome
    message = f"its energies differ from the model's by {difference:.1e} of max(|energy|, N kT)"
    return replace(outcome, survived=False, limit="engine_error", message=message)


def _describe(outcome: Outcome, last: int, clock: Clock) -> dict[str, Any]:
    if outcome.survived:
        return outcome_at(last, clock, None, None)
    if outcome.limit in FAILURES:
        return outcome_at(last, clock, None, Failure(outcome.limit, outcome.message))
    violation = Violation(0, outcome.limit, outcome.value, outcome.threshold)
    return outcome_at(last, clock, violation, None) | {"message": outcome.message}


def _recorded(
    outcome: Outcome,
    crash_writer: CrashWriter,
    replica: int,
    evaluate: Evaluate,
    degrees_of_freedom: int,
    n_frames: int,
) -> dict[str, Any]:
    """Write the record of a crash from its repetition; says why there is none."""
    if outcome.survived or outcome.limit in FAILURES:
        return {}
    if outcome.dense is None or not outcome.reproduced:
        return {"record_missing": "the repetition from the last restart file broke no limit"}
    violation = Violation(0, outcome.limit, outcome.value, outcome.threshold)
    history = outcome.dense.history(crash_writer.system, n_frames, degrees_of_freedom, evaluate)
    crash_writer.write(replica, violation, history)
    reason = crash_writer.failures.get(replica)
    return {"record_missing": reason} if reason else {}


def _conclude(
    plan: Plan, system: System, starts: StartFrames, replicas: list[int], finished: dict[int, Finished], out: Path
) -> StageResult:
    absent = [replica for replica in replicas if replica not in finished]
    outcomes = {replica: not_started(plan.clock) for replica in absent}
    outcomes |= {replica: one.outcome for replica, one in finished.items()}
    described = {replica: outcomes[replica] | starts.describe(replica) for replica in sorted(outcomes)}
    info = StageInfo(system.name, plan.stage, system.n_beads, plan.degrees_of_freedom, plan.temperature_K, plan.clock)
    write_series(
        out,
        system,
        info,
        {replica: one.measured for replica, one in finished.items()},
        absent,
        _intervals(plan),
        described,
    )
    alive = {replica: one for replica, one in finished.items() if one.positions is not None}
    end = State.nobody(system.n_beads)
    if alive:
        end = State(
            list(alive),
            *(np.stack([getattr(one, name) for one in alive.values()]) for name in ("positions", "velocities")),
        )
    result = StageResult(end, described, _timing(plan.clock, finished))
    for replica in finished:
        _tidy(out / f"lmp_{replica:03d}")
    result.write(out)
    return result


def _timing(clock: Clock, finished: dict[int, Finished]) -> dict[str, float]:
    """Of runs one after the other, with what is made of their outputs."""
    seconds = sum(one.seconds for one in finished.values())
    steps = sum(one.outcome["steps_done"] for one in finished.values())
    if not (seconds and steps):
        return {"seconds": seconds}
    ns_per_day = steps * clock.timestep_fs / FS_PER_NS / seconds * SECONDS_PER_DAY
    return {
        "seconds": seconds, "steps": steps, "ms_per_step": 1e3 * seconds / steps,
        "ns_per_day_per_replica": ns_per_day / len(finished), "ns_per_day_all_replicas": ns_per_day,
    }  # fmt: skip


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def _tidy(folder: Path) -> None:
    """Leave scripts, data file and logs: tables and model are those of `cgloop md --dry-run`, results lie above."""
    shutil.rmtree(folder / "replay", ignore_errors=True)
    for pattern in _NOT_KEPT:
        for path in folder.glob(pattern):
            path.unlink()

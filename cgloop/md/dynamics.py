"""A stage of dynamics: all replicas of one protein in one LAMMPS instance, under thermostat or at constant energy."""

import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cgloop.config.md import MDConfig
from cgloop.md.coupling import Coupling, Observer
from cgloop.md.inputs import write_data_file, write_script
from cgloop.md.monitors import Monitor, Violation, limits_of
from cgloop.md.noise import Noise
from cgloop.md.observables import ObservablesWriter, StageInfo
from cgloop.md.recorder import Clock, CrashWriter, Recorder, Snapshot
from cgloop.md.session import Session
from cgloop.md.system import Subject, System
from cgloop.md.thermostat import Langevin
from cgloop.md.trajectory import TrajectoryWriter, write_topology
from cgloop.progress import Progress, progress
from cgloop.units import FS_PER_NS, FS_PER_PS

log = logging.getLogger("cgloop.md")

SECONDS_PER_DAY = 86400.0
_PROGRESS_STEPS = 100


@dataclass(frozen=True)
class Plan:
    """What a stage of dynamics has to do.

    Attributes:
        stage: `nvt` or `nve`; also the name of the LAMMPS script.
        clock: time step and numbers of steps.
        temperature_K: target; at constant energy only the limits refer to it.
        degrees_of_freedom: per replica.
        seed: of the noise.
        config: intervals, limits, friction.
    """

    stage: str
    clock: Clock
    temperature_K: float
    degrees_of_freedom: int
    seed: int
    config: MDConfig


@dataclass(frozen=True, eq=False)
class State:
    """Replicas at one moment: ids [R], positions [R, N, 3] Å, velocities [R, N, 3] Å/fs."""

    replicas: Sequence[int]
    positions: np.ndarray
    velocities: np.ndarray


def plan_nvt(config: MDConfig, temperature_K: float, n_beads: int, seed: int) -> Plan:
    """Langevin dynamics: a thermostat acts on all 3N degrees of freedom."""
    clock = Clock(
        config.timestep_fs, _steps(config.nvt.equilibration_ps, config), max(1, _steps(config.nvt.length_ps, config))
    )
    return Plan("nvt", clock, temperature_K, 3 * n_beads, seed, config)


def plan_nve(config: MDConfig, temperature_K: float, n_beads: int, seed: int) -> Plan:
    """Constant energy: each replica's centre of mass stays at rest, which takes three degrees of freedom."""
    clock = Clock(config.timestep_fs, 0, max(1, _steps(config.nve.length_ps, config)))
    return Plan("nve", clock, temperature_K, max(1, 3 * n_beads - 3), seed, config)


@dataclass(frozen=True, eq=False)
class StageResult:
    """How a stage ended.

    Attributes:
        end: the survivors.
        outcomes: by replica id, what became of it; also the attributes of its group in observables.h5.
        timing: wall-clock figures.
    """

    end: State
    outcomes: dict[int, dict[str, Any]]
    timing: dict[str, float]


def _steps(length_ps: float, config: MDConfig) -> int:
    return round(length_ps * FS_PER_PS / config.timestep_fs)


def noise_seed(run_seed: int, protein: str) -> int:
    """64-bit seed of a protein's noise: different proteins of a run get different numbers."""
    return int.from_bytes(hashlib.sha256(f"{run_seed}/{protein}".encode()).digest()[:8], "little")


def run_dynamics(plan: Plan, subject: Subject, start: State, out: Path) -> StageResult:
    """Run a stage and write its files: script, data file, log, DCDs, observables.h5, crash files.

    Replicas of the subject that are not in `start` broke in an earlier stage: they count as failed from the first
    step on.

    Args:
        plan: what to do.
        subject: the protein.
        start: the replicas that run.
        out: folder of the stage.

    Raises:
        Interrupted: stopped on request.
    """
    system, clock, config = subject.system, plan.clock, plan.config
    absent = [replica for replica in range(subject.n_replicas) if replica not in start.replicas]
    info = StageInfo(system.name, plan.stage, system.n_beads, plan.degrees_of_freedom, plan.temperature_K, clock)
    observe_steps, dump_steps = (
        max(1, round(interval * FS_PER_PS / clock.timestep_fs))
        for interval in (config.observe_every_ps, config.dump_every_ps)
    )
    outcomes = {replica: _not_started(clock) | subject.starts.describe(replica) for replica in absent}
    result = StageResult(start, outcomes, {})
    with ObservablesWriter(out / "observables.h5", info, start.replicas, observe_steps, absent) as observables:
        if len(start.replicas):
            with TrajectoryWriter(out, clock, start.replicas, system.n_beads, dump_steps) as trajectory:
                result = _run(plan, subject, start, out, (observables.observe, trajectory.observe))
        outcomes |= result.outcomes
        observables.finish(outcomes)
    return StageResult(result.end, dict(sorted(outcomes.items())), result.timing)


def _run(plan: Plan, subject: Subject, start: State, out: Path, observers: tuple[Observer, ...]) -> StageResult:
    system, clock, n_replicas = subject.system, plan.clock, len(start.replicas)
    recorder = Recorder(plan.config.crash_frames, n_replicas, system.n_beads)
    crash_writer = CrashWriter(out, plan.stage, system, plan.temperature_K, clock, subject.term_forces)

    def on_freeze(violation: Violation) -> None:
        replica = start.replicas[violation.row]
        log.warning(
            "%s %s: replica %d broke limit %s (%.4g, limit %.4g)",
            system.name, plan.stage, replica, violation.limit, violation.value, violation.threshold,
        )  # fmt: skip
        crash_writer.write(replica, violation, recorder.history(violation.row))

    evaluate = subject.new_evaluator()
    evaluate(start.positions)  # compile before the clock runs
    limits = limits_of(plan.config.monitors, plan.temperature_K, plan.degrees_of_freedom)
    script = _write_inputs(plan, system, start, out)
    total_ps = (clock.equilibration_steps + clock.steps) * clock.timestep_fs / FS_PER_PS
    with (
        progress(f"md {system.name} {plan.stage}", total_ps, "ps") as bar,
        Session(out / "log.lammps") as session,
    ):
        coupling = Coupling(
            evaluate,
            system.masses,
            n_replicas,
            clock.timestep_fs,
            plan.degrees_of_freedom,
            thermostat=_thermostat(plan, system, start),
            monitor=Monitor(limits, clock.timestep_fs, n_replicas),
            recorder=recorder,
            observers=(*observers, _Advance(bar, clock)),
            on_freeze=on_freeze,
        )
        began = time.perf_counter()
        session.run_script(script, coupling)
        seconds = time.perf_counter() - began
    outcomes = {
        replica: _outcome(coupling, row, clock) | subject.starts.describe(replica)
        for row, replica in enumerate(start.replicas)
    }
    return StageResult(_survivors(coupling, start), outcomes, _timing(coupling, seconds, clock))


def _write_inputs(plan: Plan, system: System, start: State, out: Path) -> Path:
    clock = plan.clock
    write_topology(out / "topology.pdb", system, start.positions[0])
    write_data_file(out / "system.data", system.residue_type, start.positions, start.velocities)
    values = {
        "data_file": "system.data",
        "timestep_fs": clock.timestep_fs,
        "temperature_K": plan.temperature_K,
        "friction_per_ps": plan.config.nvt.friction_per_ps,
        "equilibration_steps": clock.equilibration_steps,
        "steps": clock.steps,
        "thermo_every": max(1, clock.steps // 100),
    }
    return write_script(f"{plan.stage}.in", values, out / f"{plan.stage}.in")


def _thermostat(plan: Plan, system: System, start: State) -> Langevin | None:
    if plan.stage != "nvt":
        return None
    noise = Noise(plan.seed, start.replicas, system.n_beads, "thermostat")
    friction = plan.config.nvt.friction_per_ps
    return Langevin(noise, system.masses, plan.temperature_K, friction, plan.clock.timestep_fs)


class _Advance:
    """Moves the progress bar."""

    def __init__(self, bar: Progress, clock: Clock):
        self._bar, self._clock, self._began = bar, clock, time.perf_counter()

    def __call__(self, snapshot: Snapshot) -> None:
        if snapshot.step % _PROGRESS_STEPS:
            return
        days = (time.perf_counter() - self._began) / SECONDS_PER_DAY
        alive = int(snapshot.alive.sum())
        done_ns = snapshot.step * self._clock.timestep_fs / FS_PER_NS
        step_ps = _PROGRESS_STEPS * self._clock.timestep_fs / FS_PER_PS
        self._bar.advance(step_ps, ns_per_day=done_ns * alive / days, alive=alive)


def _outcome(coupling: Coupling, row: int, clock: Clock) -> dict[str, Any]:
    """What became of a replica, in steps of production; how it ended if it broke a limit."""
    violation, last = coupling.violations.get(row), int(coupling.last_step[row])
    outcome: dict[str, Any] = {
        "steps_asked": clock.steps,
        "steps_done": max(0, last - clock.equilibration_steps),
        "survived": violation is None,
    }
    if violation is not None:
        outcome |= {
            "limit": violation.limit,
            "limit_value": violation.value,
            "limit_threshold": violation.threshold,
            # Counted from the start of the stage, as in LAMMPS's log.
            "crash_step": last + 1,
            "crash_time_ps": (last + 1) * clock.timestep_fs / FS_PER_PS,
            "crash_phase": "equilibration" if last + 1 < clock.equilibration_steps else "production",
        }
    return outcome


def _not_started(clock: Clock) -> dict[str, Any]:
    return {"steps_asked": clock.steps, "steps_done": 0, "survived": False, "limit": "not-started"}


def _survivors(coupling: Coupling, start: State) -> State:
    alive, final = coupling.alive, coupling.final
    if final is None or not alive.any():
        none = np.empty((0, *start.positions.shape[1:]))
        return State([], none, none)
    replicas = [replica for replica, lives in zip(start.replicas, alive, strict=True) if lives]
    return State(replicas, final.positions[alive], final.velocities[alive])


def _timing(coupling: Coupling, seconds: float, clock: Clock) -> dict[str, float]:
    steps = max(1, int(coupling.last_step.max()))
    replica_ns = float(np.maximum(coupling.last_step, 0).sum()) * clock.timestep_fs / FS_PER_NS
    return {
        "seconds": seconds,
        "steps": steps,
        "ms_per_step": 1e3 * seconds / steps,
        "model_ms_per_step": 1e3 * coupling.model_seconds / steps,
        "coupling_share": 1.0 - coupling.model_seconds / seconds,
        "ns_per_day_per_replica": steps * clock.timestep_fs / FS_PER_NS / seconds * SECONDS_PER_DAY,
        "ns_per_day_all_replicas": replica_ns / seconds * SECONDS_PER_DAY,
    }

"""A stage of dynamics: all replicas of one protein in one LAMMPS instance, under thermostat or at constant energy."""

import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cgloop.errors import Interrupted, UserError
from cgloop.md.checkpoint import KEPT, KEPT_SERIES, Checkpoint
from cgloop.md.checkpoint import NAME as RESTART
from cgloop.md.coupling import Coupling, Observer
from cgloop.md.crash_files import CrashWriter, recipe_of
from cgloop.md.ending import StageResult, State, failed_at, not_started, outcomes_of
from cgloop.md.evaluate import ModelEvaluator
from cgloop.md.evaluation import Restartable
from cgloop.md.failure import Failure, failure_of
from cgloop.md.inputs import write_data_file, write_script
from cgloop.md.monitors import Monitor, Violation, limits_of
from cgloop.md.noise import Noise
from cgloop.md.observables import SERIES, Kinds, ObservablesWriter, StageInfo
from cgloop.md.plan import Plan
from cgloop.md.recorder import Clock, Recorder, Snapshot
from cgloop.md.session import LammpsError, Moment, Session
from cgloop.md.system import StartFrames, Subject, System
from cgloop.md.thermostat import Langevin, half_kick
from cgloop.md.trajectory import TrajectoryWriter, write_topology
from cgloop.progress import Progress, progress
from cgloop.units import FS_PER_NS, FS_PER_PS

if TYPE_CHECKING:
    from cgloop.md.jax_md_engine import ScanEngine

log = logging.getLogger("cgloop.md")

SECONDS_PER_DAY = 86400.0
_PROGRESS_STEPS = 100
RECORDER_MB = 256
"""A recorder that holds more is not part of a checkpoint: a crash soon after a restart then shows fewer steps."""


def run_dynamics(plan: Plan, subject: Subject, start: State, out: Path) -> StageResult:
    """Run a stage and write its files: script, data file, log, DCDs, observables.h5, crash files, how it ended.

    A stage that is done is not run again; one that was stopped or killed goes on from its last checkpoint, and ends as
    if nothing had happened. Whatever ends the run before its time is an outcome of its replicas. Replicas of the
    subject that are not in `start` broke in an earlier stage: they count as failed from the first step on.

    Args:
        plan: what to do.
        subject: the protein.
        start: the replicas that run.
        out: folder of the stage.

    Raises:
        Interrupted: stopped on request.
        UserError: LAMMPS refused the script before the first step.
    """
    done = StageResult.read(out)
    if done is not None:
        return done
    checkpoint = Checkpoint.read(out) if len(start.replicas) else None
    files = _Files(plan, subject.system, start, out, subject.replicas, checkpoint)
    outcomes = {replica: not_started(plan.clock) for replica in files.absent}
    result = StageResult(start, outcomes, {})
    if len(start.replicas):
        with files.trajectory:
            result = _Run(plan, subject, start, out, files, checkpoint).result()
    return files.finish(result, outcomes | result.outcomes, subject.starts)


def abandon_dynamics(
    plan: Plan, system: System, starts: StartFrames, start: State, replicas: list[int], out: Path, failure: Failure
) -> StageResult:
    """End a stage whose process is gone: what its last checkpoint holds is kept, its replicas have failed.

    Args:
        plan, start, out: as for `run_dynamics`.
        system, starts, replicas: the protein, where replicas began, and ids of those that the process had.
        failure: what happened to it.
    """
    done = StageResult.read(out)
    if done is not None:
        return done
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = Checkpoint.read(out)
    files = _Files(plan, system, start, out, replicas, checkpoint)
    files.trajectory.close()
    clock = plan.clock
    reached = dict.fromkeys(start.replicas, -1)
    broken: dict[int, Violation] = {}
    if checkpoint is not None:
        last = checkpoint.parts["coupling"]["last_step"].tolist()
        reached = dict(zip(start.replicas, last, strict=True))
        broken = {start.replicas[one["row"]]: Violation(**one) for one in checkpoint.facts["violations"]}
    outcomes = {replica: not_started(clock) for replica in files.absent} | failed_at(reached, clock, failure, broken)
    return files.finish(StageResult(State.nobody(system.n_beads), outcomes, {}), outcomes, starts)


class _Files:
    """The series and trajectories of a stage, opened where its checkpoint says."""

    def __init__(
        self, plan: Plan, system: System, start: State, out: Path, replicas: list[int], checkpoint: Checkpoint | None
    ):
        clock, config = plan.clock, plan.config
        facts = {} if checkpoint is None else checkpoint.facts
        observe_steps, dump_steps = (
            max(1, round(interval * FS_PER_PS / clock.timestep_fs))
            for interval in (config.observe_every_ps, config.dump_every_ps)
        )
        kinds = Kinds(system.residue_type, system.masses)
        info = StageInfo(
            system.name, plan.stage, system.n_beads, plan.degrees_of_freedom, plan.temperature_K, clock, kinds
        )
        self.out, self._may_go_on = out, plan.may_go_on
        self.absent = [replica for replica in replicas if replica not in start.replicas]
        self.observables = ObservablesWriter(
            out / SERIES, info, start.replicas, observe_steps, self.absent, facts.get("rows", 0)
        )
        self.trajectory = TrajectoryWriter(
            out, clock, start.replicas, system.n_beads, dump_steps, facts.get("frames", ())
        )

    @property
    def observers(self) -> tuple[Observer, ...]:
        return self.observables.observe, self.trajectory.observe

    def progress(self) -> dict[str, Any]:
        """How far the files have come; everything up to there is on disk."""
        self.observables.flush()
        return {"rows": self.observables.rows, "frames": list(self.trajectory.frames)}

    def finish(self, result: StageResult, outcomes: dict[int, dict[str, Any]], starts: StartFrames) -> StageResult:
        described = {replica: outcomes[replica] | starts.describe(replica) for replica in sorted(outcomes)}
        keep = self._may_go_on and all(outcome["survived"] for outcome in outcomes.values())
        self.observables.finish(described, keep_spool=keep)
        ended = StageResult(result.end, described, result.timing)
        ended.write(self.out)
        # Only now: whoever is killed before still finds its checkpoint.
        if keep:
            (self.out / RESTART).replace(self.out / KEPT)
            self.observables.spool.replace(self.out / KEPT_SERIES)
        (self.out / RESTART).unlink(missing_ok=True)
        return ended


class _Run:
    """One LAMMPS run of a stage: everything that takes part in it, and how it is saved and restored."""

    def __init__(
        self, plan: Plan, subject: Subject, start: State, out: Path, files: _Files, checkpoint: Checkpoint | None
    ):
        self._plan, self._subject, self._start, self._out, self._files = plan, subject, start, out, files
        self._checkpoint = checkpoint
        system, clock, n_replicas = subject.system, plan.clock, len(start.replicas)
        self._scan = _scan_engine(plan, subject, start) if plan.config.engine == "jax_md" else None
        self._evaluate = self._scan or subject.new_evaluator()
        limits = limits_of(plan.config.monitors, plan.temperature_K, plan.degrees_of_freedom)
        self._monitor = Monitor(limits, clock.timestep_fs, n_replicas)
        kick = half_kick(system.masses, clock.timestep_fs)
        self._recorder = Recorder(plan.config.crash_frames, n_replicas, system.n_beads, kick)
        recipe = recipe_of(plan.stage, plan.config, start.replicas, plan.degrees_of_freedom, plan.seed, limits)
        self._crash_writer = CrashWriter(
            out, plan.stage, system, plan.temperature_K, clock, subject.term_forces, recipe, subject.source,
            plan.degrees_of_freedom,
        )  # fmt: skip
        self._seconds_before = 0.0

    def result(self) -> StageResult:
        """Run to the end. Raises as `run_dynamics`."""
        plan, subject, clock, start = self._plan, self._subject, self._plan.clock, self._start
        self._evaluate(start.positions)  # compile before the clock runs
        script = write_inputs(plan, subject.system, start, self._out)
        total_ps = (clock.equilibration_steps + clock.steps) * clock.timestep_fs / FS_PER_PS
        failure: Failure | None = None
        with progress(f"md {subject.system.name} {plan.stage}", total_ps, "ps") as bar:
            coupling = self._new_coupling(_Advance(bar, clock))
            moment = self._restore(coupling, bar)
            self._began = time.perf_counter()
            try:
                self._integrate(script, coupling, moment)
            except Interrupted:
                raise
            except Exception as error:
                if isinstance(error, LammpsError) and coupling.final is None:
                    raise
                failure = failure_of(error)
                log.error("%s %s: %s: %s", subject.system.name, plan.stage, failure.limit, failure.message)
                log.debug("what ended the run", exc_info=error)
            seconds = self._seconds_before + time.perf_counter() - self._began
        outcomes = outcomes_of(coupling, start.replicas, clock, failure)
        for replica, reason in self._crash_writer.failures.items():
            outcomes[replica]["record_missing"] = reason
        end = State.nobody(subject.system.n_beads) if failure else _survivors(coupling, start)
        return StageResult(end, outcomes, _timing(coupling, seconds, clock))

    def _integrate(self, script: Path, coupling: Coupling, moment: Moment | None) -> None:
        plan, start = self._plan, self._start

        def save(moment: Moment) -> None:
            self._save(coupling, moment)

        if self._scan is not None:
            steps = plan.clock.equilibration_steps + plan.clock.steps
            every = plan.restart_steps
            self._scan.run(coupling, start.positions, start.velocities, steps, every=every, save=save, start=moment)
            return
        with Session(self._out / "log.lammps") as session:
            session.run_script(script, coupling, every=plan.restart_steps, save=save, start=moment)
            if plan.may_go_on:
                save(session.moment())

    def _new_coupling(self, advance: Observer) -> Coupling:
        plan, system, start = self._plan, self._subject.system, self._start
        return Coupling(
            self._evaluate,
            system.masses,
            len(start.replicas),
            plan.clock.timestep_fs,
            plan.degrees_of_freedom,
            thermostat=None if self._scan else _thermostat(plan, system, start),
            monitor=self._monitor,
            recorder=self._recorder,
            observers=(*self._files.observers, advance),
            on_freeze=self._on_freeze,
        )

    def _on_freeze(self, violation: Violation) -> None:
        replica = self._start.replicas[violation.row]
        log.warning(
            "%s %s: replica %d broke limit %s (%.4g, limit %.4g)",
            self._subject.system.name, self._plan.stage, replica, violation.limit, violation.value,
            violation.threshold,
        )  # fmt: skip
        room = getattr(self._evaluate, "capacity", None)
        self._crash_writer.write(replica, violation, self._recorder.history(violation.row), room)

    def _save(self, coupling: Coupling, moment: Moment) -> None:
        parts = {"coupling": coupling.state(), "monitor": self._monitor.state()}
        if sum(array.nbytes for array in self._recorder.state().values()) <= 1e6 * RECORDER_MB:
            parts["recorder"] = self._recorder.state()
        if isinstance(self._evaluate, Restartable):
            parts["model"] = self._evaluate.state()
        facts = {
            **self._files.progress(),
            "violations": [asdict(violation) for violation in coupling.violations.values()],
            "seconds": self._seconds_before + time.perf_counter() - self._began,
            "model_seconds": coupling.model_seconds,
        }
        Checkpoint(moment, parts, facts).write(self._out)

    def _restore(self, coupling: Coupling, bar: Progress) -> Moment | None:
        if self._checkpoint is None:
            return None
        moment, parts, facts = self._checkpoint.moment, self._checkpoint.parts, self._checkpoint.facts
        coupling.restore(moment.step, parts["coupling"], [Violation(**one) for one in facts["violations"]])
        coupling.model_seconds = facts["model_seconds"]
        self._monitor.restore(parts["monitor"])
        if "recorder" in parts:
            self._recorder.restore(parts["recorder"])
        if isinstance(self._evaluate, Restartable) and "model" in parts:
            self._evaluate.restore(parts["model"])
        self._seconds_before = facts["seconds"]
        done_ps = moment.step * self._plan.clock.timestep_fs / FS_PER_PS
        bar.advance(done_ps)
        log.info("%s %s: goes on at %.4g ps", self._subject.system.name, self._plan.stage, done_ps)
        return moment


def write_inputs(plan: Plan, system: System, start: State, out: Path) -> Path:
    """Write script, data file and topology of a stage into its folder; returns the script."""
    write_topology(out / "topology.pdb", system, start.positions[0])
    write_data_file(
        out / "system.data", system.residue_type, start.positions, start.velocities, masses=system.type_masses
    )
    return write_script(f"{plan.stage}.in", plan.variables(), out / f"{plan.stage}.in", plan.config.lammps_inputs)


def _thermostat(plan: Plan, system: System, start: State) -> Langevin | None:
    if plan.stage != "nvt" or plan.config.nvt.thermostat != "langevin":
        return None
    noise = Noise(plan.seed, start.replicas, system.n_beads, "thermostat")
    friction = plan.config.nvt.friction_per_ps
    return Langevin(noise, system.masses, plan.temperature_K, friction, plan.clock.timestep_fs)


def _scan_engine(plan: Plan, subject: Subject, start: State) -> "ScanEngine":
    try:
        from cgloop.md.jax_md_engine import Bath, ScanEngine  # jax-md takes seconds to import
    except ImportError as error:
        raise UserError(f"engine jax_md: {error}", where="md.engine", remedy="pip install jax-md") from None
    config = plan.config.nvt
    if plan.stage == "nvt" and config.thermostat != "langevin":
        raise UserError(
            f"engine jax_md has no thermostat `{config.thermostat}`", where="md.nvt.thermostat", remedy="langevin"
        )
    bath = Bath(plan.temperature_K, config.friction_per_ps, plan.seed, start.replicas)
    masses, timestep_fs, model = subject.system.masses, plan.clock.timestep_fs, subject.new_evaluator()
    assert isinstance(model, ModelEvaluator), "the loop is compiled together with the model"
    return ScanEngine(model, masses, len(start.replicas), timestep_fs, bath if plan.stage == "nvt" else None)


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


def _survivors(coupling: Coupling, start: State) -> State:
    alive, final = coupling.alive, coupling.final
    if final is None or not alive.any():
        return State.nobody(start.positions.shape[1])
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

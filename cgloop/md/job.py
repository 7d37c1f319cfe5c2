"""A job: some replicas of one protein through `minimize`, `nvt` and `nve`, in one process and one folder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from cgloop.config import Config
from cgloop.config.md import MDConfig
from cgloop.data.dataset import DatasetReader
from cgloop.export.bundle import Bundle
from cgloop.md.dynamics import abandon_dynamics, run_dynamics
from cgloop.md.ending import StageResult, State
from cgloop.md.evaluate import Compiled, ModelEvaluator, edges_per_replica
from cgloop.md.external_stage import abandon_external_dynamics, minimize_external, run_external_dynamics
from cgloop.md.failure import Failure
from cgloop.md.minimize import Minimized, abandon_minimize, minimize_all
from cgloop.md.noise import Noise
from cgloop.md.plan import Plan, noise_seed, plan_nve, plan_nvt
from cgloop.md.split import split_forces
from cgloop.md.system import ModelSource, Subject, System, start_frames
from cgloop.md.thermostat import maxwell_velocities, remove_net_momentum
from cgloop.model.hybrid import Model, Params
from cgloop.residues import N_TYPES, masses

STAGES = ("minimize", "nvt", "nve")


@dataclass(frozen=True)
class Job:
    """What one process has to do: a protein's name, and ids of those of its replicas that it runs."""

    protein: str
    replicas: tuple[int, ...]

    @property
    def folder(self) -> str:
        """Name of its folder; another share of the replicas is another job."""
        return f"{self.protein}-{self.replicas[0]:03d}-{self.replicas[-1]:03d}"


def read_system(config: Config, reader: DatasetReader, name: str) -> System:
    """A protein of the data set, with the masses of the config."""
    chosen = masses() if config.md.masses == "residue" else (float(config.md.masses),) * N_TYPES
    return System.of(reader.load(name, temperature_K=config.data.temperature_K), chosen)


class Energy(Protocol):
    """A model with its parameters, as a `Bundle` has them."""

    @property
    def model(self) -> Model: ...

    @property
    def params(self) -> Params: ...


def make_subject(config: Config, energy: Energy, compiled: Compiled, reader: DatasetReader, job: Job) -> Subject:
    """The replicas of a job, ready to be simulated.

    Args:
        config: section `md`, and the temperature.
        energy: the model; of a bundle the subject tells where it is, so that others can compute forces again.
        compiled: its function.
        reader: start frames, reference bond lengths.
        job: protein and replicas.

    Raises:
        UserError: unknown protein, or no frames of it at the temperature.
    """
    starts = start_frames(reader, job.protein, config.data.temperature_K, config.md.replicas)
    system = read_system(config, reader, job.protein)
    # Of all replicas of the protein, so that every job of it is compiled for the same room.
    room = edges_per_replica(system, starts.positions, compiled.cutoff_A)
    return Subject(
        system,
        starts,
        # One replica after the other: its place among others would decide how it is rounded.
        partial(ModelEvaluator, compiled, system, config.md.skin_A, room, at_once=1),
        split_forces(energy.model, energy.params, system),
        list(job.replicas),
        ModelSource(energy.path, config.md.skin_A, room) if isinstance(energy, Bundle) else None,
    )


MakePlan = Callable[[MDConfig, float, int, int], Plan]
"""(section `md`, temperature, number of beads, seed) -> what a stage of dynamics has to do."""

DYNAMICS: tuple[MakePlan, ...] = (plan_nvt, plan_nve)


def run_job(config: Config, bundle: Bundle, subject: Subject, out: Path, plans: Sequence[MakePlan] = DYNAMICS) -> None:
    """Run all stages of a job into `out`; those that are done are not repeated, and one that was stopped goes on.

    Args:
        config: sections `md`, `run`, and the temperature.
        bundle: the model, for an external program.
        subject: the replicas.
        out: folder of the job.
        plans: the dynamics, one after the other, behind the minimisation.

    Raises:
        Interrupted: stopped on request.
        UserError: LAMMPS refuses a script, or cannot be run.
    """
    external = config.md.engine == "lmp"
    given = config.md, config.md_temperature_K, out / "minimize"
    given[-1].mkdir(parents=True, exist_ok=True)
    minimized = minimize_external(subject, bundle, *given) if external else minimize_all(subject, *given)

    def run(plan: Plan, state: State) -> StageResult:
        folder = out / plan.stage
        folder.mkdir(exist_ok=True)
        if external:
            return run_external_dynamics(plan, subject, bundle, state, folder)
        return run_dynamics(plan, subject, state, folder)

    _through_stages(config, subject.system, minimized, run, plans)


def abandon_job(
    config: Config,
    reader: DatasetReader,
    job: Job,
    out: Path,
    failure: Failure,
    plans: Sequence[MakePlan] = DYNAMICS,
) -> None:
    """Conclude a job whose process is gone: what it had finished counts, everything else has failed."""
    system = read_system(config, reader, job.protein)
    starts = start_frames(reader, job.protein, config.data.temperature_K, config.md.replicas)
    minimized = abandon_minimize(system, starts, list(job.replicas), config.md, out / "minimize", failure)

    abandon = abandon_external_dynamics if config.md.engine == "lmp" else abandon_dynamics

    def end(plan: Plan, state: State) -> StageResult:
        return abandon(plan, system, starts, state, list(job.replicas), out / plan.stage, failure)

    _through_stages(config, system, minimized, end, plans)


def _through_stages(
    config: Config,
    system: System,
    minimized: dict[int, Minimized],
    stage: Callable[[Plan, State], StageResult],
    plans: Sequence[MakePlan],
) -> None:
    temperature_K, seed = config.md_temperature_K, noise_seed(config.run.seed, system.name)
    state = _heated(minimized, system, temperature_K, seed, config.md)
    for make_plan in plans:
        plan = make_plan(config.md, temperature_K, system.n_beads, seed)
        if plan.stage == "nve":
            state = State(state.replicas, state.positions, remove_net_momentum(state.velocities, system.masses))
        state = stage(plan, state).end


def _heated(
    minimized: dict[int, Minimized], system: System, temperature_K: float, seed: int, config: MDConfig
) -> State:
    """The minimised replicas with fresh velocities; those that could not be minimised are left out."""
    usable = [replica for replica, result in minimized.items() if not result.failed]
    if not usable:
        return State.nobody(system.n_beads)
    positions = np.stack([minimized[replica].positions for replica in usable])
    velocities = maxwell_velocities(Noise(seed, usable, system.n_beads, "velocities"), system.masses, temperature_K)
    if config.nvt.conserves_momentum:
        velocities = remove_net_momentum(velocities, system.masses)
    return State(usable, positions, velocities)


def shares(n_replicas: int, n_jobs: int) -> list[Sequence[int]]:
    """Ids 0 … n_replicas − 1 in so many runs of nearly equal length; empty ones where there are too few."""
    return [part.tolist() for part in np.array_split(np.arange(n_replicas), n_jobs)]

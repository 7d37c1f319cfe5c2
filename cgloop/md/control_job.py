"""The controls of one protein in one process: the prior without the network, and the model with shorter time steps."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from cgloop.config import Config
from cgloop.data.dataset import DatasetReader
from cgloop.export.bundle import Bundle
from cgloop.md.dynamics import abandon_dynamics, run_dynamics
from cgloop.md.ending import StageResult, State
from cgloop.md.evaluate import compile_model
from cgloop.md.failure import Failure
from cgloop.md.job import Job, abandon_job, make_subject, read_system, run_job
from cgloop.md.merge import read_survivors
from cgloop.md.plan import Plan, noise_seed, plan_nve, plan_nvt
from cgloop.md.system import System, start_frames
from cgloop.md.thermostat import remove_net_momentum
from cgloop.model.hybrid import Model, energy_and_forces
from cgloop.units import FS_PER_PS

PRIOR_ONLY, ORDER = "prior_only", "order"
"""Folders of a protein."""

STEP_FACTORS = (1, 2, 4)
"""The time step is divided by these."""


def order_folder(factor: int) -> str:
    """Name of the folder of the runs with the time step divided by a factor."""
    return f"dt_{factor}"


def prior_alone(model: Model) -> Model:
    """The same energy without its network."""
    return replace(model, energy="prior-only", spec=None)


def control_config(config: Config) -> Config:
    """The config that controls are run with: that of the dynamics, in LAMMPS here, and not longer than is needed."""
    md = config.md
    nvt = md.nvt.model_copy(update={"length_ps": min(config.control.prior_only_ps, md.nvt.length_ps)})
    engine = md.engine if md.engine == "jax_md" else "lammps"
    return config.model_copy(update={"md": md.model_copy(update={"nvt": nvt, "engine": engine, "extend": False})})


def why_no_prior_only(energy: str) -> str:
    """Why a model of this kind of energy has no control with the prior alone, or nothing."""
    return {
        "prior-only": "the model is the prior alone: there is nothing that its network could have added",
        "ml-only": "the model has no prior",
    }.get(energy, "")


def run_control_job(config: Config, bundle: Bundle, reader: DatasetReader, job: Job, md_dir: Path, out: Path) -> None:
    """Run what is not done yet of the controls of a protein into `out`; what was stopped goes on.

    Args:
        config: of `control_config`.
        bundle: the model.
        reader: the reference.
        job: protein, and the replicas whose controls are run.
        md_dir: of the dynamics; the runs with shorter time steps begin where NVT ended.
        out: folder of the job.

    Raises:
        Interrupted: stopped on request.
        UserError: LAMMPS refuses a script.
    """
    if not why_no_prior_only(config.model.energy):
        alone = prior_alone(bundle.model)
        prior = {"prior": bundle.params["prior"], "ml": {}}
        compiled = compile_model(partial(energy_and_forces, alone, prior), bundle.cutoff_A)
        subject = make_subject(config, replace(bundle, model=alone, params=prior), compiled, reader, job)
        # A crash cannot be replayed from a bundle: there is none of the prior alone.
        run_job(config, bundle, replace(subject, source=None), out / PRIOR_ONLY, (plan_nvt,))
    state = _starts_of_order(read_system(config, reader, job.protein), md_dir, job)
    subject = make_subject(config, bundle, compile_model(bundle.function, bundle.cutoff_A), reader, job)
    subject = replace(subject, replicas=list(state.replicas))
    _each_step_length(config, subject.system, out, lambda plan, folder: run_dynamics(plan, subject, state, folder))


def abandon_control_job(
    config: Config, reader: DatasetReader, job: Job, md_dir: Path, out: Path, failure: Failure
) -> None:
    """Conclude a job whose process is gone: what it had finished counts, everything else has failed."""
    if not why_no_prior_only(config.model.energy):
        abandon_job(config, reader, job, out / PRIOR_ONLY, failure, (plan_nvt,))
    system = read_system(config, reader, job.protein)
    starts = start_frames(reader, job.protein, config.data.temperature_K, config.md.replicas)
    state = _starts_of_order(system, md_dir, job)

    def end(plan: Plan, folder: Path) -> StageResult:
        return abandon_dynamics(plan, system, starts, state, list(state.replicas), folder, failure)

    _each_step_length(config, system, out, end)


def _starts_of_order(system: System, md_dir: Path, job: Job) -> State:
    """Where the runs with shorter time steps begin: as the constant-energy dynamics did.

    The first survivors take part, whatever their ids: a job with replicas 2 and 3 has the third and the fourth of them.
    """
    state = read_survivors(md_dir / job.protein / "nvt", system.n_beads)
    own = slice(job.replicas[0], job.replicas[-1] + 1)
    at_rest = remove_net_momentum(state.velocities[own], system.masses)
    return State(state.replicas[own], state.positions[own], at_rest)


def _each_step_length(config: Config, system: System, out: Path, run: Callable[[Plan, Path], StageResult]) -> None:
    seed = noise_seed(config.run.seed, system.name)
    for factor in STEP_FACTORS:
        folder = out / ORDER / order_folder(factor)
        folder.mkdir(parents=True, exist_ok=True)
        run(plan_order(config, system.n_beads, seed, factor), folder)


def plan_order(config: Config, n_beads: int, seed: int, factor: int) -> Plan:
    """Constant energy for `control.order_ps`, with a part of the time step; observed at the same times for every part.

    At every whole time step: the error of the energy swings twice as fast as the stiffest bond.
    """
    whole_ps = config.md.timestep_fs / FS_PER_PS
    steps = max(2, round(config.control.order_ps / whole_ps))
    length_ps = steps * whole_ps
    md = config.md.model_copy(
        update={
            "timestep_fs": config.md.timestep_fs / factor,
            "observe_every_ps": whole_ps,
            "dump_every_ps": length_ps,
            "nve": config.md.nve.model_copy(update={"length_ps": length_ps}),
        }
    )
    return plan_nve(md, config.md_temperature_K, n_beads, seed)

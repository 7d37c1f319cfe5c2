"""What `cgloop md` would run, written down and not run: scripts, data files and the plan of every stage."""

from pathlib import Path
from typing import Any

import numpy as np

from cgloop.checks import jsonable
from cgloop.config import Config
from cgloop.data.dataset import DatasetReader
from cgloop.errors import UserError
from cgloop.export.bundle import load_bundle
from cgloop.md.dynamics import write_inputs
from cgloop.md.ending import State
from cgloop.md.job import read_system
from cgloop.md.minimize import write_minimize_inputs
from cgloop.md.noise import Noise
from cgloop.md.plain import PlainSettings, write_plain_inputs
from cgloop.md.plan import Plan, noise_seed, plan_nve, plan_nvt
from cgloop.md.system import System, simulated_proteins, start_frames
from cgloop.md.thermostat import LAMMPS_SEEDS, maxwell_velocities
from cgloop.stages import write_json
from cgloop.units import FS_PER_PS


def write_dry_run(config: Config, bundle_dir: Path, dataset_dir: Path, out: Path) -> list[str]:
    """Write the inputs of every protein into a new folder, and in `plain` below it what a plain `lmp` runs.

    Dynamics would start from minimised frames, which only a run can make: in the data files written here they start
    from the frames of the data set.

    Args:
        config: section `md`, among others.
        bundle_dir, dataset_dir: results of the stages `export` and `prep`.
        out: must not exist.

    Returns:
        Lines that say what would run.

    Raises:
        UserError: `out` exists, or an earlier stage is missing.
    """
    if out.exists():
        raise UserError("exists", where=out, remedy="remove it, or give another folder with `--out`")
    bundle, reader = load_bundle(bundle_dir), DatasetReader.open(dataset_dir)
    temperature_K, lines = config.md_temperature_K, []
    for name in simulated_proteins(reader, config.md, config.data.temperature_K):
        system, seed = read_system(config, reader, name), noise_seed(config.run.seed, name)
        frames = start_frames(reader, name, config.data.temperature_K, config.md.replicas).positions
        frames = frames - frames.mean(axis=1, keepdims=True)
        state = _thermal(system, frames, temperature_K, seed)
        plans = [make(config.md, temperature_K, system.n_beads, seed) for make in (plan_nvt, plan_nve)]
        (out / name / "minimize").mkdir(parents=True)
        for replica, frame in enumerate(frames):
            write_minimize_inputs(out / name / "minimize", system, frame, config.md, replica)
        for plan in plans:
            (out / name / plan.stage).mkdir()
            write_inputs(plan, system, state, out / name / plan.stage)
        settings = PlainSettings(
            temperature_K, config.md.nvt.friction_per_ps, config.md.timestep_fs, 1 + seed % (LAMMPS_SEEDS - 1),
            plans[0].clock.equilibration_steps, plans[0].clock.steps,
        )  # fmt: skip
        write_plain_inputs(out / name / "plain", bundle, system, state.positions[0], state.velocities[0], settings)
        described = {plan.stage: _describe(plan, config) for plan in plans}
        write_json(out / name / "plan.json", jsonable({"beads": system.n_beads, "seed": seed, **described}))
        lines.append(
            f"{name}: {system.n_beads} beads, {config.md.replicas} replicas at {temperature_K:g} K, "
            f"model of {bundle.temperature_K:g} K, seed {seed}"
        )
        lines.append(f"  minimize  at most {config.md.minimize.max_steps} steps, each replica by itself")
        lines += [f"  {stage:<9} {_in_words(one)}" for stage, one in described.items()]
    return [*lines, f"written to {out}, nothing was run"]


def _thermal(system: System, frames: np.ndarray, temperature_K: float, seed: int) -> State:
    replicas = list(range(len(frames)))
    noise = Noise(seed, replicas, system.n_beads, "velocities")
    return State(replicas, frames, maxwell_velocities(noise, system.masses, temperature_K))


def _describe(plan: Plan, config: Config) -> dict[str, Any]:
    clock, step_ps = plan.clock, plan.clock.timestep_fs / FS_PER_PS
    return {
        "timestep_fs": clock.timestep_fs,
        "equilibration_ps": clock.equilibration_steps * step_ps,
        "length_ps": clock.steps * step_ps,
        "steps": clock.equilibration_steps + clock.steps,
        "temperature_K": plan.temperature_K,
        "thermostat": config.md.nvt.thermostat if plan.stage == "nvt" else None,
        "friction_per_ps": config.md.nvt.friction_per_ps if plan.stage == "nvt" else None,
        "degrees_of_freedom": plan.degrees_of_freedom,
        "dump_every_ps": config.md.dump_every_ps,
        "observe_every_ps": config.md.observe_every_ps,
        "restart_every_steps": plan.restart_steps,
        "limits": config.md.monitors.model_dump(),
    }


def _in_words(plan: dict[str, Any]) -> str:
    start = f"{plan['equilibration_ps']:g} ps, then " if plan["equilibration_ps"] else ""
    bath = f", {plan['thermostat']} thermostat" if plan["thermostat"] else ", constant energy"
    return f"{start}{plan['length_ps']:g} ps in {plan['steps']:,} steps of {plan['timestep_fs']:g} fs{bath}"

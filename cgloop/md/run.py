"""The stage `md`: every protein minimised, run under the thermostat and at constant energy."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cgloop.checks import jsonable
from cgloop.config import Config
from cgloop.data.dataset import DatasetReader
from cgloop.export.bundle import Bundle, load_bundle
from cgloop.md.dynamics import State, noise_seed, plan_nve, plan_nvt, run_dynamics
from cgloop.md.evaluate import Compiled, ModelEvaluator, compile_model, edges_per_replica
from cgloop.md.minimize import Minimized, minimize_all
from cgloop.md.noise import Noise
from cgloop.md.session import lammps_version
from cgloop.md.system import Subject, System, TermForces, simulated_proteins, start_frames
from cgloop.md.thermostat import maxwell_velocities, remove_net_momentum
from cgloop.md.uncertainty import write_uncertainty
from cgloop.model.graph import build_graph
from cgloop.model.hybrid import Model, Params, term_forces
from cgloop.residues import RESIDUES
from cgloop.stages import write_json

log = logging.getLogger("cgloop.md")


def md_stage(
    config: Config, bundle_dir: Path, dataset_dir: Path, out: Path, train_dir: Path | None = None
) -> dict[str, Any]:
    """Run proteins through `minimize`, `nvt` and `nve`, and write `md.json` beside their folders.

    Beside it is `uncertainty.json` if an ensemble was trained.

    Args:
        config: section `md`, which proteins among others, the temperature, the seed.
        bundle_dir: the model, as exported.
        dataset_dir: start frames, reference bond lengths.
        out: folder that exists.
        train_dir: the training, whose ensemble is asked about the frames of `nvt`; None for none.

    Returns:
        Contents of `md.json`: what was asked, and what became of every replica.

    Raises:
        UserError: damaged bundle or data set, unknown protein, no held-out frames of any, damaged ensemble.
        Interrupted: stopped on request.
    """
    bundle, reader = load_bundle(bundle_dir), DatasetReader.open(dataset_dir)
    compiled = compile_model(bundle.function, bundle.cutoff_A)
    proteins, timing, systems = {}, {}, {}
    for name in simulated_proteins(reader, config.md, config.data.temperature_K):
        subject = make_subject(config, bundle, compiled, reader, name)
        systems[name] = subject.system
        proteins[name], timing[name] = _run_protein(config, bundle, subject, out / name)
    if train_dir is not None:
        write_uncertainty(train_dir, systems, out)
    result = {
        "temperature_K": config.md_temperature_K,
        "model_temperature_K": bundle.temperature_K,
        "timestep_fs": config.md.timestep_fs,
        "replicas": config.md.replicas,
        "seed": config.run.seed,
        "lammps": lammps_version(),
        "asked_ps": {
            "nvt_equilibration": config.md.nvt.equilibration_ps,
            "nvt": config.md.nvt.length_ps,
            "nve": config.md.nve.length_ps,
        },
        "friction_per_ps": config.md.nvt.friction_per_ps,
        "limits": config.md.monitors.model_dump(),
        "proteins": proteins,
    }
    write_json(out / "md.json", jsonable(result))
    write_json(out / "timing.json", jsonable(timing))
    return result


def make_subject(config: Config, bundle: Bundle, compiled: Compiled, reader: DatasetReader, name: str) -> Subject:
    """A protein of the data set, ready to be simulated. Raises UserError as `md_stage`."""
    starts = start_frames(reader, name, config.data.temperature_K, config.md.replicas)
    system = System.of(reader.load(name, temperature_K=config.data.temperature_K))
    room = edges_per_replica(system, starts.positions, compiled.cutoff_A, config.md.skin_A)
    return Subject(
        system,
        starts,
        partial(ModelEvaluator, compiled, system, config.md.skin_A, room),
        split_forces(bundle.model, bundle.params, system),
    )


def split_forces(model: Model, params: Params, system: System) -> TermForces:
    """The force on one replica term by term, from the model in JAX; compiled when it is first needed."""
    function: Callable[..., jax.Array] = jax.jit(partial(term_forces, model, params))

    def split(positions: np.ndarray) -> np.ndarray:
        centred = positions - positions.mean(axis=0)
        graph = build_graph(system.residue_type, system.linked, centred, model.cutoff_A)
        return np.asarray(function(centred.astype(np.float32), graph))

    return split


def _run_protein(config: Config, bundle: Bundle, subject: Subject, out: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What became of one protein, and wall-clock figures."""
    system, temperature_K = subject.system, config.md_temperature_K
    seed = noise_seed(config.run.seed, system.name)
    folders = {stage: out / stage for stage in ("minimize", "nvt", "nve")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    minimized = minimize_all(subject, config.md, temperature_K, folders["minimize"])
    stages = {"minimize": {"replicas": [result.to_json() for result in minimized]}}
    timing = {}
    state = _heated(minimized, system, temperature_K, seed)
    for make_plan in (plan_nvt, plan_nve):
        plan = make_plan(config.md, temperature_K, system.n_beads, seed)
        if plan.stage == "nve":
            state = State(state.replicas, state.positions, remove_net_momentum(state.velocities, system.masses))
        result = run_dynamics(plan, subject, state, folders[plan.stage])
        state, timing[plan.stage] = result.end, result.timing
        stages[plan.stage] = {"replicas": list(result.outcomes.values())}
        survived = sum(outcome["survived"] for outcome in result.outcomes.values())
        log.info("%s %s: %d of %d replicas survived", system.name, plan.stage, survived, subject.n_replicas)
    trained = {entry["id"] for entry in bundle.manifest["types"] if entry["trained"]}
    untrained = set(system.residue_type.tolist()) - trained if bundle.model.has_ml else set()
    description = {
        "n_beads": system.n_beads,
        "starts": [subject.starts.describe(replica) for replica in range(subject.n_replicas)],
        "untrained_types": sorted(RESIDUES[kind].name for kind in untrained),
        "stages": stages,
    }
    return description, timing


def _heated(minimized: list[Minimized], system: System, temperature_K: float, seed: int) -> State:
    """The minimised replicas with fresh velocities; those that could not be minimised are left out."""
    usable = [replica for replica, result in enumerate(minimized) if not result.failed]
    positions = [minimized[replica].positions for replica in usable]
    noise = Noise(seed, usable, system.n_beads, "velocities")
    if not usable:
        none = np.empty((0, system.n_beads, 3))
        return State([], none, none)
    return State(usable, np.stack(positions), maxwell_velocities(noise, system.masses, temperature_K))

"""The stage `refine`: from trained parameters to such whose own dynamics show the reference ensemble."""

import logging
import math
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

import cgloop
from cgloop.allocator import keep_memory
from cgloop.config.root import Config
from cgloop.data.dataset import DatasetReader
from cgloop.errors import UserError
from cgloop.model.compiler_check import require_right_sums
from cgloop.model.terms import PriorParams
from cgloop.refine.candidates import Judge
from cgloop.refine.chains import Lengths, ProteinChains, require_memory
from cgloop.refine.energy import FrameEnergy, Trained, room_for
from cgloop.refine.first_frames import FirstFrames
from cgloop.refine.outcome import prior_curves, refined_protein
from cgloop.refine.result import RefineResult
from cgloop.refine.rounds import Finished, Refinement
from cgloop.refine.sampler import ChainLimits, Dynamics
from cgloop.refine.subject import Subject, read_subjects
from cgloop.refine.updates import ForceTerm, Updater
from cgloop.stages import digest_of, read_json, write_json
from cgloop.train.position import Position, TrainResult
from cgloop.train.results import judge, summarise, write_results
from cgloop.train.task import Task, prepare_task
from cgloop.units import FS_PER_PS, thermal_energy

log = logging.getLogger("cgloop.refine")

COPIED = ("history.json", "decoys.json", "ensemble.json", "ensemble")
"""What a training left and a refinement leaves as it is."""


def refine_stage(
    config: Config,
    dataset_dir: Path,
    train_dir: Path,
    priors_yaml: Path,
    out: Path,
    *,
    first_frames: Sequence[FirstFrames] | None = None,
) -> dict[str, Any]:
    """Refine trained parameters, evaluate their forces on held-out frames, and write everything into `out`.

    Called again on a folder with checkpoints of the same inputs, it goes on from the last. Files: those of the stage
    `train`, of the refined parameters, but for its history; `refine.json`.

    Args:
        config: `refine`, `model`, `train`, `priors`, `md.monitors`, definitions of observables and lineages of
            `validate`, the temperature of `data`, the seed of `run`.
        dataset_dir: from prep.
        train_dir: from train.
        priors_yaml: from priors.
        out: folder that exists.
        first_frames: equilibrated frames of dynamics with the trained parameters, which are the first samples.

    Returns:
        What summary.json says.

    Raises:
        UserError: no training frames at the model's temperature or too few, too little memory, a model that is not
            stable, or sums that are wrong on this machine.
        Interrupted: stopped on request; a checkpoint is in `out/checkpoints`.
    """
    begun = time.monotonic()
    keep_memory()
    require_right_sums()
    reader = DatasetReader.open(dataset_dir)
    temperature_K = config.data.temperature_K
    subjects, others = read_subjects(reader, temperature_K, config.validate_)
    _require_known(config.refine.protein_weights, [one.name for one in subjects])
    lengths = _lengths(config)
    require_memory([(one.name, one.n_beads) for one in subjects], lengths, _free_memory())
    task = _task(config, dataset_dir, train_dir, priors_yaml)
    start = _start(task)
    proteins = [_chains(config, task, subject, lengths) for subject in subjects]
    first = {one.name: frames for one in proteins for frames in first_frames or () if frames.protein == one.name}
    used_first = sum(one.begin_with(first[one.name], start) for one in proteins if one.name in first)
    terms = {one.name: term for one in proteins if (term := _force_term(config, task, one, start)) is not None}
    beta = 1.0 / thermal_energy(temperature_K)
    updater = Updater(config.refine, config.refined_parameters, proteins, terms, beta, config.run.seed)
    space = task.space
    rounds = Refinement(
        config.refine,
        proteins,
        updater,
        Judge(proteins, start, config.refine.stopping, beta),
        start,
        finish=lambda params: (
            params
            if space is None or config.refined_parameters == "network"
            else {**params, "prior": space.finish(params["prior"])}
        ),
        folder=out / "checkpoints",
        fingerprint=_fingerprint(config, task, first),
    )
    finished = rounds.run()
    summary = _write(config, task, finished, train_dir, out)
    _result(config, task, proteins, finished, start, terms, first, used_first, others).write(out)
    write_json(out / "timing.json", {"rounds_s": finished.progressed.seconds, "stage_s": time.monotonic() - begun})
    task.sets.close()
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    log.info("force RMSE on %(split)s: %(rmse_full).4f, prior alone %(rmse_prior).4f kcal/mol/Å", summary)
    return summary


def _require_known(weights: Mapping[str, float], names: Sequence[str]) -> None:
    """Raise a `UserError` for a weight of a protein that is not refined."""
    if unknown := sorted(set(weights) - set(names)):
        raise UserError(
            f"`{unknown[0]}` has no training frames at the model's temperature",
            where="refine.protein_weights",
            remedy=f"known: {', '.join(names)}",
        )


def _task(config: Config, dataset_dir: Path, train_dir: Path, priors_yaml: Path) -> Task:
    """Return the training as a refinement goes on from it: with a prior that moves where it is refined."""
    moves_prior = config.refined_parameters != "network"
    changes = {"train_priors": config.train.train_priors or moves_prior, "engine": "cgloop"}
    changed = config.model_copy(update={"train": config.train.model_copy(update=changes)})
    return prepare_task(changed, dataset_dir, priors_yaml, train_dir / "params.safetensors")


def _start(task: Task) -> Trained:
    """Return the trained parameters of the start, in single precision and inside their bounds."""
    start = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), task.trained)
    if task.space is not None:
        start = {**start, "prior": task.space.finish(start["prior"])}
    return start


def _lengths(config: Config) -> Lengths:
    refine = config.refine
    steps = max(refine.frames_per_round, round(refine.round_ps * FS_PER_PS / refine.timestep_fs))
    stride = steps // refine.frames_per_round
    return Lengths(
        refine.chains,
        refine.frames_per_round,
        stride,
        math.ceil(refine.warmup_ps * FS_PER_PS / refine.timestep_fs / (stride * refine.frames_per_round) - 1e-9),
        refine.pool_rounds,
        refine.outside_share,
    )


def _chains(config: Config, task: Task, subject: Subject, lengths: Lengths) -> ProteinChains:
    monitors, refine = config.md.monitors, config.refine
    positions = subject.training.positions[:: max(1, subject.training.n_frames // 100)]
    room = room_for(np.concatenate([positions, subject.outside[:20]]), task.model.cutoff_A)
    energy = FrameEnergy.of(
        task.model, task.whole, subject.residue_type, subject.linked, room, config.refined_parameters
    )
    return ProteinChains(
        subject,
        energy,
        lengths,
        Dynamics(thermal_energy(config.data.temperature_K), refine.timestep_fs, refine.friction_per_ps),
        ChainLimits(
            monitors.min_distance_A,
            monitors.max_bond_deviation,
            monitors.max_force,
            _hottest(monitors.temperature_quantile, subject.n_beads),
        ),
        config.run.seed,
    )


def _hottest(quantile: float, n_beads: int) -> float:
    """Return the kinetic temperature over the target that a healthy chain exceeds in one step with a probability."""
    degrees_of_freedom = 3 * n_beads
    return float(stats.chi2.isf(quantile, degrees_of_freedom)) / degrees_of_freedom


def _force_term(config: Config, task: Task, protein: ProteinChains, start: Trained) -> ForceTerm | None:
    """Return the frames of the force term; None without forces, or if the config leaves the term out."""
    part, refine = protein.subject.training, config.refine
    if not (len(part.forces) and refine.force_frames and refine.force_weight):
        return None
    targets = part.forces - protein.frozen_forces(start, part.force_positions)
    noise = task.noise.get(protein.name)
    if noise is None:
        # What the start leaves is an upper bound of the noise.
        noise = float(np.sqrt(np.mean((protein.moving_forces(start, part.force_positions) - targets) ** 2)))
    return ForceTerm(part.force_positions, targets, 3 * protein.subject.n_beads / (2.0 * noise**2))


def _free_memory() -> float:
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError, AttributeError):
        return math.inf


def _fingerprint(config: Config, task: Task, first: dict[str, FirstFrames]) -> str:
    frames = {name: [digest_of(part.tobytes().hex()) for part in one.replicas] for name, one in sorted(first.items())}
    return digest_of(
        {
            "refine": config.refine.model_dump(mode="json", exclude={"when", "parameters"}),
            "parameters": config.refined_parameters,
            "monitors": config.md.monitors.model_dump(mode="json"),
            "validate": config.validate_.model_dump(mode="json"),
            "task": task.fingerprint,
            "first": frames,
            "cgloop": cgloop.__version__,
        }
    )


def _write(config: Config, task: Task, finished: Finished, train_dir: Path, out: Path) -> dict[str, Any]:
    """Write the files of a training for the refined parameters; return the summary."""
    done = finished.progressed
    result = TrainResult(finished.params, Position(""), done.stopped, {})
    judged, errors = judge(task, result.params)
    summary = {
        **summarise(task, result, judged),
        **{key: value for key, value in read_json(train_dir / "summary.json").items() if key not in judged},
        "refined": {
            "parameters": config.refined_parameters, "rounds": done.round, "kept_round": done.kept_round,
            "stopped": done.stopped,
        },
    }  # fmt: skip
    if config.refined_parameters != "network":
        summary["prior"] = "trained"
    write_results(out, task, result, judged, errors, summary)
    for name in COPIED:
        source, target = train_dir / name, out / name
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        elif source.is_file():
            shutil.copyfile(source, target)
    return summary


def _result(
    config: Config,
    task: Task,
    proteins: Sequence[ProteinChains],
    finished: Finished,
    start: Trained,
    terms: dict[str, ForceTerm],
    first: dict[str, FirstFrames],
    used_first: int,
    others: Sequence[str],
) -> RefineResult:
    done, moving = finished.progressed, config.refined_parameters
    priors = [PriorParams(*map(np.asarray, task.whole(one)["prior"])) for one in (start, finished.params)]
    found = {
        one.name: refined_protein(
            one, finished.before[one.name], finished.after[one.name], start, finished.params,
            first[one.name].started_from if one.name in first else (),
        )
        for one in proteins
    }  # fmt: skip
    caveats = []
    if open_ones := [name for name, one in found.items() if not one.populations_determined]:
        caveats.append(
            f"populations of basins not determined ({', '.join(open_ones)}): chains crossed between the folded and "
            "the unfolded basin too rarely"
        )
    if others:
        caveats.append(f"not refined, since they have no training frames at this temperature: {', '.join(others)}")
    if done.failed:
        caveats.append(f"ended before its time: {done.stopped}")
    curves = prior_curves(moving, task.model.forms, priors[0], priors[1], [one.subject for one in proteins])
    return RefineResult(
        parameters=moving,
        temperature_K=config.data.temperature_K,
        settings=config.refine.model_dump(mode="json"),
        force_weight_scale={name: term.scale for name, term in terms.items()},
        first_frames=used_first,
        stopped=done.stopped,
        failed=done.failed,
        kept_round=done.kept_round,
        rounds=done.rounds,
        candidates=done.candidates,
        proteins=found,
        prior_curves=curves,
        caveats=caveats,
    )

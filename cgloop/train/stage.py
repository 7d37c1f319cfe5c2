"""The stage `train`: from a data set and priors to parameters, and what they are worth on held-out frames."""

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError

from cgloop.checks import jsonable
from cgloop.config.root import Config
from cgloop.config.train import TrainConfig
from cgloop.data.dataset import DatasetReader
from cgloop.errors import UserError
from cgloop.model.hybrid import (
    Model,
    build_model,
    flatten_params,
    ml_forces,
    model_to_json,
    prior_forces,
    unflatten_params,
)
from cgloop.model.hybrid import init_params as random_params
from cgloop.model.terms import PriorForms, PriorParams
from cgloop.priors.tables import read_prior
from cgloop.residues import N_TYPES, RESIDUES
from cgloop.stages import digest_file, digest_of, write_json
from cgloop.train.checkpoints import read_tensors, write_tensors
from cgloop.train.evaluate import evaluate_forces, predict
from cgloop.train.loader import FrameSet, Shape, common_shape
from cgloop.train.trainer import HISTORY_UNITS, Position, Trainer, TrainResult
from cgloop.units import thermal_energy

log = logging.getLogger("cgloop.train")


@dataclass
class Sets:
    """The frames of each part of the data; `test` is None if nothing was set apart for it."""

    training: FrameSet
    validation: FrameSet
    test: FrameSet | None

    def all(self) -> list[FrameSet]:
        return [frames for frames in (self.training, self.validation, self.test) if frames is not None]


def train_stage(
    config: Config, dataset_dir: Path, priors_yaml: Path, out: Path, init_params: Path | None = None
) -> dict[str, Any]:
    """Train, evaluate on held-out frames, and write everything into `out`.

    Called again on a folder with checkpoints of the same inputs, it goes on from the last. Files: params.safetensors,
    model.json, history.json, forces.json, summary.json, timing.json.

    Args:
        config: `model`, `train`, the temperature of `data`, the seed of `run`.
        dataset_dir: from prep.
        priors_yaml: from priors.
        out: folder that exists.
        init_params: params.safetensors of an earlier training to start from; its prior is not used.

    Returns:
        What summary.json says.

    Raises:
        UserError: no frames to train on, or parameters to start from that do not fit, or a training that diverges.
        Interrupted: stopped on request; a checkpoint is in `out/checkpoints`.
    """
    start = time.monotonic()
    reader = DatasetReader.open(dataset_dir)
    mixed = config.priors.temperatures == "mixed"
    noise_A = config.train.position_noise_A
    sets = load_sets(reader, config.data.temperature_K, config.model.cutoff_A, mixed, noise_A)
    _weigh(sets, config.train)
    shape = common_shape(sets.all(), config.train.eval_batch_size)
    forms, prior = read_prior(priors_yaml)
    baseline = _prior_forces_on(sets, forms, prior, config.model.cutoff_A, shape)
    model = _describe_model(config, sets.training, forms)
    if model.has_prior:
        for frames, forces in zip(sets.all(), baseline, strict=True):
            frames.set_target(frames.reference - forces)
    params = _starting_params(model, prior, config.run.seed, init_params)
    forces = jax.jit(_trained_forces(model))
    if model.has_ml:
        inputs = {
            "model": model_to_json(model),
            "train": config.train.model_dump(exclude={"checkpoint_every_s"}),
            "seed": config.run.seed,
            "dataset": reader.manifest,
            "priors": digest_file(priors_yaml),
            "start": digest_file(init_params) if init_params else None,
        }
        trainer = Trainer(
            forces,
            {"ml": params["ml"]},
            sets.training,
            sets.validation,
            config.train,
            evaluation_shape=shape,
            seed=config.run.seed,
            folder=out / "checkpoints",
            fingerprint=digest_of(inputs),
        )
        result = trainer.run()
    else:
        log.info("nothing to train: the energy is the prior alone")
        result = TrainResult({"ml": {}}, Position(""), "nothing to train", {})
    params = {**params, **result.params}
    judged = _judge(sets, baseline, model, forces, params, shape, config.run.seed)
    summary = _summary(model, params, sets, result, judged)
    result.timing["stage_s"] = time.monotonic() - start
    _write(out, model, params, result, judged, summary)
    log.info(
        "force RMSE on %(split)s: %(rmse_full).4f, prior alone %(rmse_prior).4f, no model %(rmse_zero).4f kcal/mol/Å",
        judged,
    )
    return summary


def load_sets(
    reader: DatasetReader, temperature_K: float, cutoff_A: float, mixed: bool = False, noise_A: float = 0.0
) -> Sets:
    """All frames at one temperature by part, with their edges. Raises UserError if there are none to use.

    With `mixed` the training frames of all temperatures; what is held out is always at the model's. Noise is for
    training frames.
    """

    def frames(split: str) -> FrameSet | None:
        chosen = None if mixed and split == "train" else temperature_K
        proteins = [reader.load(name, split, chosen) for name in reader.names]
        proteins = [protein for protein in proteins if protein.n_frames]
        for protein in proteins:
            broken = ~np.isfinite(protein.forces).all(axis=(1, 2)) | ~np.isfinite(protein.positions).all(axis=(1, 2))
            if broken.any():
                raise UserError(
                    f"frame {protein.source_frame[broken][0]} of replica {protein.replica[broken][0]} is not finite",
                    where=reader.folder / f"{protein.name}.h5",
                    remedy="run `cgloop prep` again",
                )
        return FrameSet(proteins, cutoff_A, noise_A if split == "train" else 0.0) if proteins else None

    training, validation, test = frames("train"), frames("validation"), frames("test")
    if training is None or validation is None:
        missing = "training" if training is None else "validation"
        raise UserError(
            f"no {missing} frames at {temperature_K:g} K",
            where=reader.folder,
            remedy="change `data.split` or `data.temperature_K`",
        )
    return Sets(training, validation, test)


def _weigh(sets: Sets, config: TrainConfig) -> None:
    """Set the weights of the config; a protein or temperature that is not there is a UserError.

    Frames of validation are all at one temperature.
    """
    training = sets.training
    unknown = sorted(set(config.protein_weights) - set(training.names))
    if unknown:
        raise UserError(
            f"`train.protein_weights` names `{unknown[0]}`, which has no training frames",
            remedy=f"known: {', '.join(training.names)}",
        )
    present = np.unique(training.temperature_K)
    for temperature in config.temperature_weights:
        if not (np.abs(present - temperature) < 0.5).any():
            raise UserError(
                f"`train.temperature_weights` names {temperature:g} K, at which there are no training frames",
                remedy=f"known: {', '.join(f'{one:g}' for one in present)}; `priors.temperatures: mixed` adds more",
            )
    training.set_weights(config.protein_weights, config.temperature_weights, config.normalize)
    sets.validation.set_weights(config.protein_weights, {}, config.normalize)


def _prior_forces_on(
    sets: Sets, forms: PriorForms, prior: PriorParams, cutoff_A: float, shape: Shape
) -> list[np.ndarray]:
    """Forces of the prior alone on every frame of every set, computed once: the prior is frozen."""
    model = Model(spec=None, energy="prior-only", cutoff_A=cutoff_A, forms=forms)
    function = jax.jit(partial(prior_forces, model))
    params = {"prior": jax.tree.map(lambda value: jnp.asarray(value, jnp.float32), prior), "ml": {}}
    return [predict(function, params, frames, shape) for frames in sets.all()]


def _describe_model(config: Config, training: FrameSet, forms: PriorForms) -> Model:
    """The network's hyper-parameters, those that come from the training frames included."""
    present = np.unique(training.types)
    return build_model(
        config.model,
        avg_num_neighbors=training.mean_neighbors,
        trained_types=[kind in present for kind in range(N_TYPES)],
        energy_scale=_energy_scale(config, training),
        forms=forms,
    )


def _energy_scale(config: Config, training: FrameSet) -> float:
    """Unit of the network's output, kcal/mol.

    Beside a prior the network corrects a potential of mean force by energies of the order of kT. Alone it has to hold
    the bonds, too, whose forces are as large as those of the reference. What the prior leaves of the instantaneous
    forces would be a bad measure: it is mostly their scatter, which is no force of the model.
    """
    if config.model.energy == "hybrid":
        return thermal_energy(config.data.temperature_K)
    return float(np.sqrt(np.mean(training.reference.astype(np.float64) ** 2))) or 1.0


def _trained_forces(model: Model) -> Callable[[Any, jax.Array, Any], jax.Array]:
    """Forces of the network as a function of its own parameters, {"ml": …}."""
    network = replace(model, energy="ml-only") if model.has_ml else model
    return lambda params, positions, graph: ml_forces(network, {"prior": None, "ml": params["ml"]}, positions, graph)


def _starting_params(model: Model, prior: PriorParams, seed: int, start: Path | None) -> dict[str, Any]:
    """Random network, or that of an earlier training."""
    params = random_params(model, prior, jax.random.key(seed))
    if start is None or not model.has_ml:
        return params
    remedy = "remove it, or train with the model it was made with"
    try:
        earlier = unflatten_params(read_tensors(start)[0])["ml"]
    except (OSError, SafetensorError, TypeError) as error:
        raise UserError(f"parameters cannot be read: {error}", where=start, remedy=remedy) from None
    shapes = [jax.tree.map(np.shape, tree) for tree in (params["ml"], earlier)]
    if shapes[0] != shapes[1]:
        raise UserError("parameters to start from are those of another model", where=start, remedy=remedy)
    return {**params, "ml": jax.tree.map(lambda new, old: jnp.asarray(old, new.dtype), params["ml"], earlier)}


def _judge(
    sets: Sets,
    baseline: list[np.ndarray],
    model: Model,
    forces: Callable[..., jax.Array],
    params: dict[str, Any],
    shape: Shape,
    seed: int,
) -> dict[str, Any]:
    """Contents of forces.json: on the test frames, or on those of validation if there are none, which it then says."""
    frames, prior = sets.all()[-1], baseline[-1]
    full = prior.copy() if model.has_prior else np.zeros_like(prior)
    if model.has_ml:
        full += predict(forces, {"ml": params["ml"]}, frames, shape)
    split = "validation" if sets.test is None else "test"
    return evaluate_forces(frames, full, prior, split=split, seed=seed)


def _summary(
    model: Model, params: dict[str, Any], sets: Sets, result: TrainResult, judged: dict[str, Any]
) -> dict[str, Any]:
    position, spec = result.position, model.spec
    trained = spec.trained_types if spec is not None else (False,) * N_TYPES
    return {
        "energy": model.energy,
        "parameters": int(sum(np.size(leaf) for leaf in jax.tree.leaves(params["ml"]))),
        "frames": {
            "train": sets.training.n_frames,
            "validation": sets.validation.n_frames,
            "test": sets.test.n_frames if sets.test else 0,
        },
        "proteins": sets.training.names,
        "trained_types": [r.name for r, flag in zip(RESIDUES, trained, strict=True) if flag],
        "epochs": position.epoch,
        "best_epoch": position.best_epoch,
        "stopped": result.stopped,
        "divergences": len(position.divergences),
        "split": judged["split"],
        **{key: judged[key] for key in ("rmse_full", "rmse_prior", "rmse_zero", "full_minus_prior")},
    }


def _history(result: TrainResult) -> dict[str, Any]:
    position = result.position
    return {
        "columns": position.history,
        "units": HISTORY_UNITS,
        "about": {
            "train_loss": "mean over the epoch's steps, of the parameters as they moved",
            "validation_loss": "of the averaged parameters at the end of the epoch",
            "divergences": "epochs that were started again with a smaller learning rate",
        },
        "initial_validation_loss": position.initial_loss,
        "best_epoch": position.best_epoch,
        "stopped": result.stopped,
        "divergences": position.divergences,
    }


def _write(
    out: Path,
    model: Model,
    params: dict[str, Any],
    result: TrainResult,
    judged: dict[str, Any],
    summary: dict[str, Any],
) -> None:
    write_tensors(out / "params.safetensors", flatten_params(params))
    contents = {
        "model.json": model_to_json(model),
        "history.json": _history(result),
        "forces.json": judged,
        "summary.json": summary,
        "timing.json": result.timing,
    }
    for name, data in contents.items():
        write_json(out / name, jsonable(data))
    shutil.rmtree(out / "checkpoints", ignore_errors=True)

"""What a training writes: parameters, how they were found, and what they are worth on held-out frames."""

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cgloop.checks import jsonable
from cgloop.model.hybrid import Params, flatten_params, model_to_json, prior_forces
from cgloop.model.terms import PriorParams
from cgloop.priors.tables import write_priors
from cgloop.residues import N_TYPES, RESIDUES
from cgloop.stages import write_json
from cgloop.train.checkpoints import write_tensors
from cgloop.train.ensemble import disagreement
from cgloop.train.evaluate import ForceTally, FrameErrors, Predictor, evaluate_forces, predictions
from cgloop.train.position import HISTORY_UNITS, TrainResult
from cgloop.train.task import Task

FORCE_ERRORS = "force_errors.npz"

DECOYS = (
    "frames without reference forces: the learned force should be zero on `beads` of their beads; all others are masked"
)


def judge(task: Task, trained: dict[str, Any]) -> tuple[dict[str, Any], FrameErrors]:
    """Return the contents of forces.json and the deviations of every frame: on the test frames, or on those of
    validation if there are none (`split` says which).

    `prior-only` is the fitted prior, which the model has to beat; `trained-prior` is its own, if that was trained.
    """
    sets, model = task.sets, task.model
    predictors: dict[str, Predictor] = {"prior-only": task.fitted}
    if not task.is_empty:
        predictors["trained"] = partial(task.forces, trained)
    if task.space is not None:
        alone = jax.jit(partial(prior_forces, model))
        predictors["trained-prior"] = partial(alone, task.whole(trained))
    more = [mode for mode, wanted in (("trained-prior", task.space is not None), ("ml-only", model.has_ml)) if wanted]
    tally = ForceTally(sets.all()[-1], ["full", "prior-only", "zero", *more], task.whole_proteins)
    if task.by_source is not None:
        labels, which, _ = task.by_source[1]
        tally.tell_apart(labels, which)
    for frames, forces in predictions(list(predictors.values()), tally.frames, task.shape):
        tally.add(frames, _modes(task, dict(zip(predictors, forces, strict=True))))
    split = "validation" if sets.test is None else "test"
    found = evaluate_forces(tally, split=split, seed=task.config.run.seed, noise=task.noise)
    if task.by_source is not None:
        labels, which, weight = task.by_source[0]
        for k, label in enumerate(labels):
            own = which == k
            seen = {"frames": int(own.sum()), "weight": float(weight[own].mean()) if own.any() else None}
            found["per_source"][label]["training"] = seen
    return found, tally.frame_errors()


def _modes(task: Task, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Forces of the whole model and of its parts, from those of the fitted prior and of what was trained."""
    prior = found["prior-only"]
    zero = np.zeros_like(prior)
    full = found.get("trained", zero)
    if task.model.has_prior and task.space is None:
        full = prior + full
    own = found.get("trained-prior", prior if task.model.has_prior else zero)
    return {**found, "full": full, "zero": zero, "ml-only": full - own}


def summarise(task: Task, result: TrainResult, judged: dict[str, Any]) -> dict[str, Any]:
    """Contents of summary.json."""
    position, model, sets = result.position, task.model, task.sets
    trained = model.spec.trained_types if model.spec is not None else (False,) * N_TYPES
    return {
        "energy": model.energy,
        "parameters": int(sum(np.size(leaf) for leaf in jax.tree.leaves(result.params))),
        "prior": "frozen" if task.space is None else "trained",
        "frames": {
            "train": sets.training.n_frames - len(task.decoys),
            "validation": sets.validation.n_frames,
            "test": sets.test.n_frames if sets.test else 0,
            **({"decoys": len(task.decoys)} if task.decoys else {}),
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


def write_results(
    out: Path,
    task: Task,
    result: TrainResult,
    judged: dict[str, Any],
    errors: FrameErrors,
    summary: dict[str, Any],
    members: Sequence[dict[str, Any]] = (),
) -> None:
    """Write all files of the stage, and remove the checkpoints.

    Args:
        out: folder of the stage.
        task, result: what was trained, and what came of it.
        judged, summary: contents of forces.json and summary.json.
        errors: contents of force_errors.npz.
        members: trained parameters of further members of an ensemble.
    """
    write_tensors(out / "params.safetensors", _flat(task.whole(result.params)))
    if result.kept:
        (out / "best").mkdir(exist_ok=True)
        for epoch, trained in result.kept.items():
            write_tensors(out / "best" / f"epoch_{epoch:06d}.safetensors", _flat(task.whole(trained)))
    if task.space is not None:
        prior = PriorParams(*(np.asarray(value, np.float64) for value in task.whole(result.params)["prior"]))
        write_priors(out / "priors.yaml", prior, task.space.origin(), task.model.forms)
    if members:
        (out / "ensemble").mkdir(exist_ok=True)
        for number, trained in enumerate(members, start=1):
            write_tensors(out / "ensemble" / f"member_{number:02d}.safetensors", _flat(task.whole(trained)))
        write_json(out / "ensemble.json", jsonable(disagreement(task, [result.params, *members])))
    contents = {
        "model.json": model_to_json(task.model),
        "history.json": _history(result),
        "forces.json": judged,
        "summary.json": summary,
        "timing.json": result.timing,
    }
    if task.decoys:
        contents["decoys.json"] = {"about": DECOYS, "decoys": task.decoys}
    for name, data in contents.items():
        write_json(out / name, jsonable(data))
    errors.write(out / FORCE_ERRORS)
    shutil.rmtree(out / "checkpoints", ignore_errors=True)


def _flat(params: Params) -> dict[str, np.ndarray]:
    return flatten_params({"prior": params["prior"], "ml": jax.tree.map(jnp.asarray, params["ml"])})


def _history(result: TrainResult) -> dict[str, Any]:
    position = result.position
    return {
        "columns": position.history,
        "units": HISTORY_UNITS,
        "about": {
            "train_loss": "mean over the epoch's steps, of the parameters as they moved",
            "validation_loss": "of the averaged parameters at the end of the epoch",
            "divergences": "epochs that were started again with a smaller learning rate",
            "kept": "epochs with the lowest validation loss, in best/",
        },
        "initial_validation_loss": position.initial_loss,
        "best_epoch": position.best_epoch,
        "stopped": result.stopped,
        "divergences": position.divergences,
        "kept": [{"epoch": one["epoch"], "validation_loss": one["loss"]} for one in position.kept],
    }

"""The stage `train`: from a data set and priors to parameters, and what they are worth on held-out frames."""

import logging
import shutil
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax

from cgloop.allocator import keep_memory
from cgloop.config.root import Config
from cgloop.executors.world import World
from cgloop.model.compiler_check import require_right_sums
from cgloop.train.ensemble import lane_devices, train_in_lanes, train_members
from cgloop.train.files import Place
from cgloop.train.phases import Member, run_phases
from cgloop.train.position import Position, TrainResult
from cgloop.train.results import judge, summarise, write_results
from cgloop.train.task import Task, prepare_task
from cgloop.train.tracking import Tracker

FRAMES = "frames"
"""Folder of the frames that are too many for memory, for as long as the stage is in work."""

log = logging.getLogger("cgloop.train")


def train_stage(
    config: Config,
    dataset_dir: Path,
    priors_yaml: Path,
    out: Path,
    init_params: Path | None = None,
    decoys: Sequence[Path] = (),
) -> dict[str, Any]:
    """Train, evaluate on held-out frames, and write everything into `out`.

    Called again on a folder with checkpoints of the same inputs, it goes on from the last. Files: params.safetensors,
    model.json, history.json, forces.json, force_errors.npz, summary.json, timing.json; metrics.jsonl and tensorboard/
    from the first epoch on; priors.yaml if the prior was trained; best/ if the parameters of several epochs are kept;
    ensemble/ and ensemble.json if there are several members; decoys.json if there are decoys among the training frames.

    Args:
        config: `model`, `train`, `priors`, the temperature of `data`, the seed of `run`.
        dataset_dir: from prep.
        priors_yaml: from priors.
        out: folder that exists.
        init_params: params.safetensors of an earlier training to start from.
        decoys: decoys.h5 of earlier cycles, the oldest first.

    In one of several processes that share the work, the first evaluates and writes.

    Returns:
        What summary.json says.

    Raises:
        UserError: no frames to train on, or parameters to start from that do not fit, a training that diverges,
            or sums that are wrong on this machine.
        Interrupted: stopped on request; a checkpoint is in `out/checkpoints`.
    """
    start = time.monotonic()
    keep_memory()
    if config.train.engine == "chemtrain":
        from cgloop.train.chemtrain_engine import require_chemtrain

        require_chemtrain()
    require_right_sums()
    world = World(jax.process_index(), jax.process_count(), tuple(jax.local_devices()))
    place = Place(out / FRAMES, config.train.memory_MB, world)
    task = prepare_task(config, dataset_dir, priors_yaml, init_params, place, decoys)
    if task.decoys:
        log.info("%d decoys beside the training frames", len(task.decoys))
    if task.is_empty:
        log.info("nothing to train: the energy is the prior alone")
        result = TrainResult(task.trained, Position(""), "nothing to train", {})
        members: list[dict[str, Any]] = []
    else:
        result, members = _train(task, out)
    if not world.is_primary:
        task.sets.close()
    world.barrier("trained")
    if not world.is_primary:
        return {}
    judged, errors = judge(task, result.params)
    summary = summarise(task, result, judged)
    result.timing["stage_s"] = time.monotonic() - start
    write_results(out, task, result, judged, errors, summary, members)
    task.sets.close()
    shutil.rmtree(out / FRAMES, ignore_errors=True)
    log.info(
        "force RMSE on %(split)s: %(rmse_full).4f, prior alone %(rmse_prior).4f, no model %(rmse_zero).4f kcal/mol/Å",
        judged,
    )
    return summary


def _train(task: Task, out: Path) -> tuple[TrainResult, list[dict[str, Any]]]:
    """The model, and trained parameters of further members of an ensemble."""
    config, folder = task.config.train, out / "checkpoints"
    if jax.process_index() > 0:
        (result,) = run_phases([Member(task.make_trainer, task.trained, folder, task.fingerprint)], config)
        return result, train_members(task, folder)
    settings = config.model_dump(mode="json", exclude={"tracking"})
    with Tracker(out, config.tracking, task.config.run.name, settings) as tracker:
        if (devices := lane_devices(task, folder)) is not None:
            result, *others = train_in_lanes(task, folder, devices, tracker.write)
            return result, [one.params for one in others]
        make = partial(task.make_trainer, on_epoch=tracker.write)
        (result,) = run_phases([Member(make, task.trained, folder, task.fingerprint)], config)
    return result, train_members(task, folder)

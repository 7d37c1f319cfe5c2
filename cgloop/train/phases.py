"""A training in phases: each starts from the best parameters of the one before, with an optimiser of its own.

Every phase has checkpoints of its own. One that is finished is found finished and gives the same parameters again, so
that a stop in any phase is continued to the bit.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cgloop.config.train import TrainConfig
from cgloop.train.position import Position, TrainResult
from cgloop.train.trainer import Trainer

log = logging.getLogger("cgloop.train")

MakeTrainer = Callable[..., Trainer]
"""Of config, params, folder, fingerprint, phase and first_epoch."""


def run_phases(make: MakeTrainer, config: TrainConfig, params: Any, folder: Path, fingerprint: str) -> TrainResult:
    """Train through all phases of a config.

    Args:
        make: a Trainer of everything that the phases share.
        config: with or without `fine_tuning`.
        params: where the first phase starts.
        folder: of the checkpoints; later phases have a folder in it.
        fingerprint: of all inputs.
    """
    results: list[TrainResult] = []
    for number, phase in enumerate(config.phases, start=1):
        if number > 1:
            log.info("phase %d: %s from epoch %d of phase 1", number, phase.optimizer, results[-1].position.best_epoch)
        trainer = make(
            config=phase,
            params=params,
            folder=folder if number == 1 else folder / f"phase_{number}",
            fingerprint=fingerprint if number == 1 else f"{fingerprint}, phase {number}",
            phase=number,
            first_epoch=sum(result.position.epoch for result in results),
        )
        results.append(trainer.run())
        params = results[-1].params
    return joined(results, config.keep_best)


def joined(results: Sequence[TrainResult], keep: int = 1) -> TrainResult:
    """Phases as one training, its epochs counted through."""
    if len(results) == 1:
        return results[0]
    whole = Position("", initial_loss=results[0].position.initial_loss)
    kept: dict[int, Any] = {}
    for result in results:
        position = result.position
        before = whole.epoch
        if result is results[0] or position.best_epoch:
            whole.best_epoch, whole.best_loss = before + position.best_epoch, position.best_loss
        whole.epoch += position.epoch
        whole.seconds += position.seconds
        for name, column in position.history.items():
            whole.history[name] += column
        whole.divergences += position.divergences
        whole.kept += position.kept
        kept |= result.kept
    whole.kept = sorted(whole.kept, key=lambda one: one["loss"])[:keep]
    last = results[-1]
    timing = {name: last.timing[name] for name in ("epoch_s", "frames_per_s", "loader_wait_share")}
    for name in ("compile_s", "total_s"):
        timing[name] = sum(result.timing[name] for result in results)
    stopped = "; ".join(f"phase {number}: {result.stopped}" for number, result in enumerate(results, start=1))
    # Of several processes only the first has them.
    best = {one["epoch"]: kept[one["epoch"]] for one in whole.kept if one["epoch"] in kept}
    return TrainResult(last.params, whole, stopped, timing, best)

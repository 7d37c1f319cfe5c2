"""A training in phases: each starts from the best parameters of the one before, with an optimiser of its own.

Every phase has checkpoints of its own. One that is finished is found finished and gives the same parameters again, so
that a stop in any phase is continued to the bit.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cgloop.config.train import TrainConfig
from cgloop.train.position import Position, TrainResult
from cgloop.train.trainer import Trainer

log = logging.getLogger("cgloop.train")

MakeTrainer = Callable[..., Trainer]
"""Of config, params, folder, fingerprint, phase and first_epoch."""


@dataclass(frozen=True)
class Member:
    """A training through all phases.

    Attributes:
        make: a Trainer of everything that the phases share.
        params: where the first phase starts.
        folder: of the checkpoints; later phases have a folder in it.
        fingerprint: of all inputs.
    """

    make: MakeTrainer
    params: Any
    folder: Path
    fingerprint: str

    def trainer(self, phase: TrainConfig, done: Sequence[TrainResult]) -> Trainer:
        """Of the phase that comes after those that are done."""
        number = len(done) + 1
        if done:
            log.info("phase %d: %s from epoch %d of phase 1", number, phase.optimizer, done[-1].position.best_epoch)
        return self.make(
            config=phase,
            params=done[-1].params if done else self.params,
            folder=self.folder / f"phase_{number}" if done else self.folder,
            fingerprint=f"{self.fingerprint}, phase {number}" if done else self.fingerprint,
            phase=number,
            first_epoch=sum(result.position.epoch for result in done),
        )


def one_after_the_other(trainers: Sequence[Trainer]) -> list[TrainResult]:
    return [trainer.run() for trainer in trainers]


def run_phases(
    members: Sequence[Member],
    config: TrainConfig,
    run: Callable[[Sequence[Trainer]], list[TrainResult]] = one_after_the_other,
) -> list[TrainResult]:
    """Train members through all phases of a config.

    Args:
        members: trained in each phase before the next begins.
        config: with or without `fine_tuning`.
        run: trains to the end of a phase.
    """
    results: list[list[TrainResult]] = [[] for _ in members]
    for phase in config.phases:
        found = run([member.trainer(phase, done) for member, done in zip(members, results, strict=True)])
        for done, result in zip(results, found, strict=True):
            done.append(result)
    return [joined(done, config.keep_best) for done in results]


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

"""The training loop: epochs, validation, early stop, checkpoints, recovery from divergence.

What happens depends only on parameters, data, config and seed. A training that is stopped anywhere, even by a kill,
goes on from its last checkpoint and ends with the same parameters to the bit (on the same device; a GPU adds in any
order unless XLA_FLAGS contains --xla_gpu_deterministic_ops=true).
"""

import logging
import math
import time
from collections.abc import Callable, Generator
from contextlib import closing, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cgloop.config.train import TrainConfig
from cgloop.errors import Interrupted, UserError
from cgloop.interrupt import check_stop
from cgloop.progress import Progress, progress
from cgloop.train.checkpoints import named_leaves, read_checkpoint, read_tensors, with_leaves, write_checkpoint
from cgloop.train.checkpoints import write_tensors as write_params
from cgloop.train.devices import Devices, Step
from cgloop.train.evaluate import predictions
from cgloop.train.loader import AtOnce, Bucket, FrameSet, Shape, epoch_plan
from cgloop.train.loss import mean_loss
from cgloop.train.optimizers import make_optimizer, own_average, require_groups
from cgloop.train.position import Arrays, Clock, Position, TrainResult
from cgloop.train.prefetch import ahead
from cgloop.train.schedules import learning_rate_schedule
from cgloop.train.step import ForceFunction, Objective, StepResult, TrainState, initial_state, make_train_step

log = logging.getLogger("cgloop.train")

MAX_DIVERGENCES = 3


class Trainer:
    """Trains one set of parameters; `run` does everything."""

    def __init__(
        self,
        forces: ForceFunction,
        params: Any,
        training: FrameSet,
        validation: FrameSet,
        config: TrainConfig,
        *,
        evaluation_shape: Shape,
        seed: int,
        folder: Path,
        fingerprint: str,
        network: ForceFunction | None = None,
        restraint: Callable[[Any], jax.Array] | None = None,
        finish: Callable[[Any], Any] = lambda params: params,
        phase: int = 1,
        first_epoch: int = 0,
        devices: Devices | None = None,
        compiled: dict[Any, Any] | None = None,
        on_step: Callable[[int], None] = lambda step: None,
        on_epoch: Callable[[dict[str, float]], None] = lambda row: None,
    ):
        """Continue from the newest checkpoint in `folder`, or start with `params`.

        Args:
            forces: jitted function (params, positions, graph) -> forces of the part that is trained.
            params: where to start.
            training, validation: frames with targets set.
            evaluation_shape: of the batches of validation.
            config: optimiser, schedule, stopping; of this phase.
            seed: of the order of the frames.
            folder: of the checkpoints.
            fingerprint: of all inputs; other checkpoints are ignored.
            network: forces of the network alone, if `forces` are of more.
            restraint: of the parameters, added to the objective.
            finish: makes of averaged parameters what is validated and kept, of the same structure.
            phase: number of it, from 1.
            first_epoch: epochs done in earlier phases.
            devices: that share the work; default: all there are.
            compiled: steps that trainings of the same thing share; filled here.
            on_step: told the number of steps done after each.
            on_epoch: told the new row of the history after each epoch; in the primary process only.
        """
        require_groups(config, params)
        self.config, self.seed, self.folder, self.on_step = config, seed, folder, on_step
        self.on_epoch = on_epoch
        self.compiled = {} if compiled is None else compiled
        self.training, self.validation, self.evaluation_shape = training, validation, evaluation_shape
        self.finish, self.phase, self.first_epoch = finish, phase, first_epoch
        self.devices = Devices() if devices is None else devices
        self._forces = forces
        self.buckets = training.buckets(
            config.batch_size,
            config.batch_beads,
            config.length_buckets,
            devices=self.devices.n,
            at_once=AtOnce(config.frames_at_once) if config.frames_at_once or self.devices.small_pieces else None,
        )
        self.n_steps = sum(bucket.n_batches for bucket in self.buckets)
        self.schedule = learning_rate_schedule(config, self.n_steps)
        # The gradient is that of the loss over this: its clipping does not depend on units and noise.
        self.scale = training.mean_square("target") or 1.0
        self.optimizer = make_optimizer(config, self.schedule, self.scale)
        objective = Objective(forces, self.scale, config.huber_delta, config.gammas, network, restraint)
        average, axis = own_average(config), self.devices.axis
        self.step = make_train_step(objective, self.optimizer, config.ema_decay, average, axis)
        fresh = initial_state(params, self.optimizer)
        self._restore(Arrays(fresh, _copy(fresh), _copy(fresh.ema)), fingerprint)
        self.compile_s = 0.0
        self._started = self._saved = time.monotonic()
        self._read: Callable[[], TrainState] | None = None
        self._moved = False
        self._clock, self._epoch_clock = Clock(), Clock()

    def _restore(self, fresh: Arrays, fingerprint: str) -> None:
        found = read_checkpoint(self.folder, fresh, fingerprint)
        self.arrays, self.position = fresh, Position(fingerprint)
        if found is not None:
            self.arrays, self.position = found[0], Position(**found[1])
            log.info("continues in epoch %d after step %d", self._epoch_number, self.position.step)
        state, good = (self.devices.place(tree) for tree in (self.arrays.state, self.arrays.good))
        self.arrays = Arrays(state, good, self.arrays.best)

    @property
    def _epoch_number(self) -> int:
        """Of the epoch in work, from 1, counted through all phases."""
        return self.first_epoch + self.position.epoch + 1

    def _compile(self) -> None:
        start = time.monotonic()
        key = (self.phase, self.training.weight is None)
        if key not in self.compiled:
            self.compiled[key] = [self._compile_step(bucket) for bucket in self.buckets]
        self._train_steps = self.compiled[key]
        self.warm_up()
        self.compile_s = time.monotonic() - start
        several = f" on {self.devices.n} devices" if self.devices.n > 1 else ""
        log.info("compiled in %.1f s: %d steps an epoch%s", self.compile_s, self.n_steps, several)

    def warm_up(self) -> None:
        """Compile what validates."""
        chosen = np.arange(min(self.evaluation_shape.replicas, self.validation.n_frames))
        batch = self.validation.batch(chosen, self.evaluation_shape)
        self._forces(self._average(), batch.positions, batch.graph).block_until_ready()

    def _compile_step(self, bucket: Bucket) -> Step:
        return self.devices.compile(self.step, self.arrays.state, self.batch(bucket, bucket.frames[:1]))

    def batch(self, bucket: Bucket, frames: np.ndarray, noise: tuple[int, int] | None = None) -> Any:
        """Frames as the steps of a bucket take them; noise as in `FrameSet.batch`."""
        return self.devices.batch(self.training, frames, bucket.shape, noise, bucket.parts)

    def run(self) -> TrainResult:
        """Train to the end.

        Raises:
            Interrupted: somebody asked to stop; a checkpoint was written.
            UserError: the loss was not finite three times.
        """
        if (stopped := self.finished()) is None:
            self._compile()
            shown = progress("train", total=self.config.epochs * self.n_steps, unit="step")
            with shown if self.devices.is_primary else nullcontext() as bar:
                if bar is not None:
                    bar.advance(self.steps_done)
                stopped = self._run(bar)
        return self.result(stopped)

    def result(self, stopped: str) -> TrainResult:
        """What came of it, when it has ended for this reason."""
        timing = {
            "compile_s": self.compile_s,
            "epoch_s": self._clock.work_s / max(self._clock.steps, 1) * self.n_steps,
            "frames_per_s": self._clock.speed(self.training.n_frames / self.n_steps),
            "loader_wait_share": self._clock.wait_share,
            "total_s": self.position.seconds,
        }
        return TrainResult(self.arrays.best, self.position, stopped, timing, self._read_kept())

    def _run(self, bar: Progress | None) -> str:
        """Steps with the state of this training alone; returns why it ended."""
        steps = self.steps(bar)
        try:
            number, batch = next(steps)
            while True:
                state, result = self._train_steps[number](self.arrays.state, batch)
                self.arrays = self.arrays._replace(state=state)
                number, batch = steps.send(jax.device_get(result))
        except StopIteration as end:
            return str(end.value)

    def steps(self, bar: Progress | None) -> Generator[tuple[int, Any], StepResult, str]:
        """Goes through the training: yields bucket and batch of each step, wants its result, returns why it ended.

        Raises as `run`.
        """
        try:
            if self.position.initial_loss is None:
                self._judge_start()
            while (stopped := self.finished()) is None:
                if not ((yield from self._epoch(bar)) and self._close_epoch()):
                    self._recover()
            self._save()
        except Interrupted:
            self._save()
            raise
        return stopped

    @property
    def steps_done(self) -> int:
        """Steps of this phase; what was repeated counts once."""
        return self.position.epoch * self.n_steps + self.position.step

    @property
    def steps_left(self) -> int:
        return self.config.epochs * self.n_steps - self.steps_done

    def attach(self, read: Callable[[], TrainState]) -> None:
        """From here on `read` gives the state after the last step, but for what `moved_state` tells."""
        self._read, self._moved = read, True

    def moved_state(self) -> TrainState | None:
        """A state from which to go on that is not that of the last step, told once."""
        moved, self._moved = self._moved, False
        return self.arrays.state if moved else None

    def _refresh(self) -> None:
        """Bring `arrays` up to date."""
        if self._read is not None and not self._moved:
            self.arrays = self.arrays._replace(state=self._read())

    def finished(self) -> str | None:
        """Why the training has ended; None if it has not."""
        if self.position.epoch >= self.config.epochs:
            return "all epochs"
        waited = self.position.epoch - self.position.best_epoch
        return "no improvement" if waited >= self.config.patience_epochs else None

    def _epoch(self, bar: Progress | None) -> Generator[tuple[int, Any], StepResult, bool]:
        """The steps of an epoch that are still to do; False if one was not finite."""
        position, epoch = self.position, self._epoch_number - 1
        plan = epoch_plan(self.buckets, self.training.n_frames, self.seed, epoch)
        rmse = position.history["validation_rmse"][-1:] or [math.nan]
        left = plan[position.step :]
        with closing(ahead(partial(self._planned, epoch), left)) as batches:
            for bucket, _ in left:
                self._check_stop()
                start = time.monotonic()
                batch = next(batches)
                waited = time.monotonic() - start
                sums, norm = jax.tree.map(lambda x: x.item(), (yield bucket, batch))
                if not (math.isfinite(sums.total) and math.isfinite(norm)):
                    return False
                position.add(sums, norm)
                for clock in (self._clock, self._epoch_clock):
                    clock.add(time.monotonic() - start, waited)
                self.on_step(self.steps_done)
                if bar is not None:
                    speed = self._clock.speed(self.training.n_frames / self.n_steps)
                    bar.advance(1, epoch=epoch + 1, loss=position.train_loss, val_rmse=rmse[0], frames_per_s=speed)
                self._save_if_due()
        return True

    def _planned(self, epoch: int, planned: tuple[int, np.ndarray]) -> Any:
        number, frames = planned
        return self.batch(self.buckets[number], frames, (self.seed, epoch))

    def _check_stop(self) -> None:
        """Obey a request to stop; of several processes all do after the same step."""
        if self.devices.size == 1:
            check_stop()
        elif self.devices.stopping:
            raise Interrupted("a process was asked to stop")

    def _average(self) -> Any:
        """The averaged parameters as they are validated and kept."""
        return self.finish(self.devices.fetch(self.arrays.state.ema))

    def _validate(self, params: Any) -> tuple[float, float]:
        """Loss and RMSE; each process does its share of the frames."""
        validation, share = self.validation, self.devices.share(self.validation.n_frames)
        sums = np.zeros(4)
        found = predictions(
            [partial(self._forces, params)], validation, self.evaluation_shape, share, stops=self.devices.size == 1
        )
        for frames, (predicted,) in found:
            pair, weight = (predicted, validation.store.target(frames)), validation.bead_weight(frames)
            sums += [*mean_loss(*pair, weight, self.config.huber_delta), *mean_loss(*pair, None, None)]
        total, sum_of_weights, squares, components = self.devices.add(sums.tolist()).tolist()
        return total / sum_of_weights, math.sqrt(squares / components)

    def _judge_start(self) -> None:
        """The start is the first candidate: a training that makes nothing better leaves its parameters alone."""
        start = self._average()
        loss, _ = self._validate(start)
        self.position.initial_loss = loss
        self.arrays = self.arrays._replace(best=_copy(start))
        if math.isfinite(loss):
            self.position.best_loss = loss

    def _close_epoch(self) -> bool:
        """Validate and take stock; False if the validation loss is not finite."""
        self._refresh()
        position, state = self.position, self.arrays.state
        candidate = self._average()
        loss, rmse = self._validate(candidate)
        if not math.isfinite(loss):
            return False
        row = {
            "epoch": self._epoch_number,
            "phase": self.phase,
            "train_loss": position.train_loss,
            "train_rmse": math.sqrt(position.squared_error / position.components),
            "validation_loss": loss,
            "validation_rmse": rmse,
            "learning_rate": float(self.schedule(int(state.step) - 1)) * float(state.rate_factor),
            "gradient_norm": position.gradient_norm / self.n_steps,
        }
        for name, value in row.items():
            position.history[name].append(value)
        if self.devices.is_primary:
            self.on_epoch({**row, **self._epoch_clock.row(self.training.n_frames / self.n_steps)})
        self._epoch_clock = Clock()
        self._keep(candidate, loss)
        position.epoch += 1
        best = self.arrays.best
        if loss < position.best_loss:
            position.best_epoch, position.best_loss, best = position.epoch, loss, _copy(candidate)
        position.restart_epoch()
        self.arrays = Arrays(state, _copy(state), best)
        self._save_if_due()
        return True

    def _keep(self, candidate: Any, loss: float) -> None:
        """Write the parameters of this epoch if they are among the best, and remove what they supersede."""
        count, kept = self.config.keep_best, self.position.kept
        if count == 1 or not self.devices.is_primary or (len(kept) == count and loss >= kept[-1]["loss"]):
            return
        name = f"best_{self._epoch_number:06d}.safetensors"
        self.folder.mkdir(parents=True, exist_ok=True)
        write_params(self.folder / name, named_leaves(candidate))
        ranked = sorted([*kept, {"epoch": self._epoch_number, "loss": loss, "file": name}], key=lambda one: one["loss"])
        for worse in ranked[count:]:
            (self.folder / worse["file"]).unlink(missing_ok=True)
        self.position.kept = ranked[:count]

    def _read_kept(self) -> dict[int, Any]:
        if not self.devices.is_primary:
            return {}
        like = self.arrays.best
        return {
            one["epoch"]: with_leaves(like, read_tensors(self.folder / one["file"])[0]) for one in self.position.kept
        }

    def _recover(self) -> None:
        """Go back to the start of the epoch with half the learning rate."""
        position, good = self.position, self.arrays.good
        factor = float(good.rate_factor) * 0.5
        event = {"epoch": self._epoch_number, "step": position.step + 1, "rate_factor": factor}
        position.divergences.append(event)
        log.warning(
            "loss or gradient not finite in epoch %(epoch)d, step %(step)d: back to the start of the epoch, "
            "learning rate times %(rate_factor)g from here on",
            event,
        )
        if len(position.divergences) >= MAX_DIVERGENCES:
            raise UserError(
                f"training diverged {MAX_DIVERGENCES} times, last in epoch {event['epoch']}, step {event['step']}",
                remedy="lower `train.learning_rate` or `train.clip_norm`",
            )
        good = good._replace(rate_factor=jnp.asarray(factor, good.rate_factor.dtype))
        position.restart_epoch()
        good = self.devices.place(good)
        self.arrays = self.arrays._replace(state=_copy(good), good=good)
        self._moved = True

    def _save_if_due(self) -> None:
        if time.monotonic() - self._saved >= self.config.checkpoint_every_s:
            self._save()

    def _save(self) -> None:
        self._refresh()
        now = time.monotonic()
        self.position.seconds += now - self._started
        self._started = now
        self.position.serial += 1
        if self.devices.is_primary:
            write_checkpoint(self.folder, self.position.serial, self.arrays, asdict(self.position))
        self._saved = time.monotonic()


def _copy(tree: Any) -> Any:
    """Own memory for every leaf: the state is donated to each step."""
    return jax.tree.map(jnp.copy, tree)

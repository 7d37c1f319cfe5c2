"""Several trainings in one compiled step: their states and batches have a leading axis, over which the step is mapped.

Each member goes on by itself: its frames, early stop, recovery and checkpoints are those of a training alone, and what
it computes does not depend on the others, so that a stop is continued to the bit. Only the order of sums within a step
differs from that of a training alone. A member that has ended stays in its lane until the last one has.
"""

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cgloop.errors import Interrupted
from cgloop.progress import progress
from cgloop.train.loader import Batch
from cgloop.train.position import TrainResult
from cgloop.train.step import StepResult, TrainState
from cgloop.train.trainer import Trainer

SMALL_PAIRS = 2**17
"""Ordered pairs in the batches of all members together that are certainly too few to fill an accelerator."""


def can_share_steps(trainer: Trainer) -> str | None:
    """Why members of this kind cannot be trained in lanes; None if they can."""
    if type(trainer) is not Trainer:
        return "`train.engine` has steps of its own"
    if trainer.devices.n > 1:
        return "several devices share every batch (`how: devices` gives each its own members)"
    if len(trainer.buckets) > 1:
        return "members meet the groups of `train.length_buckets` in different order"
    return None


def is_small(trainer: Trainer, members: int) -> bool:
    """Whether one member alone would leave the device idle; never on processors, where lanes are hardly ever faster."""
    (bucket,) = trainer.buckets
    return not trainer.devices.small_pieces and members * bucket.parts * bucket.shape.edges <= SMALL_PAIRS


def run_in_lanes(trainers: Sequence[Trainer], devices: Sequence[jax.Device] | None = None) -> list[TrainResult]:
    """Train all to the end; they differ in parameters, seed, weights of frames and folder.

    Args:
        trainers: each of one device.
        devices: over which the lanes are spread; default: the first.

    Raises:
        Interrupted: somebody asked to stop; each has written a checkpoint.
        UserError: the loss of one was not finite three times.
    """
    stopped = [trainer.finished() for trainer in trainers]
    left = [number for number, reason in enumerate(stopped) if reason is None]
    if left:
        lanes = _Lanes(trainers, jax.devices()[:1] if devices is None else devices)
        total = sum(trainers[number].steps_left for number in left)
        with progress("train members", total=total, unit="step") as bar:
            runs = {number: trainers[number].steps(bar) for number in left}
            try:
                for number, reason in _in_step(lanes, runs):
                    stopped[number] = reason
            except Interrupted:
                for run in runs.values():
                    _interrupt(run)
                raise
            finally:
                for run in runs.values():
                    run.close()
    return [trainer.result(reason or "") for trainer, reason in zip(trainers, stopped, strict=True)]


Run = Generator[tuple[int, Batch], StepResult, str]


def _in_step(lanes: "_Lanes", runs: dict[int, Run]) -> Generator[tuple[int, str], None, None]:
    """Steps of all runs until the last has ended; tells who ended and why."""
    batches: dict[int, Batch] = {}
    answers: Mapping[int, StepResult | None] = dict.fromkeys(runs)
    interrupted = None
    while answers:
        for number, answer in answers.items():
            try:
                # The first `send` of a generator takes None.
                _, batches[number] = runs[number].send(answer)  # type: ignore[arg-type]
            except StopIteration as end:
                batches.pop(number, None)
                yield number, end.value
            except Interrupted as error:
                # The others have done this step, too, and are to count it before they stop.
                interrupted = error
        if interrupted is not None:
            raise interrupted
        answers = lanes.step(batches) if batches else {}


def _interrupt(run: Run) -> None:
    """Let a run write its checkpoint."""
    with suppress(Interrupted, StopIteration):
        run.throw(Interrupted("another member was asked to stop"))


LANES = "lanes"


class _Lanes:
    """The states of all members on the devices, one lane each; every device has the same number of lanes."""

    def __init__(self, trainers: Sequence[Trainer], devices: Sequence[jax.Device]):
        self._trainers, self._home = trainers, devices[0]
        self._n = -(-len(trainers) // len(devices)) * len(devices)
        self._weighted = any(trainer.training.weight is not None for trainer in trainers)
        mesh = Mesh(np.array(devices), (LANES,))
        spread = NamedSharding(mesh, PartitionSpec(LANES))
        first = trainers[0]
        states = [one.arrays.state for one in trainers] + [first.arrays.state] * (self._n - len(trainers))
        self._states = jax.device_put(jax.tree.map(lambda *leaves: np.stack(leaves), *states), spread)
        self._read = jax.jit(lambda states, lane: jax.tree.map(lambda leaf: leaf[lane], states))
        self._write = jax.jit(
            lambda states, lane, one: jax.tree.map(lambda leaf, new: leaf.at[lane].set(new), states, one),
            donate_argnums=0,
            out_shardings=spread,
        )
        start = time.monotonic()
        one = self._full(first.batch(first.buckets[0], first.buckets[0].frames[:1]))
        batches = jax.tree.map(lambda leaf: np.stack([leaf] * self._n), one)
        active = np.zeros(self._n, bool)
        key = (first.phase, "lanes", self._weighted, self._n, len(devices))
        if key not in first.compiled:
            mapped = jax.shard_map(
                _mapped(first.step), mesh=mesh, in_specs=PartitionSpec(LANES), out_specs=PartitionSpec(LANES),
                check_vma=False,
            )  # fmt: skip
            step = jax.jit(mapped, donate_argnums=0)
            first.compiled[key] = step.lower(self._states, batches, active).compile()
        self._step = first.compiled[key]
        for lane, trainer in enumerate(trainers):
            trainer.attach(partial(self._state_of, lane))
        first.warm_up()
        first.compile_s = time.monotonic() - start

    def _state_of(self, lane: int) -> TrainState:
        # On one device, where it is validated.
        state: TrainState = jax.device_put(self._read(self._states, lane), self._home)
        return state

    def step(self, batches: dict[int, Batch]) -> dict[int, StepResult]:
        """A step of the lanes for which there are batches; the others keep their states."""
        for lane in batches:
            if (state := self._trainers[lane].moved_state()) is not None:
                self._states = self._write(self._states, lane, jax.tree.map(np.asarray, state))
        any_batch = next(iter(batches.values()))
        given = [self._full(batches.get(lane, any_batch)) for lane in range(self._n)]
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *given)
        active = np.array([lane in batches for lane in range(len(given))])
        self._states, results = self._step(self._states, stacked, active)
        found = jax.device_get(results)
        return {lane: jax.tree.map(lambda leaf, lane=lane: leaf[lane], found) for lane in batches}

    def _full(self, batch: Batch) -> Batch:
        """With weights if any member has some."""
        if not self._weighted or batch.weight is not None:
            return batch
        return batch._replace(weight=np.ones(batch.positions.shape[:-1], np.float32))


def _mapped(step: Any) -> Any:
    def lanes(states: TrainState, batches: Batch, active: jax.Array) -> tuple[TrainState, StepResult]:
        new, results = jax.vmap(step)(states, batches)

        def kept(after: jax.Array, before: jax.Array) -> jax.Array:
            return jnp.where(active.reshape(-1, *[1] * (before.ndim - 1)), after, before)

        return jax.tree.map(kept, new, states), results

    return lanes

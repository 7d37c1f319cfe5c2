"""The devices that share every step of a training: any number, of one process or of several.

A batch is divided into as many parts as there are devices; each device computes the sum of its part's loss over the
weight of the WHOLE batch, and gradients are added up. So a step is that of the same batch on one device, whatever the
parts hold: a mean of means would not be (parts differ in beads), and a sum that automatic differentiation adds up once
more would be too large by the number of devices.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cgloop.interrupt import stop_requested
from cgloop.train.loader import Batch, FrameSet, Shape
from cgloop.train.step import StepResult, TrainState

AXIS = "parts"
ALL, PARTED = PartitionSpec(), PartitionSpec(AXIS)

Step = Callable[[TrainState, Batch], tuple[TrainState, StepResult]]


class Devices:
    """A row of devices; of one device it is as if it were not there.

    Attributes:
        n: number of devices, of all processes.
        rank, size: this process, and how many there are.
        axis: name to add up over, None for one device.
        stopping: whether any process was asked to stop, as of the last step.
    """

    def __init__(self, devices: Sequence[jax.Device] | None = None):
        """By default all devices; those of a process must be neighbours."""
        chosen = list(jax.devices() if devices is None else devices)
        self.n = len(chosen)
        self.rank, self.size = jax.process_index(), jax.process_count()
        self.axis = AXIS if self.n > 1 else None
        self.stopping = False
        self._mesh = Mesh(np.array(chosen), (AXIS,))
        self._own = [part for part, device in enumerate(chosen) if device.process_index == self.rank]

    @property
    def small_pieces(self) -> bool:
        """Whether small pieces of work are faster: on processors, whose caches are small."""
        return self._mesh.devices.flat[0].platform == "cpu"

    @property
    def is_primary(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def batch(
        self,
        frames: FrameSet,
        chosen: np.ndarray,
        shape: Shape,
        noise: tuple[int, int] | None = None,
        parts: int = 1,
    ) -> Batch:
        """Frames on the devices; this process reads those of its own devices alone.

        Args:
            frames, chosen, noise: as of `FrameSet.batch`.
            shape: of what a device computes at once.
            parts: that each device computes one after the other; several are a leading axis of every array.
        """
        if self.axis is None and parts == 1:
            return frames.batch(chosen, shape, noise)
        pieces = np.array_split(chosen, self.n * parts)
        own = [frames.batch(pieces[one * parts + i], shape, noise) for one in self._own for i in range(parts)]
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *own)
        if self.axis is None:
            return stacked
        if parts > 1:
            stacked = jax.tree.map(lambda leaf: leaf.reshape(-1, parts, *leaf.shape[1:]), stacked)
        sharding = NamedSharding(self._mesh, PARTED)
        return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, leaf), stacked)

    def compile(self, step: Step, state: TrainState, batch: Batch) -> Step:
        """The step, compiled for batches as this one; its state is donated.

        Args:
            step: adds up over `axis`.
            state: of `place`.
            batch: of `batch`.
        """
        if self.axis is None:
            return jax.jit(step, donate_argnums=0).lower(state, batch).compile()

        def one(state: TrainState, batch: Batch, stop: jax.Array) -> tuple[TrainState, StepResult, jax.Array]:
            state, result = step(state, jax.tree.map(lambda leaf: leaf[0], batch))
            return state, result, jax.lax.psum(stop[0], AXIS)

        # Everything is added up explicitly; the check of what is replicated would stumble over scans in a model.
        shared = jax.shard_map(
            one, mesh=self._mesh, in_specs=(ALL, PARTED, PARTED), out_specs=(ALL, ALL, ALL), check_vma=False
        )
        compiled = jax.jit(shared, donate_argnums=0).lower(state, batch, self._stop()).compile()

        def run(state: TrainState, batch: Batch) -> tuple[TrainState, StepResult]:
            state, result, stop = compiled(state, batch, self._stop())
            self.stopping = bool(jax.device_get(stop))
            return state, result

        return run

    def _stop(self) -> jax.Array:
        """A request to stop travels with the step, so that all processes obey after the same one."""
        flags = np.full(len(self._own), stop_requested(), np.int32)
        return jax.make_array_from_process_local_data(NamedSharding(self._mesh, PARTED), flags)

    def place(self, tree: Any) -> Any:
        """The same values on all devices."""
        if self.axis is None:
            return tree
        sharding = NamedSharding(self._mesh, ALL)

        def one(leaf: Any) -> jax.Array:
            value = np.asarray(leaf)
            return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])

        return jax.tree.map(one, tree)

    def fetch(self, tree: Any) -> Any:
        """Values that are the same on all devices, for computations of this process alone."""
        return tree if self.axis is None else jax.tree.map(np.asarray, tree)

    def share(self, n: int) -> np.ndarray:
        """Which of n things this process does."""
        return np.arange(self.rank, n, self.size)

    def add(self, sums: Sequence[float]) -> np.ndarray:
        """Sums over all processes, float64, the same in all."""
        values = np.asarray(sums, np.float64)
        if self.size == 1:
            return values
        from jax.experimental import multihost_utils

        # As bits: JAX would round them to float32.
        bits = multihost_utils.process_allgather(values.view(np.uint32))
        return np.ascontiguousarray(bits).view(np.float64).reshape(self.size, -1).sum(axis=0)

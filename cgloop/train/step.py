"""One training step as a pure function of state and batch."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from cgloop.config.train import GammasConfig
from cgloop.train.loader import Batch
from cgloop.train.loss import Sums, bead_weights, force_loss, size_loss
from cgloop.train.optimizers import ema_weight

PLAIN = GammasConfig()

ForceFunction = Callable[[Any, jax.Array, Any], jax.Array]
"""(params, positions [N, 3], graph) -> forces [N, 3] of the part that is trained."""


class TrainState(NamedTuple):
    """What a step changes.

    Attributes:
        params: of the part that is trained.
        opt_state: of the optimiser; holds the step count of the schedule.
        ema: average of `params`, what is evaluated and kept.
        step: int32, steps done.
        rate_factor: float32, multiplies the learning rate; halved when a training diverges.
    """

    params: Any
    opt_state: Any
    ema: Any
    step: jax.Array
    rate_factor: jax.Array


class StepResult(NamedTuple):
    """What a step tells, before the update.

    Attributes:
        sums: of the loss over the batch.
        gradient_norm: of the objective, before clipping.
    """

    sums: Sums
    gradient_norm: jax.Array


@dataclass(frozen=True)
class Objective:
    """What is minimised: (γ_force · loss + γ_network · mean square of the network's force) / scale + γ_prior · pull.

    Attributes:
        forces: of everything that is trained.
        scale: (kcal/mol/Å)², so that gradient clipping does not depend on units and noise.
        huber_delta: kcal/mol/Å, see `force_loss`.
        gammas: weights of the terms.
        network: forces of the network alone, if they are not `forces`.
        restraint: the pull, a function of the parameters.
    """

    forces: ForceFunction
    scale: float = 1.0
    huber_delta: float | None = None
    gammas: GammasConfig = PLAIN
    network: ForceFunction | None = None
    restraint: Callable[[Any], jax.Array] | None = None

    def gradient(self, params: Any, batch: Batch, axis: str | None = None) -> tuple[jax.Array, Any, Sums]:
        """Value, gradient and sums.

        Args:
            params: where.
            batch: the frames, or a part of them. With a leading axis on every array it is parts, which are computed
                one after the other, so that memory is needed for one.
            axis: of a mapped function, over which the parts add up to a batch. Value and gradient are those of the
                whole batch: a sum over its beads by a sum of weights over its beads, whatever part they are in.
        """

        def total(tree: Any) -> Any:
            return tree if axis is None else jax.lax.psum(tree, axis)

        weight = total(3 * jnp.sum(batch.graph.bead_mask if batch.weight is None else bead_weights(batch)))
        divisor = jnp.maximum(weight, jnp.finfo(batch.target.dtype).tiny)

        def part(params: Any, batch: Batch) -> tuple[jax.Array, Sums]:
            predicted = self.forces(params, batch.positions, batch.graph)
            sums = force_loss(predicted, batch, self.huber_delta)
            value = self.gammas.force * sums.total
            if self.gammas.network:
                own = predicted if self.network is None else self.network(params, batch.positions, batch.graph)
                value += self.gammas.network * size_loss(own, batch)
            return value / divisor / self.scale, sums

        slope = partial(jax.value_and_grad(part, has_aux=True), params)
        (value, sums), gradient = slope(batch) if batch.positions.ndim == 2 else _sum_over(slope, batch)
        value, gradient, sums = total(value), total(gradient), total(sums)
        if self.restraint is not None and self.gammas.prior:
            pull, slope = jax.value_and_grad(self.restraint)(params)
            value += self.gammas.prior * pull
            gradient = jax.tree.map(lambda a, b: a + self.gammas.prior * b, gradient, slope)
        return value, gradient, sums


def _sum_over(function: Callable[[Any], Any], parts: Any) -> Any:
    """Sum of function(part) over the leading axis of `parts`, one after the other."""

    def add(total: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, function(part)), None

    shapes = jax.eval_shape(function, jax.tree.map(lambda leaf: leaf[0], parts))
    return jax.lax.scan(add, jax.tree.map(lambda one: jnp.zeros(one.shape, one.dtype), shapes), parts)[0]


def global_norm(tree: Any) -> jax.Array:
    """Euclidean norm over all leaves."""
    return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)))


def initial_state(params: Any, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step, with its own memory for the parameters: it may be donated."""
    own, average = (jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), params) for _ in range(2))
    return TrainState(own, optimizer.init(own), average, jnp.zeros((), jnp.int32), jnp.ones((), jnp.float32))


def make_train_step(
    objective: Objective,
    optimizer: optax.GradientTransformationExtraArgs,
    ema_decay: float,
    own_average: Callable[[Any, Any], Any] | None = None,
    axis: str | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, StepResult]]:
    """A pure step: gradient of the objective, optimiser, moving average.

    Args:
        objective: what is minimised.
        optimizer: from `make_optimizer`.
        ema_decay: weight of the old average.
        own_average: of an optimiser that has one, instead of the moving average.
        axis: see `Objective.gradient`.
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, StepResult]:
        value, gradient, sums = objective.gradient(state.params, batch, axis)
        updates, opt_state = optimizer.update(
            gradient, state.opt_state, state.params, value=value, rate_factor=state.rate_factor
        )
        params = optax.apply_updates(state.params, updates)
        new = next_state(state, params, opt_state, ema_decay, own_average)
        return new, StepResult(sums, global_norm(gradient))

    return step


def next_state(
    state: TrainState,
    params: Any,
    opt_state: Any,
    ema_decay: float,
    own_average: Callable[[Any, Any], Any] | None = None,
) -> TrainState:
    """The state after an optimiser step to `params`, with their average; the rest as in `make_train_step`."""
    if own_average is None:
        weight = ema_weight(ema_decay, state.step)
        mix = lambda old, new: (weight * old + (1.0 - weight) * new).astype(old.dtype)  # noqa: E731
        ema = jax.tree.map(mix, state.ema, params)
    else:
        ema = own_average(opt_state, params)
    return TrainState(params, opt_state, ema, state.step + 1, state.rate_factor)

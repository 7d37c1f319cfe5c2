"""One training step as a pure function of state and batch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from cgloop.train.loader import Batch
from cgloop.train.loss import force_loss
from cgloop.train.optimizers import ema_weight

ForceFunction = Callable[[Any, jax.Array, Any], jax.Array]
"""(params, positions [N, 3], graph) -> forces [N, 3] of the part that is trained."""


class TrainState(NamedTuple):
    """What a step changes.

    Attributes:
        params: of the part that is trained.
        opt_state: of the optimiser; holds the step count of the schedule.
        ema: moving average of `params`, what is evaluated and kept.
        step: int32, steps done.
        rate_factor: float32, multiplies the learning rate; halved when a training diverges.
    """

    params: Any
    opt_state: Any
    ema: Any
    step: jax.Array
    rate_factor: jax.Array


class StepResult(NamedTuple):
    """What a step tells.

    Attributes:
        squared_error: Σ |F − F_target|² over the real beads of the batch, before the update.
        components: number of force components in that sum.
        gradient_norm: of the loss over `loss_scale`, before clipping.
    """

    squared_error: jax.Array
    components: jax.Array
    gradient_norm: jax.Array


def global_norm(tree: Any) -> jax.Array:
    """Euclidean norm over all leaves."""
    return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)))


def initial_state(params: Any, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step, with its own memory for the parameters: it may be donated."""
    own, average = (jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), params) for _ in range(2))
    return TrainState(own, optimizer.init(own), average, jnp.zeros((), jnp.int32), jnp.ones((), jnp.float32))


def make_train_step(
    forces: ForceFunction, optimizer: optax.GradientTransformation, ema_decay: float, loss_scale: float
) -> Callable[[TrainState, Batch], tuple[TrainState, StepResult]]:
    """A pure step: gradient of the loss, optimiser, moving average.

    Args:
        forces: what is trained.
        optimizer: from `make_optimizer`.
        ema_decay: weight of the old average.
        loss_scale: (kcal/mol/Å)², divides the loss, so that gradient clipping does not depend on units and noise.
    """

    def objective(params: Any, batch: Batch) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        loss, sums = force_loss(forces(params, batch.positions, batch.graph), batch)
        return loss / loss_scale, sums

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, StepResult]:
        gradient, (total, components) = jax.grad(objective, has_aux=True)(state.params, batch)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        updates = jax.tree.map(lambda u: u * state.rate_factor.astype(u.dtype), updates)
        params = optax.apply_updates(state.params, updates)
        weight = ema_weight(ema_decay, state.step)
        ema = jax.tree.map(lambda old, new: (weight * old + (1.0 - weight) * new).astype(old.dtype), state.ema, params)
        new = TrainState(params, opt_state, ema, state.step + 1, state.rate_factor)
        return new, StepResult(total, components, global_norm(gradient))

    return step

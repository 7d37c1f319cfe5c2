"""Optimisers and learning-rate schedules from the config; everything depends on the step count alone.

Adam is Kingma & Ba (arXiv:1412.6980), AdamW's decoupled decay Loshchilov & Hutter (arXiv:1711.05101),
AdaBelief Zhuang et al. (arXiv:2010.07468).
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from cgloop.config.train import TrainConfig


def learning_rate_schedule(config: TrainConfig, steps_per_epoch: int) -> optax.Schedule:
    """Linear warm-up to `learning_rate`, then a cosine down to its final factor at the very last step.

    Args:
        config: `warmup_epochs` may be a fraction; it never takes the whole training.
        steps_per_epoch: optimiser steps in one epoch.

    Returns:
        Function from the step count (0 for the first step) to the learning rate.
    """
    total = config.epochs * steps_per_epoch
    warmup = min(round(config.warmup_epochs * steps_per_epoch), total - 1)
    peak = config.learning_rate
    # The first step already moves, the step after the warm-up has the full rate.
    rise = optax.linear_schedule(peak / (warmup + 1), peak, max(warmup, 1))
    fall = optax.cosine_decay_schedule(peak, max(total - 1 - warmup, 1), alpha=config.final_learning_rate_factor)
    return optax.join_schedules([rise, fall], [warmup]) if warmup else fall


def make_optimizer(config: TrainConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """The optimiser of the config, gradient clipping first.

    `weight_decay` acts on matrices, not on biases and scales. For `adamw` and `adabelief` it is decoupled
    (the parameters shrink by learning rate · decay); for `adam` it is the classical L2 penalty, added to the gradient.
    """
    decay = optax.add_decayed_weights(config.weight_decay, mask=_matrices)
    parts: dict[str, tuple[optax.GradientTransformation, ...]] = {
        "adam": (decay, optax.scale_by_adam()),
        "adamw": (optax.scale_by_adam(), decay),
        "adabelief": (optax.scale_by_belief(), decay),
    }
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        *parts[config.optimizer],
        optax.scale_by_learning_rate(schedule),
    )


def _matrices(params: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.ndim(leaf) >= 2, params)


def ema_weight(decay: float, step: jax.Array) -> jax.Array:
    """Weight of the old average at this step (0 for the first): short memory at first, `decay` in the end.

    The ramp (1 + t) / (10 + t) keeps the random start out of the average of a short training.
    """
    count = jnp.asarray(step, jnp.float32)
    return jnp.minimum(decay, (1.0 + count) / (10.0 + count))

"""Optimisers from the config; everything depends on the step count alone.

Adam is Kingma & Ba (arXiv:1412.6980), AdamW's decoupled decay Loshchilov & Hutter (arXiv:1711.05101), AdaBelief Zhuang
et al. (arXiv:2010.07468), Yogi Zaheer et al. (NeurIPS 2018), Lion Chen et al. (arXiv:2302.06675), Polyak's step
Loizou et al. (arXiv:2002.10542), Fromage Bernstein et al. (arXiv:2002.03432), Muon Jordan et al. (2024,
kellerjordan.github.io/posts/muon), schedule-free Defazio et al. (arXiv:2405.15682). Their arithmetic is optax's.
"""

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from cgloop.config.optimizer import GroupConfig, PhaseConfig
from cgloop.errors import UserError

PRIOR = "prior/"
"""Names of parameters of the prior begin so; they are never decayed."""


def make_optimizer(
    config: PhaseConfig, schedule: optax.Schedule, loss_scale: float = 1.0
) -> optax.GradientTransformationExtraArgs:
    """The optimiser of a phase, gradient clipping first.

    Its `update` takes two keywords: `rate_factor`, which multiplies the learning rate (default 1), and `value`, the
    loss, which `polyak-sgd` needs.

    `weight_decay` is decoupled (parameters shrink by learning rate · decay) but for `adam` and `sgd`, where it is the
    classical L2 penalty, added to the gradient; `fromage` has none of it.

    Args:
        config: of the phase.
        schedule: step count -> learning rate.
        loss_scale: (kcal/mol/Å)², by which the loss was divided.
    """
    decay, rate = _decay(config), _scale_by_rate(schedule, config.groups)
    b1 = 0.9 if config.momentum is None else config.momentum
    b2 = 0.999 if config.second_momentum is None else config.second_momentum
    parts: tuple[optax.GradientTransformation, ...]
    match config.optimizer:
        case "adam":
            parts = (decay, optax.scale_by_adam(b1, b2), rate)
        case "adamw":
            parts = (optax.scale_by_adam(b1, b2), decay, rate)
        case "adabelief":
            parts = (optax.scale_by_belief(b1, b2), decay, rate)
        case "yogi":
            parts = (optax.scale_by_yogi(b1, b2), decay, rate)
        case "lion":
            parts = (optax.scale_by_lion(b1, 0.99 if config.second_momentum is None else b2), decay, rate)
        case "sgd":
            parts = (decay, optax.trace(b1, nesterov=True), rate)
        case "polyak-sgd":
            step = optax.scale_by_polyak(config.polyak_floor / loss_scale, config.learning_rate, variant="sps+")
            parts = (step, optax.scale(1.0 / config.learning_rate), decay, rate)
        case "fromage":
            parts = (optax.scale_by_trust_ratio(min_norm=1e-6), _on_the_sphere(schedule, config.groups))
        case "muon":
            beta = 0.95 if config.momentum is None else config.momentum
            # Its own learning rate would know neither groups nor `rate_factor`.
            parts = (optax.contrib.muon(1.0, beta=beta, adam_b2=b2), optax.scale(-1.0), decay, rate)
        case "schedule-free":
            # Its momentum is the interpolation, not that of Adam.
            base = optax.chain(optax.scale_by_adam(0.0, b2), decay, rate)
            parts = (optax.contrib.schedule_free(base, schedule, b1=b1),)
    return optax.with_extra_args_support(optax.chain(optax.clip_by_global_norm(config.clip_norm), *parts))


def own_average(config: PhaseConfig) -> Callable[[Any, Any], Any] | None:
    """Function (state of the optimiser, parameters) -> parameters to evaluate, where an optimiser defines them."""
    if config.optimizer != "schedule-free":
        return None
    return lambda opt_state, params: optax.contrib.schedule_free_eval_params(opt_state[-1], params)


def require_groups(config: PhaseConfig, params: Any) -> None:
    """Raise UserError if a group matches no parameter."""
    names = jax.tree.leaves(parameter_names(params))
    for group in config.groups:
        if not any(fnmatchcase(name, group.match) for name in names):
            raise UserError(
                f"`groups` of the training: `{group.match}` matches no parameter", remedy=f"known: {', '.join(names)}"
            )


def parameter_names(params: Any) -> Any:
    """The same tree with the names of its leaves, as `ml/layer_0/latent/weight_0`."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: "/".join(str(getattr(key, "key", getattr(key, "name", key))) for key in path), params
    )


def _group_of(name: str, groups: list[GroupConfig]) -> GroupConfig | None:
    return next((group for group in groups if fnmatchcase(name, group.match)), None)


def _decay(config: PhaseConfig) -> optax.GradientTransformation:
    """Adds decay · parameter, the decay that of the parameter's group or, on matrices, that of the phase."""

    def amount(name: str, leaf: Any) -> float:
        group = _group_of(name, config.groups)
        if name.startswith(PRIOR):
            return 0.0
        if group is not None and group.weight_decay is not None:
            return group.weight_decay
        return config.weight_decay if config.weight_decay_on == "all" or jnp.ndim(leaf) >= 2 else 0.0

    def masked(value: float) -> optax.GradientTransformation:
        def mask(params: Any) -> Any:
            return jax.tree.map(lambda name, leaf: amount(name, leaf) == value, parameter_names(params), params)

        return optax.add_decayed_weights(value, mask=mask)

    values = {config.weight_decay, *(g.weight_decay for g in config.groups if g.weight_decay is not None)} - {0.0}
    return optax.chain(optax.identity(), *(masked(value) for value in sorted(values)))


class RateState(NamedTuple):
    """int32, steps done."""

    count: jax.Array


def _by_rate(
    schedule: optax.Schedule, groups: list[GroupConfig], move: Callable[[Any, Any, Any], Any]
) -> optax.GradientTransformationExtraArgs:
    """Replaces each update by `move(rate, update, parameter)`, with the rate of the parameter's group."""

    def init(params: Any) -> RateState:
        return RateState(jnp.zeros((), jnp.int32))

    def update(updates: Any, state: RateState, params: Any = None, *, rate_factor: Any = 1.0, **_: Any) -> Any:
        rate = schedule(state.count) * rate_factor

        def one(name: str, leaf: Any, param: Any) -> Any:
            group = _group_of(name, groups)
            own = rate if group is None else rate * group.learning_rate_factor
            return move(jnp.asarray(own, leaf.dtype), leaf, param)

        names = parameter_names(updates)
        return jax.tree.map(one, names, updates, params), RateState(optax.safe_increment(state.count))

    return optax.GradientTransformationExtraArgs(init, update)


def _scale_by_rate(schedule: optax.Schedule, groups: list[GroupConfig]) -> optax.GradientTransformationExtraArgs:
    return _by_rate(schedule, groups, lambda rate, update, _: -rate * update)


def _on_the_sphere(schedule: optax.Schedule, groups: list[GroupConfig]) -> optax.GradientTransformationExtraArgs:
    """Fromage: a step of relative length `rate`, shrunk so that the norm of the parameters hardly grows."""
    return _by_rate(schedule, groups, lambda rate, u, p: (p - rate * u) / jnp.sqrt(1.0 + rate**2) - p)


def ema_weight(decay: float, step: jax.Array) -> jax.Array:
    """Weight of the old average at this step (0 for the first): short memory at first, `decay` in the end.

    The ramp (1 + t) / (10 + t) keeps the random start out of the average of a short training.
    """
    count = jnp.asarray(step, jnp.float32)
    return jnp.minimum(decay, (1.0 + count) / (10.0 + count))

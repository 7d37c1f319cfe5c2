"""Learning-rate schedules: functions of the step count alone."""

import optax

from cgloop.config.optimizer import PhaseConfig


def learning_rate_schedule(config: PhaseConfig, steps_per_epoch: int) -> optax.Schedule:
    """Linear warm-up to `learning_rate`, then down to its final factor at the very last step.

    Args:
        config: `warmup_epochs` may be a fraction; it never takes the whole training.
        steps_per_epoch: optimiser steps in one epoch.

    Returns:
        Function from the step count (0 for the first step) to the learning rate.
    """
    total = config.epochs * steps_per_epoch
    warmup = min(round(config.warmup_epochs * steps_per_epoch), total - 1)
    if config.schedule == "onecycle":
        return _one_cycle(config, total, warmup)
    # The first step already moves, the step after the warm-up has the full rate.
    peak = config.learning_rate
    rise = optax.linear_schedule(peak / (warmup + 1), peak, max(warmup, 1))
    fall = _fall(config, max(total - 1 - warmup, 1))
    return optax.join_schedules([rise, fall], [warmup]) if warmup else fall


def _fall(config: PhaseConfig, steps: int) -> optax.Schedule:
    peak, factor = config.learning_rate, config.final_learning_rate_factor
    match config.schedule:
        case "linear":
            return optax.linear_schedule(peak, factor * peak, steps)
        case "exponential":
            return optax.exponential_decay(peak, steps, factor, end_value=factor * peak) if factor < 1 else _flat(peak)
        case "polynomial":
            return optax.polynomial_schedule(peak, factor * peak, config.schedule_power, steps)
        case "constant":
            return _flat(peak)
        case _:
            return optax.cosine_decay_schedule(peak, steps, alpha=factor)


def _flat(rate: float) -> optax.Schedule:
    return optax.constant_schedule(rate)


def _one_cycle(config: PhaseConfig, total: int, warmup: int) -> optax.Schedule:
    """Cosine up from 1/25 of the rate, then down (Smith & Topin, arXiv:1708.07120); 30 % up if no warm-up is set."""
    rise = warmup / total if warmup else 0.3
    factor = max(config.final_learning_rate_factor, 1e-4)
    return optax.cosine_onecycle_schedule(
        max(total - 1, 2), config.learning_rate, pct_start=rise, div_factor=25.0, final_div_factor=1.0 / (25.0 * factor)
    )

"""Schedules and optimisers against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cgloop.config.train import TrainConfig
from cgloop.train.optimizers import ema_weight, learning_rate_schedule, make_optimizer


def test_schedule_ends():
    config = TrainConfig(epochs=10, learning_rate=2e-3, warmup_epochs=2, final_learning_rate_factor=0.05)
    rate = learning_rate_schedule(config, steps_per_epoch=7)
    assert rate(0) == pytest.approx(2e-3 / 15)
    assert rate(14) == pytest.approx(2e-3)
    assert rate(69) == pytest.approx(1e-4)
    values = [float(rate(k)) for k in range(70)]
    assert np.all(np.diff(values[:15]) > 0)
    assert np.all(np.diff(values[14:]) <= 0)


@pytest.mark.parametrize(
    ("epochs", "warmup", "steps"), [(1, 0.0, 1), (1, 5.0, 1), (1, 0.5, 2), (3, 0.0, 4), (2, 9.0, 3)]
)
def test_schedule_of_short_trainings_is_finite_and_ends_where_it_should(epochs, warmup, steps):
    config = TrainConfig(epochs=epochs, learning_rate=1.0, warmup_epochs=warmup, final_learning_rate_factor=0.1)
    rate = learning_rate_schedule(config, steps)
    values = [float(rate(k)) for k in range(epochs * steps)]
    assert all(0 < v <= 1 for v in values)
    if epochs * steps > 2 and warmup == 0:
        assert values[-1] == pytest.approx(0.1)


def _after_one_step(config: TrainConfig, gradient: float):
    params = {"matrix": jnp.full((2, 2), 4.0), "bias": jnp.full((2,), 4.0)}
    optimizer = make_optimizer(config, lambda step: config.learning_rate)
    gradients = jax.tree.map(lambda p: jnp.full_like(p, gradient), params)
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    return jax.tree.map(lambda p, u: np.asarray(p + u), params, updates)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_first_step_of_adam_is_the_learning_rate_whatever_the_gradient(name):
    config = TrainConfig(optimizer=name, learning_rate=0.01, weight_decay=0.0)
    assert _after_one_step(config, 0.3)["bias"] == pytest.approx(4.0 - 0.01, rel=1e-6)


@pytest.mark.parametrize("name", ["adamw", "adabelief"])
def test_decoupled_decay_shrinks_matrices_by_rate_times_decay(name):
    without = _after_one_step(TrainConfig(optimizer=name, learning_rate=0.01, weight_decay=0.0), 0.3)
    decayed = _after_one_step(TrainConfig(optimizer=name, learning_rate=0.01, weight_decay=0.5), 0.3)
    assert (without["matrix"] - decayed["matrix"]) == pytest.approx(0.01 * 0.5 * 4.0, rel=1e-4)
    np.testing.assert_array_equal(decayed["bias"], without["bias"])


def test_decay_of_adam_is_part_of_the_gradient():
    # The penalty's gradient (2.0) is larger than the loss's (-0.3) and turns the first step around.
    config = TrainConfig(optimizer="adam", learning_rate=0.01, weight_decay=0.5)
    after = _after_one_step(config, -0.3)
    assert after["matrix"] == pytest.approx(4.0 - 0.01, rel=1e-6)
    assert after["bias"] == pytest.approx(4.0 + 0.01, rel=1e-6)


def test_ema_weight_grows_to_the_decay():
    assert float(ema_weight(0.99, 0)) == pytest.approx(0.1)
    assert float(ema_weight(0.99, 10**6)) == pytest.approx(0.99)
    assert float(ema_weight(0.0, 5)) == 0.0

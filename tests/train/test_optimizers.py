"""Schedules and optimisers against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from pydantic import ValidationError

from cgloop.config.optimizer import PhaseConfig
from cgloop.config.train import TrainConfig
from cgloop.errors import UserError
from cgloop.train.optimizers import ema_weight, make_optimizer, own_average, parameter_names, require_groups
from cgloop.train.schedules import learning_rate_schedule


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


RATE, DECAY = 0.02, 0.1
ALIASES = {
    "adam": optax.adam(RATE),
    "adamw": optax.adamw(RATE, weight_decay=0.0),
    "adabelief": optax.adabelief(RATE),
    "yogi": optax.yogi(RATE),
    "lion": optax.lion(RATE, weight_decay=0.0),
    "sgd": optax.sgd(RATE, momentum=0.9, nesterov=True),
    "polyak-sgd": optax.polyak_sgd(RATE, f_min=0.25, variant="sps+"),
    "fromage": optax.fromage(RATE),
    "muon": optax.contrib.muon(RATE),
    "schedule-free": optax.contrib.schedule_free(optax.adam(RATE, b1=0.0), RATE, b1=0.9),
}


def _phase(name, **more):
    schedule = {"schedule": "constant"} if name == "schedule-free" else {}
    options = {"learning_rate": RATE, "clip_norm": 1e9, "weight_decay": 0.0, "polyak_floor": 0.5, **schedule, **more}
    return PhaseConfig(optimizer=name, **options)


def _start():
    random = np.random.default_rng(0)
    return {"ml": {"a": jnp.asarray(random.normal(size=(3, 4))), "b": jnp.asarray(random.normal(size=4))}}


def _walk(optimizer, start, steps=4, **extra):
    """Steps down a bowl whose value and gradient are known."""

    @jax.jit
    def step(params, state):
        value = 0.5 * sum(jnp.sum((leaf - 3.0) ** 2) for leaf in jax.tree.leaves(params))
        gradient = jax.tree.map(lambda leaf: leaf - 3.0, params)
        updates, state = optax.with_extra_args_support(optimizer).update(gradient, state, params, value=value, **extra)
        return optax.apply_updates(params, updates), state

    params, state = start, optimizer.init(start)
    for _ in range(steps):
        params, state = step(params, state)
    return params, state


def _assert_same(one, other, **tolerance):
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(left, right, **({"rtol": 2e-5} | tolerance))


@pytest.mark.parametrize("name", ALIASES)
def test_every_optimiser_walks_as_the_one_that_bears_its_name(name):
    start = _start()
    ours = make_optimizer(_phase(name), lambda step: RATE, loss_scale=2.0)
    (expected, reference_state), (found, state) = _walk(ALIASES[name], start), _walk(ours, start)
    _assert_same(found, expected)
    average = own_average(_phase(name))
    assert (average is None) == (name != "schedule-free")
    if average is not None:
        _assert_same(average(state, found), optax.contrib.schedule_free_eval_params(reference_state, expected))


@pytest.mark.parametrize("name", sorted(set(ALIASES) - {"polyak-sgd"}))
def test_the_factor_of_the_rate_is_a_smaller_rate(name):
    start = _start()
    slow = _walk(make_optimizer(_phase(name), lambda step: 0.5 * RATE), start)[0]
    _assert_same(_walk(make_optimizer(_phase(name), lambda step: RATE), start, rate_factor=0.5)[0], slow)


@pytest.mark.parametrize("name", sorted(ALIASES))
def test_groups_have_a_rate_and_a_decay_of_their_own(name):
    start = _start()
    plain = _walk(make_optimizer(_phase(name), lambda step: RATE), start)[0]["ml"]
    groups = [{"match": "ml/b", "learning_rate_factor": 0.0}, {"match": "*", "learning_rate_factor": 1.0}]
    frozen = _walk(make_optimizer(_phase(name, groups=groups), lambda step: RATE), start)[0]["ml"]
    _assert_same(frozen["b"], start["ml"]["b"], rtol=1e-6)
    if name not in ("polyak-sgd", "schedule-free"):
        _assert_same(frozen["a"], plain["a"])
    assert (np.abs(plain["b"] - start["ml"]["b"]) > 1e-4).all()


def test_decay_by_group_and_never_of_the_prior():
    config = _phase("adamw", weight_decay=0.5, weight_decay_on="all", groups=[{"match": "ml/b", "weight_decay": 0.25}])
    optimizer = make_optimizer(config, lambda step: RATE)
    start = {**_start(), "prior": {"bond_k": jnp.full((2, 2), 4.0)}}
    still = jax.tree.map(jnp.zeros_like, start)
    updates, _ = optimizer.update(still, optimizer.init(start), start)
    _assert_same(updates["ml"]["a"], -RATE * 0.5 * start["ml"]["a"])
    _assert_same(updates["ml"]["b"], -RATE * 0.25 * start["ml"]["b"])
    assert not updates["prior"]["bond_k"].any()


def test_a_group_that_matches_nothing_is_an_error():
    assert parameter_names(_start()) == {"ml": {"a": "ml/a", "b": "ml/b"}}
    require_groups(_phase("adam", groups=[{"match": "ml/*"}]), _start())
    with pytest.raises(UserError, match="`ml/c` matches no parameter.*ml/a, ml/b"):
        require_groups(_phase("adam", groups=[{"match": "ml/c"}]), _start())


def test_clipping_is_of_the_whole_gradient():
    config = PhaseConfig(optimizer="sgd", momentum=0.0, weight_decay=0.0, clip_norm=5.0)
    optimizer = make_optimizer(config, lambda step: 1.0)
    params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    updates, _ = optimizer.update({"a": jnp.array([30.0]), "b": jnp.array([40.0])}, optimizer.init(params), params)
    assert float(updates["a"][0]) == pytest.approx(-3.0)
    assert float(updates["b"][0]) == pytest.approx(-4.0)


@pytest.mark.parametrize(("schedule", "middle"), [
    ("linear", 0.55), ("exponential", 0.1**0.5), ("polynomial", 0.1 + 0.9 * 0.25), ("constant", 1.0), ("cosine", 0.55),
])  # fmt: skip
def test_schedules_from_end_to_end(schedule, middle):
    config = PhaseConfig(
        schedule=schedule, epochs=3, learning_rate=2.0, warmup_epochs=1, final_learning_rate_factor=0.1
    )
    rate = learning_rate_schedule(config, 5)
    assert rate(0) == pytest.approx(2.0 / 6)
    assert rate(5) == pytest.approx(2.0)
    assert 0.5 * (rate(9) + rate(10)) == pytest.approx(2.0 * middle, rel=0.01)
    assert rate(14) == pytest.approx(2.0 if schedule == "constant" else 0.2)


def test_one_cycle_rises_and_falls():
    config = PhaseConfig(
        schedule="onecycle", epochs=10, learning_rate=1.0, warmup_epochs=4, final_learning_rate_factor=0.01
    )
    rate = learning_rate_schedule(config, 10)
    values = [float(rate(k)) for k in range(100)]
    assert values[0] == pytest.approx(0.04)
    assert int(np.argmax(values)) == pytest.approx(40, abs=1)
    assert max(values) == pytest.approx(1.0)
    assert values[-1] == pytest.approx(0.01)


@pytest.mark.parametrize(("given", "message"), [
    ({"optimizer": "schedule-free"}, "needs `schedule: constant`"),
    ({"optimizer": "schedule-free", "schedule": "constant", "momentum": 0}, "`momentum` above 0"),
    ({"schedule": "exponential", "final_learning_rate_factor": 0}, "above 0"),
])  # fmt: skip
def test_phases_that_cannot_work_are_refused(given, message):
    with pytest.raises(ValidationError, match=message):
        PhaseConfig(**given)

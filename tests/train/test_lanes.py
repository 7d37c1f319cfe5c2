"""Members that share compiled steps: as those alone, each with its own end, and continued to the bit."""

from functools import partial

import jax
import numpy as np
import pytest
from test_train_stage import configure, inputs, results  # noqa: F401
from test_trainer import CONFIG, NOISE, breaking_forces, make_sets, outcome, sets, trainer  # noqa: F401

from cgloop import interrupt
from cgloop.errors import Interrupted, UserError
from cgloop.train.ensemble import resampled
from cgloop.train.lanes import run_in_lanes
from cgloop.train.stage import train_stage

SEEDS = (3, 4, 5)


def members(sets, folder, config=CONFIG, **more):  # noqa: F811
    """Three, the last with frames of its own."""
    own = [sets, sets, [resampled(sets[0], 7), *sets[1:]]]
    return [trainer(one, folder / str(seed), config, seed=seed, **more) for seed, one in zip(SEEDS, own, strict=True)]


def assert_close(one, other):
    for name in one.position.history:
        np.testing.assert_allclose(one.position.history[name], other.position.history[name], rtol=1e-4, err_msg=name)
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * float(np.abs(b).max()))


@pytest.fixture(scope="module")
def together(sets, tmp_path_factory):  # noqa: F811
    return run_in_lanes(members(sets, tmp_path_factory.mktemp("together")))


def test_members_are_those_that_train_alone(sets, together, tmp_path):  # noqa: F811
    """Of their own seeds, orders of frames and weights, to the rounding of float32."""
    alone = [one.run() for one in members(sets, tmp_path)]
    for one, other in zip(together, alone, strict=True):
        assert_close(one, other)
    final = [one.position.history["train_loss"][-1] for one in together]
    assert len(set(final)) == 3


@pytest.mark.parametrize("stops", [(1,), (6, 13)])
def test_stopped_and_continued_they_are_the_same_to_the_bit(sets, together, tmp_path, stops):  # noqa: F811
    done = []

    def stop(step):
        done.append(step)
        if len(done) in stops:
            interrupt.request_stop("test")

    for _ in stops:
        with pytest.raises(Interrupted):
            run_in_lanes(members(sets, tmp_path, on_step=stop))
        interrupt.clear_stop()
    again = run_in_lanes(members(sets, tmp_path))
    assert [outcome(one) for one in again] == [outcome(one) for one in together]


def test_finished_members_are_not_repeated(sets, together, tmp_path):  # noqa: F811
    """One member ended before all were stopped; it is found finished."""
    members(sets, tmp_path)[0].run()
    found = run_in_lanes(members(sets, tmp_path))
    for one, other in zip(found, together, strict=True):
        assert_close(one, other)
    run_in_lanes(members(sets, tmp_path, on_step=lambda step: pytest.fail("a step was done")))


def test_each_stops_and_recovers_by_itself(sets, tmp_path):  # noqa: F811
    """Early stop and divergence of one member leave the others alone."""
    config = CONFIG.model_copy(update={"epochs": 6, "patience_epochs": 1, "learning_rate": 0.2, "ema_decay": 0.0})
    forces = partial(breaking_forces, limit=8.0)
    found = run_in_lanes(members(sets, tmp_path / "together", config, forces=forces))
    alone = [one.run() for one in members(sets, tmp_path / "alone", config, forces=forces)]
    for one, other in zip(found, alone, strict=True):
        assert one.stopped == other.stopped
        assert one.position.divergences == other.position.divergences
        assert_close(one, other)
    assert all(one.position.divergences for one in found)
    assert len({one.position.epoch for one in found}) == 3


@pytest.mark.slow
def test_a_stage_with_members_in_lanes(inputs, tmp_path):  # noqa: F811
    """In two phases, with weights for one; to the bit after an interruption."""
    more = dict(epochs=2, fine_tuning=dict(epochs=1), ensemble=dict(members=2, kind="bootstrap", how="vmapped"))
    for name in ("straight", "stopped"):
        (tmp_path / name).mkdir()
    train_stage(configure(train=more), *inputs, tmp_path / "straight")
    interrupt.request_stop("test")
    with pytest.raises(Interrupted):
        train_stage(configure(train=more), *inputs, tmp_path / "stopped")
    interrupt.clear_stop()
    train_stage(configure(train=more), *inputs, tmp_path / "stopped")
    assert results(tmp_path / "stopped") == results(tmp_path / "straight")


def test_what_stands_against_lanes_is_told(inputs, tmp_path):  # noqa: F811
    more = dict(length_buckets=2, ensemble=dict(members=2, how="vmapped"))
    with pytest.raises(UserError, match="length_buckets"):
        train_stage(configure(train=more), *inputs, tmp_path)

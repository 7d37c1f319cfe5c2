"""Phases: one after the other, continued to the bit from any stop; and the best parameters on the way."""

from functools import partial

import jax
import numpy as np
import pytest
from toy_forces import CUTOFF_A, pair_forces, predict, start

from cgloop import interrupt
from cgloop.config.train import TrainConfig
from cgloop.errors import Interrupted
from cgloop.train.loader import FrameSet
from cgloop.train.phases import Member, run_phases
from cgloop.train.trainer import Trainer

CONFIG = TrainConfig(
    epochs=3, batch_size=8, learning_rate=0.05, warmup_epochs=0.5, ema_decay=0.9, checkpoint_every_s=0.0,
    weight_decay=0, keep_best=2, position_noise_A=0.02,
    fine_tuning={"epochs": 3, "optimizer": "sgd", "learning_rate": 0.01, "schedule": "linear"},
)  # fmt: skip


def test_fine_tuning_inherits_what_is_not_given():
    first, second = CONFIG.phases
    assert (first.optimizer, first.learning_rate, first.fine_tuning) == ("adamw", 0.05, None)
    assert (second.optimizer, second.learning_rate, second.schedule) == ("sgd", 0.01, "linear")
    assert (second.warmup_epochs, second.ema_decay, second.batch_size, second.keep_best) == (0.5, 0.9, 8, 2)
    assert TrainConfig.model_validate(CONFIG.model_dump()) == CONFIG
    assert TrainConfig().phases == [TrainConfig()]


@pytest.fixture(scope="module")
def sets(make_protein):
    protein = make_protein("toy", "0 7 4 7 0 9", frames=80, noise=0.5)
    return [FrameSet([protein.select(split=s)], CUTOFF_A, 0.02) for s in ("train", "validation")]


def train(sets, folder, stop_after=None):
    """The result; with a stop after so many steps of this attempt."""
    done = [0]

    def count(step):
        done[0] += 1
        if done[0] == stop_after:
            interrupt.request_stop("test")

    make = partial(
        Trainer, jax.jit(pair_forces), training=sets[0], validation=sets[1], evaluation_shape=sets[1].shape(64),
        seed=3, on_step=count,
    )  # fmt: skip
    try:
        (result,) = run_phases([Member(make, start(), folder, "test")], CONFIG)
        return result
    finally:
        interrupt.clear_stop()


def outcome(result):
    as_bytes = lambda tree: {name: np.asarray(leaf).tobytes() for name, leaf in tree.items()}  # noqa: E731
    kept = {epoch: as_bytes(params) for epoch, params in result.kept.items()}
    return result.position.history, result.position.best_epoch, as_bytes(result.params), kept, result.stopped


@pytest.fixture(scope="module")
def straight(sets, tmp_path_factory):
    return train(sets, tmp_path_factory.mktemp("straight"))


def test_epochs_are_counted_through(straight):
    history = straight.position.history
    assert history["epoch"] == [1, 2, 3, 4, 5, 6]
    assert history["phase"] == [1, 1, 1, 2, 2, 2]
    # Where the linear schedule of the second phase ends.
    assert history["learning_rate"][-1] == pytest.approx(0.02 * 0.01)
    assert straight.stopped == "phase 1: all epochs; phase 2: all epochs"
    losses = [straight.position.initial_loss, *history["validation_loss"]]
    assert straight.position.best_epoch == int(np.argmin(losses))
    assert straight.position.best_loss == min(losses)


# 5 steps an epoch, 15 a phase: within the first, at its end, at the first step of the second, at the very end.
@pytest.mark.parametrize("stop", [7, 15, 16, 23, 30])
def test_a_stop_in_any_phase_is_continued_to_the_bit(sets, straight, tmp_path, stop):
    with pytest.raises(Interrupted):
        train(sets, tmp_path, stop)
    assert outcome(train(sets, tmp_path)) == outcome(straight)


def test_the_best_are_kept_with_their_losses(sets, straight):
    history, validation = straight.position.history, sets[1]
    ranked = sorted(range(6), key=lambda k: history["validation_loss"][k])[:2]
    assert [one["epoch"] for one in straight.position.kept] == [k + 1 for k in ranked]
    assert list(straight.kept) == [k + 1 for k in ranked]
    for epoch, params in straight.kept.items():
        predicted = predict(jax.jit(pair_forces), params, validation, validation.shape(64))
        loss = np.mean((predicted.astype(np.float64) - validation.target) ** 2)
        assert loss == pytest.approx(history["validation_loss"][epoch - 1], rel=1e-6)


def test_orders_of_the_phases_differ(sets, tmp_path):
    make = partial(
        Trainer, jax.jit(pair_forces), start(), *sets, CONFIG, evaluation_shape=sets[1].shape(64), seed=3,
        fingerprint="test",
    )  # fmt: skip
    losses = [
        make(folder=tmp_path / str(first), first_epoch=first).run().position.history["train_loss"][0]
        for first in (0, 3)
    ]
    assert losses[0] != losses[1]

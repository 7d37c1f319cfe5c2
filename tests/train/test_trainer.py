"""The loop: it learns, it goes on after any stop as if there had been none, it survives divergence."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_forces import CUTOFF_A, pair_forces, predict, start

from cgloop import interrupt
from cgloop.config.optimizer import GroupConfig
from cgloop.config.train import TrainConfig
from cgloop.errors import Interrupted, UserError
from cgloop.train.loader import FrameSet
from cgloop.train.trainer import MAX_DIVERGENCES, Trainer

NOISE = 0.5


@pytest.fixture(scope="module")
def make_sets(make_protein):
    """Training, validation and test frames of two proteins of different length."""

    def make(noise: float, noise_A: float = 0.0) -> list[FrameSet]:
        proteins = [
            make_protein("toy", "0 7 4 7 0 9", frames=40, noise=noise),
            make_protein("tiny", "1 2 3", frames=24, seed=5, noise=noise),
        ]
        return [
            FrameSet([p.select(split=s) for p in proteins], CUTOFF_A, noise_A) for s in ("train", "validation", "test")
        ]

    return make


@pytest.fixture(scope="module")
def sets(make_sets):
    return make_sets(NOISE)


CONFIG = TrainConfig(
    epochs=4, batch_size=6, learning_rate=0.03, warmup_epochs=0.5, ema_decay=0.9, checkpoint_every_s=0.0, weight_decay=0
)


def trainer(sets, folder, config=CONFIG, forces=pair_forces, seed=3, **more):
    shape = sets[1].shape(config.eval_batch_size)
    return Trainer(
        jax.jit(forces), start(), sets[0], sets[1], config,
        evaluation_shape=shape, seed=seed, folder=folder, fingerprint="test", **more,
    )  # fmt: skip


def outcome(result):
    return result.position.history, {k: np.asarray(v).tobytes() for k, v in result.params.items()}


@pytest.fixture(scope="module")
def straight(sets, tmp_path_factory):
    """A training without a stop."""
    return outcome(trainer(sets, tmp_path_factory.mktemp("straight")).run())


@pytest.mark.parametrize("stops", [(1,), (5,), (6,), (7, 8, 17), (24,)])
def test_stopped_and_continued_is_the_same_to_the_bit(sets, straight, tmp_path, stops):
    def stop(step):
        if step in stops:
            interrupt.request_stop("test")

    for _ in stops:
        with pytest.raises(Interrupted):
            trainer(sets, tmp_path, on_step=stop).run()
        interrupt.clear_stop()
        stops = stops[1:]
    assert outcome(trainer(sets, tmp_path).run()) == straight


def test_without_timely_checkpoints_a_stop_still_writes_one(sets, straight, tmp_path):
    config = CONFIG.model_copy(update={"checkpoint_every_s": 1e9})
    with pytest.raises(Interrupted):
        trainer(sets, tmp_path, config, on_step=lambda step: step == 9 and interrupt.request_stop("test")).run()
    interrupt.clear_stop()
    continued = trainer(sets, tmp_path, config)
    assert continued.position.epoch * continued.n_steps + continued.position.step == 9
    assert outcome(continued.run()) == straight


@pytest.mark.parametrize("more", [
    {},
    {"optimizer": "schedule-free", "schedule": "constant", "huber_delta": 3.0},
    {"optimizer": "polyak-sgd", "groups": [GroupConfig(match="bonded", learning_rate_factor=0.5)]},
])  # fmt: skip
def test_buckets_weights_and_noise_are_continued_to_the_bit(make_sets, tmp_path, more):
    """Two lengths, hence two compiled shapes, in an order of their own."""
    sets = make_sets(NOISE, 0.05)
    sets[0].set_weights({"tiny": 2.0}, {}, "protein")
    config = CONFIG.model_copy(update={"length_buckets": 2, "batch_beads": 30, "epochs": 3, **more})
    whole = trainer(sets, tmp_path / "whole", config)
    assert [bucket.batch_size for bucket in whole.buckets] == [10, 5]
    expected = outcome(whole.run())
    with pytest.raises(Interrupted):
        trainer(sets, tmp_path / "cut", config, on_step=lambda step: step == 7 and interrupt.request_stop("test")).run()
    interrupt.clear_stop()
    assert outcome(trainer(sets, tmp_path / "cut", config).run()) == expected


def test_same_seed_same_result_other_seed_another(sets, straight, tmp_path):
    assert outcome(trainer(sets, tmp_path / "a").run()) == straight
    assert outcome(trainer(sets, tmp_path / "b", seed=4).run()) != straight


def test_a_finished_training_is_not_repeated(sets, straight, tmp_path):
    trainer(sets, tmp_path).run()
    again = trainer(sets, tmp_path, on_step=lambda step: pytest.fail("a step was done"))
    assert outcome(again.run()) == straight


def test_loss_falls_and_the_known_forces_are_found(sets, make_sets, tmp_path):
    config = CONFIG.model_copy(
        update={"epochs": 60, "learning_rate": 0.3, "patience_epochs": 60, "checkpoint_every_s": 60}
    )
    result = trainer(sets, tmp_path, config).run()
    history = result.position.history
    # No model gets below the noise on the forces, this one gets close.
    assert history["train_rmse"][0] > 6 * NOISE
    assert 0.9 * NOISE < history["validation_rmse"][-1] < 1.2 * NOISE
    assert history["epoch"] == list(range(1, 61))
    assert len({len(column) for column in history.values()}) == 1
    # Its forces are nearer to the mean force than any reference force that it was trained on.
    predicted = predict(jax.jit(pair_forces), result.params, sets[2], sets[2].shape(8))
    mean_force = make_sets(0.0)[2].reference
    assert math.sqrt(np.mean((predicted - mean_force) ** 2)) < 0.8 * NOISE


def test_without_noise_the_forces_are_recovered(make_protein, tmp_path):
    protein = make_protein("toy", "0 7 4 7 0 9", frames=80)
    exact = [FrameSet([protein.select(split=s)], CUTOFF_A) for s in ("train", "validation", "test")]
    config = CONFIG.model_copy(
        update={"epochs": 100, "learning_rate": 0.5, "patience_epochs": 100, "checkpoint_every_s": 60}
    )
    result = trainer(exact, tmp_path, config).run()
    predicted = predict(jax.jit(pair_forces), result.params, exact[2], exact[2].shape(8))
    size = math.sqrt(np.mean(exact[2].reference ** 2))
    assert math.sqrt(np.mean((predicted - exact[2].reference) ** 2)) < 0.05 * size


def test_training_stops_when_validation_no_longer_improves_and_keeps_the_best(make_protein, tmp_path):
    # Noise alone: there is nothing to learn, and what is learned makes validation worse.
    protein = make_protein("toy", "0 7 4 7 0 9", frames=24)
    noise = np.random.default_rng(0).normal(size=protein.forces.shape).astype(np.float32)
    frames = [FrameSet([protein.select(split=s)], CUTOFF_A) for s in ("train", "validation")]
    for part, split in zip(frames, (0, 1), strict=True):
        wanted = noise[protein.split == split].reshape(-1, 3)
        part.subtract([(np.arange(part.n_frames), part.reference - wanted)])
    config = CONFIG.model_copy(update={"epochs": 200, "learning_rate": 0.1, "patience_epochs": 5})
    result = trainer(frames, tmp_path, config).run()
    position = result.position
    assert result.stopped == "no improvement"
    assert position.epoch == position.best_epoch + 5 < 200
    losses = [position.initial_loss, *position.history["validation_loss"]]
    assert position.best_epoch == int(np.argmin(losses))
    predicted = predict(jax.jit(pair_forces), result.params, frames[1], frames[1].shape(8))
    assert np.mean((predicted.astype(np.float64) - frames[1].target) ** 2) == pytest.approx(min(losses), rel=1e-6)


def breaking_forces(params, positions, graph, limit):
    """Not finite once the parameters are too large."""
    size = sum(jnp.sum(p**2) for p in jax.tree.leaves(params))
    return jnp.where(size < limit, pair_forces(params, positions, graph), jnp.nan)


def test_divergence_goes_back_with_half_the_rate(sets, tmp_path):
    forces = partial(breaking_forces, limit=0.7)
    config = CONFIG.model_copy(update={"epochs": 3, "learning_rate": 0.03})
    result = trainer(sets, tmp_path / "a", config, forces).run()
    events = result.position.divergences
    assert 1 <= len(events) < MAX_DIVERGENCES
    assert [e["rate_factor"] for e in events] == [0.5**k for k in range(1, len(events) + 1)]
    assert all(np.isfinite(v).all() for v in result.params.values())
    assert np.isfinite(result.position.history["validation_loss"]).all()
    rates = result.position.history["learning_rate"]
    schedule = trainer(sets, tmp_path / "b", config, forces).schedule
    assert rates[-1] == pytest.approx(float(schedule(3 * 6 - 1)) * events[-1]["rate_factor"])
    # Stopped just before and just after the recovery, it still ends at the same place.
    first = (events[0]["epoch"] - 1) * 6 + events[0]["step"]
    for number, stop in enumerate((first - 1, (events[0]["epoch"] - 1) * 6 + 1)):
        seen = []

        def request(step, stop=stop, seen=seen, number=number):
            seen.append(step)
            if step == stop and seen.count(stop) == number + 1:
                interrupt.request_stop("test")

        with pytest.raises(Interrupted):
            trainer(sets, tmp_path / f"c{number}", config, forces, on_step=request).run()
        interrupt.clear_stop()
        assert outcome(trainer(sets, tmp_path / f"c{number}", config, forces).run()) == outcome(result)


def test_a_training_that_always_diverges_ends_with_a_remedy(sets, tmp_path):
    with pytest.raises(UserError, match=r"diverged 3 times.*learning_rate"):
        trainer(sets, tmp_path, forces=partial(breaking_forces, limit=1e-9)).run()

"""Buckets of similar length, batches by beads, weights: nothing about them changes what is learned, except weights."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgloop.config.train import TrainConfig
from cgloop.errors import UserError
from cgloop.model.allegro import AllegroSpec
from cgloop.model.hybrid import Model, init_params, ml_forces
from cgloop.train.loader import AtOnce, FrameSet, epoch_order, epoch_plan
from cgloop.train.loss import force_loss
from cgloop.train.optimizers import make_optimizer
from cgloop.train.schedules import learning_rate_schedule
from cgloop.train.sets import Sets, weigh
from cgloop.train.step import Objective, initial_state, make_train_step

CUTOFF_A = 9.0


@pytest.fixture(scope="module")
def frames(make_protein):
    return FrameSet(
        [
            make_protein("long", "0 7 4 7 0 19 3", frames=6),
            make_protein("pair", "5 6", frames=5, seed=2),
            make_protein("short", "1 2 3 4", frames=7, seed=3),
        ],
        CUTOFF_A,
    )


@settings(deadline=None, max_examples=30)
@given(size=st.integers(1, 9), beads=st.none() | st.integers(1, 40), groups=st.integers(1, 5), epoch=st.integers(0, 9))
def test_an_epoch_has_every_frame_once_in_batches_that_fit(frames, size, beads, groups, epoch):
    buckets = frames.buckets(size, beads, groups)
    assert len(buckets) == min(groups, 3)
    plan = epoch_plan(buckets, frames.n_frames, seed=3, epoch=epoch)
    assert len(plan) == sum(bucket.n_batches for bucket in buckets)
    assert sorted(np.concatenate([chosen for _, chosen in plan])) == list(range(frames.n_frames))
    for number, chosen in plan:
        assert np.isin(chosen, buckets[number].frames).all()
        batch = frames.batch(chosen, buckets[number].shape)
        assert len(batch.positions) == buckets[number].shape.beads
        if beads is not None and len(chosen) > 1:
            assert frames.beads.counts[chosen].sum() <= beads
    again = epoch_plan(frames.buckets(size, beads, groups), frames.n_frames, seed=3, epoch=epoch)
    for (one, left), (other, right) in zip(plan, again, strict=True):
        assert one == other
        np.testing.assert_array_equal(left, right)


@settings(deadline=None, max_examples=30)
@given(
    size=st.integers(1, 18),
    devices=st.integers(1, 4),
    few=st.none() | st.integers(1, 20),
    pairs=st.integers(1, 400),
    groups=st.integers(1, 3),
)
def test_what_is_computed_at_once_fits_and_is_no_more_than_asked(frames, size, devices, few, pairs, groups):
    at_once = AtOnce(few, pairs)
    for bucket in frames.buckets(size, None, groups, devices=devices, at_once=at_once):
        asked = at_once.frames_of(float(frames.edges.counts[bucket.frames].mean()))
        for first in range(0, len(bucket.frames), size):
            pieces = np.array_split(bucket.frames[first : first + size], devices * bucket.parts)
            assert max(len(piece) for piece in pieces) <= asked
            assert len(frames.batch(pieces[0], bucket.shape).positions) == bucket.shape.beads
        assert bucket.shape.replicas <= asked


def test_one_bucket_is_the_order_of_the_epoch(frames):
    plan = epoch_plan(frames.buckets(4), frames.n_frames, seed=5, epoch=2)
    np.testing.assert_array_equal(np.concatenate([chosen for _, chosen in plan]), epoch_order(18, 5, 2))
    assert frames.buckets(4)[0].shape == frames.shape(4)


def test_buckets_waste_less(frames):
    one, many = frames.buckets(4)[0], frames.buckets(4, None, 3)
    assert sum(bucket.n_batches * bucket.shape.beads for bucket in many) < one.n_batches * one.shape.beads


SPEC = AllegroSpec(
    cutoff_A=CUTOFF_A, max_ell=1, n_layers=1, n_radial=4, embedding=(6,), species_embedding=3, mlp=(6,),
    hidden="2x0e+2x1o", energy_scale=5.0,
)  # fmt: skip
MODEL = Model(SPEC, "ml-only", CUTOFF_A)


def forces(params, positions, graph):
    return ml_forces(MODEL, {"prior": None, "ml": params}, positions, graph)


def loss(params, batch):
    return force_loss(forces(params, batch.positions, batch.graph), batch).mean


@pytest.fixture(scope="module")
def params():
    found = init_params(MODEL, None, jax.random.key(0))["ml"]
    return {**found, "readout": 20 * found["readout"]}


@pytest.fixture(scope="module")
def step_and_gradient():
    config = TrainConfig(optimizer="adam", warmup_epochs=0)
    optimizer = make_optimizer(config, learning_rate_schedule(config, 10))
    return optimizer, jax.jit(make_train_step(Objective(forces, 2.0), optimizer, 0.9)), jax.jit(jax.grad(loss))


def as_double(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64) if np.asarray(x).dtype == np.float32 else x, tree)


@settings(deadline=None, max_examples=5)
@given(
    chosen=st.lists(st.integers(0, 17), min_size=1, max_size=4, unique=True),
    size=st.sampled_from([4, 9]),
    weighted=st.booleans(),
    data=st.data(),
)
@pytest.mark.slow
def test_a_step_does_not_depend_on_padding_or_order(frames, params, step_and_gradient, chosen, size, weighted, data):
    """Loss gradient and parameters after one step, in a tight batch, a padded one, and one in another order."""
    frames.set_weights({"long": 2.5, "pair": 0.3} if weighted else {}, {})
    optimizer, step, gradient = step_and_gradient
    order = data.draw(st.permutations(chosen))
    loose = frames.shape(size)
    batches = [frames.batch(np.array(chosen), frames.shape(4)), frames.batch(np.array(order), loose)]
    with jax.enable_x64(True):
        start = initial_state(as_double(params), optimizer)
        results = [(gradient(start.params, as_double(b)), step(start, as_double(b))[0].params) for b in batches]
    frames.set_weights({}, {})
    for one, other in zip(jax.tree.leaves(results[0]), jax.tree.leaves(results[1]), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6 * max(float(np.abs(other).max()), 1e-3))


@pytest.mark.slow
def test_weights_are_those_of_repeated_frames(frames, params):
    """A protein of weight 2 counts as two copies of its beads; scale of all weights does not matter."""
    single = np.array([0, 8, 12])
    shape = frames.shape(3)
    frames.set_weights({"long": 4.0, "short": 2.0, "pair": 2.0}, {})
    weighted = float(loss(params, frames.batch(single, shape)))
    frames.set_weights({"long": 2.0}, {})
    same = float(loss(params, frames.batch(single, shape)))
    frames.set_weights({}, {})
    assert frames.batch(single, shape).weight is None
    parts = [float(loss(params, frames.batch(np.array([i]), shape))) for i in single]
    beads = frames.beads.counts[single] * np.array([2, 1, 1])
    assert weighted == pytest.approx(same, rel=1e-6)
    assert same == pytest.approx(np.average(parts, weights=beads), rel=1e-5)


def test_weights_by_temperature(make_protein):
    protein = make_protein(frames=4)
    protein.temperature_K[:2] = 450.0
    frames = FrameSet([protein], CUTOFF_A)
    frames.set_weights({}, {450.0: 0.25})
    np.testing.assert_array_equal(frames.weight, [0.25, 0.25, 1.0, 1.0])
    with pytest.raises(ValueError, match="positive"):
        frames.set_weights({"toy": -1.0}, {})


@pytest.mark.parametrize(("given_", "message"), [
    ({"protein_weights": {"absent": 2.0}}, "names `absent`"),
    ({"temperature_weights": {500.0: 2.0}}, "500 K.*no training frames"),
])  # fmt: skip
def test_weights_of_what_is_not_there(frames, given_, message):
    with pytest.raises(UserError, match=message):
        weigh(Sets(frames, frames, None), TrainConfig(**given_))

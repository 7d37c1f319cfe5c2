"""The loss of the real network: padding, order and company of frames do not matter; its gradient is right."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgloop.config.model import AllegroConfig
from cgloop.config.train import TrainConfig
from cgloop.model.hybrid import build_model, init_params, ml_forces
from cgloop.train.loader import Batch, FrameSet
from cgloop.train.loss import force_loss
from cgloop.train.optimizers import make_optimizer
from cgloop.train.step import Objective, initial_state, make_train_step

CUTOFF_A = 9.0
SMALL = dict(max_ell=1, n_layers=2, n_radial=4, embedding=[6], species_embedding=3, mlp=[6], hidden="3x0e+3x1o")


@pytest.fixture(scope="module")
def frames(make_protein):
    return FrameSet(
        [make_protein("long", "0 7 4 7 0 19", frames=6), make_protein("short", "1 2 3", frames=5, seed=3)], CUTOFF_A
    )


@pytest.fixture(scope="module")
def network(frames):
    model = build_model(
        AllegroConfig(energy="ml-only", cutoff_A=CUTOFF_A, **SMALL),
        avg_num_neighbors=frames.mean_neighbors,
        energy_scale=5.0,
    )
    params = init_params(model, None, jax.random.key(0))["ml"]
    # As far from the small start as training takes it.
    return model, {**params, "readout": 20 * params["readout"]}


def loss_of(model, params, batch):
    return force_loss(ml_forces(model, {"prior": None, "ml": params}, batch.positions, batch.graph), batch).mean


@pytest.fixture(scope="module")
def gradient(network):
    model, _ = network
    return jax.jit(jax.value_and_grad(partial(loss_of, model)))


def _assert_close(a, b, tolerance):
    scale = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(b[1]))
    assert float(a[0]) == pytest.approx(float(b[0]), rel=tolerance)
    for left, right in zip(jax.tree.leaves(a[1]), jax.tree.leaves(b[1]), strict=True):
        np.testing.assert_allclose(left, right, atol=tolerance * scale)


@pytest.fixture(scope="module")
def exact(frames):
    """Tight shapes: no padding at all in bead and edge arrays of this batch."""
    chosen = np.array([3, 8, 0])
    tight = frames.shape(3)._replace(
        beads=int(frames.beads.counts[chosen].sum()), edges=int(frames.edges.counts[chosen].sum())
    )
    batch = frames.batch(chosen, tight)
    assert batch.graph.bead_mask.all()
    assert batch.graph.edge_mask.all()
    return batch


@pytest.mark.parametrize(("size", "order"), [(8, [3, 8, 0]), (8, [8, 0, 3]), (11, [0, 3, 8])])
def test_padding_and_order_do_not_change_loss_and_gradient(frames, network, gradient, exact, size, order):
    padded = frames.batch(np.array(order), frames.shape(size))
    _assert_close(gradient(network[1], padded), gradient(network[1], exact), 1e-6)


@settings(deadline=None, max_examples=10)
@given(chosen=st.lists(st.integers(0, 10), min_size=1, max_size=8, unique=True))
def test_loss_of_a_batch_is_the_mean_over_its_beads(frames, network, gradient, chosen):
    shape = frames.shape(8)
    together = gradient(network[1], frames.batch(np.array(chosen), shape))
    parts = [gradient(network[1], frames.batch(np.array([k]), shape)) for k in chosen]
    weights = frames.beads.counts[chosen] / frames.beads.counts[chosen].sum()
    mean = jax.tree.map(lambda *leaves: sum(w * x for w, x in zip(weights, leaves, strict=True)), *parts)
    _assert_close(together, mean, 3e-6)


def test_what_padding_holds_is_never_looked_at(frames, network, gradient):
    batch = frames.batch(np.array([1, 7]), frames.shape(8))
    spoiled_target = np.where(batch.graph.bead_mask[:, None], batch.target, np.nan).astype(np.float32)
    spoiled_types = np.where(batch.graph.bead_mask, batch.graph.types, 11).astype(np.int32)
    spoiled = Batch(batch.positions, spoiled_target, batch.graph._replace(types=spoiled_types))
    _assert_close(gradient(network[1], spoiled), gradient(network[1], batch), 1e-7)


def test_gradient_agrees_with_finite_differences_in_float64(frames, network):
    model, params = network
    with jax.enable_x64(True):
        batch = frames.batch(np.array([2, 9]), frames.shape(3))
        batch = Batch(jnp.asarray(batch.positions, jnp.float64), jnp.asarray(batch.target, jnp.float64), batch.graph)
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)
        loss = jax.jit(partial(loss_of, model))
        slopes = jax.grad(loss)(wide, batch)
        random = np.random.default_rng(0)
        for _ in range(6):
            direction = jax.tree.map(lambda leaf: jnp.asarray(random.standard_normal(leaf.shape)), wide)
            expected = sum(
                float(jnp.vdot(a, b)) for a, b in zip(jax.tree.leaves(slopes), jax.tree.leaves(direction), strict=True)
            )
            values = [
                float(loss(jax.tree.map(lambda p, d: p + h * d, wide, direction), batch))  # noqa: B023
                for h in (-2e-5, -1e-5, 1e-5, 2e-5)
            ]
            difference = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / 12e-5
            assert difference == pytest.approx(expected, rel=1e-6)


def test_loss_is_the_mean_square_per_component(frames):
    batch = frames.batch(np.array([0, 6]), frames.shape(4))
    predicted = jnp.asarray(np.random.default_rng(0).normal(size=batch.target.shape), jnp.float32)
    sums = force_loss(predicted, batch)
    real = batch.graph.bead_mask
    deviation = np.asarray(predicted, np.float64)[real] - batch.target[real]
    assert float(sums.mean) == pytest.approx(np.mean(deviation**2), rel=1e-6)
    assert float(sums.total) == pytest.approx(np.sum(deviation**2), rel=1e-6)
    assert int(sums.components) == int(sums.weight) == 3 * 9


def test_a_step_moves_against_the_gradient_and_averages(frames, network, gradient):
    model, params = network
    config = TrainConfig(optimizer="adam", learning_rate=1e-3, weight_decay=0)
    optimizer = make_optimizer(config, lambda step: config.learning_rate)
    forces = lambda p, x, g: ml_forces(model, {"prior": None, "ml": p}, x, g)  # noqa: E731
    batch = frames.batch(np.arange(4), frames.shape(8))
    step = jax.jit(make_train_step(Objective(forces), optimizer, ema_decay=0.5))
    before = initial_state(params, optimizer)
    after, result = step(before, batch)
    slopes = gradient(params, batch)[1]
    # Adam's first step: the learning rate against the sign of the gradient. EMA's first weight: 1/10.
    moved, average = after.params["readout"] - params["readout"], after.ema["readout"] - params["readout"]
    np.testing.assert_allclose(moved, -1e-3 * np.sign(slopes["readout"]), rtol=1e-3)
    np.testing.assert_allclose(average, 0.9 * moved, rtol=1e-3)
    norm = np.sqrt(sum(float(np.sum(np.square(leaf))) for leaf in jax.tree.leaves(slopes)))
    assert float(result.gradient_norm) == pytest.approx(norm, rel=1e-5)
    half, _ = step(before._replace(rate_factor=jnp.float32(0.5)), batch)
    np.testing.assert_allclose(half.params["readout"] - params["readout"], 0.5 * moved, rtol=1e-2)
    assert int(after.step) == 1

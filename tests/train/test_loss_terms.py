"""Normalisation, Huber's function, weights of terms, noise on positions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import huber

from cgloop.config.train import GammasConfig
from cgloop.train.loader import FrameSet
from cgloop.train.loss import cost_of, force_loss, mean_loss
from cgloop.train.noise import LONGEST, displacements, skin
from cgloop.train.step import Objective

CUTOFF_A, NOISE_A = 7.0, 0.2


@pytest.fixture(scope="module")
def proteins(make_protein):
    return [make_protein("long", "0 7 4 7 0 19", frames=6), make_protein("short", "1 2 3", frames=5, seed=3)]


@pytest.fixture(scope="module")
def frames(proteins):
    return FrameSet(proteins, CUTOFF_A)


@pytest.fixture(scope="module")
def noisy(proteins):
    return FrameSet(proteins, CUTOFF_A, NOISE_A)


def random_forces(frames, seed=0):
    return np.random.default_rng(seed).normal(scale=5.0, size=frames.reference.shape).astype(np.float32)


@pytest.mark.parametrize("delta", [0.3, 2.0, 50.0])
def test_huber_is_that_of_scipy(delta):
    deviation = np.linspace(-6, 6, 241)
    np.testing.assert_allclose(cost_of(deviation, delta), 2 * huber(delta, deviation), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(
        cost_of(jnp.asarray(deviation), delta), 2 * huber(delta, deviation), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("delta", [None, 2.0])
@pytest.mark.parametrize("normalize", ["bead", "protein"])
def test_every_bead_or_every_frame_counts_the_same(proteins, normalize, delta):
    frames = FrameSet(proteins, CUTOFF_A)
    frames.set_weights({"long": 3.0}, {}, normalize)
    predicted = random_forces(frames)
    batch = frames.batch(np.arange(11), frames.shape(11))
    sums = force_loss(np.pad(predicted, ((0, len(batch.target) - len(predicted)), (0, 0))), batch, delta)
    cost = cost_of(predicted.astype(np.float64) - frames.reference, delta).mean(axis=1)
    of_frame = np.array([cost[s : s + n].mean() for s, n in zip(frames.beads.starts, frames.beads.counts, strict=True)])
    weight = np.where(frames.protein == 0, 3.0, 1.0) * (frames.beads.counts if normalize == "bead" else 1.0)
    assert float(sums.mean) == pytest.approx(np.average(of_frame, weights=weight), rel=1e-5)
    total, sum_of_weights = mean_loss(
        predicted, frames.reference, frames.bead_weight(np.arange(frames.n_frames)), delta
    )
    assert total / sum_of_weights == pytest.approx(float(sums.mean), rel=1e-5)
    assert float(sums.squares / sums.components) == pytest.approx(
        np.mean((predicted - frames.reference) ** 2), rel=1e-5
    )


def linear_forces(params, positions, graph):
    return positions * params["a"] + params["b"]


def test_gammas_weigh_deviation_and_size(frames):
    batch = frames.batch(np.arange(4), frames.shape(6))
    params = {"a": jnp.float32(0.3), "b": jnp.array([1.0, -2.0, 0.5])}
    real = np.asarray(batch.graph.bead_mask)

    def closed_form(params):
        forces = linear_forces(params, batch.positions[real], None)
        return (2.0 * jnp.mean((forces - batch.target[real]) ** 2) + 0.7 * jnp.mean(forces**2)) / 5.0

    objective = Objective(linear_forces, 5.0, gammas=GammasConfig(force=2.0, network=0.7))
    value, gradient, _ = objective.gradient(params, batch)
    expected, slopes = jax.value_and_grad(closed_form)(params)
    assert float(value) == pytest.approx(float(expected), rel=1e-5)
    for name in params:
        np.testing.assert_allclose(gradient[name], slopes[name], rtol=1e-4)
    apart = Objective(linear_forces, 5.0, gammas=GammasConfig(network=0.7), network=lambda p, x, g: 0.0 * x)
    assert float(apart.gradient(params, batch)[0]) == pytest.approx(
        float(Objective(linear_forces, 5.0).gradient(params, batch)[0]), rel=1e-6
    )


@settings(deadline=None, max_examples=20)
@given(epoch=st.integers(0, 2**31), seed=st.integers(0, 2**32 - 1), chosen=st.sets(st.integers(0, 10), min_size=1))
def test_no_edge_is_missing_wherever_noise_moves_the_beads(noisy, epoch, seed, chosen):
    batch = noisy.batch(np.array(sorted(chosen)), noisy.shape(11), (seed, epoch))
    graph, x = batch.graph, batch.positions.astype(np.float64)
    real = np.flatnonzero(graph.bead_mask)
    distance = np.linalg.norm(x[real][:, None] - x[real][None], axis=-1)
    same = graph.replica[real][:, None] == graph.replica[real][None]
    expected = set(map(tuple, np.argwhere((distance <= CUTOFF_A) & same & ~np.eye(len(real), dtype=bool))))
    found = set(zip(graph.receivers[graph.edge_mask].tolist(), graph.senders[graph.edge_mask].tolist(), strict=True))
    assert expected <= found


def test_noise_is_that_of_seed_epoch_and_frame_alone(noisy, frames):
    def moved(order, noise):
        batch = noisy.batch(np.array(order), noisy.shape(6), noise)
        own = noisy.batch(np.array(order), noisy.shape(6))
        np.testing.assert_array_equal(batch.target, own.target)
        return [(batch.positions - own.positions)[batch.graph.bead_mask & (batch.graph.replica == r)] for r in (0, 1)]

    forward, backward = moved([2, 8], (7, 3)), moved([8, 2], (7, 3))
    np.testing.assert_allclose(forward[0], backward[1], atol=2e-6)
    for other in ((8, 3), (7, 4)):
        assert (forward[0] != moved([2, 8], other)[0]).all()
    assert np.abs(forward[0]).max() > 0
    np.testing.assert_array_equal(
        frames.batch(np.arange(3), frames.shape(3), (1, 1)).positions,
        frames.batch(np.arange(3), frames.shape(3)).positions,
    )


def test_noise_has_the_width_that_was_asked_for_and_an_end():
    moves = np.concatenate([displacements(k, 50, 0.1, seed=1, epoch=2) for k in range(400)])
    assert moves.std() == pytest.approx(0.1, rel=0.01)
    assert abs(moves.mean()) < 4 * 0.1 / np.sqrt(moves.size)
    lengths = np.linalg.norm(moves, axis=1)
    assert 0.999 * LONGEST * 0.1 < lengths.max() < LONGEST * 0.1
    assert skin(0.1) == pytest.approx(2 * LONGEST * 0.1)


def test_noise_does_not_change_how_neighbours_are_counted(noisy, frames):
    assert noisy.mean_neighbors == frames.mean_neighbors
    assert noisy.edges.total > frames.edges.total

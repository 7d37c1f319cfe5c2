"""Noise is standard normal, and a function of (seed, replica, bead, step) and nothing else."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cgloop.md.noise import Noise, block_steps


def draw(seed, replicas, n_beads, steps, stream="thermostat"):
    noise = Noise(seed, replicas, n_beads, stream)
    return np.stack([noise.at(step) for step in steps])


def test_standard_normal():
    values = draw(1, [0, 1, 2], 10, range(3000))
    assert stats.kstest(values.ravel(), "norm").pvalue > 1e-3
    assert abs(values.mean()) < 4 / np.sqrt(values.size)
    assert abs(values.var() - 1) < 4 * np.sqrt(2 / values.size)
    assert abs(stats.kurtosis(values.ravel())) < 4 * np.sqrt(24 / values.size)


def test_uncorrelated_in_time_beads_replicas_and_seeds():
    values = draw(1, [0, 1], 4, range(4000))
    other = draw(2, [0, 1], 4, range(4000))
    bound = 4.5 / np.sqrt(4000 * 12)
    for a, b in (
        (values[1:, 0], values[:-1, 0]),
        (values[:, 0], values[:, 1]),
        (values[:, 0], other[:, 0]),
        (values[:, 0], draw(1, [0], 4, range(4000), "velocities")[:, 0]),
    ):
        assert abs(np.mean(a * b)) < bound


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**64 - 1),
    n_beads=st.integers(1, 40),
    step=st.integers(0, 10**6),
    replica=st.integers(0, 999),
)
def test_depends_on_its_own_counter_alone(seed, n_beads, step, replica):
    alone = draw(seed, [replica], n_beads, [step])[0, 0]
    # Another replica beside it, and other steps asked for before: the same numbers.
    other = Noise(seed, [replica + 1, replica], n_beads, "thermostat")
    other.at(max(0, step - block_steps(n_beads)))
    np.testing.assert_array_equal(other.at(step)[1], alone)

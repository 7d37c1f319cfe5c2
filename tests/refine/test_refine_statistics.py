"""What stops a refinement, against closed forms and pymbar."""

import numpy as np
import pytest
from pymbar import other_estimators

from cgloop.refine.statistics import (
    Crossings,
    entropy_change,
    force_rise,
    free_energies,
    free_energy,
    mean_and_half_width,
    overfitting,
)


def works(k0=1.0, k1=3.0, n=4000, seed=0):
    """β work between two harmonic wells in one dimension; β ΔF = ½ ln(k1/k0)."""
    random = np.random.default_rng(seed)
    x0, x1 = random.normal(0, k0**-0.5, n), random.normal(0, k1**-0.5, n // 2)
    return 0.5 * (k1 - k0) * x0**2, -0.5 * (k1 - k0) * x1**2


def test_free_energy_of_two_wells_and_of_pymbar():
    forward, backward = works()
    found = free_energy(forward, backward)
    assert found == pytest.approx(0.5 * np.log(3.0), abs=0.03)
    assert found == pytest.approx(other_estimators.bar(forward, backward)["Delta_f"], abs=1e-6)


def test_free_energies_without_a_chain_leave_out_its_frames():
    forward, backward = (part.reshape(20, -1) for part in works())
    good = np.ones(forward.shape, bool)
    some = np.ones(backward.shape, bool)
    some[3, ::2] = False
    found = free_energies(forward, good, backward, some)
    assert len(found) == 21
    without = np.arange(20) != 3
    assert found[3] == pytest.approx(free_energy(forward[without].ravel(), backward[without].ravel()))
    assert found[-1] == pytest.approx(free_energy(forward.ravel(), backward[some]))


def test_entropy_change_is_that_of_the_closed_form():
    """From a well of stiffness 1 to that of the reference, 3: S = ½ (k/3 − 1 − ln(k/3)) falls by S(1)."""
    random = np.random.default_rng(5)
    reference = random.normal(0, 3.0**-0.5, 6000)
    forward, backward = (part.reshape(20, -1) for part in works())
    change = 0.5 * (3.0 - 1.0) * reference**2
    steps = free_energies(forward, np.ones(forward.shape, bool), backward, np.ones(backward.shape, bool))
    value, error = entropy_change(change, np.array_split(np.arange(6000), 6), steps)
    expected = -0.5 * (1 / 3 - 1 - np.log(1 / 3))
    assert abs(value - expected) < error < 0.1


def test_half_width_covers_the_mean_as_often_as_it_says():
    random = np.random.default_rng(2)
    covered = 0
    for _ in range(400):
        shifts = random.normal(size=6)
        values = np.concatenate([shift + 0.1 * random.normal(size=30) for shift in shifts])
        mean, width = mean_and_half_width(values, np.array_split(np.arange(180), 6))
        covered += abs(mean) < width
    assert 0.92 <= covered / 400 <= 0.98


def test_the_half_width_of_two_lineages_is_infinite():
    assert mean_and_half_width(np.arange(10.0), np.array_split(np.arange(10), 2))[1] == np.inf


def test_overfitting_is_the_difference_of_means():
    training, validation = np.full(30, -2.0), np.full(30, -0.5)
    parts = np.array_split(np.arange(30), 3)
    assert overfitting(training, parts, validation, parts) == (1.5, 0.0)


def test_force_rise_is_paired():
    """Frames differ by much more than the models do: only the difference of a frame counts."""
    random = np.random.default_rng(4)
    start = 50.0 + 20.0 * random.random(400)
    now = start * 1.02 + 0.01 * random.normal(size=400)
    rmse, rise, error = force_rise(start, now, np.repeat([0, 1], 200))
    assert rmse == pytest.approx(np.sqrt(now.mean()))
    assert rise == pytest.approx(np.sqrt(1.02) - 1, rel=1e-2)
    assert 0 < error < 0.002


def test_crossings_need_both_basins_and_forget_chains_that_start_again():
    crossings = Crossings.of(3)
    q = np.array([[0.9, 0.5, 0.2, 0.5, 0.8], [0.5, 0.6, 0.5, 0.6, 0.5], [0.1, 0.5, 0.65, 0.2, 0.1]])
    crossings.add(q, np.ones(q.shape, bool))
    assert (crossings.unfolded, crossings.folded) == (1, 1)
    crossings.forget(np.array([2]))
    crossings.add(np.full((3, 1), 0.9), np.ones((3, 1), bool))
    assert (crossings.unfolded, crossings.folded) == (1, 1)
    assert not crossings.enough

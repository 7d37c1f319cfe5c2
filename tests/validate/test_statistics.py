"""Error bars and effective sample sizes against closed forms and scipy."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cgloop.validate.equilibration import equilibration_cut, inefficiencies, statistical_inefficiency
from cgloop.validate.statistics import (
    CircularBlocks,
    holm,
    jackknife_error,
    linear_slope,
    longer_run_factor,
    mean_over_replicas,
    student_t,
)
from tests.validate.builders import ou_process


def test_mean_over_replicas_is_the_t_interval():
    values = [1.0, 2.0, 4.0, 4.5]
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    mean, error = mean_over_replicas(values)
    assert (mean - error, mean + error) == pytest.approx((low, high))


def test_one_replica_has_no_error_bar():
    assert mean_over_replicas([3.0]) == (3.0, math.inf)
    assert student_t(0) == math.inf


def test_interval_covers_the_truth_in_95_percent():
    samples = np.random.default_rng(0).normal(size=(2000, 5))
    inside = [abs(mean) <= error for mean, error in map(mean_over_replicas, samples)]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)


def test_jackknife_of_a_mean_is_the_t_interval():
    values = np.random.default_rng(1).normal(size=7)
    error = jackknife_error(lambda chosen: np.array([values[chosen].mean()]), 7)
    assert error[0] == pytest.approx(mean_over_replicas(values)[1])
    assert jackknife_error(lambda chosen: np.array([1.0, 2.0]), 1).tolist() == [math.inf, math.inf]


def test_slope_and_its_error_agree_with_scipy_for_white_noise():
    rng = np.random.default_rng(2)
    time = np.arange(0, 500, 0.1)
    fit = linear_slope(time, 3 * time + rng.normal(size=len(time)))
    expected = stats.linregress(time, 3 * time + np.random.default_rng(2).normal(size=len(time)))
    assert fit.value == pytest.approx(expected.slope)
    assert fit.standard_error == pytest.approx(expected.stderr, rel=0.15)


def test_slope_error_grows_with_correlation():
    rng = np.random.default_rng(3)
    time = np.arange(2000.0)
    fits = [linear_slope(time, ou_process(rng, 2000, (), 20)) for _ in range(60)]
    scatter = np.std([fit.value for fit in fits])
    assert np.mean([fit.standard_error for fit in fits]) == pytest.approx(scatter, rel=0.35)


def test_exact_line_has_no_error():
    fit = linear_slope(np.arange(10.0), np.arange(10.0) * 0.1 + 3)
    assert fit.value == pytest.approx(0.1)
    assert fit.standard_error < 1e-12
    assert fit.n_effective == 10


@pytest.mark.parametrize("correlation", [1.0, 5.0, 20.0])
def test_inefficiency_of_an_ar1_process(correlation):
    """g = (1 + a)/(1 − a) for C(t) = aᵗ."""
    rng = np.random.default_rng(4)
    series = [ou_process(rng, 4000, (), correlation) for _ in range(4)]
    a = math.exp(-1 / correlation)
    assert statistical_inefficiency(series) == pytest.approx((1 + a) / (1 - a), rel=0.25)


def test_replicas_in_different_states_are_few_samples():
    rng = np.random.default_rng(5)
    stuck = [level + 0.1 * rng.normal(size=300) for level in (0.0, 1.0, 0.0, 1.0)]
    assert sum(map(len, stuck)) / statistical_inefficiency(stuck) < 10
    alone = [300 / statistical_inefficiency([series]) for series in stuck]
    assert min(alone) > 100


def test_series_that_does_not_move_is_one_sample():
    assert statistical_inefficiency([np.full(100, 2.5), np.full(50, 2.5)]) == 150
    assert statistical_inefficiency([np.zeros(2)]) == 2


def test_cut_removes_a_transient():
    rng = np.random.default_rng(6)
    series = rng.normal(size=1000)
    series[:120] += 8
    cut = equilibration_cut(series, 0.25)
    assert 120 <= cut.start <= 250
    assert cut.stationary


def test_transition_half_way_is_not_equilibration():
    """What three of four CLN025 replicas do: an unbounded cut would believe the second half."""
    rng = np.random.default_rng(7)
    series = np.where(np.arange(500) < 220, 0.45, 0.9) + 0.08 * rng.normal(size=500)
    cut = equilibration_cut(series, 0.25)
    assert cut.start <= 125
    assert not cut.stationary
    assert equilibration_cut(series, 0.5).stationary


@pytest.mark.parametrize("correlation", [1.0, 5.0, 15.0])
def test_stationary_series_are_called_so(correlation):
    rng = np.random.default_rng(9)
    called = [equilibration_cut(ou_process(rng, 400, (), correlation), 0.25).stationary for _ in range(60)]
    assert sum(called) >= 58


def test_nothing_to_cut_in_a_short_series():
    assert equilibration_cut(np.array([1.0, 2.0]), 0.25).start == 0


@given(st.integers(2, 200), st.integers(1, 60), st.integers(1, 50))
def test_sums_over_blocks_are_sums_over_their_frames(total, length, count):
    length = min(length, total - 1)
    ring = CircularBlocks.of(total, length, count)
    each = np.eye(total)
    inside = ring.sums(np.add.reduceat(each, ring.cuts, axis=0))
    for row, start in zip(inside, (np.arange(count) * total / count).astype(int), strict=True):
        assert sorted(np.flatnonzero(row)) == sorted((start + np.arange(length)) % total)
        assert set(row) <= {0.0, 1.0}


def test_blocks_cover_the_ring_evenly():
    ring = CircularBlocks.of(100, 30, 100)
    assert ring.sums(np.add.reduceat(np.eye(100), ring.cuts, axis=0)).sum(axis=0).tolist() == [30] * 100


def test_many_inefficiencies_are_those_of_pymbar():
    rng = np.random.default_rng(5)
    coordinates = [np.stack([ou_process(rng, n, (), tau) for tau in (0.5, 5, 30)], axis=1) for n in (300, 200, 250)]
    coordinates = [np.concatenate([x, np.ones((len(x), 1))], axis=1) for x in coordinates]
    expected = [statistical_inefficiency([x[:, k] for x in coordinates]) for k in range(4)]
    assert inefficiencies(coordinates) == pytest.approx(expected, rel=1e-9)


def test_longer_run():
    assert longer_run_factor(0.5, 1.0) == pytest.approx(4.0)
    assert longer_run_factor(0.0, 1.0) == math.inf
    assert longer_run_factor(1.0, math.inf) == math.inf


def test_holm_is_the_published_procedure():
    # Worked by hand: 4 · 0.005, 3 · 0.01, 2 · 0.03, then 0.04 held at the one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert holm([]).tolist() == []
    adjusted = holm([0.02, math.nan, 0.4])
    assert adjusted[[0, 2]] == pytest.approx([0.06, 0.8])
    assert math.isnan(adjusted[1])


def test_holm_holds_the_level_of_all_tests_together():
    """One common cause beside own ones: tests that depend on each other."""
    rng = np.random.default_rng(4)
    normal = (rng.normal(size=(4000, 1)) + rng.normal(size=(4000, 8))) / math.sqrt(2)
    rejected = [holm(row).min() < 0.05 for row in stats.norm.sf(normal)]
    assert np.mean(rejected) <= 0.05
    single = stats.norm.sf(normal).min(axis=1) < 0.05
    assert np.mean(single) > 0.15

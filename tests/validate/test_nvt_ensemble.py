"""Tests of the ensemble against the distributions that they test for."""

import numpy as np
import pytest
from scipy import stats

from cgloop.units import KB
from cgloop.validate.ensemble import kinetic_p_value
from cgloop.validate.nvt_ensemble import judge_distribution, judge_equipartition
from tests.validate.builders import ou_process

BEADS, REPLICAS, TEMPERATURE_K = 10, 4, 320.0
TYPES = ("GLY", "TRP", "TYR")
MEMBERS = np.array([0] * 5 + [1] + [2] * 4)
FREEDOM = 3.0 * np.bincount(MEMBERS)


def by_bead(seed, points=1500, temperature_K=TEMPERATURE_K, correlation=3.0, replicas=REPLICAS):
    """Kinetic energies [T, N] of each replica, from velocities that forget themselves after some points."""
    rng = np.random.default_rng(seed)
    factor = 0.5 * KB * np.broadcast_to(temperature_K, (BEADS,))
    return [factor * (ou_process(rng, points, (BEADS, 3), correlation) ** 2).sum(axis=2) for _ in range(replicas)]


def by_type(kinetics):
    return [np.stack([one[:, k == MEMBERS].sum(axis=1) for k in range(len(TYPES))], axis=1) for one in kinetics]


def distribution(kinetics, settings, **options):
    return judge_distribution([one.sum(axis=1) for one in kinetics], BEADS, TEMPERATURE_K, settings, "p", **options)


def equipartition(kinetics, settings):
    return judge_equipartition(by_type(kinetics), TYPES, FREEDOM, TEMPERATURE_K, settings, "p")


def test_p_value_is_that_of_scipy():
    samples = stats.gamma(15, scale=KB * 320).rvs(300, random_state=1)
    for temperature_K in (320.0, 330.0):
        expected = stats.kstest(samples, stats.gamma(15, scale=KB * temperature_K).cdf).pvalue
        assert kinetic_p_value(samples, 10, False, temperature_K) == pytest.approx(expected)
    assert kinetic_p_value(samples, 11, True, 320.0) == pytest.approx(kinetic_p_value(samples, 10, False, 320.0)), (
        "three degrees of freedom less with the centre of mass at rest"
    )


@pytest.mark.parametrize("judge", [distribution, equipartition])
def test_the_right_temperature_passes_and_a_wrong_one_fails(settings, judge):
    assert judge(by_bead(1), settings).verdict == "pass"
    for wrong in (0.95, 1.05):
        found = judge(by_bead(2, temperature_K=wrong * TEMPERATURE_K), settings)
        assert found.verdict == "fail"
        assert found.value < 1e-3


@pytest.mark.parametrize("judge", [distribution, equipartition])
def test_too_few_samples_decide_nothing_but_what_is_plain(settings, judge):
    short = judge(by_bead(3, points=25), settings)
    assert short.verdict == "inconclusive"
    assert short.detail["needs"]["run_factor"] > 1
    assert judge(by_bead(4, points=25, temperature_K=2 * TEMPERATURE_K), settings).verdict == "fail"
    broken = by_bead(5)
    broken[1][7] = np.nan
    assert judge(broken, settings).verdict == "fail"


def test_a_right_mean_does_not_hide_a_wrong_distribution(settings):
    """Berendsen's weak coupling: the mean is right, fluctuations are too small."""
    kinetics = [one.sum(axis=1) for one in by_bead(6)]
    quiet = [values.mean() + 0.6 * (values - values.mean()) for values in kinetics]
    assert judge_distribution(quiet, BEADS, TEMPERATURE_K, settings, "p").verdict == "fail"


def test_a_right_mean_does_not_hide_a_hot_type(settings):
    """Tryptophan 15 % too hot, all others so much too cold that the mean is right."""
    per_bead = np.full(BEADS, 1.0 - 0.15 / (BEADS - 1))
    per_bead[MEMBERS == 1] = 1.15
    kinetics = by_bead(7, points=3000, temperature_K=TEMPERATURE_K * per_bead)
    assert np.mean([one.sum(axis=1).mean() for one in kinetics]) == pytest.approx(15 * KB * TEMPERATURE_K, rel=0.02)
    found = equipartition(kinetics, settings)
    assert found.verdict == "fail"
    assert "TRP" in found.reason
    assert found.detail["temperature_K"]["TRP"] == pytest.approx(1.15 * TEMPERATURE_K, rel=0.05)


def test_the_error_of_a_time_step_is_no_fail_however_long_the_run(settings):
    """0.3 % less, as BAOAB of a stiff motion has, in a run that could tell it from nothing."""
    shifted = by_bead(8, points=30000, temperature_K=0.997 * TEMPERATURE_K, correlation=0.2)
    exact = settings.model_copy(update={"nvt_temperature_margin": 0.0})
    for judge in (distribution, equipartition):
        assert judge(shifted, settings).verdict == "pass"
    assert equipartition(shifted, exact).verdict == "fail"


@pytest.mark.parametrize("judge", [distribution, equipartition])
def test_healthy_runs_hardly_ever_fail(settings, judge):
    """Without the margin, so that the test is at its level: what is not independent must not count as if it were."""
    exact = settings.model_copy(update={"nvt_temperature_margin": 0.0})
    failed = [judge(by_bead(100 + k, points=300, replicas=3), exact).verdict == "fail" for k in range(80)]
    # Of 80 at most 3 with 99 % chance, if one in a hundred fails.
    assert sum(failed) <= 3

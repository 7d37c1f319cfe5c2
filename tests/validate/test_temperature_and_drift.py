"""NVT temperature and NVE drift on analytic series."""

import numpy as np
import pytest

from cgloop.units import KB, thermal_energy
from cgloop.validate.nve import judge_drift
from cgloop.validate.nvt import judge_temperature, kinetic_temperature
from tests.validate.builders import kinetic_series
from tests.validate.rows import not_decided_by_their_number

TARGET = 320.0
BEADS = 10


def temperatures(scale=1.0, replicas=8, points=1500, seed=0, heating=0.0):
    """Kinetic temperatures of an OU gas at scale × target, warming by `heating` × target over the run."""
    rng = np.random.default_rng(seed)
    ramp = 1 + heating * np.linspace(-0.5, 0.5, points)
    return [
        ramp * kinetic_temperature(kinetic_series(rng, points, BEADS, temperature_K=scale * TARGET), 3 * BEADS)
        for _ in range(replicas)
    ]


def judged(series, settings):
    times = [0.2 * np.arange(1, len(values) + 1) for values in series]
    return judge_temperature(series, times, TARGET, settings, "chain")


def test_kinetic_temperature_of_equipartition():
    assert kinetic_temperature(np.array([0.5 * KB * 300 * 30]), 30)[0] == pytest.approx(300)


def test_right_temperature_passes(settings):
    result = judged(temperatures(), settings)
    assert result.verdict == "pass"
    assert result.detail["mean_K"] == pytest.approx(TARGET, rel=0.02)
    assert result.n_effective > 1000


@pytest.mark.parametrize("scale", [0.94, 1.06])
def test_wrong_temperature_fails(settings, scale):
    assert judged(temperatures(scale), settings).verdict == "fail"


def test_wrong_degrees_of_freedom_would_be_noticed(settings):
    """27 instead of 30 degrees of freedom are 11 %: the mistake that VALIDATION warns of."""
    assert judged([t * 30 / 27 for t in temperatures()], settings).verdict == "fail"


def test_slow_heating_fails_although_its_mean_is_right(settings):
    series = temperatures(heating=0.25)
    assert np.mean(series) == pytest.approx(TARGET, rel=0.01)
    result = judged(series, settings)
    assert result.verdict == "fail"
    assert "from start to end" in result.reason


def test_the_row_shows_the_change_where_the_mean_does_not_fail(settings):
    result = judged(temperatures(heating=0.1), settings)
    assert (result.verdict, result.quantity) == ("fail", "change from start to end, relative")
    assert result.value == pytest.approx(0.1, abs=0.03)
    assert abs(result.detail["mean_K"] / TARGET - 1.0) < 0.02
    assert not_decided_by_their_number([result.to_json()]) == []


def test_short_run_is_inconclusive_and_says_how_long(settings):
    result = judged(temperatures(points=150, replicas=4), settings)
    assert result.verdict == "inconclusive"
    factor = result.detail["needs"]["run_factor"]
    assert factor > 1
    # The error of an error bar from four replicas is large: much longer is surely enough.
    assert judged(temperatures(points=int(150 * factor * 16), replicas=4), settings).verdict == "pass"


def test_two_replicas_are_inconclusive(settings):
    result = judged(temperatures(replicas=2, points=5000), settings)
    assert result.verdict == "inconclusive"
    assert result.detail["needs"]["replicas"] == 3


def test_healthy_runs_do_not_fail(settings):
    verdicts = [judged(temperatures(points=500, seed=seed), settings).verdict for seed in range(40)]
    assert "fail" not in verdicts


def drift(settings, slope=0.0, slopes=None, noise=0.02, replicas=8, length_ps=50.0, kinetic_std=2.0, beads=BEADS):
    rng = np.random.default_rng(11)
    time = np.arange(0.1, length_ps, 0.1)
    slopes = [slope] * replicas if slopes is None else slopes
    totals = [5 + s * time / 1000 + noise * rng.normal(size=len(time)) for s in slopes]
    kinetics = [10 + kinetic_std * rng.normal(size=len(time)) for _ in slopes]
    return judge_drift([time] * len(slopes), totals, kinetics, TARGET, 3 * beads - 3, settings, "chain")


def test_conserved_energy_passes(settings):
    result = drift(settings)
    assert result.verdict == "pass"
    assert result.threshold == pytest.approx(0.01 * thermal_energy(TARGET) * 27)
    assert set(result.detail["limits_kcal_per_mol_per_ns"]) == {
        "kcal/mol/ns",
        "kT/ns per degree of freedom",
        "fluctuation of kinetic energy",
    }


@pytest.mark.parametrize("slope", [0.8, -0.8, 20.0])
def test_drift_is_measured_and_fails(settings, slope):
    result = drift(settings, slope)
    assert result.detail["mean_slope"] == pytest.approx(slope, abs=0.2)
    assert result.value == pytest.approx(abs(slope), abs=0.2)
    assert result.verdict == "fail"
    assert result.detail["kT_per_ns_per_dof"] == pytest.approx(result.value / (thermal_energy(TARGET) * 27))


@pytest.mark.parametrize(
    ("arguments", "tightest"),
    [
        (dict(beads=500), 1.0),
        (dict(beads=10), 0.01 * thermal_energy(TARGET) * 27),
        (dict(beads=500, kinetic_std=0.005, noise=1e-4), 0.1),
    ],
)
def test_each_of_the_three_limits_can_be_the_tightest(settings, arguments, tightest):
    slope = 1.5 * tightest
    result = drift(settings, slope, **{"noise": 1e-3, **arguments})
    assert result.threshold == pytest.approx(tightest, rel=0.06)
    assert result.verdict == "fail"
    assert drift(settings, 0.5 * tightest, **{"noise": 1e-3, **arguments}).verdict == "pass"


def test_opposite_drifts_do_not_cancel(settings):
    result = drift(settings, slopes=[3.0, -3.0] * 4)
    assert abs(result.detail["mean_slope"]) < 0.2
    assert result.verdict == "fail"
    assert "drifts by" in result.reason
    assert result.value == pytest.approx(3.0, abs=0.3), "the row shows the slope that decided"
    assert result.quantity.startswith("replica ")
    assert not_decided_by_their_number([result.to_json()]) == []


def test_noisy_energy_is_inconclusive(settings):
    result = drift(settings, noise=0.3)
    assert result.verdict == "inconclusive"
    assert result.detail["needs"]["run_factor"] > 1


def test_two_replicas_do_not_pass(settings):
    assert drift(settings, replicas=2).verdict == "inconclusive"


def test_energy_of_a_frozen_system_does_not_pass(settings):
    result = drift(settings, noise=0.0, kinetic_std=0.0)
    assert result.verdict == "fail"
    assert "nothing moves" in result.reason


def autoregressive(rng, length, memory):
    """A stationary AR(1) series of unit variance."""
    values = [rng.normal()]
    for noise in rng.normal(size=length - 1):
        values.append(memory * values[-1] + np.sqrt(1 - memory**2) * noise)
    return np.array(values)


def test_short_runs_without_drift_fail_no_oftener_than_error_bars_allow(settings):
    """4 ps of correlated fluctuations of the size of real ones: single slopes scatter beyond the limit.

    95 % error bars are wrong in 5 of 100; over 10 has a chance of 1 %.
    """
    rng = np.random.default_rng(3)
    time = 0.1 * np.arange(1, 41)
    verdicts = []
    for _ in range(100):
        totals = [0.003 * autoregressive(rng, len(time), 0.5) for _ in range(3)]
        kinetics = [9.0 + 2.0 * rng.normal(size=len(time)) for _ in range(3)]
        verdicts.append(judge_drift([time] * 3, totals, kinetics, TARGET, 27, settings, "x").verdict)
    assert verdicts.count("fail") <= 10

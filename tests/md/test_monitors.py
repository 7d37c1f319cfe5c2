"""Limits are where the statistics of a healthy replica put them, and each is named with the beads that break it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cgloop.config.md import MonitorConfig
from cgloop.md.monitors import LIMIT_NAMES, Limits, Monitor, limits_of, offending_beads, unexplained_energy
from cgloop.model.topology import build_topology, separation_matrix
from cgloop.units import KB
from tests.md.worlds import chain_frames, evaluation

LIMITS = Limits(min_distance_A=2.0, bond=0.2, max_force=1000.0, temperature_instant_K=900.0, temperature_mean_K=480.0)


def check(monitor, temperature=300.0, alive=True, advanced=True, **changes):
    values = evaluation(np.zeros((1, 3, 3)), np.zeros(1), **{k: np.array([v]) for k, v in changes.items()})
    return monitor.check(values, np.zeros((1, 3, 3)), np.array([temperature]), np.array([alive]), advanced)


@pytest.mark.parametrize(
    ("limit", "changes", "threshold"),
    [
        ("non-finite", {"finite": False}, 0.0),
        ("min_distance", {"min_distance_A": 1.99}, 2.0),
        ("min_distance", {"min_distance_A": np.nan}, 2.0),
        ("bond", {"bond_deviation": 0.21}, 0.2),
        ("bond", {"bond_deviation": np.nan}, 0.2),
        ("max_force", {"max_force": 1000.1}, 1000.0),
        ("max_force", {"max_force": np.inf}, 1000.0),
        ("temperature_instant", {"temperature": 901.0}, 900.0),
        ("temperature_instant", {"temperature": np.nan}, 900.0),
    ],
)
def test_each_limit(limit, changes, threshold):
    (violation,) = check(Monitor(LIMITS, 2.0, 1), **changes)
    assert (violation.row, violation.limit, violation.threshold) == (0, limit, threshold)
    assert limit in LIMIT_NAMES


def test_values_at_the_limit_are_fine():
    assert check(Monitor(LIMITS, 2.0, 1), 900.0, min_distance_A=2.0, bond_deviation=0.2, max_force=1000.0) == []


def test_the_dead_are_not_judged():
    assert check(Monitor(LIMITS, 2.0, 1), np.nan, alive=False, finite=False) == []


def test_running_mean_is_judged_after_a_whole_picosecond():
    monitor = Monitor(LIMITS, 2.0, 1)
    for _ in range(500):
        assert check(monitor, 600.0) == []
    (violation,) = check(monitor, 600.0)
    assert violation.limit == "temperature_mean"
    assert violation.value == pytest.approx(600.0)


def test_running_mean_is_that_of_the_last_picosecond():
    temperatures = np.random.default_rng(0).uniform(200, 700, 1500)
    expected = np.convolve(temperatures, np.full(500, 1 / 500), "valid")
    limit = np.sort(expected)[-50:-48].mean()
    monitor = Monitor(Limits(2.0, 0.2, 1000.0, 900.0, limit), 2.0, 1)
    broken = [step for step, value in enumerate(temperatures) if check(monitor, value)]
    # A full window is needed, and one step more.
    assert broken == [i + 499 for i in np.flatnonzero(expected > limit) if i > 0]


def test_a_repeated_step_is_not_counted_twice():
    monitor = Monitor(LIMITS, 2.0, 1)
    check(monitor, 800.0)
    for _ in range(1000):
        assert check(monitor, 800.0, advanced=False) == []


@pytest.mark.parametrize("n_beads", [2, 10, 100])
def test_instantaneous_limit_is_a_quantile_of_the_gamma_distribution(n_beads):
    config = MonitorConfig(temperature_quantile=1e-3)
    limit = limits_of(config, 320.0, 3 * n_beads).temperature_instant_K
    velocities = np.random.default_rng(0).standard_normal((20000, 3 * n_beads))
    temperature = 320.0 * (velocities**2).mean(axis=1)
    expected = 20 + 4.5 * np.sqrt(20)
    assert (temperature > limit).sum() < expected
    assert (temperature > 0.9 * limit).sum() > 20
    # The quantile of the chi-square distribution of 3N degrees of freedom says the same.
    assert limit == pytest.approx(320.0 * stats.chi2.isf(1e-3, 3 * n_beads) / (3 * n_beads))


def test_limit_of_the_mean_is_the_config_for_large_proteins_and_wider_for_small_ones():
    config = MonitorConfig()
    assert limits_of(config, 320.0, 300).temperature_mean_K == 480.0
    small = limits_of(config, 320.0, 30).temperature_mean_K
    assert 2.1 * 320.0 < small < limits_of(config, 320.0, 30).temperature_instant_K


def test_offending_beads():
    x = chain_frames(1, 6)[0]
    forces = np.zeros((6, 3))
    linked = np.ones(5, bool)
    bonds, separation = build_topology(linked).bonds, separation_matrix(linked)
    mean = np.linalg.norm(np.diff(x, axis=0), axis=1)

    def beads(limit, threshold, x=x, forces=forces, kinetic=None):
        kinetic = np.zeros(6) if kinetic is None else kinetic
        return offending_beads(limit, threshold, x, forces, kinetic, separation, bonds, mean).tolist()

    close = x.copy()
    close[4] = x[1] + [0.5, 0, 0]
    assert beads("min_distance", 2.0, close) == [1, 4]
    stretched = x.copy()
    stretched[3:] += 5 * (x[3] - x[2])
    assert beads("bond", 0.2, stretched) == [2, 3]
    strong = forces.copy()
    strong[5, 1] = 2000.0
    assert beads("max_force", 1000.0, forces=strong) == [5]
    broken = forces.copy()
    broken[2, 0] = np.nan
    assert beads("non-finite", 0.0, forces=broken) == [2]
    assert beads("energy_jump", 0.6, forces=strong) == [5]
    assert beads("temperature_mean", 480.0, kinetic=np.array([0, 1, 5, 2, 0, 0.0])) == [2]


def spring(x, stiffness=40.0, step_at=np.inf):
    """A harmonic well around the origin with a step of 2 kcal/mol of the energy beyond a radius; x [3, 3]."""
    radius2 = (x**2).sum()
    return -stiffness * x, 0.5 * stiffness * radius2 + (2.0 if radius2 > step_at**2 else 0.0)


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 1.0))
def test_work_explains_the_energy_of_a_harmonic_well_whatever_the_step(seed, length):
    random = np.random.default_rng(seed)
    before, after = (length * random.standard_normal((3, 3)) for _ in range(2))
    (forces, energy), (new_forces, new_energy) = spring(before), spring(after)
    jump = unexplained_energy(after, new_forces, np.float64(new_energy), (before, forces, np.float64(energy)))
    assert abs(jump) < 1e-12 * max(1.0, energy + new_energy)


def test_unexplained_energy_is_of_third_order_in_the_step():
    """∫F dx by the trapezoid rule: for U = x⁴ from 1 to 1 + h, ΔU + ½(F + F′)h = h³(−2 − h)."""
    for h in (0.1, 0.05, 0.025):
        x = np.zeros((1, 1, 3))
        x[0, 0, 0] = 1.0
        after = x.copy()
        after[0, 0, 0] += h
        jump = unexplained_energy(after, -4 * after**3, np.array([(1 + h) ** 4]), (x, -4 * x**3, np.array([1.0])))
        assert jump[0] == pytest.approx(-(2 * h**3 + h**4), rel=1e-9)


def test_a_step_of_the_energy_is_found_where_it_is():
    """Beads slide out of a well whose energy steps up by 2 kcal/mol at a radius of 1 Å: at that step, and no other."""
    limits = Limits(0.0, 1e9, 1e9, 1e9, 1e9, energy_jump=0.6)
    monitor, found = Monitor(limits, 2.0, 2), {}
    for step in range(100):
        x = np.full((2, 3, 3), 0.5 / 3 + 0.003 * step)
        forces, energies = zip(
            *(spring(frame, step_at=at) for frame, at in zip(x, (1.0, np.inf), strict=True)), strict=True
        )
        values = evaluation(np.stack(forces), np.array(energies))
        for violation in monitor.check(values, x, np.full(2, 300.0), np.ones(2, bool), step > 0):
            found[step, violation.row] = violation
    crossing = next(step for step in range(100) if 9 * (0.5 / 3 + 0.003 * step) ** 2 > 1.0)
    assert list(found) == [(crossing, 0)]
    violation = found[crossing, 0]
    assert (violation.limit, violation.threshold) == ("energy_jump", 0.6)
    assert violation.value == pytest.approx(2.0, abs=1e-9)


def test_an_energy_that_is_no_number_is_a_jump_too():
    limits = Limits(0.0, 1e9, 1e9, 1e9, 1e9, energy_jump=0.6)
    monitor, alive = Monitor(limits, 2.0, 1), np.ones(1, bool)
    for step, energy in enumerate((1.0, np.nan)):
        values = evaluation(np.zeros((1, 3, 3)), np.array([energy]), finite=np.array([True]))
        found = monitor.check(values, np.zeros((1, 3, 3)), np.array([300.0]), alive, step > 0)
    assert [violation.limit for violation in found] == ["energy_jump"]


def test_energy_limit_follows_the_temperature():
    assert limits_of(MonitorConfig(max_energy_jump_kT=2.0), 350.0, 30).energy_jump == pytest.approx(2.0 * KB * 350.0)

"""The order of integrators that are known, of a chain of anharmonic springs."""

import math

import numpy as np
import pytest

from cgloop.validate.ensemble import convergence_deviation
from cgloop.validate.order import judge_order, rounding_variance, without_starts
from cgloop.validate.rundata import Replica, StageRun

TIMESTEP = 0.1


def force(x):
    return -x - 0.3 * x**3 + 0.4 * (np.roll(x, 1) + np.roll(x, -1) - 2 * x)


def energy(x, v):
    return 0.5 * (v @ v) + (0.5 * x**2 + 0.075 * x**4 + 0.2 * (np.roll(x, -1) - x) ** 2).sum()


def verlet(x, v, dt):
    v = v + 0.5 * dt * force(x)
    x = x + dt * v
    return x, v + 0.5 * dt * force(x)


def euler(x, v, dt):
    return x + dt * v, v + dt * force(x)


def semi_implicit(x, v, dt):
    """Symplectic Euler: stable, and of first order."""
    v = v + dt * force(x)
    return x + dt * v, v


def runs(step, replicas=3, length=60.0, noise=0.0):
    """Total energies of replicas with the whole, half and quarter step, observed at every whole step."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(replicas):
        start = rng.normal(size=8), rng.normal(size=8)
        series = []
        for factor in (1, 2, 4):
            (x, v), total = start, []
            for k in range(round(length / TIMESTEP) * factor):
                x, v = step(x, v, TIMESTEP / factor)
                if (k + 1) % factor == 0:
                    total.append(energy(x, v))
            series.append(np.array(total) + noise * rng.normal(size=len(total)))
        found.append(series)
    return found


def judge(totals, settings):
    return judge_order([TIMESTEP, TIMESTEP / 2, TIMESTEP / 4], totals, settings, "p")


@pytest.fixture(scope="module")
def second_order():
    return runs(verlet)


def test_velocity_verlet_is_of_second_order(settings, second_order):
    found = judge(second_order, settings)
    assert found.verdict == "pass"
    assert found.detail["orders"] == pytest.approx({"0.1 to 0.05 fs": 2.0, "0.05 to 0.025 fs": 2.0}, abs=0.02)


@pytest.mark.parametrize("step", [euler, semi_implicit])
def test_first_order_fails(settings, step):
    found = judge(runs(step, length=2.0), settings)
    assert found.verdict == "fail"
    assert min(found.detail["orders"].values()) < 1.5


def test_same_as_physical_validation(second_order):
    """Its number is the largest deviation of a ratio of fluctuations from 4."""
    for replica in second_order:
        deviation = convergence_deviation({TIMESTEP / k: one for k, one in zip((1, 2, 4), replica, strict=True)})
        spread = [one.std() for one in replica]
        by_hand = max(abs(1 - spread[0] / spread[1] / 4), abs(1 - spread[1] / spread[2] / 4))
        assert deviation == pytest.approx(by_hand, rel=1e-6)


def test_rounding_is_told_from_fluctuation(settings, second_order):
    """White noise of a third of the smallest fluctuation would turn order 2 into 1.9; larger than it, into nothing."""
    smallest = min(replica[2].std() for replica in second_order)
    rng = np.random.default_rng(1)

    def noisy(size):
        return [[one + size * rng.normal(size=len(one)) for one in replica] for replica in second_order]

    little = noisy(0.3 * smallest)
    assert math.sqrt(rounding_variance(little[0][2])) == pytest.approx(0.3 * smallest, rel=0.2)
    found = judge(little, settings)
    assert found.verdict == "pass"
    assert found.value < 0.05
    hidden = judge(noisy(3 * smallest), settings)
    assert hidden.verdict == "inconclusive"
    assert "rounding" in hidden.reason


def test_a_jump_of_the_energy_lowers_the_order(settings, second_order):
    """A cut-off that is no smooth end: the energy jumps by the same whatever the step."""
    size = second_order[0][0].std()
    jumping = [[one + size * (np.arange(len(one)) > 300) for one in replica] for replica in second_order]
    assert judge(jumping, settings).verdict == "fail"


def test_what_was_not_measured_does_not_pass(settings, second_order):
    assert judge(second_order[:2], settings).verdict == "inconclusive"
    still = [[np.ones(500)] * 3] * 3
    assert judge(still, settings).verdict != "pass"
    broken = [[one.copy() for one in replica] for replica in second_order]
    broken[1][2][10] = np.nan
    assert judge(broken, settings).verdict != "pass"


@pytest.mark.parametrize(
    ("limit", "verdict", "words"),
    [
        ("max_force", "fail", "no replica survived NVT"),
        ("", "inconclusive", "1 of 2 replicas survived NVT, but their state"),
    ],
)
def test_where_there_is_no_start_it_says_why(limit, verdict, words):
    """That a state was not kept, as where an engine writes none, is no fault of the model."""
    replica = Replica(0, 100, 40 if limit else 100, limit, {}, np.zeros((0, 2, 3)))
    found = without_starts(StageRun("p", "nvt", 2.0, 320.0, 2, 2, 0, 0, [replica]))
    assert (found.subject, found.verdict) == ("p", verdict)
    assert words in found.reason

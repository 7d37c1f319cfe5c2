"""Survival: what the MD says and what its records show."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from cgloop.config.md import MonitorConfig
from cgloop.validate.rundata import Replica, StageRun
from cgloop.validate.stability import first_violation, mean_temperature_limit, survival_check, temperature_limit
from tests.validate.builders import elastic_frames, kinetic_series

LIMITS = MonitorConfig()
LINKED = np.ones(9, bool)


@pytest.fixture
def run(chain):
    """Two healthy replicas of 100 ps."""
    native = chain[1]
    rng = np.random.default_rng(0)
    return stage(native, [replica(rng, native, number) for number in range(2)])


@pytest.fixture
def bonds(chain):
    return np.linalg.norm(np.diff(chain[1], axis=0), axis=1)


def stage(native, replicas, asked=2):
    return StageRun("chain", "nvt", 2.0, 320.0, len(native), asked, 200, 500, replicas)


def replica(rng, native, number):
    points = 500
    kinetic = kinetic_series(rng, points, len(native))
    series = {
        "time_ps": 0.2 * np.arange(1, points + 1), "temperature_K": kinetic, "kinetic": kinetic,
        "potential": np.zeros(points), "total": kinetic, "min_distance_A": np.full(points, 3.0),
        "max_force": np.full(points, 30.0), "max_bond_deviation": np.full(points, 0.05),
    }  # fmt: skip
    return Replica(number, 50000, 50000, "", series, elastic_frames(rng, native, 200))


def check(run, bonds, settings):
    return survival_check([run], bonds, LINKED, LIMITS, settings)


def spoiled(run, **changes):
    """The run with some arrays of its replica 1 changed from frame or row 50 % on."""
    second = run.replicas[1]
    series = dict(second.series)
    for name, value in changes.items():
        if name == "positions":
            continue
        series[name] = np.where(np.arange(500) < 250, series[name], value)
    positions = changes.get("positions", second.positions)
    return replace(run, replicas=[run.replicas[0], replace(second, series=series, positions=positions)])


def test_temperature_limit_is_the_gamma_quantile():
    limit = temperature_limit(320.0, 30, 1e-9)
    assert stats.gamma.sf(limit / 320 * 15, 15) == pytest.approx(1e-9)
    # "T < 2 × target" would fail healthy runs of 10 beads: it is well below this limit.
    assert limit > 3 * 320


def test_limit_of_the_running_mean_is_wider_for_small_proteins_only():
    assert mean_temperature_limit(320.0, 300, LIMITS) == pytest.approx(1.5 * 320)
    small = mean_temperature_limit(320.0, 30, LIMITS)
    assert stats.gamma.sf(small / 320 * 30, 30) == pytest.approx(1e-9)
    assert small < temperature_limit(320.0, 30, 1e-9)


def test_healthy_replicas_survive_and_bound_the_crash_rate(run, bonds, settings):
    result = check(run, bonds, settings)
    assert result.verdict == "pass"
    assert result.value == 1.0
    assert result.detail["survived_ns"] == pytest.approx(0.2)
    # 3/S, or more exactly −ln 0.05 / S.
    assert result.detail["crash_rate_bound_per_ns"] == pytest.approx(-np.log(0.05) / 0.2)
    assert "15 per ns" in result.reason


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({"kinetic": np.nan}, "non-finite"),
        ({"potential": np.inf}, "non-finite"),
        ({"min_distance_A": 1.99}, "min_distance"),
        ({"max_bond_deviation": 0.21}, "bond"),
        ({"max_force": 1001.0}, "max_force"),
        ({"kinetic": 25.0}, "temperature_mean"),
        ({"kinetic": 45.0}, "temperature_instant"),
        ({"min_distance_A": np.nan}, "non-finite"),
    ],
)
def test_each_limit_is_found_in_the_series(run, bonds, settings, changes, limit):
    result = check(spoiled(run, **changes), bonds, settings)
    assert result.verdict == "fail"
    assert 0.45 < result.value < 0.55
    assert limit in result.reason


def frames_with(run, damage):
    positions = np.array(run.replicas[1].positions)
    damage(positions)
    return {"positions": positions}


def test_infinite_distance_of_a_protein_without_pairs_is_fine(run, bonds, settings):
    assert check(spoiled(run, min_distance_A=np.inf), bonds, settings).verdict == "pass"


@pytest.mark.parametrize(
    ("damage", "limit"),
    [
        (lambda x: x[100:].__setitem__((slice(None), slice(5, None)), x[100:, 5:] + 2.0), "bond"),
        (lambda x: x[100:].__setitem__((slice(None), 7), x[100:, 2] + 0.5), "min_distance"),
        (lambda x: x.__setitem__((100, 3, 1), np.nan), "non-finite"),
        (lambda x: x.__setitem__(slice(100, None), x[100]), "frozen"),
    ],
)
def test_each_fault_is_found_in_the_frames(run, bonds, settings, damage, limit):
    bad = spoiled(run, **frames_with(run, damage))
    found = first_violation(bad, bad.replicas[1], bonds, LINKED, LIMITS)
    assert found is not None
    assert found[0] == pytest.approx(50.5)
    result = check(bad, bonds, settings)
    assert result.verdict == "fail"
    if limit != "min_distance":  # moving a bead onto another one breaks its bonds as well
        assert limit in result.reason


def test_replica_stopped_by_the_md_counts_what_it_survived(run, bonds, settings):
    second = run.replicas[1]
    cut = replace(
        second, steps_done=10000, limit="bond", positions=second.positions[:40],
        series={name: values[:100] for name, values in second.series.items()},
    )  # fmt: skip
    result = check(replace(run, replicas=[run.replicas[0], cut]), bonds, settings)
    assert result.verdict == "fail"
    assert result.value == pytest.approx(0.2)
    assert result.detail["mean_fraction"] == pytest.approx(0.6)
    assert "limit bond after 20 of 100 ps" in result.reason


def test_limit_in_the_very_last_step_is_no_survival(run, bonds, settings):
    last = replace(run.replicas[1], limit="max_force")
    assert check(replace(run, replicas=[run.replicas[0], last]), bonds, settings).verdict == "fail"


def test_truncated_record_is_found(run, bonds, settings):
    short = replace(run.replicas[1], positions=run.replicas[1].positions[:100])
    result = check(replace(run, replicas=[run.replicas[0], short]), bonds, settings)
    assert result.value == pytest.approx(0.5)
    assert "the record ends after 50 of 100 ps" in result.reason


def test_denominator_is_what_was_asked(run, bonds, settings):
    result = check(replace(run, replicas_asked=4), bonds, settings)
    assert result.value == 0
    assert result.detail["fractions"] == [0.0, 0.0, 1.0, 1.0]
    assert "2 of 4 replicas left no record" in result.reason


def test_nothing_at_all_fails(settings):
    assert survival_check([], np.ones(9), LINKED, LIMITS, settings).verdict == "fail"


def test_incomplete_and_non_finite_data_are_named(run):
    assert run.unfinished() == []
    assert run.non_finite() == []
    assert replace(run, replicas_asked=3).unfinished() == ["1 of 3 replicas did not finish"]
    assert spoiled(run, total=np.nan).non_finite() == ["replica 1 has non-finite total"]


def test_degrees_of_freedom_of_a_thermostat_that_keeps_the_centre_at_rest():
    run = StageRun("chain", "nvt", 2.0, 320.0, 10, 1, 1, 1, [])
    assert run.degrees_of_freedom == 30
    assert replace(run, at_rest=True).degrees_of_freedom == replace(run, stage="nve").degrees_of_freedom == 27

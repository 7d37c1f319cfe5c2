"""Parity, force error and minimisation from what other stages wrote."""

import math

import pytest

from cgloop.cautions import protein_cautions
from cgloop.config.validate import ParityConfig
from cgloop.validate.artifact import Minimized, force_error_check, minimize_check, number, parity_checks
from tests.validate.rows import not_decided_by_their_number


def parity(force=2e-6, energy=1e-7, verdict="pass"):
    return {
        "frames": 3,
        "force": {"value": force, "limit": 1e-4},
        "energy": {"value": energy, "limit": 1e-5},
        "cases": [
            {"name": "held-out", "max_force_difference_over_rms": 1e-6, "energy_difference_relative": 1e-8},
            {"name": "far", "max_force_difference_over_rms": force, "energy_difference_relative": energy},
        ],
        "verdict": verdict,
    }


def verdicts(*args, **kwargs):
    return [result.verdict for result in parity_checks(*args, **kwargs)]


def test_parity_that_holds_passes():
    assert verdicts(parity()) == ["pass", "pass"]
    forces, _ = parity_checks(parity())
    assert "`far`" in forces.reason


@pytest.mark.parametrize("bad", [2e-4, math.nan, None, "x"])
def test_parity_of_forces_and_energy_fail_apart(bad):
    assert verdicts(parity(force=bad, verdict="fail")) == ["fail", "pass"]
    assert verdicts(parity(energy=bad, verdict="fail")) == ["pass", "fail"]


def test_worst_case_counts_even_if_the_summary_hides_it():
    hidden = parity()
    hidden["cases"][0]["max_force_difference_over_rms"] = 1.0
    assert verdicts(hidden) == ["fail", "pass"]


def test_limits_of_the_config_win():
    assert verdicts(parity(), limits=ParityConfig(force_limit=1e-7)) == ["fail", "pass"]


def test_failed_comparison_without_numbers_is_no_pass():
    assert verdicts(parity(verdict="fail"))[0] == "fail"
    assert verdicts({}) == ["fail", "fail"]


def forces(value, error):
    return {"rmse_full": 5.0 + value, "rmse_prior": 5.0, "full_minus_prior": {"value": value, "error": error}}


@pytest.mark.parametrize(
    ("value", "words", "better"), [(-0.5, "better", True), (0.5, "worse", False), (0.05, "not distinguish", False)]
)
def test_force_error_is_reported_against_the_prior(value, words, better):
    result = force_error_check(forces(value, 0.1))
    assert result.verdict == "reported"
    assert result.reason.startswith(words)
    assert result.detail["better_than_prior"] is better
    assert (result.value, result.reference) == (5.0 + value, 5.0)


def test_missing_force_error_says_so():
    assert force_error_check({}).reason.startswith("not measured")


def minimized(settings, asked=2, problems=(), **changes):
    good = dict(energy_initial=5.0, energy_final=1.0, max_force=0.04, max_move_A=1.0, rmsd_A=0.7)
    replicas = [Minimized(0, **good), Minimized(1, **{**good, **changes})]
    return minimize_check(replicas, asked, list(problems), 0.05, settings, "chain")


def test_converged_minimisation_passes(settings):
    result = minimized(settings)
    assert result.verdict == "pass"
    assert result.value == 0.04


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_force": 0.06}, "force of 0.06"),
        ({"max_force": math.nan}, "force of nan"),
        ({"energy_final": 5.1}, "rose"),
        ({"energy_final": math.nan}, "rose"),
        ({"asked": 3}, "1 of 3 replicas left no record"),
        ({"problems": ["gone"]}, "gone"),
    ],
)
def test_each_fault_of_a_minimisation_fails(settings, changes, words):
    result = minimized(settings, **changes)
    assert result.verdict == "fail"
    assert words in result.reason


def test_a_structure_that_moves_far_passes_and_carries_a_caution(settings):
    """8 Å on one bead and 3.1 Å RMSD: force, energy and finiteness decide, and the displacement is a caution."""
    result = minimized(settings, max_move_A=8.0, rmsd_A=3.1)
    assert result.verdict == "pass"
    assert (result.value, result.threshold) == (0.04, 0.05)
    (caution,) = protein_cautions({"chain": {"minimization": result.detail}})
    assert caution.kind == "moved-in-minimization"
    assert "3.1 Å RMSD" in caution.text
    assert protein_cautions({"chain": {"minimization": minimized(settings, rmsd_A=1.9).detail}}) == []


def test_a_record_without_rmsd_is_judged_and_says_so(settings):
    """As older runs left it."""
    result = minimized(settings, rmsd_A=float("nan"))
    assert result.verdict == "pass"
    assert "no record of their RMSD" in result.reason
    assert protein_cautions({"chain": {"minimization": result.to_json()["detail"]}}) == []


@pytest.mark.parametrize(
    ("changes", "value", "threshold", "quantity"),
    [
        ({"max_force": 0.06}, 0.06, 0.05, ""),
        ({"max_force": 0.06, "energy_final": 6.0}, 0.06, 0.05, ""),
        ({"energy_final": 5.5}, 0.5, 5e-5, "rise of the energy"),
        ({"asked": 3}, None, 0.05, ""),
    ],
)
def test_the_row_shows_the_number_that_decided(settings, changes, value, threshold, quantity):
    result = minimized(settings, **changes)
    assert result.value == (value if value is None else pytest.approx(value))
    assert (result.threshold, result.quantity) == (pytest.approx(threshold), quantity)
    assert not_decided_by_their_number([result.to_json()]) == []


def test_a_verdict_of_the_parity_file_that_no_number_shows_has_no_number():
    fine = {"value": 1e-7, "limit": 1e-5}
    result = parity_checks({"force": fine, "energy": fine, "cases": [], "verdict": "fail"})[0]
    assert (result.verdict, result.value) == ("fail", None)
    assert "ended with `fail`" in result.reason


def test_number():
    assert number("2.5") == 2.5
    assert all(math.isnan(number(value)) for value in (None, "x", True, [1]))

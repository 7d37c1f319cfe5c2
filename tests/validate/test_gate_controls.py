"""What known-bad trajectories, optional checks and the number of checks do to a verdict."""

import numpy as np
import pytest
from scipy import stats

from cgloop.config.validate import REQUIRED
from cgloop.errors import UserError
from cgloop.validate.gate import judge
from cgloop.validate.gate_words import table
from cgloop.validate.judgement import JudgedCheck
from cgloop.validate.known_bad import CASES, JUDGES
from cgloop.validate.multiplicity import chance
from cgloop.validate.power import POWER_NOTES
from cgloop.validate.registry import CHECKS

REPLICAS = 8


def result(name, value, error, limit, verdict, **detail):
    return {
        "check": name, "subject": "a", "value": value, "error": error, "threshold": limit, "verdict": verdict,
        "reason": "because", "unit": CHECKS[name].unit, "reference": None, "detail": detail,
    }  # fmt: skip


def gate(checks, known_bad=None, **options):
    fine = {name: {"verdict": "pass", "reason": "fine"} for name in CHECKS}
    metrics = {
        "proteins": {"a": {"gated": True, "replicas": REPLICAS}},
        "checks": checks,
        "controls": {"reference": {"a": fine}, "known_bad": {"a": known_bad or {}}},
    }
    return judge(metrics, list(dict.fromkeys(check["check"] for check in checks)), **options)


def known_bad(check, caught):
    return {"case": {"case": "x", "check": check, "text": "it is 10 % too hot", "verdict": "pass", "caught": caught,
                     "reason": "nothing to see"}}  # fmt: skip


@pytest.mark.parametrize("verdict", ["pass", "fail"])
def test_gate_that_lets_a_known_bad_trajectory_pass_refuses_to_judge(verdict):
    checks = [result("nvt.temperature", 0.001, 0.001, 0.02, verdict)]
    judged = gate(checks, known_bad("nvt.temperature", False))
    assert judged["refused"]
    assert judged["verdict"] == "inconclusive"
    assert "refuses to judge" in judged["summary"]
    assert "10 % too hot" in judged["summary"]


@pytest.mark.parametrize(
    ("check", "caught"), [("nvt.temperature", True), ("nvt.temperature", None), ("nve.drift", False)]
)
def test_gate_judges_if_a_control_is_caught_undecided_or_of_another_check(check, caught):
    judged = gate([result("nvt.temperature", 0.001, 0.001, 0.02, "pass")], known_bad(check, caught))
    assert (judged["verdict"], judged["refused"]) == ("pass", False)


def test_nothing_passes_without_known_bad_trajectories():
    metrics = {
        "proteins": {"a": {"gated": True}},
        "checks": [result("nvt.temperature", 0.001, 0.001, 0.02, "pass")],
        "controls": {},
    }
    judged = judge(metrics, ["nvt.temperature"])
    assert judged["verdict"] == "inconclusive"
    assert "known-bad" in judged["summary"]


def test_chance_is_that_of_students_t_over_replicas():
    t = 3.1
    error = stats.t.ppf(0.975, REPLICAS - 1) * 0.5
    beyond = result("nvt.temperature", 0.02 + t * 0.5, error, 0.02, "fail")
    assert chance(JudgedCheck.of(beyond), REPLICAS) == pytest.approx(stats.t.sf(t, REPLICAS - 1), rel=1e-12)
    below = result("structure.mirror", -t * 0.5, error, 0.0, "fail")
    assert chance(JudgedCheck.of(below), REPLICAS) == pytest.approx(stats.t.sf(t, REPLICAS - 1), rel=1e-12)
    measures = [
        {"value": 0.2, "error": 0.1, "limit": 0.3, "direction": "at most"},
        {"value": 0.9 - t * 0.5, "error": error, "limit": 0.9, "direction": "at least"},
    ]
    both = result("structure.contacts", 0.2, 0.1, 0.3, "fail", measures=measures)
    assert chance(JudgedCheck.of(both), REPLICAS) == pytest.approx(2 * stats.t.sf(t, REPLICAS - 1), rel=1e-12)
    assert chance(JudgedCheck.of(result("stability.survival", 0.5, 0.0, 1.0, "fail")), REPLICAS) is None
    assert chance(JudgedCheck.of(result("nve.drift", 3.0, 0.1, 1.0, "fail", by_own_rule=True)), REPLICAS) is None
    assert chance(JudgedCheck.of(result("structure.q", 3.0, None, 1.0, "inconclusive")), REPLICAS) == 1.0


def test_a_fail_by_little_among_many_checks_is_taken_back_and_a_clear_one_is_not():
    """2.4 half-widths off the limit has a chance of 1 in 1,400; one half-width, 1 in 40."""
    little = result("nvt.temperature", 0.031, 0.01, 0.02, "fail")
    others = [result(name, 0.0, 0.01, 0.1, "pass") for name in ("nve.drift", "structure.rmsd", "structure.q")]
    judged = gate([little, *others])
    assert judged["verdict"] == "inconclusive"
    (taken_back,) = (check for check in judged["checks"] if check["check"] == "nvt.temperature")
    assert "by chance" in taken_back["reason"]
    assert taken_back["detail"]["needs"]["run_factor"] > 1
    clear = result("nvt.temperature", 0.044, 0.01, 0.02, "fail")
    assert gate([clear, *others])["verdict"] == "fail"
    # Of one check alone, with the significance of an error bar, nothing is taken back.
    assert gate([little], significance=0.025)["verdict"] == "fail"


def test_healthy_models_on_the_limit_are_failed_as_often_as_the_config_allows():
    """Four checks whose true value is exactly the limit: the worst healthy model there is; seeds are fixed."""
    rng, names = np.random.default_rng(5), ("nvt.temperature", "nve.drift", "structure.rmsd", "structure.q")
    failed = 0
    for _ in range(2000):
        samples = 1.0 + rng.normal(size=(len(names), REPLICAS))
        checks = []
        for name, values in zip(names, samples, strict=True):
            error = stats.t.ppf(0.975, REPLICAS - 1) * values.std(ddof=1) / np.sqrt(REPLICAS)
            outside = values.mean() - error > 1.0
            checks.append(result(name, values.mean(), error, 1.0, "fail" if outside else "inconclusive"))
        failed += gate(checks, significance=0.05)["verdict"] == "fail"
    assert 0.03 < failed / 2000 < 0.065  # without the correction 1 − 0.975⁴ = 0.096


def test_optional_checks_do_not_decide_and_are_told():
    checks = [result("nvt.temperature", 0.001, 0.001, 0.02, "pass"), result("nve.drift", 9.0, 0.1, 1.0, "fail")]
    metrics = {"proteins": {"a": {"gated": True}}, "checks": checks, "controls": {"known_bad": {"a": {}}}}
    judged = judge(metrics, ["nvt.temperature"], optional=["nve.drift"])
    assert judged["verdict"] == "pass"
    assert "1 optional fail" in judged["summary"]
    lines = table(judged)
    assert lines[0].split() == ["verdict", "check", "of", "value", "limit", "reference"]
    assert lines[1].startswith("pass ")
    assert "0.001 ± 0.001" in lines[1]
    assert "at most 0.02" in lines[1]
    assert lines[2].startswith("fail (optional)")
    with pytest.raises(UserError, match=r"gate\.optional"):
        judge(metrics, ["nvt.temperature"], optional=["nve.drfit"])


def test_what_deciding_checks_cannot_see_is_in_the_verdict():
    judged = gate([result("structure.q", 0.0, 0.01, 0.1, "pass")])
    assert judged["power_notes"] == {"structure.q": POWER_NOTES["structure.q"]}
    assert set(REQUIRED) <= set(POWER_NOTES)


def test_every_known_bad_case_has_a_judge_and_a_known_check():
    assert {check for case in CASES for check in case.checks} <= set(JUDGES)
    assert set(JUDGES) <= set(CHECKS)
    assert len({case.name for case in CASES}) == len(CASES)
    assert len(CASES) >= 10

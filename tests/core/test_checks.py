"""The three-valued comparison; above all, that NaN never passes."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgloop.checks import CheckResult, Evidence, decide, worst_of

number = st.floats(-1e6, 1e6)
size = st.floats(0, 1e6)


@given(number, size, number)
def test_the_two_directions_mirror_each_other(value, error, limit):
    assert decide(value, error, limit, "at most") == decide(-value, error, -limit, "at least")


@given(number, size, number)
def test_a_pass_survives_any_shift_within_the_error(value, error, limit):
    if decide(value, error, limit, "at most") == "pass":
        assert value <= limit
        assert value + error <= limit


@given(number, number)
def test_exact_values_are_never_undecided(value, limit):
    assert decide(value, 0.0, limit, "at most") in ("pass", "fail")


@pytest.mark.parametrize("direction", ["at most", "at least"])
def test_nothing_unmeasured_passes(direction):
    for value in (math.nan, math.inf, -math.inf):
        assert decide(value, 0.0, 1.0, direction) == "fail"
    assert decide(0.5, math.nan, 1.0, direction) == "inconclusive"
    assert decide(1.5, math.inf, 1.0, direction) == "inconclusive"


def test_result_is_valid_json_without_nan():
    result = CheckResult("a.b", "x", math.nan, 0.0, 1.0, "fail", "because", detail={"series": [1.0, math.inf]})
    text = json.dumps(result.to_json(), allow_nan=False)
    assert json.loads(text)["value"] is None
    assert json.loads(text)["detail"]["series"] == [1.0, None]


def test_evidence_is_written_beside_the_verdict_and_holds_only_with_a_margin():
    evidence = Evidence("distance", 0.8, "replica 2", 0.1, 0.2, 0.1, 0.4)
    result = CheckResult(
        "a.b", "x", 0.8, 0.1, 0.1, "fail", "far", evident=evidence.evident, detail={"evidence": evidence.to_json()}
    )
    written = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert written["evident"] is True
    assert written["detail"]["evidence"]["lineage"] == "replica 2"
    assert written["detail"]["evidence"]["margin"] == 0.4
    assert not Evidence("distance", 0.8, "replica 2", math.nan, 0.2, 0.1, math.nan).evident
    assert CheckResult("a.b", "x", 0.8, 0.1, 0.1, "fail", "far").evident is False


def test_the_worst_protein_is_that_with_the_worst_verdict_then_the_worst_value():
    def result(verdict, value):
        return {"verdict": verdict, "value": value}

    drifts = [result("pass", -0.9), result("pass", 0.5), result("inconclusive", 0.1)]
    assert worst_of(drifts, "at most") is drifts[2]
    assert worst_of(drifts[:2], "at most") is drifts[0]
    assert worst_of(drifts[:2], "at least") is drifts[0]
    survivals = [result("pass", 1.0), result("pass", 0.95), result("reported", 0.0)]
    assert worst_of(survivals, "at least") is survivals[1]
    assert worst_of([result(None, None), result("pass", 0.0)], "at most")["verdict"] == "pass"

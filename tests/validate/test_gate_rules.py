"""Each rule of the gate by itself, and the verdict of many generated runs against its definition."""

import copy
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgloop.config.validate import REQUIRED
from cgloop.validate import gate_rules as rules
from cgloop.validate.controls import CONTROLLED
from cgloop.validate.gate import judge
from cgloop.validate.gate_words import SET_ASIDE, WORDS, in_words, why, why_set_aside
from cgloop.validate.judgement import Case, Judged, JudgedCheck, Reason, asked
from cgloop.validate.multiplicity import correct_for_number
from cgloop.validate.registry import OF_THE_MODEL

FIRST = "structure.q"
OTHERS = ("structure.rmsd", "structure.rg", "nve.drift")
UNCLEAR = {"verdict": "inconclusive", "reason": "13 of 20 effective samples", "needs": {"longer_reference": True}}
WRONG = {"verdict": "fail", "reason": "replicas differ by 0.4"}
FINE = {"verdict": "pass", "reason": "0.02"}
BLIND = {"able": False, "other_temperature_K": 450.0}


def entry(verdict="pass", *, name=FIRST, value=0.05, error=0.01, limit=0.1, evident=False, reason="Q 0.05", **detail):
    """One entry of `checks` of metrics.json."""
    return {
        "check": name, "subject": "a", "verdict": verdict, "value": value, "error": error, "threshold": limit,
        "reason": reason, "evident": evident, "detail": detail,
    }  # fmt: skip


def check(verdict="pass", **more):
    return JudgedCheck.of(entry(verdict, **more))


def case(control=FINE, power=None, **more):
    controls = {
        "reference": {"a": {} if control is None else {FIRST: control}},
        "power": {"a": {FIRST: power} if power else {}},
        "known_bad": {"a": {}},
    }
    return Case(**{"required": (FIRST, *OTHERS), "proteins": {"a": {"gated": True, "replicas": 8}},
                   "controls": controls, **more})  # fmt: skip


def after(rule, one, of):
    """The check after a rule, which changes neither its argument nor the entry that it was made from."""
    before = copy.deepcopy(one)
    (found,) = rule((one,), of)
    assert one == before
    return found


def test_roles():
    of = case(optional=("nve.drift", "local.bonds"))
    found = rules.assign_roles(
        tuple(check(name=name) for name in (FIRST, "nve.drift", "local.bonds", "local.angles")), of
    )
    assert [one.required for one in found] == [True, True, False, False]
    assert [one.optional for one in found] == [False, False, True, False], "what is required is not optional"


def test_what_is_not_applicable_is_set_aside():
    nothing = check("inconclusive", value=None, reason="no dihedral has one sign", not_applicable=True)
    found = after(rules.set_aside_not_applicable, nothing, case())
    assert (found.verdict, why_set_aside(found)) == ("reported", "no dihedral has one sign")
    for other in (check("inconclusive"), check("fail", not_applicable=True), replace(nothing, verdict="reported")):
        assert after(rules.set_aside_not_applicable, other, case()) == other


@pytest.mark.parametrize("verdict", ["pass", "fail"])
def test_verdict_without_a_control_is_taken_back(verdict):
    found = after(rules.require_control, check(verdict, evident=True), case(control=None))
    assert found.verdict == "inconclusive"
    assert why(found) == "Q 0.05; the control with the reference was not run"
    assert after(rules.require_control, check(verdict), case()).verdict == verdict
    assert after(rules.require_control, check(verdict, name="nve.drift"), case(control=None)).verdict == verdict
    assert after(rules.require_control, check("inconclusive"), case(control=None)).reasons == ()
    assert after(rules.require_control, check(verdict, incomplete=True), case(control=None)).verdict == verdict


@pytest.mark.parametrize(("verdict", "evident"), [("pass", False), ("fail", False), ("fail", True)])
def test_check_that_the_reference_fails_cannot_judge_not_even_what_is_evident(verdict, evident):
    found = after(rules.obey_failed_control, check(verdict, evident=evident), case(WRONG))
    assert found.verdict == "inconclusive"
    assert found.reasons == (Reason("control fails", {"reason": WRONG["reason"]}),)
    for control in (FINE, UNCLEAR, None):
        assert after(rules.obey_failed_control, check(verdict), case(control)).verdict == verdict


@pytest.mark.parametrize(
    ("verdict", "evident", "then"),
    [
        ("pass", False, "inconclusive"),
        ("fail", False, "inconclusive"),
        ("fail", True, "fail"),
        ("pass", True, "inconclusive"),  # only a fail can be evident
    ],
)
def test_poor_reference_takes_back_all_but_an_evident_fail(verdict, evident, then):
    found = after(rules.obey_inconclusive_control, check(verdict, evident=evident), case(UNCLEAR))
    assert found.verdict == then
    assert found.what_decides == ({"longer_reference": True} if then == "inconclusive" else {})
    for control in (FINE, WRONG, None):
        assert after(rules.obey_inconclusive_control, check(verdict), case(control)).verdict == verdict


@pytest.mark.parametrize("verdict", ["pass", "fail", "inconclusive"])
def test_check_without_power_is_set_aside_but_for_an_evident_fail(verdict):
    found = after(rules.set_aside_without_power, check(verdict), case(power=BLIND))
    assert (found.verdict, why_set_aside(found)) == ("reported", "it cannot tell the reference from that at 450 K")
    assert why(found) == "Q 0.05; this check cannot tell the reference from that at 450 K"
    assert after(rules.set_aside_without_power, check(verdict), case(power={**BLIND, "able": True})).verdict == verdict
    for control in (UNCLEAR, WRONG, None):
        assert after(rules.set_aside_without_power, check(verdict), case(control, BLIND)).set_aside is None
    kept = after(rules.set_aside_without_power, check("fail", evident=True), case(power=BLIND))
    assert (kept.verdict, kept.set_aside) == ("fail", None)


@pytest.mark.parametrize(("verdict", "then"), [("pass", "inconclusive"), ("fail", "fail"), ("reported", "reported")])
def test_run_too_short_to_tell_takes_back_a_pass(verdict, then):
    cases = {
        "blind": {"check": FIRST, "text": "it fluctuates half as much", "caught": None, "needs": {"run_factor": 10.0}},
        "caught": {"check": "nve.drift", "text": "it drifts", "caught": True},
    }
    of = replace(case(), controls={"known_bad": {"a": cases}})
    found = after(rules.require_long_enough_run, check(verdict), of)
    assert found.verdict == then
    assert found.what_decides == ({"run_factor": 10.0} if verdict == "pass" else {})
    if verdict == "pass":
        assert "would pass as well if it were wrong (it fluctuates half as much)" in why(found)
    assert after(rules.require_long_enough_run, check(name="nve.drift"), of).verdict == "pass"


def test_correction_takes_back_what_chance_explains_and_nothing_evident():
    """Two half-widths beyond the limit: 1 in 200 alone, 1 in 50 among four."""
    beyond = check("fail", value=0.12, error=0.015)
    passing = tuple(check(name=name) for name in OTHERS)
    found, *others = correct_for_number((beyond, *passing), case())
    assert found.verdict == "inconclusive"
    assert found.chance.corrected == pytest.approx(4 * found.chance.alone)
    assert found.what_decides["run_factor"] > 1
    assert "by chance in" in why(found)
    assert all(one.verdict == "pass" and one.chance for one in others)
    kept, *others = correct_for_number((replace(beyond, result={**beyond.result, "evident": True}), *passing), case())
    assert (kept.verdict, kept.chance) == ("fail", None)
    assert all(one.verdict == "pass" and one.chance for one in others)


def test_evident_fails_leave_the_family_that_is_corrected_for():
    """Without them a fail by chance 1 in 200 stands among three, as it would in Holm's own steps."""
    beyond = check("fail", value=0.12, error=0.0135, name="structure.rg")
    evident = [check("fail", value=0.9, error=1.0, evident=True, name=name) for name in (FIRST, "structure.rmsd")]
    found = correct_for_number((*evident, beyond), case())
    assert [one.verdict for one in found] == ["fail", "fail", "fail"]
    assert found[-1].chance.corrected == pytest.approx(found[-1].chance.alone), "a family of one"
    plain = tuple(JudgedCheck.of({**one.result, "evident": False}) for one in evident)
    assert [one.verdict for one in correct_for_number((*plain, beyond), case())] == ["inconclusive"] * 3


def test_what_is_set_aside_or_not_required_is_not_corrected_for():
    aside = replace(check(), set_aside=Reason("no power", {"temperature_K": 450.0}))
    other = check(name="local.bonds")
    assert correct_for_number((aside, other), case()) == (aside, other)


def test_missing_results_fail_and_open_ones_leave_it_open():
    of = case(required=(FIRST, "nve.drift"))
    assert rules.combine(Judged((check(), check(name="nve.drift")), of)) == "pass"
    assert rules.combine(Judged((check(),), of)) == "fail"
    assert rules.combine(Judged((check(), check("fail", name="nve.drift")), of)) == "fail"
    assert rules.combine(Judged((check(), check("inconclusive", name="nve.drift")), of)) == "inconclusive"
    assert rules.combine(Judged((check(), check(name="nve.drift", value=None)), of)) == "inconclusive"
    elsewhere = replace(of, temperature={"gated": False, "md_K": 300.0, "model_K": 320.0})
    assert rules.combine(Judged((), elsewhere)) == "inconclusive"


def test_objections_to_a_pass():
    of = case(required=(FIRST,))
    judged = Judged((check(),), of)
    assert [objection(judged) for objection in rules.OBJECTIONS] == [None] * 3
    aside = Judged((replace(check("reported"), set_aside=Reason("no power", {"temperature_K": 450.0})),), of)
    assert rules.undecided_structure(aside) == Reason("structure undecided", {"protein": "a"})
    engine = rules.other_engine(Judged((check(),), replace(of, engine="lmp")))
    assert in_words(engine).startswith("an external LAMMPS, which nothing watches step by step, ran the dynamics")
    assert rules.no_known_bad(Judged((check(),), replace(of, controls={}))).values == {"protein": "a"}


def test_every_kind_of_reason_has_words():
    assert set(SET_ASIDE) < set(WORDS)
    assert all(words.strip() for words in WORDS.values())


def test_required_names_count_once_and_keep_their_order():
    of = Case.of({"proteins": {"a": {"gated": True}}}, ["nve.drift", FIRST, "nve.drift"], (), 0.01)
    assert of.required == ("nve.drift", FIRST)
    assert asked((check(), check(name="nve.drift")), of) == [1, 0]


VERDICTS = st.sampled_from(["pass", "pass", "pass", "fail", "inconclusive", "reported"])
CONTROLS = st.sampled_from([FINE, FINE, FINE, UNCLEAR, WRONG, None])


@st.composite
def runs(draw):
    """Contents of metrics.json of a run with one protein; errors are zero, so that no fail is due to chance."""
    checks, controls, power = [], {}, {}
    for name in REQUIRED:
        one = entry(draw(VERDICTS), name=name, error=0, evident=draw(st.booleans()))
        one["subject"] = "model" if name in OF_THE_MODEL else "a"
        if draw(st.sampled_from([False] * 60 + [True])):
            continue
        checks.append(one)
        if (control := draw(CONTROLS)) is not None:
            controls[name] = control
        if draw(st.sampled_from([False, False, True])):
            power[name] = BLIND
    return {
        "proteins": {"a": {"gated": True, "replicas": 8}},
        "checks": draw(st.permutations(checks)),
        "controls": {"reference": {"a": controls}, "power": {"a": power}, "known_bad": {"a": {}}},
    }


def defined(one, metrics):
    """What is left of a verdict by the definition in docs/validation.md, written as a decision table."""
    name, verdict = one["check"], one["verdict"]
    if name not in CONTROLLED or verdict == "reported":
        return verdict
    control = metrics["controls"]["reference"]["a"].get(name)
    evident = verdict == "fail" and one["evident"]
    match control and control["verdict"]:
        case "pass":
            return "aside" if name in metrics["controls"]["power"]["a"] and not evident else verdict
        case "inconclusive":
            return verdict if evident else "inconclusive"
        case _:
            return "inconclusive"


@settings(max_examples=200, deadline=None)
@given(runs())
def test_verdict_is_what_its_definition_says(metrics):
    """An independent table of the rules; nothing handed in is changed; the words name all that did not pass."""
    before = copy.deepcopy(metrics)
    judged = judge(metrics, REQUIRED)
    assert metrics == before
    outcome = {one["check"]: defined(one, metrics) for one in metrics["checks"]}
    left = {one["check"]: one for one in judged["checks"]}
    assert {name: "aside" if "not_gated" in one else one["verdict"] for name, one in left.items()} == outcome
    told = [(one["check"], one["verdict"]) for one in judged["not_passed"]]
    deciding = {name: outcome.get(name, "fail") for name in REQUIRED if outcome.get(name) != "aside"}
    assert sorted(told) == sorted((name, verdict) for name, verdict in deciding.items() if verdict != "pass")
    assert len(judged["reasons"]) == len(told)
    compared = [name for name in deciding if name in CONTROLLED and name != "structure.mirror"]
    if "fail" in deciding.values():
        assert judged["verdict"] == "fail"
    elif set(deciding.values()) == {"pass"} and compared:
        assert judged["verdict"] == "pass"
    else:
        assert judged["verdict"] == "inconclusive"

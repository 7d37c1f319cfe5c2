"""The rules of the gate: pure functions from checks to checks, and the objections to a pass, in the order of use."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import wraps
from typing import Any, Literal

from cgloop.validate.controls import CONTROLLED
from cgloop.validate.family import BY_NAME
from cgloop.validate.judgement import GATE_ENGINE, Case, Checks, Judged, JudgedCheck, Reason
from cgloop.validate.multiplicity import correct_for_number

Rule = Callable[[Checks, Case], Checks]
Objection = Callable[[Judged], Reason | None]
GateVerdict = Literal["pass", "fail", "inconclusive"]


def _of_each(rule: Callable[[JudgedCheck, Case], JudgedCheck]) -> Rule:
    """Make a rule of all checks from one that looks at a single check."""

    @wraps(rule)
    def of_all(checks: Checks, case: Case) -> Checks:
        return tuple(rule(check, case) for check in checks)

    return of_all


def _is_controlled(check: JudgedCheck) -> bool:
    """Whether the control with the reference applies; it does not where data are missing, which fails the run."""
    return check.name in CONTROLLED and check.verdict != "reported" and not check.incomplete


@_of_each
def assign_roles(check: JudgedCheck, case: Case) -> JudgedCheck:
    """Mark each check as required, optional, or neither."""
    required = check.name in case.required
    return replace(check, required=required, optional=check.name in case.optional and not required)


@_of_each
def set_aside_not_applicable(check: JudgedCheck, case: Case) -> JudgedCheck:
    """Set aside a check that has nothing to compare in this protein, whatever the model."""
    if not (_is_controlled(check) and check.verdict == "inconclusive" and check.detail.get("not_applicable")):
        return check
    return replace(check, verdict="reported", set_aside=Reason("not applicable", {"reason": check.result["reason"]}))


@_of_each
def require_control(check: JudgedCheck, case: Case) -> JudgedCheck:
    """Take back a verdict whose check was not tried on the reference: nothing shows that it can judge."""
    if not (_is_controlled(check) and check.decided and case.control(check) is None):
        return check
    return check.changed("inconclusive", Reason("control missing"))


@_of_each
def obey_failed_control(check: JudgedCheck, case: Case) -> JudgedCheck:
    """Take back every verdict, an evident fail too, of a check that the reference itself fails: it cannot judge."""
    control = case.control(check)
    if not (_is_controlled(check) and check.decided and control and control["verdict"] == "fail"):
        return check
    return check.changed("inconclusive", Reason("control fails", {"reason": control["reason"]}))


@_of_each
def obey_inconclusive_control(check: JudgedCheck, case: Case) -> JudgedCheck:
    """Take back a verdict where the reference is too poor to pass its own check, but for an evident fail.

    A pass needs a reference that is sampled well enough to pass. An evident fail holds against the nearest part
    of the reference with all errors, those of the poor sampling included.
    """
    control = case.control(check)
    if not (_is_controlled(check) and check.decided and control and control["verdict"] == "inconclusive"):
        return check
    if check.evident_fail:
        return check
    reason = Reason("control inconclusive", {"reason": control["reason"]})
    return check.changed("inconclusive", reason, control.get("needs") or {})


@_of_each
def set_aside_without_power(check: JudgedCheck, case: Case) -> JudgedCheck:
    """Set aside a check that does not distinguish the reference from that at another temperature.

    Its pass means nothing. An evident fail is kept: a check that is too coarse for a difference in temperature
    has found a larger one.
    """
    control, power = case.control(check), case.power(check)
    if not (_is_controlled(check) and control and control["verdict"] == "pass" and power and not power["able"]):
        return check
    if check.evident_fail:
        return check
    reason = Reason("no power", {"temperature_K": power["other_temperature_K"]})
    return replace(check.changed("reported", reason), set_aside=reason)


@_of_each
def require_long_enough_run(check: JudgedCheck, case: Case) -> JudgedCheck:
    """Take back a pass where the run is so short that the check would pass a known-bad one of that length, too."""
    blind = [entry for entry in case.known_bad(check) if entry.get("needs")]
    if check.verdict != "pass" or not blind:
        return check
    return check.changed("inconclusive", Reason("run too short", {"text": blind[0]["text"]}), blind[0]["needs"])


RULES: tuple[Rule, ...] = (
    assign_roles,
    set_aside_not_applicable,
    require_control,
    obey_failed_control,
    obey_inconclusive_control,
    set_aside_without_power,
    require_long_enough_run,
    correct_for_number,
)
"""In the order of use. At most one of the rules about controls changes a verdict; the correction for many checks comes
last, because only what then decides is corrected for."""


def apply_rules(checks: Checks, case: Case) -> Judged:
    """Return the checks after all `RULES`."""
    for rule in RULES:
        checks = rule(checks, case)
    return Judged(checks, case)


def combine(judged: Judged) -> GateVerdict:
    """Return the verdict of all deciding checks together, before the objections to a pass."""
    if judged.case.ungated:
        return "inconclusive"
    if judged.missing or judged.failed:
        return "fail"
    return "inconclusive" if judged.open else "pass"


def undecided_structure(judged: Judged) -> Reason | None:
    """Object where all required comparisons of a protein's structure with the reference were set aside.

    The mirror check does not stand for them: it refers to the native structure, and says nothing about the ensemble.
    """
    decided = {check.subject for check in judged.deciding if check.name in BY_NAME}
    blind = [check for check in judged.aside if check.subject not in decided]
    return Reason("structure undecided", {"protein": blind[0].subject}) if blind else None


def other_engine(judged: Judged) -> Reason | None:
    """Object where the dynamics did not run in the engine that the model is deployed to."""
    engine = judged.case.engine
    return None if engine == GATE_ENGINE else Reason("other engine", {"engine": engine})


def no_known_bad(judged: Judged) -> Reason | None:
    """Object where no known-bad trajectories of a protein were judged: nothing shows that the gate can fail."""
    known_bad = judged.case.controls.get("known_bad") or {}
    never = [name for name in judged.case.gated if name not in known_bad]
    return Reason("no known-bad trajectories", {"protein": never[0]}) if never else None


OBJECTIONS: tuple[Objection, ...] = (undecided_structure, other_engine, no_known_bad)
"""To a pass; the first that applies makes it inconclusive."""


def missed_controls(case: Case) -> list[dict[str, Any]]:
    """Return the known-bad trajectories that a required check let pass, with their `subject`; the gate then refuses."""
    known_bad: Mapping[str, Any] = case.controls.get("known_bad") or {}
    return [
        {**entry, "subject": subject}
        for subject in case.gated
        for entry in (known_bad.get(subject) or {}).values()
        if entry["caught"] is False and entry["check"] in case.required
    ]

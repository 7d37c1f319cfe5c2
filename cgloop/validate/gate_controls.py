"""What controls and the number of checks leave of single verdicts, before the gate puts them together."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from scipy import stats

from cgloop.validate.controls import CONTROLLED
from cgloop.validate.family import BY_NAME
from cgloop.validate.registry import CHECKS
from cgloop.validate.statistics import CONFIDENCE, holm, student_t

FEWEST_REPLICAS = 3
"""Of an error bar whose number of replicas is not known: the widest tails."""


def after_controls(check: dict[str, Any], controls: Mapping[str, Any]) -> dict[str, Any]:
    """The result with the verdict that remains when the reference has been judged, too.

    Returns:
        `check`, changed; its original verdict in `measured_verdict`. Where the check can tell nothing about this
        protein or its temperature, whatever the model, it is only reported, and `not_gated` says why.
    """
    name, subject = check["check"], check["subject"]
    check["measured_verdict"] = check["verdict"]
    if name not in CONTROLLED or check["verdict"] == "reported" or check["detail"].get("incomplete"):
        return check
    if check["verdict"] == "inconclusive" and check["detail"].get("not_applicable"):
        check.update(verdict="reported", not_gated=check["reason"])
        return check
    decided = check["verdict"] in ("pass", "fail")
    control = controls.get("reference", {}).get(subject, {}).get(name)
    power = controls.get("power", {}).get(subject, {}).get(name)
    if control is None:
        if not decided:
            return check
        check["verdict"], why = "inconclusive", "the control with the reference was not run"
    elif not decided and control["verdict"] != "pass":
        return check
    elif control["verdict"] == "fail":
        check["verdict"] = "inconclusive"
        why = f"the reference itself fails this check, which therefore cannot judge: {control['reason']}"
    elif control["verdict"] == "inconclusive":
        check["verdict"] = "inconclusive"
        why = f"the reference itself is inconclusive in this check: {control['reason']}"
        check["detail"] = {**check["detail"], "needs": control.get("needs") or {}}
    elif power is not None and not power["able"]:
        why = f"this check cannot tell the reference from that at {power['other_temperature_K']:g} K"
        check.update(verdict="reported", not_gated=why.replace("this check", "it"))
    else:
        return check
    check["reason"] = f"{check['reason']}; {why}"
    return check


def without_structure(deciding: Sequence[Mapping[str, Any]], aside: Sequence[Mapping[str, Any]]) -> str:
    """The first protein of which required comparisons with the reference were set aside and none decides, or nothing.

    The mirror check is none of them: it refers to the native structure, and says nothing about the ensemble.
    """
    decided = {check["subject"] for check in deciding if check["check"] in BY_NAME}
    return next((check["subject"] for check in aside if check["subject"] not in decided), "")


def missed_controls(
    controls: Mapping[str, Any], required: Sequence[str], proteins: Sequence[str]
) -> list[dict[str, Any]]:
    """Known-bad trajectories that a required check let pass: with their `subject`."""
    known_bad = controls.get("known_bad") or {}
    return [
        {**entry, "subject": subject}
        for subject in proteins
        for entry in (known_bad.get(subject) or {}).values()
        if entry["caught"] is False and entry["check"] in required
    ]


def correct_for_number(deciding: Sequence[dict[str, Any]], replicas: Mapping[str, int], significance: float) -> None:
    """Take back, in place, fails that are to be expected by chance among so many checks.

    A pass needs every check to pass, so that no check needs a correction for the others (intersection–union test:
    Berger, Technometrics 24, 295, 1982). A fail needs one only: therefore the p-values of all required checks that have
    an error bar or are p-values themselves go through Holm's procedure together, and the chance that a healthy model
    is failed by any of them stays below `significance`. Exact checks, and fails that are not due to an error bar, are
    left alone: those of rules with a significance of their own, and those of values that are inside.

    Args:
        deciding: results of the required checks.
        replicas: of the model, by protein; Student's t has one degree of freedom less.
        significance: of the whole gate.
    """
    tested = [
        (check, p)
        for check in deciding
        if (p := chance(check, replicas.get(check["subject"]))) is not None and (check["verdict"] != "fail" or p < 0.5)
    ]
    if not tested:
        return
    corrected = holm([p for _, p in tested])
    for (check, p), all_together in zip(tested, corrected, strict=True):
        check["detail"] = {**check["detail"], "chance": p, "chance_corrected": float(all_together)}
        if check["verdict"] == "fail" and not all_together <= significance:
            check["verdict"] = "inconclusive"
            check["reason"] = (
                f"{check['reason']}; but among {len(tested)} checks that happens by chance in {all_together:.1%} of "
                f"the cases, and {significance:.1%} is the limit for a fail"
            )
            check["detail"]["needs"] = {"run_factor": _longer(check, p, significance / len(tested), replicas)}


def chance(check: Mapping[str, Any], replicas: int | None) -> float | None:
    """One-sided p-value of a result beyond its limit if the truth were on the limit; None for an exact check.

    From Student's t over replicas, which the error bars are made from; of a check with several measures, Bonferroni's
    correction of the smallest.
    """
    detail, direction = check["detail"], getattr(CHECKS.get(check["check"]), "direction", "reported")
    if check["verdict"] not in ("pass", "fail", "inconclusive") or direction == "reported" or detail.get("incomplete"):
        return None
    if isinstance(detail.get("p_value"), float):
        return detail["p_value"]
    if detail.get("by_own_rule"):
        return None
    measures = detail.get("measures") or [
        {"value": check["value"], "error": check["error"], "limit": check["threshold"]}
    ]
    ps = [p for one in measures if (p := _beyond(one, one.get("direction", direction), replicas)) is not None]
    return min(1.0, len(ps) * min(ps)) if ps else None


def _beyond(one: Mapping[str, Any], direction: str, replicas: int | None) -> float | None:
    value, error, limit = one.get("value"), one.get("error"), one.get("limit")
    if not isinstance(value, int | float) or not isinstance(limit, int | float) or error == 0:
        return None
    if error is None or not math.isfinite(error):  # infinite errors are null in a file
        return 1.0
    freedom = (replicas or FEWEST_REPLICAS) - 1
    excess = (value - limit) if direction == "at most" else (limit - value)
    return float(stats.t.sf(excess * student_t(freedom, CONFIDENCE) / error, freedom))


def _longer(check: Mapping[str, Any], p: float, wanted: float, replicas: Mapping[str, int]) -> float:
    """How many times longer a run shows the same excess with chance `wanted`: errors fall as 1/√length."""
    freedom = (replicas.get(check["subject"]) or FEWEST_REPLICAS) - 1
    return float(stats.t.isf(wanted, freedom) / stats.t.isf(p, freedom)) ** 2

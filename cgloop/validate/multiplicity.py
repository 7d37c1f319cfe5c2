"""Correction for many checks: fails that are expected by chance among so many are taken back."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from scipy import stats

from cgloop.validate.judgement import Case, Chance, Checks, JudgedCheck, Reason, asked
from cgloop.validate.registry import OF_THE_MODEL
from cgloop.validate.statistics import CONFIDENCE, holm, student_t

FEWEST_REPLICAS = 3
"""Assumed where the number of replicas is not known: the widest tails."""


def correct_for_number(checks: Checks, case: Case) -> Checks:
    """Take back fails that are expected by chance among so many required checks.

    A pass needs every check to pass, so that no check needs a correction for the others (intersection–union test:
    Berger, Technometrics 24, 295, 1982). A fail needs one only: therefore the p-values of all required checks that have
    an error bar, or are p-values, go through Holm's procedure together, and the chance that a healthy model is failed
    by any of them is at most `case.significance`.

    What does not enter this family: exact checks; fails that are not due to an error bar (those of rules with a
    significance of their own, and those whose value is inside the limit); and evident fails, which hold whatever the
    others say. To leave evident fails out does not loosen the test of the others: whatever is left out, the
    family holds every check that is sound and not evidently failed, and Holm's bound needs no more. A sound check
    that fails evidently is an error of its own, whose rate `benchmarks.gate_power` measures and which adds to
    `case.significance`.
    """
    family = {
        index: p
        for index in asked(checks, case)
        if not checks[index].evident_fail and (p := _tested(checks[index], case)) is not None
    }
    if not family:
        return checks
    corrected = holm(list(family.values()))
    changed = list(checks)
    for (index, alone), together in zip(family.items(), corrected, strict=True):
        check = replace(checks[index], chance=Chance(alone, float(together)))
        if check.verdict == "fail" and not together <= case.significance:
            reason = Reason(
                "chance", {"checks": len(family), "chance": float(together), "limit": case.significance}
            )  # fmt: skip
            factor = _longer(alone, case.significance / len(family), case.replicas(check))
            more = "data_factor" if check.name in OF_THE_MODEL else "run_factor"
            check = check.changed("inconclusive", reason, {more: factor})
        changed[index] = check
    return tuple(changed)


def _tested(check: JudgedCheck, case: Case) -> float | None:
    """The p-value with which a check enters the family; None if it does not."""
    if check.set_aside is not None:
        return None
    p = chance(check, case.replicas(check))
    return p if p is not None and (check.verdict != "fail" or p < 0.5) else None


def chance(check: JudgedCheck, replicas: int | None) -> float | None:
    """Return the one-sided p-value of a result beyond its limit if the truth were on the limit; None if it is exact.

    From Student's t over replicas, which the error bars are made from, with the error of the reference added in
    quadrature; of a check with several measures, Bonferroni's correction of the smallest.
    """
    detail = check.detail
    direction = check.declared.direction if check.declared else "reported"
    if check.verdict == "reported" or direction == "reported" or check.incomplete:
        return None
    if isinstance(detail.get("p_value"), float):
        return detail["p_value"]
    if detail.get("by_own_rule"):
        return None
    measures = detail.get("measures") or [
        {name: check.result[key] for name, key in (("value", "value"), ("error", "error"), ("limit", "threshold"))}
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
    both = math.hypot(error, one.get("reference_error") or 0.0)
    return float(stats.t.sf(excess * student_t(freedom, CONFIDENCE) / both, freedom))


def _longer(p: float, wanted: float, replicas: int | None) -> float:
    """How many times longer a run shows the same excess with chance `wanted`: errors fall as 1/√length."""
    freedom = (replicas or FEWEST_REPLICAS) - 1
    return float(stats.t.isf(wanted, freedom) / stats.t.isf(p, freedom)) ** 2

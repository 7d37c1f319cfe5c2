"""The words of a verdict: its summary, a sentence for each check, what would decide, and a table for the terminal."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cgloop.validate.registry import CHECKS

LONGEST_RUN_FACTOR = 100

COLUMNS = ("verdict", "check", "of", "value", "limit", "reference")


def passed(check: Mapping[str, Any]) -> bool:
    """A pass whose value is a number; null stands for a value that could not be computed."""
    value = check.get("value")
    return check["verdict"] == "pass" and isinstance(value, int | float) and math.isfinite(value)


def ungated(metrics: Mapping[str, Any]) -> str:
    """Why nothing of a run is gated, or nothing."""
    temperature = metrics.get("temperature") or {}
    if temperature.get("gated", True):
        return ""
    return (
        f"the MD ran at {temperature['md_K']:g} K and the model belongs to {temperature['model_K']:g} K: "
        "everything is reported, nothing is gated"
    )


def summarize(
    verdict: str,
    deciding: Sequence[Mapping[str, Any]],
    missing: Sequence[Any],
    metrics: Mapping[str, Any],
    aside: Sequence[Mapping[str, Any]] = (),
) -> str:
    """One or two sentences for somebody who reads nothing else.

    Args:
        verdict: of the gate.
        deciding: results of the required checks.
        missing: required checks without a result.
        metrics: contents of `metrics.json`.
        aside: required checks that cannot tell, and do not decide.
    """
    if why := ungated(metrics):
        return why[:1].upper() + why[1:] + "."
    if verdict == "pass":
        if not aside:
            return (
                f"All {len(deciding)} required checks pass." if len(deciding) > 1 else "The one required check passes."
            )
        more = f" ({len(aside) - 1} more)" if len(aside) > 1 else ""
        return f"All {len(deciding)} required checks that can tell pass. {cannot_tell(aside[0])}{more}."
    failed = [check for check in deciding if check["verdict"] == "fail"]
    open_ = [check for check in deciding if check["verdict"] != "fail" and not passed(check)]
    total = len(deciding) + len(missing)
    if verdict == "fail":
        if not failed:
            stopped = metrics.get("stopped")
            return f"{len(missing)} of {total} required checks were not measured" + (
                f": {stopped}." if stopped else "; missing data is a failure of the run."
            )
        more = f" {metrics['stopped']}." if metrics.get("stopped") else ""
        others = f" ({len(failed) - 1} more)" if len(failed) > 1 else ""
        fail = "fails" if len(failed) == 1 else "fail"
        return f"{len(failed)} of {total} required checks {fail}; first: {sentence(failed[0])}{others}.{more}"
    advice = what_decides([check["detail"].get("needs") or {} for check in open_])
    advice = f" What would decide: {advice}." if advice else ""
    return (
        f"{total - len(open_)} of {total} required checks pass, {len(open_)} cannot be decided; "
        f"first: {title(open_[0]['check'])} of {open_[0]['subject']}: {open_[0]['reason'].split(', but ')[0]}.{advice}"
    )


def cannot_tell(check: Mapping[str, Any]) -> str:
    """Of a required check that does not decide: why."""
    return f"Not gated, because it cannot tell: {title(check['check'])} of {check['subject']}: {check['not_gated']}"


def undecided_structure(protein: str, aside: Sequence[Mapping[str, Any]]) -> str:
    """Why nothing passes where no comparison with the reference decides."""
    own = [check for check in aside if check["subject"] == protein]
    return (
        f"All other required checks pass, but nothing was decided about the structure of {protein}: none of the "
        f"{len(own)} required comparisons with the reference can tell; first: {title(own[0]['check'])}: "
        f"{own[0]['not_gated']}."
    )


def refused(missed: Sequence[Mapping[str, Any]]) -> str:
    """Why the gate does not judge: known-bad trajectories that it let through."""
    if not missed:
        return ""
    first = missed[0]
    more = f" ({len(missed) - 1} more)" if len(missed) > 1 else ""
    return (
        f"The gate refuses to judge: a known-bad trajectory of {first['subject']} is not failed by the check that is "
        f"meant for it: {first['text']}, and {title(first['check'])} says: {first['reason']}{more}. A check that lets "
        "that pass can pass nothing: mend its limit in the config, or take it out of `gate.required`."
    )


def sentence(check: Mapping[str, Any]) -> str:
    """A check's result, and what would decide it."""
    needs = check["detail"].get("needs") if check["verdict"] == "inconclusive" else None
    advice = what_decides([needs]) if needs else ""
    end = f" (what would decide: {advice})" if advice else ""
    return f"{title(check['check'])} of {check['subject']}: {check['reason']}{end}"


def what_decides(needs: Sequence[Mapping[str, Any]]) -> str:
    """In words, what would decide all these checks; empty if that is not known.

    Args:
        needs: of each check, see `comparison.Needs`; a run factor of None is one that no finite run reaches.
    """
    parts = []
    factors = [need["run_factor"] for need in needs if "run_factor" in need]
    if any(factor is None or factor > LONGEST_RUN_FACTOR for factor in factors):
        parts.append(f"a run more than {LONGEST_RUN_FACTOR} times as long, which means a value farther from the limit")
    elif factors:
        parts.append(f"a run about {max(1.1, math.ceil(10 * max(factors)) / 10):g} times as long")
    if replicas := max((need.get("replicas") or 0 for need in needs), default=0):
        parts.append(f"at least {replicas:g} replicas")
    if any(need.get("longer_reference") for need in needs):
        parts.append("a longer reference")
    return " and ".join(parts)


def title(name: str) -> str:
    """Of a check, for people."""
    return CHECKS[name].title if name in CHECKS else name


def table(verdict: Mapping[str, Any]) -> list[str]:
    """The checks of a verdict as lines for the terminal; the required ones first, then optional, then the others."""
    checks = sorted(verdict["checks"], key=lambda check: (not check["required"], not check.get("optional")))
    rows = [COLUMNS, *map(_row, checks)]
    rows += [("missing", title(one["check"]), one["subject"], "not measured", "", "") for one in verdict["missing"]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _row(check: Mapping[str, Any]) -> tuple[str, ...]:
    kind = "" if check["required"] else " (optional)" if check.get("optional") else " (not required)"
    verdict = check["verdict"] if check["verdict"] == "reported" else f"{check['verdict']}{kind}"
    value, error, unit = check.get("value"), check.get("error"), check.get("unit") or ""
    if value is None:
        shown = "none"
    else:
        bar = "" if error == 0 else f" ± {_short(error, 2)}"
        shown = f"{_short(value, 3)}{bar} {unit}".rstrip()
    limit = "" if check.get("threshold") is None else f"{check.get('direction') or ''} {_short(check['threshold'], 3)}"
    reference = "" if check.get("reference") is None else _short(check["reference"], 3)
    return verdict, title(check["check"]), check["subject"], shown, limit.strip(), reference


def _short(number: float | None, digits: int) -> str:
    return "?" if number is None else f"{number:.{digits}g}"

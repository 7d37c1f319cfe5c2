"""The words of a verdict: its summary, a sentence for each check, what would decide, and a table for the terminal."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cgloop.validate.judgement import Judged, JudgedCheck, Reason, ReasonKind
from cgloop.validate.registry import CHECKS

LONGEST_RUN_FACTOR = 100
MORE_DATA = "more training data"

COLUMNS = ("verdict", "check", "of", "value", "limit", "reference")


WORDS: Mapping[ReasonKind, str] = {
    "not applicable": "{reason}",
    "control missing": "the control with the reference was not run",
    "control fails": "the reference itself fails this check, which therefore cannot judge: {reason}",
    "control inconclusive": "the reference itself is inconclusive in this check: {reason}",
    "no power": "this check cannot tell the reference from that at {temperature_K:g} K",
    "run too short": "a run of this length would pass as well if it were wrong ({text})",
    "chance": "but among {checks} checks that happens by chance in {chance:.1%} of the cases, and {limit:.1%} is the "
    "limit for a fail",
    "structure undecided": "nothing was decided about the structure of {protein}",
    "other engine": "{engine} ran the dynamics, and only the in-process LAMMPS decides: set `md.engine: lammps`",
    "no known-bad trajectories": "no known-bad trajectories were judged beside {protein}: run `cgloop validate` again",
}
"""The sentence of each kind of reason."""

ENGINES = {"lmp": "an external LAMMPS, which nothing watches step by step,"}
"""Engines with another name in sentences than in the config."""

SET_ASIDE: Mapping[ReasonKind, str] = {
    "not applicable": "{reason}",
    "no power": "it cannot tell the reference from that at {temperature_K:g} K",
}
"""The same beside the name of a check that was set aside."""


def in_words(reason: Reason) -> str:
    """Return the sentence of a reason."""
    values = dict(reason.values)
    if "engine" in values:
        values["engine"] = ENGINES.get(values["engine"], values["engine"])
    return WORDS[reason.kind].format(**values)


def why(check: JudgedCheck) -> str:
    """Return what was measured, what the check itself says about it, and why the gate changed the verdict."""
    return "; ".join([str(check.result.get("reason") or ""), *map(in_words, check.reasons)])


def why_set_aside(check: JudgedCheck) -> str:
    """Return why a check decides nothing about its protein; empty if it does."""
    reason = check.set_aside
    return "" if reason is None else SET_ASIDE[reason.kind].format(**reason.values)


def summarize(verdict: str, objection: Reason | None, missed: Sequence[Mapping[str, Any]], judged: Judged) -> str:
    """Return one or two sentences for a reader who reads nothing else.

    Args:
        verdict: of the gate.
        objection: why a pass became inconclusive, if it did.
        missed: known-bad trajectories that a required check let pass.
        judged: all checks.
    """
    text = refused(missed) if missed else _summary(verdict, objection, judged)
    if fails := judged.optional_fails:
        text += f" Besides, {len(fails)} optional fail; first: {sentence(fails[0])}."
    return text


def _summary(verdict: str, objection: Reason | None, judged: Judged) -> str:
    if judged.case.ungated:
        temperature = judged.case.temperature or {}
        return (
            f"The MD ran at {temperature['md_K']:g} K and the model belongs to {temperature['model_K']:g} K: "
            "everything is reported, nothing is gated."
        )
    if objection is not None and objection.kind == "structure undecided":
        return _nothing_about_structure(objection, judged)
    if objection is not None:
        return f"{_all_pass(judged)} But {in_words(objection)}."
    if verdict == "pass":
        return _all_pass(judged)
    return _some_fail(judged) if verdict == "fail" else _some_open(judged)


def _all_pass(judged: Judged) -> str:
    deciding, aside = judged.deciding, judged.aside
    if aside:
        more = f" ({len(aside) - 1} more)" if len(aside) > 1 else ""
        return f"All {len(deciding)} required checks that can tell pass. {cannot_tell(aside[0])}{more}."
    return f"All {len(deciding)} required checks pass." if len(deciding) > 1 else "The one required check passes."


def _some_fail(judged: Judged) -> str:
    failed, missing, stopped = judged.failed, judged.missing, judged.case.stopped
    total = len(judged.deciding) + len(missing)
    if not failed:
        cause = f": {stopped}." if stopped else "; missing data is a failure of the run."
        return f"{len(missing)} of {total} required checks were not measured{cause}"
    others = f" ({len(failed) - 1} more)" if len(failed) > 1 else ""
    fail = "fails" if len(failed) == 1 else "fail"
    more = f" {stopped}." if stopped else ""
    return f"{len(failed)} of {total} required checks {fail}; first: {sentence(failed[0])}{others}.{more}"


def _some_open(judged: Judged) -> str:
    open_, total = judged.open, len(judged.deciding) + len(judged.missing)
    advice = what_decides([check.what_decides for check in open_])
    end = f" What would decide: {advice}." if advice else ""
    first = open_[0]
    # The advice says what the doubts of the first ask for; beside it, the number is enough.
    shown = str(first.result.get("measured") or why(first))
    return (
        f"{total - len(open_)} of {total} required checks pass, {len(open_)} cannot be decided; "
        f"first: {first.title} of {first.subject}: {shown}.{end}"
    )


def _nothing_about_structure(objection: Reason, judged: Judged) -> str:
    protein = objection.values["protein"]
    own = [check for check in judged.aside if check.subject == protein]
    return (
        f"All other required checks pass, but {in_words(objection)}: none of the "
        f"{len(own)} required comparisons with the reference can tell; first: {own[0].title}: {why_set_aside(own[0])}."
    )


def refused(missed: Sequence[Mapping[str, Any]]) -> str:
    """Return why the gate does not judge: known-bad trajectories that it let through."""
    first = missed[0]
    more = f" ({len(missed) - 1} more)" if len(missed) > 1 else ""
    return (
        f"The gate refuses to judge: a known-bad trajectory of {first['subject']} is not failed by the check that is "
        f"meant for it: {first['text']}, and {title(first['check'])} says: {first['reason']}{more}. A check that lets "
        "that pass can pass nothing: mend its limit in the config, or take it out of `gate.required`."
    )


def cannot_tell(check: JudgedCheck) -> str:
    """Return why a required check does not decide, with its name."""
    return f"Not gated, because it cannot tell: {check.title} of {check.subject}: {why_set_aside(check)}"


def sentence(check: JudgedCheck) -> str:
    """Return a check's result, and what would decide it."""
    advice = what_decides([check.what_decides])
    end = f" (what would decide: {advice})" if advice else ""
    return f"{check.title} of {check.subject}: {why(check)}{end}"


def what_decides(needs: Sequence[Mapping[str, Any]]) -> str:
    """Return in words what would decide all these checks; empty if that is not known.

    Args:
        needs: of each check, see `comparison.Needs`; a run factor of None is one that no finite run reaches.
    """
    parts = []
    factors = [need["run_factor"] for need in needs if "run_factor" in need]
    if any(factor is None or factor > LONGEST_RUN_FACTOR for factor in factors):
        parts.append(f"a run more than {LONGEST_RUN_FACTOR} times as long, which means a value farther from the limit")
    elif factors:
        parts.append(f"a run about {max(1.1, math.ceil(10 * max(factors)) / 10):g} times as long")
    if wider := max((need.get("data_factor") or 0 for need in needs), default=0):
        few = wider <= LONGEST_RUN_FACTOR
        parts.append(
            f"about {max(1.1, math.ceil(10 * wider) / 10):g} times as many held-out frames" if few else MORE_DATA
        )
    if any(need.get("training_data") for need in needs):
        parts.append(MORE_DATA)
    if replicas := max((need.get("replicas") or 0 for need in needs), default=0):
        parts.append(f"at least {replicas:g} replicas")
    if any(need.get("longer_reference") for need in needs):
        parts.append("a longer reference")
    return " and ".join(dict.fromkeys(parts))


def title(name: str) -> str:
    """Return the title of a check; its name if it is not declared."""
    return CHECKS[name].title if name in CHECKS else name


def table(verdict: Mapping[str, Any]) -> list[str]:
    """Return the checks of a verdict as lines for the terminal: required, optional, then all others."""
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
        quantity = f" ({check['quantity']})" if check.get("quantity") else ""
        shown = f"{_short(value, 3)}{bar} {unit}".rstrip() + quantity
    limit = "" if check.get("threshold") is None else f"{check.get('direction') or ''} {_short(check['threshold'], 3)}"
    reference = "" if check.get("reference") is None else _short(check["reference"], 3)
    return verdict, title(check["check"]), check["subject"], shown, limit.strip(), reference


def _short(number: float | None, digits: int) -> str:
    return "?" if number is None else f"{number:.{digits}g}"

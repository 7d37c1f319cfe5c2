"""The gate: from check results to one verdict, in words that say what would change it."""

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cgloop.cautions import gate_cautions, protein_cautions
from cgloop.config.validate import REQUIRED
from cgloop.errors import UserError
from cgloop.validate.artifact import parity_checks
from cgloop.validate.gate_rules import OBJECTIONS, apply_rules, combine, missed_controls
from cgloop.validate.gate_words import (
    cannot_tell,
    sentence,
    summarize,
    title,
    what_decides,
    why,
    why_set_aside,
)
from cgloop.validate.judgement import Case, Judged, JudgedCheck
from cgloop.validate.power import POWER_NOTES
from cgloop.validate.registry import CHECKS

SCHEMA_VERSION = 1
NOT_MEASURED = "not measured"


def judge(
    metrics: Mapping[str, Any],
    required: Sequence[str],
    cautions: Sequence[Mapping[str, Any]] = (),
    *,
    optional: Sequence[str] = (),
    significance: float = 0.01,
    usual: Sequence[str] = REQUIRED,
) -> dict[str, Any]:
    """Return the verdict of the gate: the contents of `verdict.json`.

    `pass` needs every required check of every gated protein to pass, but for those that cannot tell: a comparison of
    structure that does not tell the reference from that at another temperature, or that has nothing to compare in this
    protein, is reported and does not decide. Nothing passes if that is so of all comparisons of a protein. One required
    fail is a fail, and so is a required check without a result: missing data is a failure of the run. All else is
    inconclusive. Before that, the rules of `gate_rules.RULES` apply: a check that the reference itself does not pass is
    inconclusive for the model too, and fails to be expected by chance among so many checks are taken back; neither
    takes back a fail that is evident. Where a required check lets a known-bad trajectory pass, the gate
    refuses to judge: inconclusive, whatever the checks say of the model.

    Args:
        metrics: contents of `metrics.json`, and `engine`, what ran the dynamics; of another than LAMMPS none passes.
        required: names of the checks that decide.
        cautions: those of the model, from the bundle's manifest; they do not change the verdict.
        optional: names of checks that do not decide, and whose fail is reported.
        significance: chance that a healthy model is failed by any of the required checks.
        usual: names of the checks that decide by default; a caution names those that did not.

    Returns:
        `verdict`, `refused`, `summary` (plain words), `reasons` (one sentence per required check that did not pass),
        `not_passed` (the same as data: `check`, `title`, `subject`, `verdict`, `reason`, `needs`, `what_decides`),
        `not_gated` (one sentence per required check that cannot tell),
        `cautions` (of the model, of the proteins that were simulated, of a gate with fewer checks than usual), `checks`
        (every result, with title, whether it is required, `measured_verdict`, and `gate_reasons`: why the gate changed
        that), `required`, `missing`, `controls`, `power_notes` (what the checks cannot see).

    Raises:
        UserError: a name in `required` or `optional` is not that of a check.
    """
    require_known(required)
    require_known(optional, "gate.optional")
    case = Case.of(metrics, required, optional, significance)
    judged = apply_rules(tuple(JudgedCheck.of(check) for check in metrics.get("checks") or []), case)
    verdict, objection = combine(judged), None
    if verdict == "pass":
        objection = next((reason for object_ in OBJECTIONS if (reason := object_(judged))), None)
    missed = missed_controls(case)
    if objection or missed:
        verdict = "inconclusive"
    own = [*protein_cautions(case.proteins), *gate_cautions(required, usual)]
    return {
        "schema_version": SCHEMA_VERSION,
        "verdict": verdict,
        "refused": bool(missed),
        "summary": summarize(verdict, objection, missed, judged),
        "engine": case.engine,
        **_told(judged),
        "cautions": [*cautions, *(one.to_json() for one in own)],
        "checks": [_check_to_json(check) for check in judged.checks],
        "required": list(required),
        "optional": list(optional),
        "significance": significance,
        "missing": [{"check": name, "subject": subject} for name, subject in judged.missing],
        "power_notes": {name: POWER_NOTES[name] for name in [*required, *optional] if name in POWER_NOTES},
        "proteins": case.proteins,
        "temperature": case.temperature,
        "controls": case.controls,
    }


def _told(judged: Judged) -> dict[str, Any]:
    """`reasons`, `not_passed` and `not_gated` of the verdict."""
    not_passed = [check for check in judged.deciding if check.verdict != "pass"]
    missing = [(name, title(name), subject) for name, subject in judged.missing]
    return {
        "reasons": [
            *(sentence(check) for check in not_passed),
            *(f"{words} of {subject}: {NOT_MEASURED}" for _, words, subject in missing),
        ],
        "not_passed": [
            *(
                {
                    "check": check.name, "title": check.title, "subject": check.subject, "verdict": check.verdict,
                    "reason": why(check), "needs": check.what_decides,
                    "what_decides": what_decides([check.what_decides]),
                }
                for check in not_passed
            ),
            *(
                {
                    "check": name, "title": words, "subject": subject, "verdict": "fail", "reason": NOT_MEASURED,
                    "needs": {}, "what_decides": "",
                }
                for name, words, subject in missing
            ),
        ],
        "not_gated": [cannot_tell(check) for check in judged.aside],
    }  # fmt: skip


def _check_to_json(check: JudgedCheck) -> dict[str, Any]:
    """An entry of `checks`: the result, and what the gate made of it."""
    declared = check.declared
    aside = {} if check.set_aside is None else {"not_gated": why_set_aside(check)}
    return {
        **check.result,
        "verdict": check.verdict,
        "measured_verdict": check.result["verdict"],
        "reason": why(check),
        "gate_reasons": [reason.to_json() for reason in check.reasons],
        "detail": check.detail,
        "title": check.title,
        "definition": declared.definition if declared else "",
        "direction": check.result.get("direction") or (declared.direction if declared else ""),
        "required": check.required,
        "optional": check.optional,
        **aside,
    }


def require_known(names: Sequence[str], where: str = "gate.required") -> None:
    """Raise `UserError` if one of the names is not that of a check, before hours of training."""
    for name in names:
        if name not in CHECKS:
            close = difflib.get_close_matches(name, list(CHECKS), n=1, cutoff=0.4)
            remedy = f"did you mean `{close[0]}`?" if close else f"known: {', '.join(CHECKS)}"
            raise UserError(f"unknown check `{name}`", where=where, remedy=remedy)


def parity_metrics(parity_json: Path) -> dict[str, Any]:
    """Return what can be judged when the loop stopped at parity: its two checks and nothing else.

    Raises:
        UserError: the file is missing or no JSON.
    """
    try:
        parity = json.loads(Path(parity_json).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot be read: {error}", where=parity_json, remedy="run `cgloop parity` again") from None
    return {
        "schema_version": SCHEMA_VERSION,
        "checks": [result.to_json() for result in parity_checks(parity)],
        "proteins": {},
        "controls": {},
        "stopped": "the exported artifact and the model differ, so that no MD was run",
    }

"""The gate: from check results to one verdict, in words that say what would change it."""

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cgloop.cautions import gate_cautions, protein_cautions
from cgloop.config.validate import REQUIRED
from cgloop.errors import UserError
from cgloop.validate.artifact import SUBJECT, parity_checks
from cgloop.validate.gate_controls import after_controls, correct_for_number, missed_controls, without_structure
from cgloop.validate.gate_words import (
    cannot_tell,
    passed,
    refused,
    sentence,
    summarize,
    title,
    undecided_structure,
    ungated,
)
from cgloop.validate.power import POWER_NOTES
from cgloop.validate.registry import CHECKS, OF_THE_MODEL

SCHEMA_VERSION = 1

GATE_ENGINE = "lammps"
"""The engine whose dynamics a model has to survive to be deployed: LAMMPS with the artifact that parity has compared,
watched at every step."""


def judge(
    metrics: dict[str, Any],
    required: Sequence[str],
    cautions: Sequence[dict[str, Any]] = (),
    *,
    optional: Sequence[str] = (),
    significance: float = 0.01,
) -> dict[str, Any]:
    """The verdict of the gate.

    `pass` needs every required check of every gated protein to pass, but for those that cannot tell: a comparison of
    structure that does not tell the reference from that at another temperature, or that has nothing to compare in this
    protein, is reported and does not decide. Nothing passes if that is so of all comparisons of a protein. One required
    fail is a fail, and so is a required check without a result: missing data is a failure of the run. All else is
    inconclusive. Before that, the controls apply: where the reference itself does not pass a structural check, that
    check is inconclusive for the model too, unless it failed because data are missing; and fails to be expected
    by chance among so many checks are taken back. Where a required check lets a known-bad trajectory pass, the gate
    refuses to judge: inconclusive, whatever the checks say of the model.

    Args:
        metrics: contents of `metrics.json`, and `engine`, what ran the dynamics; of another than LAMMPS none passes.
        required: names of the checks that decide.
        cautions: those of the model, from the bundle's manifest; they do not change the verdict.
        optional: names of checks that do not decide, and whose fail is told.
        significance: chance that a healthy model is failed by any of the required checks.

    Returns:
        `verdict`, `refused`, `summary` (plain words), `reasons` (one sentence per required check that did not pass),
        `not_gated` (one per required check that cannot tell),
        `cautions` (of the model, of the proteins that were simulated, of a gate with fewer checks than usual), `checks`
        (every result, with title and whether it is required), `required`, `missing`, `controls`,
        `power_notes` (what the checks cannot see).

    Raises:
        UserError: a name in `required` or `optional` is not that of a check.
    """
    require_known(required)
    require_known(optional, "gate.optional")
    controls, proteins = metrics.get("controls") or {}, metrics.get("proteins") or {}
    checks = [after_controls(dict(check), controls) for check in metrics.get("checks") or []]
    for check in checks:
        declared = CHECKS.get(check["check"])
        check["title"] = declared.title if declared else check["check"]
        check["definition"] = declared.definition if declared else ""
        check["direction"] = declared.direction if declared else ""
        check["required"] = check["check"] in required
        check["optional"] = check["check"] in optional and not check["required"]
    gated = [name for name, protein in sorted(proteins.items()) if protein.get("gated")]
    wanted = _wanted(required, gated)
    found = {(check["check"], check["subject"]): check for check in checks}
    missing = [{"check": name, "subject": subject} for name, subject in wanted if (name, subject) not in found]
    own = [*protein_cautions(proteins), *gate_cautions(required, REQUIRED)]
    asked = [found[key] for key in wanted if key in found]
    aside = [check for check in asked if "not_gated" in check]
    deciding = [check for check in asked if "not_gated" not in check]
    replicas = {name: int(protein["replicas"]) for name, protein in proteins.items() if protein.get("replicas")}
    correct_for_number(deciding, replicas, significance)
    verdict = _verdict(deciding, missing, metrics)
    summary = summarize(verdict, deciding, missing, metrics, aside)
    if verdict == "pass" and (blind := without_structure(deciding, aside)):
        verdict, summary = "inconclusive", undecided_structure(blind, aside)
    engine = metrics.get("engine") or GATE_ENGINE
    if verdict == "pass" and engine != GATE_ENGINE:
        verdict = "inconclusive"
        who = "an external LAMMPS, which nothing watches step by step," if engine == "lmp" else engine
        summary = (
            f"{summary} But {who} ran the dynamics, and only the in-process LAMMPS decides: set `md.engine: lammps`."
        )
    if verdict == "pass" and (never := [name for name in gated if name not in (controls.get("known_bad") or {})]):
        verdict = "inconclusive"
        summary = f"{summary} But no known-bad trajectories were judged beside {never[0]}: run `cgloop validate` again."
    missed = missed_controls(controls, required, gated)
    if missed:
        verdict, summary = "inconclusive", refused(missed)
    also = [check for check in checks if check["optional"] and check["verdict"] == "fail"]
    if also:
        summary += f" Besides, {len(also)} optional fail; first: {sentence(also[0])}."
    return {
        "schema_version": SCHEMA_VERSION,
        "verdict": verdict,
        "refused": bool(missed),
        "summary": summary,
        "engine": engine,
        "reasons": [sentence(check) for check in deciding if check["verdict"] != "pass"]
        + [f"{title(entry['check'])} of {entry['subject']}: not measured" for entry in missing],
        "not_gated": [cannot_tell(check) for check in aside],
        "cautions": [*cautions, *(one.to_json() for one in own)],
        "checks": checks,
        "required": list(required),
        "optional": list(optional),
        "significance": significance,
        "missing": missing,
        "power_notes": {name: POWER_NOTES[name] for name in [*required, *optional] if name in POWER_NOTES},
        "proteins": proteins,
        "temperature": metrics.get("temperature"),
        "controls": controls,
    }


def require_known(names: Sequence[str], where: str = "gate.required") -> None:
    """Raise `UserError` if one of the names is not that of a check; hours of training should not end in that."""
    for name in names:
        if name not in CHECKS:
            close = difflib.get_close_matches(name, list(CHECKS), n=1, cutoff=0.4)
            remedy = f"did you mean `{close[0]}`?" if close else f"known: {', '.join(CHECKS)}"
            raise UserError(f"unknown check `{name}`", where=where, remedy=remedy)


def parity_metrics(parity_json: Path) -> dict[str, Any]:
    """What can be judged when the loop stopped at parity: its two checks and nothing else.

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


def _wanted(required: Sequence[str], proteins: list[str]) -> list[tuple[str, str]]:
    """(check, subject) of everything that has to pass. Without a protein its checks are missing, not absent."""
    pairs = []
    for name in required:
        pairs += [(name, s) for s in ([SUBJECT] if name in OF_THE_MODEL else proteins or ["any protein"])]
    return pairs


def _verdict(deciding: list[dict[str, Any]], missing: list[dict[str, str]], metrics: dict[str, Any]) -> str:
    if ungated(metrics):
        return "inconclusive"
    if missing or any(check["verdict"] == "fail" for check in deciding):
        return "fail"
    # Anything but a pass counts against it: a required check that is only reported has decided nothing.
    return "pass" if all(passed(check) for check in deciding) else "inconclusive"

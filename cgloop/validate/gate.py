"""The gate: from check results to one verdict, in words that say what would change it."""

import difflib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cgloop.cautions import gate_cautions, protein_cautions
from cgloop.config.validate import REQUIRED
from cgloop.errors import UserError
from cgloop.validate.artifact import SUBJECT, parity_checks
from cgloop.validate.controls import CONTROLLED
from cgloop.validate.registry import CHECKS, OF_THE_MODEL

SCHEMA_VERSION = 1
LONGEST_RUN_FACTOR = 100


GATE_ENGINE = "lammps"
"""The engine whose dynamics a model has to survive to be deployed."""


def judge(metrics: dict[str, Any], required: list[str], cautions: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """The verdict of the gate.

    `pass` needs every required check of every gated protein to pass. One required fail is a fail, and so is a
    required check without a result: missing data is a failure of the run. All else is inconclusive. Before that,
    the controls apply: where the reference itself does not pass a structural check, that check is inconclusive for
    the model too, unless it failed because data are missing.

    Args:
        metrics: contents of `metrics.json`, and `engine`, what ran the dynamics; of another than LAMMPS none passes.
        required: names of the checks that decide.
        cautions: those of the model, from the bundle's manifest; they do not change the verdict.

    Returns:
        `verdict`, `summary` (plain words), `reasons` (one sentence per required check that did not pass), `cautions`
        (of the model, of the proteins that were simulated, of a gate with fewer checks than usual), `checks` (every
        result, with title and whether it is required), `required`, `missing`, `controls`.

    Raises:
        UserError: a name in `required` is not that of a check.
    """
    require_known(required)
    controls = metrics.get("controls") or {}
    checks = [_after_controls(dict(check), controls) for check in metrics.get("checks") or []]
    for check in checks:
        declared = CHECKS.get(check["check"])
        check["title"] = declared.title if declared else check["check"]
        check["definition"] = declared.definition if declared else ""
        check["direction"] = declared.direction if declared else ""
        check["required"] = check["check"] in required
    gated = [name for name, protein in sorted((metrics.get("proteins") or {}).items()) if protein.get("gated")]
    wanted = _wanted(required, gated)
    found = {(check["check"], check["subject"]): check for check in checks}
    missing = [{"check": name, "subject": subject} for name, subject in wanted if (name, subject) not in found]
    own = [*protein_cautions(metrics.get("proteins") or {}), *gate_cautions(required, REQUIRED)]
    deciding = [found[key] for key in wanted if key in found]
    verdict = _verdict(deciding, missing, metrics)
    summary = _summary(verdict, deciding, missing, metrics)
    engine = metrics.get("engine") or GATE_ENGINE
    if verdict == "pass" and engine != GATE_ENGINE:
        verdict = "inconclusive"
        summary = f"{summary} But the dynamics were run by {engine}, and only LAMMPS decides: set `md.engine: lammps`."
    return {
        "schema_version": SCHEMA_VERSION,
        "verdict": verdict,
        "summary": summary,
        "engine": engine,
        "reasons": [_sentence(check) for check in deciding if check["verdict"] != "pass"]
        + [f"{_title(entry['check'])} of {entry['subject']}: not measured" for entry in missing],
        "cautions": [*cautions, *(one.to_json() for one in own)],
        "checks": checks,
        "required": list(required),
        "missing": missing,
        "proteins": metrics.get("proteins") or {},
        "temperature": metrics.get("temperature"),
        "controls": controls,
    }


def require_known(names: list[str]) -> None:
    """Raise `UserError` if one of the names is not that of a check; hours of training should not end in that."""
    for name in names:
        if name not in CHECKS:
            close = difflib.get_close_matches(name, list(CHECKS), n=1, cutoff=0.4)
            remedy = f"did you mean `{close[0]}`?" if close else f"known: {', '.join(CHECKS)}"
            raise UserError(f"unknown check `{name}`", where="gate.required", remedy=remedy)


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


def _wanted(required: list[str], proteins: list[str]) -> list[tuple[str, str]]:
    """(check, subject) of everything that has to pass. Without a protein its checks are missing, not absent."""
    pairs = []
    for name in required:
        pairs += [(name, s) for s in ([SUBJECT] if name in OF_THE_MODEL else proteins or ["any protein"])]
    return pairs


def _after_controls(check: dict[str, Any], controls: dict[str, Any]) -> dict[str, Any]:
    """The result with the verdict that remains when the controls have spoken; the original in `measured_verdict`."""
    name, subject = check["check"], check["subject"]
    check["measured_verdict"] = check["verdict"]
    if name not in CONTROLLED or check["verdict"] not in ("pass", "fail") or check["detail"].get("incomplete"):
        return check
    control = controls.get("reference", {}).get(subject, {}).get(name)
    power = controls.get("power", {}).get(subject, {}).get(name)
    if control is None:
        check["verdict"], why = "inconclusive", "the control with the reference was not run"
    elif control["verdict"] == "fail":
        check["verdict"] = "inconclusive"
        why = f"the reference itself fails this check, which therefore cannot judge: {control['reason']}"
    elif control["verdict"] == "inconclusive":
        check["verdict"] = "inconclusive"
        why = f"the reference itself is inconclusive in this check: {control['reason']}"
        check["detail"] = {**check["detail"], "needs": control.get("needs") or {}}
    elif power is not None and not power["able"]:
        check["verdict"] = "reported"
        why = f"this check cannot tell the reference from that at {power['other_temperature_K']:g} K"
    else:
        return check
    check["reason"] = f"{check['reason']}; {why}"
    return check


def _verdict(deciding: list[dict[str, Any]], missing: list[dict[str, str]], metrics: dict[str, Any]) -> str:
    if _ungated(metrics):
        return "inconclusive"
    if missing or any(check["verdict"] == "fail" for check in deciding):
        return "fail"
    # Anything but a pass counts against it: a required check that is only reported has decided nothing.
    return "pass" if all(_passed(check) for check in deciding) else "inconclusive"


def _passed(check: dict[str, Any]) -> bool:
    """A pass whose value is a number; null stands for a value that could not be computed."""
    value = check.get("value")
    return check["verdict"] == "pass" and isinstance(value, int | float) and math.isfinite(value)


def _ungated(metrics: dict[str, Any]) -> str:
    """Why nothing of a run is gated, or nothing."""
    temperature = metrics.get("temperature") or {}
    if temperature.get("gated", True):
        return ""
    return (
        f"the MD ran at {temperature['md_K']:g} K and the model belongs to {temperature['model_K']:g} K: "
        "everything is reported, nothing is gated"
    )


def _summary(
    verdict: str, deciding: list[dict[str, Any]], missing: list[dict[str, str]], metrics: dict[str, Any]
) -> str:
    """One or two sentences for somebody who reads nothing else."""
    if ungated := _ungated(metrics):
        return ungated[:1].upper() + ungated[1:] + "."
    if verdict == "pass":
        return f"All {len(deciding)} required checks pass." if len(deciding) > 1 else "The one required check passes."
    failed = [check for check in deciding if check["verdict"] == "fail"]
    open_ = [check for check in deciding if check["verdict"] != "fail" and not _passed(check)]
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
        return f"{len(failed)} of {total} required checks {fail}; first: {_sentence(failed[0])}{others}.{more}"
    advice = what_decides([check["detail"].get("needs") or {} for check in open_])
    advice = f" What would decide: {advice}." if advice else ""
    return (
        f"{total - len(open_)} of {total} required checks pass, {len(open_)} cannot be decided; "
        f"first: {_title(open_[0]['check'])} of {open_[0]['subject']}: {open_[0]['reason'].split(', but ')[0]}.{advice}"
    )


def _sentence(check: dict[str, Any]) -> str:
    needs = check["detail"].get("needs") if check["verdict"] == "inconclusive" else None
    advice = what_decides([needs]) if needs else ""
    end = f" (what would decide: {advice})" if advice else ""
    return f"{_title(check['check'])} of {check['subject']}: {check['reason']}{end}"


def what_decides(needs: list[dict[str, Any]]) -> str:
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


def _title(name: str) -> str:
    return CHECKS[name].title if name in CHECKS else name

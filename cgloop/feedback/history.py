"""What became of each cycle of a run, side by side: `cycles.json`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cgloop.config.root import Config
from cgloop.feedback.plan import Plan, compare, same_model
from cgloop.rundir import trained_folder
from cgloop.stages import read_json, write_json
from cgloop.train.evaluate import rmse_difference

SCHEMA_VERSION = 1
STRUCTURE = ("structure.rmsd", "structure.contacts", "structure.q", "structure.rg")


def row_of(folder: Path, plans: Sequence[Plan], rows: Sequence[dict[str, Any]], config: Config) -> dict[str, Any]:
    """What became of a cycle.

    Args:
        folder: of the cycle.
        plans: of all cycles until this one.
        rows: of the cycles before.
        config: of the run.

    Returns:
        `cycle`, `verdict`, `summary`; `survival` (share of the time asked for, 0 if nothing is known), `survived_ns`,
        `asked_ns`; `failed` and `undecided` (numbers of required checks); `crashes` (by class);
        `too_little_data` (the network learned its training frames and gains nothing on others); `wrong_structure` (a
        required structural check fails); `drift`, `force`
        (`rmse`, `prior`, `minus_prior`, kcal/mol/Å) and `structure` (checks by protein, value, error, verdict);
        `force_rise` (RMSE less that of the base cycle on the same frames, `value` and 95 % `error`; `comparable` if
        model and priors are the same, so that decoys may be the cause); `decoys` (`used`
        in training and `found` in MD); `remedies` (in force), `tried`, `undone`, `base`, `start`; `compared` with the
        base (`with`, `result`, `why`).
    """
    plan = plans[-1]
    trained_in = trained_folder(folder)
    verdict, forces = read_json(folder / "verdict.json"), read_json(trained_in / "forces.json")
    feedback, trained = read_json(folder / "feedback" / "feedback.json"), read_json(trained_in / "summary.json")
    if read_json(folder / "parity" / "parity.json").get("verdict") != "pass":
        # No MD was run with this model; what lies there is of an earlier one.
        feedback = {}
    checks = verdict.get("checks") or []
    survival = _survival(checks)
    required = [check for check in checks if check.get("required")]
    row = {
        "cycle": plan.cycle,
        "verdict": verdict.get("verdict", "inconclusive"),
        "summary": verdict.get("summary", ""),
        **survival,
        "failed": sum(check["verdict"] == "fail" for check in required) + len(verdict.get("missing") or []),
        "undecided": sum(check["verdict"] == "inconclusive" for check in required),
        "crashes": _classes(feedback),
        "too_little_data": _too_little_data(checks),
        "wrong_structure": _wrong_structure(required),
        "drift": _values(checks, ("nve.drift",)),
        "force": {
            "rmse": forces.get("rmse_full"),
            "prior": forces.get("rmse_prior"),
            "minus_prior": forces.get("full_minus_prior"),
            "unit": "kcal/mol/Å",
        },
        "structure": _values(checks, STRUCTURE),
        "decoys": {
            "used": int((trained.get("frames") or {}).get("decoys", 0)),
            "found": int(feedback.get("decoys") or 0),
        },
        "remedies": [one["remedy"] for one in plan.active],
        "tried": plan.tried,
        "undone": plan.undone,
        "base": plan.base,
        "start": plan.start,
    }
    row["force_rise"] = None
    row["compared"] = None
    if plan.base is not None:
        base_folder = folder.parent / f"cycle_{plan.base:03d}"
        row["force_rise"] = _rise(forces, read_json(trained_folder(base_folder) / "forces.json"), config.run.seed)
        if row["force_rise"] is not None:
            same = same_model(config, plan, plans[plan.base])
            row["force_rise"] = {**row["force_rise"], "against": plan.base, "comparable": same}
        result, why = compare(row, rows[plan.base], config.feedback.min_gain)
        row["compared"] = {"with": plan.base, "result": result, "why": why}
    return row


def write_history(run: Path, rows: Sequence[dict[str, Any]], ended: str) -> None:
    """Write `cycles.json` on top of a run; `ended` says why no further cycle was made, empty while there are more."""
    write_json(run / "cycles.json", {"schema_version": SCHEMA_VERSION, "ended": ended, "cycles": list(rows)})


def _survival(checks: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Over all proteins; what was not measured did not survive."""
    details = [check.get("detail") or {} for check in checks if check["check"] == "stability.survival"]
    survived, asked = (sum(float(one.get(key) or 0.0) for one in details) for key in ("survived_ns", "asked_ns"))
    share = min(1.0, survived / asked) if asked > 0 else 0.0
    return {"survival": share if np.isfinite(share) else 0.0, "survived_ns": survived, "asked_ns": asked}


def _too_little_data(checks: Sequence[dict[str, Any]]) -> bool:
    """Whether the network lacks training data, by `training.network_helps`."""
    return any(
        check["check"] == "training.network_helps" and bool((check.get("detail") or {}).get("too_little_data"))
        for check in checks
    )


def _wrong_structure(required: Sequence[dict[str, Any]]) -> bool:
    """Return whether a required structural check fails, of frames that are all there."""
    return any(
        check["check"].startswith("structure.")
        and check["verdict"] == "fail"
        and not (check.get("detail") or {}).get("incomplete")
        for check in required
    )


def _classes(feedback: dict[str, Any]) -> dict[str, int]:
    """Number of replicas stopped, by class."""
    counts: dict[str, int] = {}
    for crash in feedback.get("crashes") or []:
        counts[crash["class"]] = counts.get(crash["class"], 0) + len(crash.get("replicas") or [0])
    return counts


def _values(checks: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Value, error, unit and verdict of checks, by name and protein."""
    found: dict[str, dict[str, Any]] = {}
    for check in checks:
        if check["check"] in names:
            kept = {key: check.get(key) for key in ("value", "error", "unit", "verdict")}
            found.setdefault(check["check"], {})[check["subject"]] = kept
    return found


def _rise(new: dict[str, Any], old: dict[str, Any], seed: int) -> dict[str, Any] | None:
    """RMSE of one training less that of another on the same held-out frames, from a paired bootstrap over blocks."""
    one, other = new.get("blocks"), old.get("blocks")
    if not one or not other or one["components"] != other["components"]:
        return None
    squares = np.array([one["squares"], other["squares"]], float)
    found = rmse_difference(squares, np.array(one["components"], float), seed)
    return {"value": found["value"], "error": found["error"]}

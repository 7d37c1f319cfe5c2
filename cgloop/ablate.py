"""Prior alone, network alone, and both, each as trained and, on request, as refined: runs on equal terms."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cgloop.config import Config
from cgloop.cycle import Outcome, report, run_cycles
from cgloop.errors import ExitCode
from cgloop.feedback.remedies import changed
from cgloop.rundir import RunDirectory
from cgloop.stages import read_json, write_json

log = logging.getLogger("cgloop.ablate")

SCHEMA_VERSION = 1
ARMS = ("prior-only", "ml-only", "hybrid")
REFINED = "-refined"
"""End of the name of a run whose training is refined."""

KEPT = (
    "verdict", "summary", "failed", "undecided", "survival", "survived_ns", "asked_ns", "crashes", "force", "drift",
    "structure",
)  # fmt: skip
"""Of a row of `cycles.json`."""

ABOUT = {
    "arms": "the same data, splits, seed, training and MD settings; only `model.energy` differs, and whether the "
    "training is refined",
    "convergence": "validation loss, (kcal/mol/Å)² per component, before and at the best epoch; epochs; why it ended",
    "force": "RMSE on held-out frames, kcal/mol/Å; `minus_prior` less that of the fitted prior, with its 95 % error",
    "survival": "share of the replica time asked for that stayed inside all limits, NVT and NVE together",
    "page": "report of the run, relative to the folder of this file",
    "drift, structure": "checks by protein, with value, error and verdict as in verdict.json",
}


def arms_of(config: Config) -> tuple[str, ...]:
    """Return the names of the runs: with `refine.when: always` those with a prior are refined as well.

    A network alone is not: without a prior its chains break at once, and a refinement would refuse it.
    """
    if config.refine.when != "always":
        return ARMS
    return (*ARMS, *(f"{arm}{REFINED}" for arm in ARMS if arm != "ml-only"))


def arm_config(config: Config, arm: str, root: Path) -> Config:
    """The config of one of the runs: one cycle, no remedies, nothing to start from.

    Args:
        config: of the run that is taken apart.
        arm: a value of `model.energy`, followed by `-refined` where the training is refined.
        root: folder of the runs.
    """
    energy = arm.removesuffix(REFINED)
    changes: dict[str, Any] = {
        "run.name": arm, "run.root": str(root), "cycles": 1, "model.energy": energy, "train.start": None,
        "refine.when": "always" if arm.endswith(REFINED) else "never",
    }  # fmt: skip
    if energy == "ml-only":
        changes["train.train_priors"] = False
    if energy != "hybrid":
        # There is only one thing that can be refined.
        changes["refine.parameters"] = None
    return changed(config, changes)


def ablate(config: Config, run: RunDirectory, *, take_over: bool = False) -> Outcome:
    """Train and judge all; write `ablation.json` beside them; go on where it was stopped.

    Returns:
        Exit code 0 when all were judged, whatever the verdicts; that of an interruption otherwise.
    """
    root = run.path.parent / f"{config.run.name}-ablation"
    arms: dict[str, Any] = {}
    names = arms_of(config)
    for arm in names:
        own = RunDirectory(root / arm)
        log.info("%s", arm)
        _link(root / ARMS[0], own, ("prep",))
        if arm.endswith(REFINED):
            _link(root / arm.removesuffix(REFINED), own, ("priors", "train"))
        outcome = run_cycles(arm_config(config, arm, root), own, take_over=take_over)
        if outcome.code not in (ExitCode.PASS, ExitCode.FAIL, ExitCode.INCONCLUSIVE):
            return Outcome(outcome.code, (*outcome.lines[:1], "run the same command again to continue the ablation"))
        arms[arm] = summary_of(own, root)
    write_json(root / "ablation.json", {"schema_version": SCHEMA_VERSION, "about": ABOUT, "arms": arms})
    for one in (run, *(RunDirectory(root / arm) for arm in names)):
        if one.path.is_dir():
            report(one)  # the table is on the page of each
    return Outcome(ExitCode.PASS, (*table(arms), f"look at  {root / 'ablation.json'}  (pages: {root}/*/report.html)"))


def _link(earlier: Path, own: RunDirectory, stages: Sequence[str]) -> None:
    """Let stages of an earlier run serve another; where they do not fit, the stage makes its own."""
    for stage in stages:
        made, wanted = RunDirectory(earlier).stage(0, stage), own.stage(0, stage)
        if made.is_dir() and own.path != earlier and not wanted.exists():
            wanted.parent.mkdir(parents=True, exist_ok=True)
            wanted.unlink(missing_ok=True)
            wanted.symlink_to(os.path.relpath(made, wanted.parent))


def summary_of(run: RunDirectory, root: Path) -> dict[str, Any]:
    """What became of a run: its row of `cycles.json`, and how its training went.

    Args:
        run: one of them.
        root: folder of `ablation.json`; it may be moved, with the runs in it.

    Returns:
        `verdict`, `summary`, `failed`, `undecided`, `survival`, `survived_ns`, `asked_ns`, `crashes`, `force`, `drift`,
        `structure` as in `cycles.json`; `convergence` (`initial_loss`, `best_loss`, `final_loss`, `epochs`,
        `best_epoch`, `stopped`; None where nothing was trained); `page`.
    """
    row = read_json(run.path / "cycles.json")["cycles"][-1]
    history = read_json(run.stage(0, "train") / "history.json")
    losses = (history.get("columns") or {}).get("validation_loss") or []
    convergence = None
    if losses:
        convergence = {
            "initial_loss": history.get("initial_validation_loss"),
            "best_loss": min(losses),
            "final_loss": losses[-1],
            "epochs": len(losses),
            "best_epoch": history.get("best_epoch"),
            "stopped": history.get("stopped"),
        }
    return {
        **{key: row[key] for key in KEPT},
        "convergence": convergence,
        "page": run.report.relative_to(root).as_posix(),
    }


def table(arms: dict[str, Any]) -> list[str]:
    """All side by side, a line each."""
    columns = ["", "verdict", "epochs", "val. loss", "force RMSE", "survival", "drift", "ΔQ", "crashes"]
    rows = [columns, *(_cells(arm, one) for arm, one in arms.items())]
    widths = [max(len(row[k]) for row in rows) for k in range(len(columns))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _cells(arm: str, one: dict[str, Any]) -> list[str]:
    training, rmse = one["convergence"], one["force"]["rmse"]
    crashes = ", ".join(f"{count} × {kind}" for kind, count in sorted(one["crashes"].items()))
    return [
        arm,
        one["verdict"],
        str(training["epochs"]) if training else "–",
        f"{training['initial_loss']:.4g} → {training['best_loss']:.4g}" if training else "–",
        "–" if rmse is None else f"{rmse:.3f}",
        f"{one['survival']:.0%}",
        _worst(one["drift"].get("nve.drift")),
        _worst(one["structure"].get("structure.q")),
        crashes or "none",
    ]


def _worst(proteins: dict[str, Any] | None) -> str:
    """Value ± error of the protein with the largest value; a dash where nothing was measured."""
    found = [one for one in (proteins or {}).values() if one["value"] is not None]
    if not found:
        return "–"
    worst = max(found, key=lambda one: abs(one["value"]))
    return f"{worst['value']:.3g} ± {worst['error'] or 0.0:.2g}"

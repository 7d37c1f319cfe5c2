"""The table of `cgloop ablate`: prior alone, network alone and both, on equal terms."""

from typing import Any

from cgloop.report.gather import RunFiles, read_json
from cgloop.report.rows import SYMBOLS, WORDS, short, with_error
from cgloop.report.section import Section, Table
from cgloop.wording import listing

NAMES = {
    "prior-only": "prior alone",
    "ml-only": "network alone",
    "hybrid": "prior and network",
    "prior-only-refined": "prior alone, refined",
    "hybrid-refined": "prior and network, refined",
}
INTRO = (
    "What prior, network and refinement each contribute: models of the same data, splits, seed, training and "
    "dynamics, of which only the energy differs, and whether the training was refined."
)


def make(run: RunFiles) -> Section | None:
    """The section of a run that was taken apart, or that is one of the parts; None if there is no table."""
    for folder in (run.path.parent / f"{run.name}-ablation", run.path.parent):
        arms = read_json(folder / "ablation.json").get("arms") or {}
        arms = {name: arm for name, arm in arms.items() if isinstance(arm, dict)}
        if arms and (folder != run.path.parent or run.name in arms):
            return Section("ablation", "Ablation", INTRO, "validate", tables=[_table(arms)])
    return None


def _table(arms: dict[str, dict[str, Any]]) -> Table:
    head = ["energy", "verdict", "validation loss", "force RMSE", "survival", "energy drift", "RMSD", "ΔQ", "crashes"]
    rows = [_row(name, arm) for name, arm in arms.items()]
    verdicts = [str(arm.get("verdict")) if arm.get("verdict") in SYMBOLS else "none" for arm in arms.values()]
    caption = (
        "Loss, (kcal/mol/Å)², before training and at the best epoch; RMSE on held-out frames, kcal/mol/Å; survival, "
        "part of the time asked for; drift, kcal/mol/ns; RMSD (Å) and ΔQ: distances of the distributions from those of "
        "the reference"
    )
    return Table(caption, head, rows, frozenset({0, 1, 8}), wide=True, verdicts=verdicts)


def _row(name: str, arm: dict[str, Any]) -> list[str]:
    training, crashes = arm.get("convergence") or {}, arm.get("crashes") or {}
    first, best = training.get("initial_loss"), training.get("best_loss")
    loss = f"{_short(first)} → {_short(best)}, {training.get('epochs', '?')} epochs" if training else "–"
    survival = arm.get("survival")
    structure = arm.get("structure") or {}
    return [
        NAMES.get(name, name),
        WORDS.get(str(arm.get("verdict")), "–"),
        loss,
        _short((arm.get("force") or {}).get("rmse")),
        f"{100 * survival:.0f} %" if isinstance(survival, int | float) else "–",
        _worst((arm.get("drift") or {}).get("nve.drift")),
        _worst(structure.get("structure.rmsd")),
        _worst(structure.get("structure.q")),
        listing([f"{count} × {kind}" for kind, count in crashes.items()], 8) or "none",
    ]


def _short(value: Any) -> str:
    return short(value, 4) if isinstance(value, int | float) else "–"


def _worst(proteins: Any) -> str:
    """Value and error of the protein with the largest value."""
    found = [one for one in (proteins or {}).values() if isinstance(one, dict) and one.get("value") is not None]
    if not found:
        return "not measured"
    worst = max(found, key=lambda one: abs(one["value"]))
    return with_error(worst["value"], worst.get("error"))

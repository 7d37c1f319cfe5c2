"""The part of the page about training: curves, and how good the forces are where nothing was learned from."""

from typing import Any

from cgloop.report import training_figures
from cgloop.report.gather import CycleFiles
from cgloop.report.rows import decimals, short
from cgloop.report.section import Section, Table, ungrouped

MODES = {"full": "full model", "prior-only": "prior alone", "zero": "no model"}
COLUMNS = {"rmse": "RMSE", "mae": "MAE", "cosine": "cosine", "r2": "R²"}


def make(cycle: CycleFiles) -> Section:
    """The section, from what `train` left."""
    summary = cycle.read("train/summary.json")
    frames = summary.get("frames") or {}
    intro = "Forces on held-out frames, learned by force matching."
    if summary:
        epochs = summary.get("epochs", 0)
        intro = (
            f"{summary.get('parameters', 0):,} parameters, {epochs} epoch{'' if epochs == 1 else 's'} on "
            f"{frames.get('train', 0):,} frames; {frames.get('validation', 0):,} frames for validation, "
            f"{frames.get('test', 0):,} held out for the test. Ended with: {summary.get('stopped', 'unknown')}."
        )
    forces = cycle.read(f"{cycle.trained}/forces.json")
    tables = [table for table in (_force_table(forces), _by_source(forces)) if table is not None]
    groups = ungrouped(training_figures.training(cycle))
    return Section("training", "Training", intro, "train", groups=groups, tables=tables)


def _by_source(forces: dict[str, Any]) -> Table | None:
    """What sources with a name and a weight of their own contributed, and how well each is learned."""
    rows = []
    for label, found in (forces.get("per_source") or {}).items():
        training, modes = found.get("training") or {}, found.get("modes") or {}
        errors = [decimals((modes.get(mode) or {}).get("rmse"), 2) for mode in ("full", "prior-only")]
        weight = training.get("weight")
        rows.append(
            [label, f"{training.get('frames', 0):,}", "–" if weight is None else short(weight),
             f"{found.get('frames', 0):,}", *errors]
        )  # fmt: skip
    if not rows:
        return None
    caption = "Sources by name: frames and weight in training; force RMSE on held-out frames of each, kcal/mol/Å"
    return Table(caption, ["source", "trained on", "weight", "held out", "full model", "prior alone"], rows, wide=True)


def _force_table(forces: dict[str, Any]) -> Table | None:
    modes = forces.get("modes") or {}
    if not modes:
        return None
    rows = [
        [label, *(decimals(modes[mode].get(key), 2 if key in ("rmse", "mae") else 3) for key in COLUMNS)]
        for mode, label in MODES.items()
        if mode in modes
    ]
    frames = f"{forces.get('n_frames', 0):,} frames of the {forces.get('split', 'held-out')} split"
    return Table(f"Forces on {frames}; RMSE and MAE in kcal/mol/Å", ["", *COLUMNS.values()], rows)

"""The part of the page about training: curves, and how good the forces are where nothing was learned from."""

from typing import Any

from cgloop.report import training_figures
from cgloop.report.gather import CycleFiles
from cgloop.report.rows import decimals
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
    table = _force_table(cycle.read("train/forces.json"))
    groups = ungrouped(training_figures.training(cycle))
    return Section("training", "Training", intro, "train", groups=groups, tables=[table] if table else [])


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

"""Plots of what was learned, of the artifact's parity, and of minimisation."""

from collections.abc import Sequence
from typing import Any

from cgloop.figures.figure import (
    BROKEN,
    INK,
    MODEL,
    REFERENCE,
    Figure,
    axis,
    by_name,
    layout,
    level,
    line,
    points,
    with_levels,
)
from cgloop.report.gather import CycleFiles
from cgloop.residues import RESIDUES

FORCE_UNIT = "kcal/mol/Å"
MOST_CHAINS = 4
"""Proteins with a plot of errors along the chain."""
MOST_NAMES = 16
"""Residues that are named below it."""
EXACT = 1e-10
"""Relative differences below this are drawn here: far below the rounding of single precision."""


def training(cycle: CycleFiles) -> list[Figure]:
    """Loss and RMSE over the epochs, and force errors by residue type."""
    history, forces = cycle.read("train/history.json"), cycle.read(f"{cycle.trained}/forces.json")
    return [*_curves(history, forces), *_by_residue(forces), *by_position(forces)]


def _curves(history: dict[str, Any], forces: dict[str, Any]) -> list[Figure]:
    columns = history.get("columns") or {}
    if not columns.get("epoch"):
        return []
    epochs = axis("epoch", step=max(1, round(len(columns["epoch"]) / 6)))
    how = "on training frames (orange, dashed) and, with averaged parameters, on validation frames (blue)"
    loss = Figure(
        "train-loss",
        "Loss over the epochs",
        f"Mean square of the force components that are left to explain, {how}. The star marks what was kept.",
        _history(history, "loss"),
        layout(epochs, axis("loss, (kcal/mol/Å)²", log=True)),
    )
    frame = layout(epochs, axis(f"force RMSE, {FORCE_UNIT}"))
    split = forces.get("split", "held-out")
    for key, label in (("rmse_prior", f"prior alone, {split} frames"), ("rmse_zero", f"no model, {split} frames")):
        if forces.get(key) is not None:
            frame = with_levels(frame, level(forces[key], label))
    rmse = Figure(
        "train-rmse",
        "Force RMSE over the epochs",
        f"The same as an RMSE, {how}. Dotted: what the prior alone reaches, and the size of the forces themselves.",
        _history(history, "rmse"),
        frame,
    )
    return [loss, rmse]


def _history(history: dict[str, Any], quantity: str) -> list[dict[str, Any]]:
    columns, best = history["columns"], history.get("best_epoch")
    epochs, validation = columns["epoch"], columns.get(f"validation_{quantity}") or []
    # A line through one point is not seen.
    few = len(epochs) < 12
    data = [
        line(epochs, columns.get(f"train_{quantity}") or [], "training", REFERENCE, "dash", dots=few),
        line(epochs, validation, "validation", MODEL, dots=few),
    ]
    if best in epochs and len(validation) == len(epochs):
        data.append(points([best], [validation[epochs.index(best)]], f"kept: epoch {best}", INK, "star", size=7))
    return data


def _by_residue(forces: dict[str, Any]) -> list[Figure]:
    kinds = forces.get("per_residue_type") or {}
    if not kinds:
        return []
    names = sorted(kinds, key=lambda name: -kinds[name]["full"]["rmse"])
    symbols = (("full", "full model", MODEL, "circle"), ("prior-only", "prior alone", REFERENCE, "square-open"))
    data, height = by_name(
        names,
        [(label, color, symbol, [kinds[n][m]["rmse"] for n in names]) for m, label, color, symbol in symbols],
    )
    counts = ", ".join(f"{name} {kinds[name]['count']:,}" for name in names)
    return [
        Figure(
            "force-residues",
            "Force error by residue type",
            f"Force RMSE on held-out frames ({forces.get('split', 'held-out')}) of the full model (circles) and of the "
            f"prior alone (squares); left is better. Beads that count: {counts}.",
            data,
            layout(axis(f"force RMSE, {FORCE_UNIT}"), axis("", names=names)),
            height,
        )
    ]


def parity(cycle: CycleFiles) -> list[Figure]:
    """Differences of the artifact in LAMMPS from the model in JAX, by case."""
    found = cycle.read("parity/parity.json")
    cases = [case for case in found.get("cases") or [] if case.get("name")]
    if not cases:
        return []
    names = [str(case["name"]) for case in cases]
    kinds = (
        ("force", "max_force_difference_over_rms", "forces", MODEL, "circle"),
        ("energy", "energy_difference_relative", "energy", REFERENCE, "square-open"),
    )
    shown, levels = [], []
    for kind, key, label, color, symbol in kinds:
        # Agreement to the last bit has no place on a logarithmic axis.
        values = [max(case[key], EXACT) if isinstance(case.get(key), int | float) else None for case in cases]
        shown.append((label, color, symbol, values))
        limit = (found.get(kind) or {}).get("limit")
        if limit:
            levels.append(level(limit, f"limit, {label}", axis_name="x", color=color, low=kind == "energy"))
    data, height = by_name(names, shown)
    return [
        Figure(
            "parity-cases",
            "LAMMPS against JAX, by case",
            "Largest difference of a force component over the RMS force (circles), and of the energy over "
            "max(|energy|, N kT) (squares). Left of the dotted limits is good.",
            data,
            with_levels(
                layout(axis("relative difference", log=True), axis("", names=names)),
                *levels,
            ),
            height,
            "full",
        )
    ]


def minimisation(cycle: CycleFiles, proteins: Sequence[str]) -> list[Figure]:
    """Return figures of the largest force left in every replica of these proteins, and of how far it moved."""
    figures = []
    for check in cycle.check("minimize.converged"):
        detail, subject = check.get("detail") or {}, check.get("subject")
        if subject not in proteins:
            continue
        for key, what, unit, limit in (
            ("forces", "largest force left on a bead", FORCE_UNIT, detail.get("force_tolerance")),
            ("rmsds_A", "RMSD between start and end", "Å", detail.get("rmsd_caution_A")),
        ):
            values = detail.get(key) or []
            if values and limit:
                figures.append(_per_replica(f"minimize-{key}-{subject}", f"{what}, {subject}", values, limit, unit))
    return figures


def _per_replica(name: str, what: str, values: list[float | None], limit: float, unit: str) -> Figure:
    """One point per replica, and the limit."""
    known = [(replica, value) for replica, value in enumerate(values) if value is not None]
    good = [(replica, value) for replica, value in known if value <= limit]
    bad = [(replica, value) for replica, value in known if not value <= limit]
    data = [points([r for r, _ in good], [v for _, v in good], "within the limit", MODEL, "circle", legend=bool(bad))]
    if bad:
        data.append(points([r for r, _ in bad], [v for _, v in bad], "beyond the limit", BROKEN, "x"))
    logarithmic = any(value > 5 * limit for _, value in known)
    y = axis(unit, log=True) if logarithmic else axis(unit, zero=True)
    frame = layout(axis("replica", step=max(1, len(values) // 16)), y)
    title = f"{what[:1].upper()}{what[1:]}"
    caption = "One point per replica, after minimisation; the dotted line is the limit."
    frame = with_levels(frame, level(limit, "limit"))
    return Figure(name, title, caption, data, frame, height=190)


def by_position(forces: dict[str, Any]) -> list[Figure]:
    """Force error along the chain of each protein: ends and turns are not alike."""
    figures = []
    for protein, found in list((forces.get("per_bead") or {}).items())[:MOST_CHAINS]:
        errors = {mode: (found.get("rmse") or {}).get(mode) or [] for mode in ("full", "prior-only")}
        if not errors["full"]:
            continue
        beads = list(range(1, len(errors["full"]) + 1))
        data = [line(beads, errors["full"], "full model", MODEL, dots=len(beads) <= 60)]
        if len(errors["prior-only"]) == len(beads):
            data.append(line(beads, errors["prior-only"], "prior alone", REFERENCE, "dash", dots=len(beads) <= 60))
        residues = [str(name) for name in found.get("residues") or []]
        x = axis("residue")
        if len(residues) == len(beads) <= MOST_NAMES:
            letters = {one.name: one.letter for one in RESIDUES}
            x = axis("residue", ticks=[[k, f"{letters.get(residues[k - 1], '?')}{k}"] for k in beads])
        frame = layout(x, axis(f"force RMSE, {FORCE_UNIT}"))
        if forces.get("noise") is not None:
            frame = with_levels(frame, level(forces["noise"], "noise of the data, at most"))
        words = (
            f"Force RMSE of each residue of {protein} on held-out frames. A residue that stands out is one that the "
            "model has not learned; below the noise nothing is left to learn."
        )
        figures.append(Figure(f"force-chain-{protein}", f"Force error along the chain, {protein}", words, data, frame))
    return figures

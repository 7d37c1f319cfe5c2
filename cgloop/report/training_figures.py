"""Plots of what was learned: losses, force errors, prior potentials, and the artifact's parity."""

from typing import Any

from cgloop.report.gather import CycleFiles
from cgloop.report.style import (
    BROKEN,
    DASHES,
    INK,
    MODEL,
    REFERENCE,
    SERIES,
    Figure,
    axis,
    filled,
    layout,
    level,
    line,
    points,
    with_levels,
)

FORCE_UNIT = "kcal/mol/Å"
EXACT = 1e-10
"""Relative differences below this are drawn here: far below the rounding of single precision."""


def training(cycle: CycleFiles) -> list[Figure]:
    """Loss and RMSE over the epochs, and force errors by residue type."""
    history, forces = cycle.read("train/history.json"), cycle.read("train/forces.json")
    return [*_curves(history, forces), *_by_residue(forces)]


def _curves(history: dict[str, Any], forces: dict[str, Any]) -> list[Figure]:
    columns = history.get("columns") or {}
    if not columns.get("epoch"):
        return []
    epochs = axis("epoch", dtick=max(1, round(len(columns["epoch"]) / 6)))
    how = "on training frames (orange, dashed) and, with averaged parameters, on validation frames (blue)"
    loss = Figure(
        "train-loss",
        "Loss over the epochs",
        f"Mean square of the force components that are left to explain, {how}. The star marks what was kept.",
        _history(history, "loss"),
        layout(epochs, axis("loss, (kcal/mol/Å)²", type="log")),
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
    mode = "lines" if len(epochs) > 3 else "lines+markers"
    data = [
        line(epochs, columns.get(f"train_{quantity}") or [], "training", REFERENCE, "dash", mode=mode),
        line(epochs, validation, "validation", MODEL, mode=mode),
    ]
    if best in epochs and len(validation) == len(epochs):
        data.append(points([best], [validation[epochs.index(best)]], f"kept: epoch {best}", INK, "star", size=11))
    return data


def _by_residue(forces: dict[str, Any]) -> list[Figure]:
    kinds = forces.get("per_residue_type") or {}
    if not kinds:
        return []
    names = sorted(kinds, key=lambda name: kinds[name]["full"]["rmse"])
    symbols = (("full", "full model", MODEL, "circle"), ("prior-only", "prior alone", REFERENCE, "square-open"))
    data = [
        points([kinds[n][mode]["rmse"] for n in names], names, label, color, symbol, marker={"line": {"width": 2}})
        for mode, label, color, symbol in symbols
    ]
    counts = ", ".join(f"{name} {kinds[name]['count']:,}" for name in names)
    return [
        Figure(
            "force-residues",
            "Force error by residue type",
            f"Force RMSE on held-out frames ({forces.get('split', 'held-out')}) of the full model (circles) and of the "
            f"prior alone (squares); left is better. Beads that count: {counts}.",
            data,
            layout(axis(f"force RMSE, {FORCE_UNIT}"), axis("", ticks="")),
            height=max(220, 100 + 24 * len(names)),
        )
    ]


def priors(cycle: CycleFiles) -> list[Figure]:
    """Each prior term: the reference's distribution and what the fitted potential makes of it."""
    terms = cycle.read("priors/curves.json").get("terms") or []
    figures = [_prior(term) for term in terms if term.get("term") != "repulsion" and term.get("samples")]
    repulsion = [term for term in terms if term.get("term") == "repulsion"]
    return [*figures, *([_repulsion(repulsion)] if repulsion else [])]


def _prior(term: dict[str, Any]) -> Figure:
    """Potential above, densities below, on one axis."""
    grid, unit = term["grid"], "degrees" if term["unit"] == "degree" else term["unit"]
    top = {"yaxis": "y2"}
    data = [
        filled(grid, term["density"], "reference"),
        line(grid, term["implied_density"], "this term alone", MODEL),
        line(grid, term["reference"], "reference, inverted", REFERENCE, "dot", width=3, showlegend=False, **top),
        line(grid, term["fitted"], "fitted potential", MODEL, showlegend=False, **top),
    ]
    x = axis(f"{term['term']} {term['coordinate']}, {unit}", domain=[0, 1])
    if unit == "degrees":
        x["dtick"] = 60 if term["term"] == "dihedral" else 30
    finite = [value for value in term["reference"] if value is not None]
    ceiling = max(1.5 * max(finite, default=0.0), 1.0)
    frame = layout(
        x,
        axis(f"density, 1/{unit.removesuffix('s')}", domain=[0, 0.44], rangemode="tozero", nticks=4),
        yaxis2=axis("U, kcal/mol", domain=[0.54, 1], range=[-0.05 * ceiling, ceiling], nticks=5),
    )
    return Figure(
        f"prior-{term['term']}",
        f"{term['term'].capitalize()} prior",
        f"Above: the potential of mean force in {term['samples']:,} reference samples (orange, dotted) and the fitted "
        "potential (blue). Below: their densities; the blue one is what this term alone would give, without the others "
        "and the network.",
        data,
        frame,
        height=360,
    )


def _repulsion(terms: list[dict[str, Any]]) -> Figure:
    data = []
    for term, color, dash in zip(terms, SERIES, DASHES, strict=False):
        name = f"separation {term.get('separation', '')}"
        data += [
            filled(term["grid"], term["density"], name, color, dash=dash, showlegend=False),
            line(term["grid"], term["fitted"], name, color, dash, yaxis="y2"),
        ]
    frame = layout(
        axis("distance r, Å", domain=[0, 1]),
        axis("density, 1/Å", domain=[0, 0.44], rangemode="tozero", nticks=4),
        yaxis2=axis("U, kcal/mol", domain=[0.54, 1], range=[-0.5, 12], nticks=5),
    )
    return Figure(
        "prior-repulsion",
        "Excluded volume",
        "Above: the repulsion by separation along the chain. Below: distances in the reference; the repulsion ends "
        "where they begin.",
        data,
        frame,
        height=360,
    )


def parity(cycle: CycleFiles) -> list[Figure]:
    """Differences of the artifact in LAMMPS from the model in JAX, by case."""
    found = cycle.read("parity/parity.json")
    cases = [case for case in found.get("cases") or [] if case.get("name")]
    if not cases:
        return []
    names = [str(case["name"]) for case in cases][::-1]
    kinds = (
        ("force", "max_force_difference_over_rms", "forces", MODEL, "circle"),
        ("energy", "energy_difference_relative", "energy", REFERENCE, "square-open"),
    )
    data, levels = [], []
    for kind, key, label, color, symbol in kinds:
        # Agreement to the last bit has no place on a logarithmic axis.
        values = [max(case[key], EXACT) if isinstance(case.get(key), int | float) else None for case in cases][::-1]
        data.append(points(values, names, label, color, symbol, marker={"line": {"width": 2}}))
        limit = (found.get(kind) or {}).get("limit")
        if limit:
            levels.append(level(limit, f"limit, {label}", axis_name="x", color=color, logarithmic=True))
            levels[-1]["annotations"][0]["y"] = 1.0 if kind == "force" else 0.12
    return [
        Figure(
            "parity-cases",
            "LAMMPS against JAX, by case",
            "Largest difference of a force component over the RMS force (circles), and of the energy over "
            "max(|energy|, N kT) (squares). Left of the dotted limits is good.",
            data,
            with_levels(
                layout(
                    axis("relative difference", type="log", exponentformat="power", dtick=2, tickangle=0),
                    axis("", ticks=""),
                ),
                *levels,
            ),
            height=max(220, 110 + 26 * len(names)),
        )
    ]


def minimisation(cycle: CycleFiles) -> list[Figure]:
    """Largest force that is left in every replica, and how far its beads moved."""
    farthest = (cycle.metrics.get("settings") or {}).get("minimize_max_move_A")
    figures = []
    for check in cycle.check("minimize.converged"):
        detail, subject = check.get("detail") or {}, check.get("subject")
        for key, what, unit, limit in (
            ("forces", "largest force left on a bead", FORCE_UNIT, check.get("threshold")),
            ("moves_A", "farthest move of a bead", "Å", farthest),
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
    data = [
        points([r for r, _ in good], [v for _, v in good], "within the limit", MODEL, "circle", showlegend=bool(bad))
    ]
    if bad:
        data.append(points([r for r, _ in bad], [v for _, v in bad], "beyond the limit", BROKEN, "x"))
    logarithmic = any(value > 5 * limit for _, value in known)
    y = axis(unit, type="log") if logarithmic else axis(unit, rangemode="tozero")
    frame = layout(axis("replica", dtick=max(1, len(values) // 16)), y)
    title = f"{what[:1].upper()}{what[1:]}"
    caption = "One point per replica, after minimisation; the dotted line is the limit."
    frame = with_levels(frame, level(limit, "limit", logarithmic=logarithmic))
    return Figure(name, title, caption, data, frame, height=240)

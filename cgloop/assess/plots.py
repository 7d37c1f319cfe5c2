"""The page of force errors."""

from pathlib import Path
from typing import Any

import numpy as np

from cgloop.figures.figure import (
    CONTROL,
    GREY,
    LIMIT,
    MODEL,
    REFERENCE,
    SEQUENTIAL,
    Figure,
    axis,
    by_name,
    heatmap,
    layout,
    line,
)
from cgloop.figures.page import write_page

STYLES = {
    "full": (MODEL, "solid", "circle"), "prior-only": (REFERENCE, "dash", "square-open"),
    "trained-prior": ("pink", "longdash", "diamond-open"), "ml-only": (CONTROL, "dashdot", "triangle-open"),
}  # fmt: skip
"""Colour, dash and symbol of each mode."""

OTHER = (GREY, "dot", "star")
BINS = 80
UNIT = "kcal/mol/Å"


def write_forces_page(path: Path, found: dict[str, Any], reference: np.ndarray, full: np.ndarray) -> None:
    """Write the page.

    Args:
        path: HTML file.
        found: contents of forces.json.
        reference, full: forces [B, 3] of the reference and of the model.
    """
    figures = [
        _correlation(reference, full),
        _by_name("residues", "Force error by residue type", found["per_residue_type"], found),
        *(
            [_by_name("proteins", "Force error by protein", found["per_protein"], found)]
            if len(found["per_protein"]) > 1
            else []
        ),
        *(_along(name, one) for name, one in found["per_bead"].items()),
    ]
    head = f"{found['n_frames']} frames ({found['split']}) of {', '.join(found['frames_per_protein'])}"
    write_page(path, "Forces", head, figures)


def _correlation(reference: np.ndarray, full: np.ndarray) -> Figure:
    """Counts on a grid, as a picture of a million points would be too large to open."""
    edge = float(np.percentile(np.abs(reference), 99.9)) or 1.0
    grid = np.linspace(-edge, edge, BINS + 1)
    counts, _, _ = np.histogram2d(full.ravel(), reference.ravel(), bins=[grid, grid])
    centres = (0.5 * (grid[1:] + grid[:-1])).round(4).tolist()
    shown = [[None if count == 0 else round(float(np.log10(count)), 3) for count in row] for row in counts]
    most = float(np.log10(max(counts.max(), 10.0)))
    data = [
        heatmap(shown, centres, centres, "log₁₀ count", SEQUENTIAL, (0.0, round(most, 3))),
        line([-edge, edge], [-edge, edge], "equal", LIMIT, "dot", width=1, legend=False),
    ]
    frame = layout(axis(f"reference, {UNIT}", tight=True), axis(f"model, {UNIT}", tight=True), square=True)
    caption = (
        "Components of the force. Reference forces scatter around the mean force that the model has to find, so that "
        "the cloud is wider than it is high."
    )
    return Figure("correlation", "Model against reference", caption, data, frame, span="half")


def _modes(found: dict[str, Any]) -> list[str]:
    return [mode for mode in found if mode != "zero"]


def _by_name(name: str, title: str, table: dict[str, Any], found: dict[str, Any]) -> Figure:
    names = sorted(table, key=lambda one: -table[one]["full"]["rmse"])
    kinds = []
    for mode in _modes(found["modes"]):
        color, _, symbol = STYLES.get(mode, OTHER)
        kinds.append((mode, color, symbol, [table[one][mode]["rmse"] for one in names]))
    data, height = by_name(names, kinds)
    return Figure(name, title, "Left is better.", data, layout(axis(f"RMSE, {UNIT}"), axis("", names=names)), height)


def _along(name: str, one: dict[str, Any]) -> Figure:
    position = list(range(1, len(one["residues"]) + 1))
    data = []
    for mode in _modes(one["rmse"]):
        color, dash, _ = STYLES.get(mode, OTHER)
        values = one["rmse"][mode]
        told = [
            f"{residue} {number}: {value:.3g} {UNIT}" if value is not None else ""
            for residue, number, value in zip(one["residues"], position, values, strict=True)
        ]
        data.append(line(position, values, mode, color, dash, width=1.5, dots=True, text=told))
    frame = layout(axis("position in the chain"), axis(f"RMSE, {UNIT}"))
    title = f"Force error along {name}"
    return Figure(f"along-{name}", title, "Per bead, over all frames and components.", data, frame)

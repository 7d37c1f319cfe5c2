"""The page of force errors."""

from pathlib import Path
from typing import Any

import numpy as np

from cgloop.data.figure_page import Section, write_page

# Okabe & Ito's colours, told apart under every common colour blindness.
COLOURS = {
    "full": "#0072B2", "prior-only": "#E69F00", "trained-prior": "#CC79A7", "ml-only": "#009E73", "zero": "#6b6b6b",
}  # fmt: skip
SYMBOLS = {"full": "circle", "prior-only": "square", "trained-prior": "diamond", "ml-only": "cross", "zero": "x"}
BINS = 80
UNIT = "kcal/mol/Å"


def write_forces_page(path: Path, found: dict[str, Any], reference: np.ndarray, full: np.ndarray) -> None:
    """Write the page.

    Args:
        path: HTML file.
        found: contents of forces.json.
        reference, full: forces [B, 3] of the reference and of the model.
    """
    sections = [
        _correlation(reference, full),
        _bars("Force error by residue type", found["per_residue_type"], found),
        *([_bars("Force error by protein", found["per_protein"], found)] if len(found["per_protein"]) > 1 else []),
        *(_along(name, one) for name, one in found["per_bead"].items()),
    ]
    head = f"{found['n_frames']} frames ({found['split']}) of {', '.join(found['frames_per_protein'])}"
    write_page(path, "Forces", head, sections)


def _layout(x: dict[str, Any], y: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "xaxis": {"automargin": True, "zeroline": False, **x},
        "yaxis": {"automargin": True, "zeroline": False, **y},
        "height": 340,
        "margin": {"l": 60, "r": 10, "t": 30, "b": 45},
        "legend": {"orientation": "h", "y": 1.15},
        **more,
    }


def _correlation(reference: np.ndarray, full: np.ndarray) -> Section:
    """Counts on a grid, as a picture of a million points would be too large to open."""
    edge = float(np.percentile(np.abs(reference), 99.9)) or 1.0
    grid = np.linspace(-edge, edge, BINS + 1)
    counts, _, _ = np.histogram2d(full.ravel(), reference.ravel(), bins=[grid, grid])
    centres = (0.5 * (grid[1:] + grid[:-1])).round(4).tolist()
    shown = [[None if count == 0 else round(float(np.log10(count)), 3) for count in row] for row in counts]
    data = [
        {"type": "heatmap", "x": centres, "y": centres, "z": shown, "colorscale": "Cividis",
         "colorbar": {"title": {"text": "log₁₀ count"}}},
        {"type": "scatter", "mode": "lines", "x": [-edge, edge], "y": [-edge, edge], "showlegend": False,
         "line": {"color": "#1a1a1a", "width": 1, "dash": "dot"}},
    ]  # fmt: skip
    layout = _layout({"title": {"text": f"reference, {UNIT}"}}, {"title": {"text": f"model, {UNIT}"}})
    caption = (
        "Components of the force. Reference forces scatter around the mean force that the model has to find, so that "
        "the cloud is wider than it is high."
    )
    return "Model against reference", caption, {"data": data, "layout": layout}


def _bars(title: str, table: dict[str, Any], found: dict[str, Any]) -> Section:
    names = sorted(table, key=lambda name: table[name]["full"]["rmse"])
    data = [
        _points([table[name][mode]["rmse"] for name in names], names, mode, "markers")
        for mode in found["modes"]
        if mode != "zero"
    ]
    layout = _layout({"title": {"text": f"RMSE, {UNIT}"}}, {}, height=max(300, 120 + 22 * len(names)))
    return title, "Left is better.", {"data": data, "layout": layout}


def _along(name: str, one: dict[str, Any]) -> Section:
    position = list(range(1, len(one["residues"]) + 1))
    data = [_points(position, values, mode, "lines+markers") for mode, values in one["rmse"].items() if mode != "zero"]
    for trace in data:
        trace["text"] = one["residues"]
    layout = _layout({"title": {"text": "position in the chain"}}, {"title": {"text": f"RMSE, {UNIT}"}})
    return f"Force error along {name}", "Per bead, over all frames and components.", {"data": data, "layout": layout}


def _points(x: list[Any], y: list[Any], mode: str, how: str) -> dict[str, Any]:
    colour = COLOURS.get(mode, "#56B4E9")
    return {
        "type": "scatter", "mode": how, "name": mode, "x": x, "y": y, "line": {"color": colour, "width": 1.5},
        "marker": {"color": colour, "symbol": SYMBOLS.get(mode, "star"), "size": 7},
    }  # fmt: skip

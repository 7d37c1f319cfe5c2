"""The page of a data set's distributions."""

from pathlib import Path
from typing import Any

import numpy as np

from cgloop.data.dataset import DatasetReader
from cgloop.data.figure_page import Section, write_page
from cgloop.data.inspect import read_beside
from cgloop.data.statistics import QUANTITIES, Distribution, Statistics, gather

# Okabe & Ito's colours, told apart under every common colour blindness.
COLOURS = {"train": "#0072B2", "validation": "#E69F00", "test": "#009E73"}
DASHES = {"train": "solid", "validation": "dash", "test": "dot"}
INK, GREY, RULE = "#1a1a1a", "#6b6b6b", "#e3e3e3"

TITLES = {
    "bond": ("Bonds", "CA–CA distance", "Trans peptides are near 3.8 Å; a second peak at 2.9 Å would be cis ones."),
    "angle": ("Angles", "CA–CA–CA angle", "Helices near 90°, strands near 120–130°."),
    "dihedral": ("Dihedrals", "dihedral over four CA", "Helices near 50°, strands near ±170°."),
    "rg": ("Size", "radius of gyration", "Parts that differ here have seen different states of the proteins."),
    "force": ("Forces", "force on a bead", "A long tail means noise of the force map, or frames that are not relaxed."),
}


def write_plots(folder: Path, path: Path) -> Statistics:
    """Write the page of a data set.

    Args:
        folder: of the data set.
        path: HTML file to write.

    Returns:
        The statistics that it shows.

    Raises:
        UserError: no data set, or a damaged one.
    """
    reader = DatasetReader.open(folder)
    statistics = gather(reader)
    sections = [*_distributions(statistics), *_lengths(reader), *_residues(statistics), *_maps(folder)]
    names = ", ".join(reader.names[:6]) + (" …" if len(reader.names) > 6 else "")
    head = f"{len(reader.names)} proteins ({names}), {reader.temperature_K:g} K, {reader.manifest['projection']} forces"
    write_page(path, "Data set", head, sections)
    return statistics


def _layout(x: str, y: str, **more: Any) -> dict[str, Any]:
    def axis(title: str) -> dict[str, Any]:
        return {"title": {"text": title}, "gridcolor": RULE, "linecolor": GREY, "zeroline": False, "automargin": True}

    return {
        "xaxis": axis(x),
        "yaxis": {**axis(y), "rangemode": "tozero"},
        "height": 300,
        "font": {"color": INK, "size": 13},
        "margin": {"l": 60, "r": 10, "t": 30, "b": 45},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "legend": {"orientation": "h", "y": 1.15},
        **more,
    }


def _distributions(statistics: Statistics) -> list[Section]:
    sections = []
    for quantity, by_part in statistics.distributions.items():
        title, x, caption = TITLES[quantity]
        traces = [_curve(part, one) for part, one in by_part.items() if one.moments.count]
        summary = "; ".join(
            f"{part}: {one.moments.mean:.4g} ± {one.moments.deviation:.3g}"
            for part, one in by_part.items()
            if one.moments.count
        )
        layout = _layout(f"{x} ({QUANTITIES[quantity][0]})", "density")
        layout["xaxis"]["range"] = _visible(by_part)
        if quantity != "dihedral":  # the mean of an angle that goes round says nothing
            caption += f" Mean ± standard deviation: {summary}."
        sections.append((title, caption, {"data": traces, "layout": layout}))
    return sections


def _curve(part: str, one: Distribution) -> dict[str, Any]:
    edges = one.edges
    density = one.counts / (one.counts.sum() * (edges[1] - edges[0]))
    return {
        "type": "scatter", "mode": "lines", "name": part, "x": _short(0.5 * (edges[1:] + edges[:-1])),
        "y": _short(density), "line": {"color": COLOURS[part], "dash": DASHES[part], "shape": "hvh", "width": 1.5},
    }  # fmt: skip


def _visible(by_part: dict[str, Distribution]) -> list[float]:
    """The range that holds all but a thousandth of the counts, and a little more."""
    counts = np.sum([one.counts for one in by_part.values()], axis=0)
    edges = next(iter(by_part.values())).edges
    if not counts.sum():
        return [float(edges[0]), float(edges[-1])]
    share = np.cumsum(counts) / counts.sum()
    low, high = edges[np.searchsorted(share, 0.0005)], edges[np.searchsorted(share, 0.9995) + 1]
    margin = 0.05 * (high - low)
    return [float(max(edges[0], low - margin)), float(min(edges[-1], high + margin))]


def _lengths(reader: DatasetReader) -> list[Section]:
    beads = [entry["beads"] for entry in reader.manifest["proteins"].values()]
    trace = {"type": "histogram", "x": beads, "marker": {"color": COLOURS["train"]}, "name": "proteins"}
    caption = f"{min(beads)} to {max(beads)} beads, {np.mean(beads):.1f} on average."
    layout = _layout("beads", "proteins", bargap=0.05, showlegend=False)
    return [("Lengths", caption, {"data": [trace], "layout": layout})]


def _residues(statistics: Statistics) -> list[Section]:
    names = list(statistics.residues)
    trace = {
        "type": "bar", "x": names, "y": [statistics.residues[name]["rms_force"] for name in names],
        "text": [f"{statistics.residues[name]['beads']} beads" for name in names], "textposition": "none",
        "marker": {"color": COLOURS["train"]}, "hovertemplate": "%{x}: %{y:.2f} kcal/mol/Å, %{text}<extra></extra>",
    }  # fmt: skip
    layout = _layout("", "RMS of a component (kcal/mol/Å)", showlegend=False)
    caption = "Mean over all beads of a type, at the model's temperature."
    return [("Force by residue", caption, {"data": [trace], "layout": layout})]


def _maps(folder: Path) -> list[Section]:
    """RMS force under each map, a box of proteins where there are many; and the noise of the chosen one."""
    proteins = read_beside(folder, "projection.json").get("proteins", {})
    values: dict[str, list[float]] = {}
    for entry in proteins.values():
        for name, found in entry["mean_squared_force"].items():
            if found["value"] is not None:
                values.setdefault(name, []).append(float(np.sqrt(found["value"])))
        if entry["noise"] is not None:
            values.setdefault(f"noise of {entry['method']}", []).append(entry["noise"]["rms"])
    if not values:
        return []
    traces = [
        {
            "type": "box",
            "y": _short(np.array(rms)),
            "name": name,
            "boxpoints": "all",
            "marker": {"color": COLOURS["train"]},
        }
        for name, rms in sorted(values.items(), key=lambda pair: -float(np.mean(pair[1])))
    ]
    caption = (
        "RMS of a force component on held-out frames under each force map, one point a protein. Maps that keep "
        "rigid bonds (not slice) have the same mean force: what one has more than another is noise."
    )
    layout = _layout("", "kcal/mol/Å", showlegend=False)
    return [("Force maps", caption, {"data": traces, "layout": layout})]


def _short(values: np.ndarray) -> list[float]:
    """Five digits are more than a plot shows."""
    return [float(f"{value:.5g}") for value in values]

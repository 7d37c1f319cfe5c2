"""The page of a data set's distributions."""

from pathlib import Path
from typing import Any

import numpy as np

from cgloop.data.dataset import DatasetReader
from cgloop.data.inspect import read_beside
from cgloop.data.statistics import QUANTITIES, Distribution, Statistics, gather
from cgloop.figures.figure import (
    CONTROL,
    INK,
    MODEL,
    REFERENCE,
    Figure,
    axis,
    bars,
    box,
    density,
    layout,
    line,
    points,
)
from cgloop.figures.page import write_page

STYLES = {"train": (MODEL, "solid"), "validation": (REFERENCE, "dash"), "test": (CONTROL, "dot")}
"""Colour and dash of each part."""

BOX_FROM = 4
"""So many proteins have a distribution; fewer are points."""
MOST_BARS = 30
FORCE_UNIT = "kcal/mol/Å"

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
    figures = [*_distributions(statistics), *_lengths(reader), *_residues(statistics), *_maps(folder)]
    names = ", ".join(reader.names[:6]) + (" …" if len(reader.names) > 6 else "")
    head = f"{len(reader.names)} proteins ({names}), {reader.temperature_K:g} K, {reader.manifest['projection']} forces"
    write_page(path, "Data set", head, figures)
    return statistics


def _distributions(statistics: Statistics) -> list[Figure]:
    figures = []
    for quantity, by_part in statistics.distributions.items():
        title, x, caption = TITLES[quantity]
        curves = [_curve(part, one) for part, one in by_part.items() if one.moments.count]
        summary = "; ".join(
            f"{part}: {one.moments.mean:.4g} ± {one.moments.deviation:.3g}"
            for part, one in by_part.items()
            if one.moments.count
        )
        unit = QUANTITIES[quantity][0]
        frame = density(f"{x}, {unit}", f"({unit})" if "/" in unit else unit)
        frame["x"]["range"] = _visible(by_part)
        if quantity != "dihedral":  # the mean of an angle that goes round says nothing
            caption += f" Mean ± standard deviation: {summary}."
        figures.append(Figure(quantity, title, caption, curves, frame))
    return figures


def _curve(part: str, one: Distribution) -> dict:
    edges = one.edges
    values = one.counts / (one.counts.sum() * (edges[1] - edges[0]))
    return line(_short(0.5 * (edges[1:] + edges[:-1])), _short(values), part, *STYLES[part], step=True, width=1.5)


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


def _lengths(reader: DatasetReader) -> list[Figure]:
    beads = [entry["beads"] for entry in reader.manifest["proteins"].values()]
    width = -(-(max(beads) - min(beads) + 1) // MOST_BARS)
    edges = np.arange(min(beads), max(beads) + width + 1, width) - 0.5
    counts, _ = np.histogram(beads, edges)
    whole = (_counting("beads", max(beads) - min(beads)), _counting("proteins", int(counts.max()), zero=True))
    caption = f"{min(beads)} to {max(beads)} beads, {np.mean(beads):.1f} on average."
    data = [bars(_short(0.5 * (edges[1:] + edges[:-1])), counts.tolist(), "", MODEL)]
    return [Figure("lengths", "Lengths", caption, data, layout(*whole))]


def _counting(label: str, span: int, **more: Any) -> dict[str, Any]:
    """An axis of whole numbers, which has no ticks between them."""
    return axis(label, **more, **({"step": 1} if span < 6 else {}))


def _residues(statistics: Statistics) -> list[Figure]:
    names = list(statistics.residues)
    rms = [statistics.residues[name]["rms_force"] for name in names]
    told = [
        f"{name}: {value:.2f} {FORCE_UNIT}, {statistics.residues[name]['beads']} beads"
        for name, value in zip(names, rms, strict=True)
    ]
    data = [bars(list(range(len(names))), rms, "", MODEL, text=told)]
    frame = layout(axis("", names=names), axis(f"RMS of a component, {FORCE_UNIT}", zero=True))
    caption = "Mean over all beads of a type, at the model's temperature."
    return [Figure("residues", "Force by residue", caption, data, frame)]


def _maps(folder: Path) -> list[Figure]:
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
    names = sorted(values, key=lambda name: -float(np.mean(values[name])))
    data = []
    for name in names:
        rms = _short(np.array(values[name]))
        if len(rms) >= BOX_FROM:
            data.append(box(name, _short(np.quantile(rms, (0.0, 0.25, 0.5, 0.75, 1.0))), MODEL))
        data.append(points([name] * len(rms), rms, name, INK, "circle-open", legend=False))
    caption = (
        "RMS of a force component on held-out frames under each force map, one point a protein. Maps that keep "
        "rigid bonds (not slice) have the same mean force: what one has more than another is noise."
    )
    frame = layout(axis("", names=names), axis(FORCE_UNIT, zero=True))
    return [Figure("maps", "Force maps", caption, data, frame)]


def _short(values: np.ndarray) -> list[float]:
    """Five digits are more than a plot shows."""
    return [float(f"{value:.5g}") for value in values]

"""Plots of what the force maps do to the forces. Up to `FEW` proteins by name, more as a distribution."""

from collections.abc import Sequence

import numpy as np

from cgloop.figures.figure import (
    GREY,
    HEIGHT,
    INK,
    MODEL,
    SERIES,
    Figure,
    axis,
    bars,
    box,
    layout,
    level,
    line,
    points,
    with_levels,
)
from cgloop.report.data_facts import DataFacts, Measured, ProteinFacts
from cgloop.report.rows import short

FEW = 12
COLORS = {"slice": GREY, "basic": SERIES[1], "aggforce": SERIES[2], "optimal": MODEL}
SYMBOLS = {"slice": "diamond-open", "basic": "square-open", "aggforce": "triangle-open", "optimal": "circle"}
SQUARE_UNIT = "(kcal/mol/Å)²"
WIDEST = 6.0
"""Standard errors that the plot of many virials reaches to; beyond is its last bin."""


def projection(facts: DataFacts) -> list[Figure]:
    """What is left of the forces under each map, and how much of that is noise."""
    proteins = [one for one in facts.proteins if any(m.value is not None for m in one.squares.values())]
    if not proteins:
        return []
    maps = facts.maps()
    many = len(proteins) > FEW
    data = [_bars(name, proteins) for name in maps] if not many else [b for name in maps for b in _box(name, proteins)]
    words = (
        "Mean square of a component of the mapped forces on held-out frames. All maps but `slice` have the same mean: "
    )
    words += "what one is lower than another is noise that need not be averaged away in training."
    if many:
        words += " Boxes: quartiles over the proteins; whiskers: 5 to 95 %."
        x = axis("force map", names=[name for name in maps if any(name in one.squares for one in proteins)])
    else:
        data.append(_floor(proteins))
        words += " Error bars: one standard error. Black: the noise that is left in the map in use, at most."
        x = axis("", names=[one.name for one in proteins])
    frame = layout(x, axis(f"mean square, {SQUARE_UNIT}", zero=True))
    return [Figure("data-projection", "What the force map bought", words.replace("`", ""), data, frame)]


def _bars(name: str, proteins: Sequence[ProteinFacts]) -> dict:
    found = [one.squares.get(name, Measured()) for one in proteins]
    x, y = list(range(len(proteins))), [m.value for m in found]
    return bars(x, y, name, COLORS.get(name, SERIES[3]), error=[m.error for m in found])


def _floor(proteins: Sequence[ProteinFacts]) -> dict:
    """Noise of the map in use, squared, across the bars of each protein."""
    x, y = [], []
    for place, one in enumerate(proteins):
        square = one.noise.value**2 if one.noise.value is not None else None
        x += [place - 0.45, place + 0.45, None]
        y += [square, square, None]
    return line(x, y, "noise, at most", INK, width=2.5)


def _box(name: str, proteins: Sequence[ProteinFacts]) -> list[dict]:
    """The distribution of one map's values; nothing where none is known."""
    values = [v for one in proteins if name in one.squares and (v := one.squares[name].value) is not None]
    if not values:
        return []
    five = [_4(float(value)) for value in np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95))]
    return [box(name, five, COLORS.get(name, SERIES[3]))]


def virial(facts: DataFacts) -> list[Figure]:
    """Σ x·F over its exact mean, of every map."""
    known = [one for one in facts.proteins if any(m.value is not None for m in one.virial.values())]
    if not known:
        return []
    return [_virials(known) if len(known) > FEW else _virial_by_protein(known, facts.maps())]


def _virial_by_protein(proteins: Sequence[ProteinFacts], maps: Sequence[str]) -> Figure:
    data = []
    # Names on one axis, maps beside each other: each is moved a little from its protein's line.
    for place, name in enumerate(maps):
        found = [one.virial.get(name, Measured()) for one in proteins]
        shift = 0.5 * (place - 0.5 * (len(maps) - 1)) / len(maps)
        told = [f"{p.name}: {m.value:.2f}" if m.value is not None else "" for p, m in zip(proteins, found, strict=True)]
        x, y = [m.value for m in found], [k + shift for k in range(len(proteins))]
        color, symbol = COLORS.get(name, SERIES[3]), SYMBOLS.get(name, "star")
        data.append(points(x, y, name, color, symbol, error_x=[m.error for m in found], text=told))
    names = axis("", names=[one.name for one in proteins])
    frame = with_levels(layout(axis("Σ x·F over −3 (N − 1) kT"), names), level(1.0, "exact", axis_name="x"))
    words = (
        "The virial of exact mean forces has the ratio 1. One standard error; a map that is off by several lets "
        "constraint forces through, or forces and positions do not belong together."
    )
    return Figure(
        "data-virial", "Virial of the mapped forces", words, data, frame, max(HEIGHT, 70 + 60 * len(proteins))
    )


def _virials(proteins: Sequence[ProteinFacts]) -> Figure:
    """Deviations from 1 in standard errors, beside the normal distribution that they should have."""
    deviations = np.array([d for one in proteins if (d := one.virial_deviation) is not None])
    width = 0.5
    edges = np.arange(-WIDEST, WIDEST + width, width)
    counts, _ = np.histogram(np.clip(deviations, -WIDEST + 1e-9, WIDEST - 1e-9), edges)
    grid = np.linspace(-WIDEST, WIDEST, 121)
    normal = len(deviations) * width * np.exp(-0.5 * grid**2) / np.sqrt(2.0 * np.pi)
    found = bars((edges[:-1] + 0.5 * width).tolist(), counts.tolist(), "proteins", MODEL)
    data = [found, line(grid.round(3).tolist(), [_4(v) for v in normal], "expected by chance", INK, "dash")]
    frame = layout(axis("deviation of the virial ratio from 1, standard errors"), axis("proteins", zero=True))
    far = int(np.sum(np.abs(deviations) > 3))
    words = (
        f"The virial of exact mean forces has the ratio 1. {far:,} of {len(deviations):,} proteins are off by more "
        f"than three standard errors, {short(0.0027 * len(deviations), 2)} are expected."
    )
    return Figure("data-virial", "Virial of the mapped forces", words, data, frame)


def _4(value: float) -> float:
    return float(f"{value:.4g}")

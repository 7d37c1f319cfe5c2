"""Plots of what the force maps do to the forces. Up to `FEW` proteins by name, more as a distribution."""

from collections.abc import Sequence

import numpy as np

from cgloop.report.data_facts import DataFacts, Measured, ProteinFacts
from cgloop.report.rows import short
from cgloop.report.style import (
    GREY,
    HEIGHT,
    INK,
    MODEL,
    SERIES,
    Figure,
    axis,
    layout,
    level,
    line,
    points,
    shade,
    with_levels,
)

FEW = 12
COLORS = {"slice": GREY, "basic": SERIES[1], "aggforce": SERIES[2], "optimal": MODEL}
SYMBOLS = {"slice": "diamond-open", "basic": "square-open", "aggforce": "triangle-up-open", "optimal": "circle"}
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
        x = axis("force map")
    else:
        data.append(_floor(proteins))
        words += " Error bars: one standard error. Black: the noise that is left in the map in use, at most."
        x = axis("", range=[-0.6, len(proteins) - 0.4], showgrid=False, **_named(proteins))
    frame = layout(x, axis(f"mean square, {SQUARE_UNIT}", rangemode="tozero"), barmode="group")
    frame["showlegend"] = not many
    return [Figure("data-projection", "What the force map bought", words.replace("`", ""), data, frame)]


def _bars(name: str, proteins: Sequence[ProteinFacts]) -> dict:
    found = [one.squares.get(name, Measured()) for one in proteins]
    return {
        "type": "bar", "name": name, "x": list(range(len(proteins))), "y": [m.value for m in found],
        "error_y": {"type": "data", "array": [m.error for m in found], "color": INK, "thickness": 1.2, "width": 4},
        "marker": {"color": shade(COLORS.get(name, SERIES[3]))}, "text": [one.name for one in proteins],
        "textposition": "none", "hovertemplate": f"%{{text}}, {name}: %{{y:.4g}}<extra></extra>",
    }  # fmt: skip


def _floor(proteins: Sequence[ProteinFacts]) -> dict:
    """Noise of the map in use, squared, across the bars of each protein."""
    x, y = [], []
    for place, one in enumerate(proteins):
        square = one.noise.value**2 if one.noise.value is not None else None
        x += [place - 0.45, place + 0.45, None]
        y += [square, square, None]
    return line(x, y, "noise, at most", INK, width=2.5)


def _named(proteins: Sequence[ProteinFacts]) -> dict:
    """Ticks of an axis on which proteins are numbered."""
    return {"tickvals": list(range(len(proteins))), "ticktext": [one.name for one in proteins]}


def _box(name: str, proteins: Sequence[ProteinFacts]) -> list[dict]:
    """The distribution of one map's values; nothing where none is known."""
    values = [v for one in proteins if name in one.squares and (v := one.squares[name].value) is not None]
    if not values:
        return []
    low, first, median, third, high = np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95))
    box = {
        "type": "box", "name": name, "x": [name], "q1": [_4(first)], "median": [_4(median)], "q3": [_4(third)],
        "lowerfence": [_4(low)], "upperfence": [_4(high)], "line": {"color": COLORS.get(name, SERIES[3])},
        "showlegend": False,
    }  # fmt: skip
    return [box]


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
        bars = {"type": "data", "array": [m.error for m in found], "thickness": 1.4, "width": 4}
        trace = points(
            [m.value for m in found], [k + shift for k in range(len(proteins))], name, COLORS.get(name, SERIES[3]),
            SYMBOLS.get(name, "star"), marker={"line": {"width": 2}},
        )  # fmt: skip
        hover = {
            "text": [one.name for one in proteins],
            "hovertemplate": f"%{{text}}, {name}: %{{x:.2f}}<extra></extra>",
        }
        data.append({**trace, "error_x": bars, **hover})
    y = axis("", ticks="", range=[len(proteins) - 0.4, -0.6], **_named(proteins))
    frame = with_levels(layout(axis("Σ x·F over −3 (N − 1) kT"), y), level(1.0, "exact", axis_name="x"))
    words = (
        "The virial of exact mean forces has the ratio 1. One standard error; a map that is off by several lets "
        "constraint forces through, or forces and positions do not belong together."
    )
    return Figure(
        "data-virial", "Virial of the mapped forces", words, data, frame, max(HEIGHT, 110 + 60 * len(proteins))
    )


def _virials(proteins: Sequence[ProteinFacts]) -> Figure:
    """Deviations from 1 in standard errors, beside the normal distribution that they should have."""
    deviations = np.array([d for one in proteins if (d := one.virial_deviation) is not None])
    width = 0.5
    edges = np.arange(-WIDEST, WIDEST + width, width)
    counts, _ = np.histogram(np.clip(deviations, -WIDEST + 1e-9, WIDEST - 1e-9), edges)
    grid = np.linspace(-WIDEST, WIDEST, 121)
    normal = len(deviations) * width * np.exp(-0.5 * grid**2) / np.sqrt(2.0 * np.pi)
    bars = {"type": "bar", "x": (edges[:-1] + 0.5 * width).tolist(), "y": counts.tolist(), "name": "proteins",
            "marker": {"color": shade(MODEL)}}  # fmt: skip
    data = [bars, line(grid.round(3).tolist(), [_4(v) for v in normal], "expected by chance", INK, "dash")]
    frame = layout(axis("deviation of the virial ratio from 1, standard errors"), axis("proteins"), bargap=0.05)
    far = int(np.sum(np.abs(deviations) > 3))
    words = (
        f"The virial of exact mean forces has the ratio 1. {far:,} of {len(deviations):,} proteins are off by more "
        f"than three standard errors, {short(0.0027 * len(deviations), 2)} are expected."
    )
    return Figure("data-virial", "Virial of the mapped forces", words, data, frame)


def _4(value: float) -> float:
    return float(f"{value:.4g}")

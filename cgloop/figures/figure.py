"""What a plot is: marks on axes, as plain data that `static/plots.js` draws.

Colours are roles, never values: the style sheet gives each its colour on screen, in the dark and on paper, those of
Okabe & Ito (jfly.uni-koeln.de/color), told apart under every common colour blindness. The model is always a solid
blue line, the reference orange and dashed or filled, a control green and dash-dotted, a limit black and dotted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MODEL, REFERENCE, CONTROL, LIMIT, BROKEN = "model", "reference", "control", "limit", "broken"
INK, GREY = "ink", "grey"
SERIES = (MODEL, REFERENCE, CONTROL, "pink", "sky", BROKEN)
ROLES = frozenset({*SERIES, LIMIT, INK, GREY})
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SEQUENTIAL, REVERSED, DIVERGING = "sequential", "sequential-reversed", "diverging"
HEIGHT = 240


@dataclass(frozen=True)
class Figure:
    """One plot.

    Attributes:
        id: unique among the plots of a cycle.
        title: a few words above it.
        caption: what is to be seen and what would be bad; also what a reader without pictures gets.
        data: marks, see `line`, `points`, `bars`, `box` and `heatmap`.
        layout: axes and lines across, see `layout`.
        height: of the plot without legend, px; a square map takes what its width asks for.
        span: `third`, `half` or `full` of a wide page; "" for what is usual.
    """

    id: str
    title: str
    caption: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    height: int = HEIGHT
    span: str = ""

    @property
    def width(self) -> str:
        """Part of a wide page that it takes: maps stand three abreast."""
        return self.span or ("third" if self.layout.get("square") else "half")

    def to_json(self) -> dict[str, Any]:
        return {"marks": self.data, **self.layout, "height": self.height}


def axis(label: str, **more: Any) -> dict[str, Any]:
    """An axis.

    Args:
        label: `quantity, unit`.
        more: `log`; `range` [low, high]; `names` of the positions 0, 1, …; `ticks` [[value, text]]; `step` between
            ticks; `zero` to begin there; `reversed`; `grid` false for none.
    """
    return {"label": label, **more}


def layout(x: dict[str, Any], y: dict[str, Any], **more: Any) -> dict[str, Any]:
    """One pair of axes made by `axis`; `square` for maps whose cells are."""
    return {"x": x, "y": y, **more}


def stacked(x: dict[str, Any], below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Two plots over one x axis; marks of the upper one have `upper=True`."""
    return layout(x, below, upper=above)


def over_time(label: str, **more: Any) -> dict[str, Any]:
    """A series from MD."""
    return layout(axis("time, ps"), axis(label), **more)


def density(label: str, unit: str = "") -> dict[str, Any]:
    """Distributions."""
    return layout(axis(label), axis(f"density, 1/{unit}" if unit else "density", zero=True))


def by_name(
    names: Sequence[str], kinds: Sequence[tuple[str, str, str, Sequence[float | None]]]
) -> tuple[list[dict[str, Any]], int]:
    """Points on one line for each name, and the height that they need.

    Args:
        names: from above, the `names` of the y axis.
        kinds: label, colour, symbol and one value per name, each.
    """
    data = [points(values, names, label, color, symbol) for label, color, symbol, values in kinds]
    return data, max(140, 60 + 24 * len(names))


def line(
    x: Sequence[Any], y: Sequence[Any], name: str, color: str = MODEL, dash: str = "solid", **more: Any
) -> dict[str, Any]:
    """A line with gaps at None.

    Args:
        more: `width`, `opacity`, `upper`, `legend` false to leave it out there, `step` for a histogram over bin
            centres, `dots` to mark the points as well, `error` half-widths drawn as a band.
    """
    return {"mark": "line", "name": name, "role": color, "dash": dash, "x": list(x), "y": list(y), **more}


def filled(
    x: Sequence[Any], y: Sequence[Any], name: str, color: str = REFERENCE, dash: str = "solid", **more: Any
) -> dict[str, Any]:
    """A line with the area below it filled."""
    return line(x, y, name, color, dash, width=1.5, fill=True, **more)


def points(x: Sequence[Any], y: Sequence[Any], name: str, color: str, symbol: str, **more: Any) -> dict[str, Any]:
    """Symbols: `circle`, `square`, `diamond`, `triangle`, each also `-open`, `x`, `star`.

    Args:
        more: `error` and `error_x` half-widths, `text` of each for whoever points at it, `legend`, `cell` to be as
            large as a cell of a map.
    """
    return {"mark": "points", "name": name, "role": color, "symbol": symbol, "x": list(x), "y": list(y), **more}


def bars(x: Sequence[Any], y: Sequence[Any], name: str, color: str, **more: Any) -> dict[str, Any]:
    """Bars from zero; those of several marks stand beside each other. `across` draws them along x, by names on y."""
    return {"mark": "bars", "name": name, "role": color, "x": list(x), "y": list(y), **more}


def box(at: Any, values: Sequence[float], color: str) -> dict[str, Any]:
    """Five values in ascending order: whisker, quartile, median, quartile, whisker."""
    return {"mark": "box", "name": str(at), "role": color, "at": at, "values": list(values)}


def heatmap(
    values: Sequence[Sequence[float | None]],
    x: Sequence[Any],
    y: Sequence[Any],
    label: str,
    colors: str,
    ends: tuple[float, float],
    **more: Any,
) -> dict[str, Any]:
    """A matrix [len(y)][len(x)] in colours between two ends, with its scale; None is a gap.

    Args:
        more: `extra` {label, values}: a second matrix that is told to whoever points at a cell.
    """
    return {
        "mark": "map", "name": "", "x": list(x), "y": list(y), "z": [list(row) for row in values], "label": label,
        "colors": colors, "ends": list(ends), **more,
    }  # fmt: skip


def level(
    value: float, label: str, dash: str = "dot", axis_name: str = "y", color: str = LIMIT, **more: Any
) -> dict[str, Any]:
    """A straight line across the plot at a value of an axis, with a label."""
    return {"axis": axis_name, "value": value, "label": label, "dash": dash, "role": color, **more}


def band(low: float, high: float, label: str = "", color: str = REFERENCE) -> dict[str, Any]:
    """A strip across the plot between two values of the y axis."""
    return {"y": [low, high], "label": label, "role": color}


def with_levels(base: dict[str, Any], *levels: dict[str, Any]) -> dict[str, Any]:
    """A layout with the lines of several `level`s."""
    return {**base, "levels": [*base.get("levels", []), *levels]}

"""What all plots share: colours, axes, and the description of a plot for the page.

Figures are plain dictionaries in Plotly's JSON schema, so that making a page does not load Plotly's Python classes.
Colours are those of Okabe & Ito (jfly.uni-koeln.de/color), told apart under every common colour blindness; the model
is always a solid blue line, the reference orange and dashed or filled, a limit black and dotted.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MODEL, REFERENCE, BROKEN = "#0072B2", "#E69F00", "#D55E00"
INK, GREY, RULE = "#1a1a1a", "#6b6b6b", "#e3e3e3"
SERIES = (MODEL, REFERENCE, "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif"
SEQUENTIAL = [[0, "#ffffff"], [0.15, "#d6e6f2"], [0.5, "#5aa2cf"], [1, "#08366b"]]
DIVERGING = [[0, "#08519c"], [0.25, "#7fb2d6"], [0.5, "#ffffff"], [0.75, "#f0a35e"], [1, "#a63e00"]]
HEIGHT = 300


@dataclass(frozen=True)
class Figure:
    """One plot.

    Attributes:
        id: unique on the page.
        title: a few words above it.
        caption: what is to be seen, a sentence or two; also what a reader without pictures gets.
        data, layout: Plotly's.
        height: px.
    """

    id: str
    title: str
    caption: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    height: int = HEIGHT

    def to_json(self) -> dict[str, Any]:
        """Plotly's `data` and `layout`; without a legend no room is kept for one."""
        legend = any(trace.get("showlegend", True) and trace.get("name") for trace in self.data)
        legend = legend and self.layout.get("showlegend", True)
        margin = {**self.layout["margin"], "t": 34 if legend else 10}
        return {
            "data": self.data,
            "layout": {**self.layout, "showlegend": legend, "margin": margin, "height": self.height},
        }


def axis(title: str, **more: Any) -> dict[str, Any]:
    return {
        "title": {"text": title, "standoff": 8},
        "gridcolor": RULE,
        "linecolor": GREY,
        "ticks": "outside",
        "ticklen": 4,
        "tickcolor": GREY,
        "zeroline": False,
        "automargin": True,
        **more,
    }


def layout(x: dict[str, Any], y: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A layout with one pair of axes made by `axis`."""
    return {
        "xaxis": x,
        "yaxis": y,
        "font": {"family": FONT, "size": 13, "color": INK},
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "margin": {"l": 8, "r": 12, "t": 34, "b": 8},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 12}},
        "hoverlabel": {"font": {"family": FONT, "size": 12}},
        "hovermode": "closest",
        **more,
    }


def stacked(x: dict[str, Any], below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """A layout of two plots over one x axis; traces of the upper one have `yaxis="y2"`."""
    lower = {"domain": [0, 0.44], "nticks": 4, **below}
    return layout({**x, "domain": [0, 1]}, lower, yaxis2={"domain": [0.54, 1], "nticks": 5, **above})


def over_time(label: str, **more: Any) -> dict[str, Any]:
    """A layout of a series from MD."""
    return layout(axis("time, ps"), axis(label), **more)


def density(label: str, unit: str = "") -> dict[str, Any]:
    """A layout of distributions."""
    return layout(axis(label), axis(f"density, 1/{unit}" if unit else "density", rangemode="tozero", nticks=5))


def by_name(
    names: Sequence[str], kinds: Sequence[tuple[str, str, str, Sequence[float | None]]]
) -> tuple[list[dict[str, Any]], int]:
    """Points on one line for each name, and the height that they need.

    Args:
        names: from below.
        kinds: label, colour, symbol and one value per name, each.
    """
    data = [
        points(values, names, label, color, symbol, marker={"line": {"width": 2}})
        for label, color, symbol, values in kinds
    ]
    return data, max(220, 110 + 26 * len(names))


def line(
    x: Sequence[Any], y: Sequence[Any], name: str, color: str = MODEL, dash: str = "solid", **more: Any
) -> dict[str, Any]:
    """A line; options of Plotly's scatter go through, `width` and `opacity` of the line among them."""
    return {
        "type": "scatter",
        "mode": "lines",
        "x": list(x),
        "y": list(y),
        "name": name,
        "line": {"color": color, "dash": dash, "width": more.pop("width", 2)},
        **more,
    }


def points(x: Sequence[Any], y: Sequence[Any], name: str, color: str, symbol: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": list(x),
        "y": list(y),
        "name": name,
        "marker": {"color": color, "symbol": symbol, "size": more.pop("size", 9), **more.pop("marker", {})},
        **more,
    }


def filled(
    x: Sequence[Any], y: Sequence[Any], name: str, color: str = REFERENCE, dash: str = "solid", **more: Any
) -> dict[str, Any]:
    """A line with the area below it filled."""
    return {**line(x, y, name, color, dash, width=1.5), "fill": "tozeroy", "fillcolor": f"{color}55", **more}


def shade(color: str) -> str:
    """A colour for areas."""
    return f"{color}bb"


def heatmap(
    values: Sequence[Sequence[float | None]],
    x: Sequence[Any],
    y: Sequence[Any],
    label: str,
    colors: list[list[Any]],
    ends: tuple[float, float],
    hover: str,
    below: bool = True,
    **more: Any,
) -> dict[str, Any]:
    """A matrix in colours between two ends, with its scale below or above it; None is a gap."""
    return {
        "type": "heatmap", "z": [list(row) for row in values], "x": list(x), "y": list(y), "zmin": ends[0],
        "zmax": ends[1], "colorscale": colors, "hovertemplate": f"{hover}<extra></extra>", "hoverongaps": False,
        "colorbar": {"orientation": "h", "thickness": 9, "len": 0.9, "outlinewidth": 0,
                     "title": {"text": label, "side": "bottom" if below else "top", "font": {"size": 12}}, "nticks": 5,
                     **({"y": -0.14, "yanchor": "top"} if below else {"y": 1.02, "yanchor": "bottom"})},
        **more,
    }  # fmt: skip


def level(
    value: float, label: str, dash: str = "dot", axis_name: str = "y", color: str = INK, logarithmic: bool = False
) -> dict[str, Any]:
    """Layout parts of a straight line across the plot at `value` of an axis, with a label: `{shapes, annotations}`."""
    across, along = ("x", "y") if axis_name == "y" else ("y", "x")
    shape = {
        "type": "line",
        f"{across}ref": "paper",
        f"{across}0": 0,
        f"{across}1": 1,
        f"{along}ref": along,
        f"{along}0": value,
        f"{along}1": value,
        "line": {"color": color, "width": 1.3, "dash": dash},
    }
    text = {
        "text": label,
        "showarrow": False,
        "font": {"size": 11, "color": color},
        f"{along}ref": along,
        # Plotly places annotations, other than shapes, by the logarithm on a logarithmic axis.
        f"{along}": math.log10(value) if logarithmic else value,
        f"{across}ref": "paper",
        f"{across}": 1,
        "xanchor": "right" if axis_name == "y" else "left",
        "yanchor": "bottom" if axis_name == "y" else "top",
        "bgcolor": "rgba(255,255,255,0.75)",
    }
    return {"shapes": [shape], "annotations": [text]}


def with_levels(base: dict[str, Any], *levels: dict[str, Any]) -> dict[str, Any]:
    """A layout with the lines of several `level`s."""
    return {
        **base,
        "shapes": [*base.get("shapes", []), *(shape for each in levels for shape in each["shapes"])],
        "annotations": [*base.get("annotations", []), *(text for each in levels for text in each["annotations"])],
    }

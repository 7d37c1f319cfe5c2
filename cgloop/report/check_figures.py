"""Plots that checks bring along as data, see `cgloop.checks.Plot`: drawn without knowing the check."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from cgloop.figures import figure
from cgloop.figures.figure import CONTROL, HEIGHT, LIMIT, MODEL, REFERENCE, Figure, axis, layout, level, line, points
from cgloop.report.gather import CycleFiles
from cgloop.report.rows import CheckRow

STYLES = {MODEL: ("solid", "circle"), REFERENCE: ("dash", "square-open"), CONTROL: ("dashdot", "triangle-open"),
          LIMIT: ("dot", "x")}  # fmt: skip
"""Dash and symbol of each role: what is told apart by colour is told apart without it, too."""

HOW = {
    MODEL: "the model is blue",
    REFERENCE: "the reference orange",
    CONTROL: "a control green and dash-dotted",
    LIMIT: "a limit black and dotted",
}


def check_figures(cycle: CycleFiles, rows: list[CheckRow]) -> dict[str, list[tuple[CheckRow, list[Figure]]]]:
    """By subject the plots of these checks, in their order."""
    plots = cycle.plots.get("checks") or {}
    found: dict[str, list[tuple[CheckRow, list[Figure]]]] = {}
    for row in rows:
        plot = (plots.get(row.name) or {}).get(row.subject)
        if plot and not (row.name in DRAWN_RICHER and (cycle.plots.get("proteins") or {}).get(row.subject)):
            found.setdefault(row.subject, []).append((row, list(_figures(row, plot))))
    return found


def _figures(row: CheckRow, plot: dict[str, Any]) -> Iterator[Figure]:
    curves = [curve for curve in plot.get("curves") or [] if curve.get("y")]
    name = "check-" + re.sub(r"[^A-Za-z0-9]+", "-", f"{row.name}-{row.subject}")
    title = row.title[:1].upper() + row.title[1:]
    make = KINDS.get(plot.get("kind", ""))
    if not curves or make is None:
        return
    if plot["kind"] == "bars" and _far_from_zero(curves):
        make = KINDS["points"]
    for number, (part, data, frame) in enumerate(make(plot, curves)):
        more = f": {part}" if part else ""
        words = _map_caption(row, part, number) if plot["kind"] == "maps" else _caption(row, curves)
        height = HEIGHT
        if "names" in frame["y"]:
            height = max(140, 60 + 12 * len(frame["y"]["names"]) * (1 + len(data)))
        yield Figure(f"{name}-{number}" if number else name, f"{title}{more}", words, data, frame, height)


def _far_from_zero(curves: list[dict[str, Any]]) -> bool:
    """Bars that all reach nearly as far would hide how they differ."""
    values = [v for curve in curves for v in curve["y"] if v is not None]
    return bool(values) and min(values) > NEARLY_ALIKE * max(values) > 0


def _map_caption(row: CheckRow, part: str, number: int) -> str:
    """The first map of a check tells what is measured, the others what they show."""
    if part == DIFFERENCE:
        return "Model less reference: blue where the model has less, orange where it has more. Grey: one has nothing."
    own = f"{part[:1].upper()}{part[1:]}" if part else "The same"
    if number:
        return f"{own}, on the same scale of colours. Grey: nothing was found there."
    return f"{own}. Grey: nothing was found there. {row.definition}".strip()


def _caption(row: CheckRow, curves: list[dict[str, Any]]) -> str:
    """What the colours are, and what is measured."""
    roles = list(dict.fromkeys(curve.get("role") for curve in curves))
    how = ", ".join(HOW[role] for role in roles if role in HOW)
    words = [f"{how[:1].upper()}{how[1:]}." if len(roles) > 1 else "", row.definition]
    return " ".join(word for word in words if word) or f"{row.title}."


Drawn = tuple[str, list[dict[str, Any]], dict[str, Any]]
"""Name of a panel, marks, layout."""


DIFFERENCE = "difference"
LONGEST_TICK = 6
"""Letters of names below bars; bars with longer ones lie on their side."""

NEARLY_ALIKE = 0.6
"""Part of the largest value from which on bars are drawn as points."""
FEW = 2
"""Curves of one role that are named one by one in the legend."""

DRAWN_RICHER = frozenset({"structure.contacts"})
"""Checks whose plots the page draws itself, with native contacts and letters."""


def _axes(plot: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    ticks = plot.get("ticks") or []
    x_label, y_label = _with_unit(plot.get("x_label", "")), _with_unit(plot.get("y_label", ""))
    if y_label == "density" and ", " in x_label:
        y_label = f"density, 1/{x_label.rpartition(', ')[2]}"
    return axis(x_label, **({"names": list(map(str, ticks))} if ticks else {})), axis(y_label)


def _with_unit(label: str) -> str:
    """`RMSD (Å)` as `RMSD, Å`: one spelling on the page."""
    return re.sub(r" \(([^()]+)\)$", r", \1", label)


def _marks(plot: dict[str, Any], curves: list[dict[str, Any]], draw: Callable[..., dict[str, Any]]) -> Iterator[Drawn]:
    x, y = _axes(plot)
    across = plot.get("kind") == "bars" and any(len(name) > LONGEST_TICK for name in x.get("names", ()))
    if across:
        x, y = y, x
    frame, data = layout(x, y), []
    seen: Counter[str] = Counter()
    roles = Counter(curve.get("role", MODEL) for curve in curves)
    for curve in curves:
        constant = curve.get("role") == LIMIT and len(set(curve["y"])) == 1 and curve["y"][0] is not None
        if constant:
            at = level(curve["y"][0], curve.get("name", "limit"), axis_name="x" if across else "y")
            frame = figure.with_levels(frame, at)
            continue
        if across:
            names = y["names"]
            curve = {**curve, "x": curve["y"], "y": [names[round(place)] for place in curve["x"]], "across": True}
        role = curve.get("role", MODEL)
        mark = draw(curve, seen[role])
        if roles[role] > FEW:
            # As those of replicas: the legend has the role once, pointing at one tells its name.
            mark["legend"] = False
            if not seen[role]:
                data.append({**mark, "x": [], "y": [], "error": [], "name": str(role), "legend": True})
        data.append(mark)
        seen[role] += 1
    yield "", data, frame


def _line(curve: dict[str, Any], nth: int) -> dict[str, Any]:
    role = curve.get("role", MODEL)
    error = {"error": curve["error"]} if curve.get("error") else {}
    # Several curves of one role, as of replicas, are thinner and share a line in the legend with others of that name.
    return line(curve["x"], curve["y"], curve.get("name", ""), role, STYLES.get(role, STYLES[MODEL])[0],
                width=1.4 if nth else 2, **error)  # fmt: skip


def _step(curve: dict[str, Any], nth: int) -> dict[str, Any]:
    role = curve.get("role", MODEL)
    make = figure.filled if role == REFERENCE else figure.line
    dash = "solid" if role in (MODEL, REFERENCE) else STYLES.get(role, STYLES[MODEL])[0]
    return make(curve["x"], curve["y"], curve.get("name", ""), role, dash, step=True)


def _points(curve: dict[str, Any], nth: int) -> dict[str, Any]:
    role = curve.get("role", MODEL)
    error = {"error": curve["error"]} if curve.get("error") else {}
    if role in (REFERENCE, LIMIT) and not error and len(curve["x"]) > 1:
        return _line(curve, nth)  # known exactly
    return points(curve["x"], curve["y"], curve.get("name", ""), role, STYLES.get(role, STYLES[MODEL])[1], **error)


def _bar(curve: dict[str, Any], nth: int) -> dict[str, Any]:
    error = {"error": curve["error"]} if curve.get("error") else {}
    across = {"across": True} if curve.get("across") else {}
    return figure.bars(curve["x"], curve["y"], curve.get("name", ""), curve.get("role", MODEL), **error, **across)


def _maps(plot: dict[str, Any], curves: list[dict[str, Any]]) -> Iterator[Drawn]:
    """A panel a map, all on one colour scale; around zero where there are values on both sides of it."""
    curves = [curve for curve in curves if curve.get("z")]
    values = [v for curve in curves for row in curve["z"] for v in row if v is not None and math.isfinite(v)]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    label = _with_unit(plot.get("z_label", ""))
    colors, ends = figure.SEQUENTIAL, (min(low, 0.0), high if high > low else low + 1.0)
    if low < 0 < high:
        colors, ends = figure.DIVERGING, (-max(-low, high), max(-low, high))
    elif "free energy" in label.lower():
        colors = figure.REVERSED  # wells are dark
    for curve in curves:
        x, y = _axes(plot)
        data = [figure.heatmap(curve["z"], curve["x"], curve["y"], label, colors, ends)]
        yield curve.get("name", ""), data, layout({**x, "tight": True}, {**y, "tight": True}, square=True)
    yield from _difference(plot, curves)


def _difference(plot: dict[str, Any], curves: list[dict[str, Any]]) -> Iterator[Drawn]:
    """Of a model and its reference on the same grid."""
    by_role = {curve.get("role"): curve for curve in curves}
    model, reference = by_role.get(MODEL), by_role.get(REFERENCE)
    if len(curves) != 2 or not model or not reference:
        return
    if [len(row) for row in model["z"]] != [len(row) for row in reference["z"]]:
        return
    z = [
        [None if a is None or b is None else round(a - b, 5) for a, b in zip(*rows, strict=True)]
        for rows in zip(model["z"], reference["z"], strict=True)
    ]
    end = max((abs(v) for row in z for v in row if v is not None), default=0.0) or 1.0
    x, y = _axes(plot)
    label = f"model − reference, {_unit(plot)}".rstrip(", ")
    data = [figure.heatmap(z, model["x"], model["y"], label, figure.DIVERGING, (-end, end))]
    yield DIFFERENCE, data, layout({**x, "tight": True}, {**y, "tight": True}, square=True)


def _unit(plot: dict[str, Any]) -> str:
    """`kcal/mol` of `free energy, kcal/mol`."""
    label = _with_unit(plot.get("z_label", ""))
    return label.rpartition(", ")[2] if ", " in label else ""


KINDS: dict[str, Callable[[dict[str, Any], list[dict[str, Any]]], Iterator[Drawn]]] = {
    "lines": lambda plot, curves: _marks(plot, curves, _line),
    "steps": lambda plot, curves: _marks(plot, curves, _step),
    "points": lambda plot, curves: _marks(plot, curves, _points),
    "bars": lambda plot, curves: _marks(plot, curves, _bar),
    "maps": _maps,
}

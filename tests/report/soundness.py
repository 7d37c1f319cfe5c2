"""What the script that draws plots relies on."""

import json
import math
import re

from cgloop.figures.figure import DASHES, DIVERGING, REVERSED, ROLES, SEQUENTIAL, Figure

MARKS = {"line": {"x", "y", "dash"}, "points": {"x", "y", "symbol"}, "bars": {"x", "y"}, "box": {"at", "values"},
         "map": {"x", "y", "z", "colors", "ends", "label"}}  # fmt: skip
SYMBOLS = {"circle", "square", "diamond", "triangle", "x", "star"}


def require_sound(figure: Figure) -> None:
    """Fail unless a figure can be drawn: known marks and roles, series of one length, names that its axes have."""
    shown = figure.to_json()
    assert figure.caption.endswith(".")
    assert shown["marks"]
    for mark in shown["marks"]:
        assert MARKS[mark["mark"]] <= set(mark), mark
        assert mark.get("role", "ink") in ROLES
        assert mark.get("dash", "solid") in DASHES
        assert mark.get("symbol", "x").removesuffix("-open") in SYMBOLS
        _require_numbers(mark)
        for key in ("x", "y"):
            names = shown["upper" if mark.get("upper") and key == "y" else key].get("names")
            assert all(value in (names or ()) for value in mark.get(key, ()) if isinstance(value, str)), (key, mark)
    for level in shown.get("levels", []):
        assert math.isfinite(level["value"])
        assert level["role"] in ROLES


def _require_numbers(mark) -> None:
    if mark["mark"] == "map":
        assert [len(row) for row in mark["z"]] == [len(mark["x"])] * len(mark["y"])
        assert mark["colors"] in (SEQUENTIAL, REVERSED, DIVERGING)
        assert mark["ends"][1] > mark["ends"][0]
    elif mark["mark"] == "box":
        assert mark["values"] == sorted(mark["values"])
        assert len(mark["values"]) == 5
    else:
        assert len(mark["x"]) == len(mark["y"])
        for key in ("error", "error_x", "text", "roles"):
            assert len(mark.get(key) or mark["x"]) == len(mark["x"])
    for key in ("x", "y"):
        assert all(v is None or isinstance(v, str) or math.isfinite(v) for v in mark.get(key, ()))


def embedded(page: str) -> dict[str, Figure]:
    """The figures of a page, by id; each can be drawn, and has its place."""
    found = json.loads(re.search(r'<script type="application/json" id="figures">(.*?)</script>', page)[1])
    assert sorted(re.findall(r'data-figure="([^"]*)"', page)) == sorted(found)
    figures = {}
    for name, one in found.items():
        marks, height = one.pop("marks"), one.pop("height")
        figures[name] = Figure(name, name, "As on the page.", marks, one, height)
        require_sound(figures[name])
    return figures

"""One HTML page of figures that needs no network, and what every page with figures embeds."""

import html
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from cgloop.checks import jsonable
from cgloop.figures.figure import Figure
from cgloop.stages import write_text

SCRIPTS = ("scales.js", "marks.js", "plots.js")
"""What draws figures: those of the script element `figures`, by id, in elements of class `plot`."""

STYLE = "page.css"


def resource(name: str) -> str:
    """A style sheet or script of this package."""
    return files("cgloop.figures").joinpath("static", name).read_text(encoding="utf-8")


def json_in_script(data: Any) -> str:
    """JSON that is safe inside a script element: no `<`, `>` or `&` of it can end the element or begin markup."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def write_page(path: Path, title: str, head: str, figures: Sequence[Figure]) -> None:
    """Write a page.

    Args:
        path: HTML file; there is the whole page or none.
        title: of the page.
        head: one line below it.
        figures: in the order of the page; numbers that are not finite are gaps.
    """
    text = PAGE.format(
        title=html.escape(title),
        head=html.escape(head),
        style=resource(STYLE),
        body="\n".join(map(_place, figures)),
        figures=json_in_script(jsonable({one.id: one.to_json() for one in figures})),
        scripts="\n".join(map(resource, SCRIPTS)),
    )
    write_text(path, text)


def _place(figure: Figure) -> str:
    """Where a figure is drawn, and what a reader without pictures gets."""
    name, title, caption = (html.escape(text) for text in (figure.id, figure.title, figure.caption))
    return (
        f'<figure class="{figure.width}"><h4>{title}</h4>'
        f'<div class="plot" data-figure="{name}" style="min-height: {figure.height}px" role="img" '
        f'aria-label="{title}. {caption}"></div><figcaption>{caption}</figcaption></figure>'
    )


PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; \
script-src 'unsafe-inline'; img-src data: blob:">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<header><h1>{title}</h1><p class="subject">{head}</p></header>
<main><div class="plots">
{body}
</div></main>
<noscript><p class="absent">Plots need JavaScript.</p></noscript>
<script type="application/json" id="figures">{figures}</script>
<script>{scripts}</script>
</body>
</html>
"""

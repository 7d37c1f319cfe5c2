"""One HTML page of figures that needs no network; figures are Plotly's JSON."""

import html
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Section = tuple[str, str, dict[str, Any]]
"""Title, caption and figure (`data` and `layout`)."""


def write_page(path: Path, title: str, head: str, sections: Iterable[Section]) -> None:
    """Write a page.

    Args:
        path: HTML file; there is the whole page or none.
        title: of the page.
        head: one line below it.
        sections: in the order of the page.
    """
    from plotly.offline import get_plotlyjs

    sections = list(sections)
    body = "\n".join(
        f'<section><h2>{html.escape(name)}</h2><div id="f{i}"></div><p>{html.escape(caption)}</p></section>'
        for i, (name, caption, _) in enumerate(sections)
    )
    # `</` would end the script that the JSON stands in.
    figures = json.dumps([figure for _, _, figure in sections], sort_keys=True).replace("</", "<\\/")
    text = PAGE.format(
        title=html.escape(title), head=html.escape(head), body=body, plotly=get_plotlyjs(), figures=figures
    )
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }}
main {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); gap: 1.5rem; }}
section {{ min-width: 0; }} h2 {{ font-size: 1.1rem; margin: 0; }} p {{ color: #6b6b6b; margin: 0; }}
</style></head>
<body><h1>{title}</h1><p>{head}</p><main>
{body}
</main>
<script>{plotly}</script>
<script>
for (const [i, figure] of {figures}.entries())
  Plotly.newPlot("f" + i, figure.data, figure.layout, {{responsive: true, displaylogo: false}});
</script>
</body></html>
"""

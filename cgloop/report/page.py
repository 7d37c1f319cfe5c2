"""Write `report.html`: everything in one file, nothing from the network."""

import json
import logging
import os
import re
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

import cgloop
from cgloop.feedback.words import capital
from cgloop.report import provenance, rows, summary
from cgloop.report.gather import CycleFiles, RunFiles, read_run_files
from cgloop.report.sections import Section, sections
from cgloop.stages import explained

log = logging.getLogger("cgloop.report")

MAX_FRAME_BYTES = 2_000_000
"""Crash frames that are embedded: with Plotly (5 MB) and the plots (2 MB) the page stays below 10 MB."""

MOST_CHECKS = 200
"""Rows of the table of checks."""


def write_report(run_dir: Path) -> Path:
    """Write the page of a run from whatever is there.

    The newest cycle with a verdict is shown in full, all cycles in a table. Stages that are missing are named.

    Args:
        run_dir: `runs/<name>`.

    Returns:
        The file written, `report.html` in the run directory.

    Raises:
        UserError: the run directory cannot be written.
    """
    run = read_run_files(Path(run_dir))
    text = render(run)
    page = run.path / "report.html"
    with explained(page):
        temporary = page.with_name(".report.html.tmp")
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, page)
    log.info("%s (%.1f MB)", page, page.stat().st_size / 1e6)
    return page


def render(run: RunFiles) -> str:
    """The page as text."""
    environment = Environment(
        loader=PackageLoader("cgloop.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(prose=prose, capital=capital)
    cycle = run.latest
    checks = rows.check_rows(cycle) if cycle else []
    context: dict[str, Any] = {
        "run": run,
        "cycle": cycle,
        "headline": summary.headline(run, cycle, checks),
        "cycles": summary.cycle_table(run),
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "version": cgloop.__version__,
        "symbols": rows.SYMBOLS,
        "words": rows.WORDS,
        "style": Markup(_resource("style.css")),
        "scripts": [Markup(_resource(name)) for name in ("plots.js", "viewer.js")],
        "checks": rows.foremost(checks, MOST_CHECKS),
        "checks_left": max(0, len(checks) - MOST_CHECKS),
        "controls": [],
        "sections": [],
        "crashes": [],
        "tiles": [],
        "plotly": "",
        "figures_json": "",
    }
    if cycle is not None:
        context.update(_cycle_context(cycle, checks))
    return environment.get_template("report.html.j2").render(context)


def _cycle_context(cycle: CycleFiles, checks: list[rows.CheckRow]) -> dict[str, Any]:
    parts = sections(cycle, checks)
    figures = {figure.id: figure.to_json() for part in parts for figure in part.figures}
    return {
        "controls": rows.foremost(rows.control_rows(cycle), MOST_CHECKS),
        "sections": parts,
        "tiles": summary.tiles(cycle),
        "subject": summary.subject_line(cycle),
        "crashes": _crashes(cycle),
        "crash_note": _crash_note(cycle, parts),
        "stages": provenance.stage_rows(cycle),
        "total_time": provenance.total_time(cycle),
        "versions": provenance.versions(cycle),
        "what_was_run": provenance.what_was_run(cycle),
        "plotly": Markup(_plotly()) if figures else "",
        "figures_json": script_json(figures),
    }


def _crashes(cycle: CycleFiles) -> list[dict[str, Any]]:
    """Crashes with the frames to play, as long as there is room for them."""
    shown, spent = [], 0
    for crash in cycle.crashes:
        frames = crash.get("frames")
        text = script_json(frames) if frames else Markup("")
        fits = bool(frames) and spent + len(text) <= MAX_FRAME_BYTES
        spent += len(text) if fits else 0
        shown.append({**crash, "frames": None, "frames_json": text if fits else Markup("")})
    return shown


def _crash_note(cycle: CycleFiles, parts: list[Section]) -> str:
    """What is said where there is no crash."""
    if "feedback" not in cycle.records:
        return "Not known: the stage `feedback` is missing."
    survival = next((part for part in parts if part.id == "stability"), None)
    reasons = [row.reason for row in survival.checks] if survival else []
    return "No replica broke a limit." + (f" {reasons[0][:1].upper()}{reasons[0][1:]}." if reasons else "")


def prose(text: str) -> Markup:
    """Text, escaped, with `names in backticks` as code, minus signs before numbers, and units kept beside them."""
    escaped = re.sub(r"(?<![\w.])-(?=\d)", "−", str(escape(text)))
    escaped = re.sub(r"(?<=\d) (?=(?:Å|kcal/mol|K|[fpn]s|%|±)(?!\w))", "\u00a0", escaped)
    escaped = re.sub(r"(?<=±) (?=\d)", "\u00a0", escaped)
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped))


def script_json(data: Any) -> Markup:
    """JSON that is safe inside a script element: no `<`, `>` or `&` of it can end the element or begin markup."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


def _resource(name: str) -> str:
    return files("cgloop.report").joinpath("templates", name).read_text(encoding="utf-8")

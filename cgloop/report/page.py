"""Write `report.html`: everything in one file, nothing from the network."""

import logging
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

import cgloop
from cgloop.feedback.words import capital
from cgloop.figures.page import SCRIPTS, STYLE, json_in_script, resource
from cgloop.report import ablation_section, crashes, cycles_section, provenance, rows, summary
from cgloop.report.gather import CycleFiles, RunFiles, read_run_files
from cgloop.report.sections import sections
from cgloop.stages import explained, write_text

log = logging.getLogger("cgloop.report")

MAX_FRAME_BYTES = 2_000_000
"""Crash frames that are embedded, those of the newest cycles first."""

MAX_FIGURE_BYTES = 6_000_000
"""Plots that are embedded, likewise: with the frames the page stays below 10 MB."""

MOST_CHECKS = 200
"""Rows of the table of checks."""

OWN_SCRIPTS = ("viewer.js", "page.js")
"""Behind those that draw figures."""


def write_report(run_dir: Path) -> Path:
    """Write the page of a run from whatever is there.

    The newest cycle with a verdict is shown first, every other at a choice. Stages that are missing are named.

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
        write_text(page, text)
    log.info("%s (%.1f MB)", page, page.stat().st_size / 1e6)
    return page


@dataclass
class Room:
    """What may still be embedded; cycles are asked in order, the newest first."""

    frames: int
    figures: int
    embedded: dict[str, Markup] = field(default_factory=dict)


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
    room = Room(MAX_FRAME_BYTES, MAX_FIGURE_BYTES)
    # The cycle shown first, then the others, the newest first.
    order = (
        [run.latest, *(cycle for cycle in reversed(run.cycles) if cycle is not run.latest)] if run.cycles else [None]
    )
    views = [_view(run, cycle, room) for cycle in order]
    overview = cycles_section.make(run)
    _embed(overview.figures, "run-", room)
    figures = Markup(",").join(script_json(name) + Markup(":") + text for name, text in room.embedded.items())
    return environment.get_template("report.html.j2").render(
        run=run,
        views=views,
        shown=run.latest,
        overview=overview,
        ablation=ablation_section.make(run),
        cycles=summary.cycle_table(run),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=cgloop.__version__,
        symbols=rows.SYMBOLS,
        words=rows.WORDS,
        style=Markup(resource(STYLE) + "\n" + _own("report.css")),
        scripts=Markup("\n".join([*map(resource, SCRIPTS), *map(_own, OWN_SCRIPTS)])),
        figures_json=Markup("{") + figures + Markup("}"),
    )


def _view(run: RunFiles, cycle: CycleFiles | None, room: Room) -> dict[str, Any]:
    """What the template shows of one cycle."""
    checks = rows.check_rows(cycle) if cycle else []
    view: dict[str, Any] = {
        "cycle": cycle,
        "prefix": "" if cycle is run.latest else f"c{cycle.index}-" if cycle else "",
        "headline": summary.headline(run, cycle, checks),
        "checks": rows.foremost(checks, MOST_CHECKS),
        "checks_left": max(0, len(checks) - MOST_CHECKS),
        "sections": [],
        "crashes": [],
        "tiles": [],
        "subject": "",
    }
    if cycle is None:
        return view
    parts = sections(cycle, checks)
    for part in parts:
        _embed(part.figures, f"c{cycle.index}-", room)
    return {
        **view,
        "figure_prefix": f"c{cycle.index}-",
        "sections": parts,
        "unplotted": any(f"c{cycle.index}-{one.id}" not in room.embedded for part in parts for one in part.figures),
        "tiles": summary.tiles(cycle),
        "subject": summary.subject_line(cycle),
        "crashes": _crashes(cycle, room),
        "crash_note": crashes.note(cycle, parts),
        "near_misses": crashes.near_misses(cycle),
        "stages": provenance.stage_rows(cycle),
        "total_time": provenance.total_time(cycle),
        "versions": provenance.versions(cycle),
        "what_was_run": provenance.what_was_run(cycle),
    }


def _embed(figures: list[Any], prefix: str, room: Room) -> None:
    """Put plots into the page as long as there is room for them."""
    for figure in figures:
        text = script_json(figure.to_json())
        if len(text) <= room.figures:
            room.figures -= len(text)
            room.embedded[prefix + figure.id] = text


def _crashes(cycle: CycleFiles, room: Room) -> list[dict[str, Any]]:
    """Crashes with the frames to play, as long as there is room for them."""
    shown = []
    for crash in crashes.crash_entries(cycle):
        frames = crash.get("frames")
        text = script_json(frames) if frames else Markup("")
        fits = bool(frames) and len(text) <= room.frames
        room.frames -= len(text) if fits else 0
        shown.append({**crash, "frames": None, "frames_json": text if fits else Markup("")})
    return shown


def prose(text: str) -> Markup:
    """Text, escaped, with `names in backticks` as code, minus signs before numbers, and units kept beside them."""
    escaped = re.sub(r"(?<![\w.])-(?=\d)", "−", str(escape(text)))
    # Names of files in sentences: stages in capitals, replicas by number.
    escaped = re.sub(r"(?<![\w./`])(nvt|nve|Nvt|Nve)(?![\w./`])", lambda found: found[1].upper(), escaped)
    escaped = re.sub(r"(?<![\w./`])replica_0*(\d+)(?![\w./`])", r"replica \1", escaped)
    escaped = re.sub(r"(?<=\d) (?=(?:Å|kcal/mol|K|[fpn]s|%|±)(?!\w))", "\u00a0", escaped)
    escaped = re.sub(r"(?<=±) (?=\d)", "\u00a0", escaped)
    escaped = re.sub(r"kcal/mol/(?:Å|ns)", r'<span class="unit">\g<0></span>', escaped)
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped))


def script_json(data: Any) -> Markup:
    """`json_in_script`, which a template inserts as it is."""
    return Markup(json_in_script(data))


def _own(name: str) -> str:
    return files("cgloop.report").joinpath("static", name).read_text(encoding="utf-8")

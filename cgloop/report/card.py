"""The model card: what a model is, what it was made from, and what to beware of, for whoever is handed the folder."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from cgloop.feedback.words import capital
from cgloop.report.gather import CycleFiles
from cgloop.report.provenance import versions, what_was_run
from cgloop.report.rows import WORDS, check_rows
from cgloop.rundir import RunDirectory
from cgloop.wording import listing

CARD = "README.md"


def write_card(run: RunDirectory, cycle: int, folder: Path) -> None:
    """Write `README.md`, the card of a cycle's model, into a folder that holds its bundle.

    Args:
        run: the run directory.
        cycle: whose model it is; it has a verdict.
        folder: gets the card.
    """
    (folder / CARD).write_text(render(run.path.resolve().name, CycleFiles(cycle, run.cycle(cycle))), encoding="utf-8")


def render(name: str, cycle: CycleFiles) -> str:
    """The card as Markdown."""
    environment = Environment(
        loader=PackageLoader("cgloop.report", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(cell=cell, capital=capital)
    manifest = cycle.read("export/manifest.json")
    return environment.get_template("card.md.j2").render(
        name=name,
        cycle=cycle.index,
        verdict=cycle.verdict,
        cautions=cycle.cautions,
        manifest=manifest,
        trained=listing([one["name"] for one in manifest.get("types") or [] if one.get("trained")], 20),
        excluded=cycle.read("prep/manifest.json").get("excluded_files") or [],
        run=what_was_run(cycle),
        checks=check_rows(cycle),
        words=WORDS,
        versions=versions(cycle),
    )


def cell(text: Any) -> str:
    """Text that stays in its cell of a Markdown table."""
    return " ".join(str(text).replace("|", "\\|").split())

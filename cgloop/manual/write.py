"""Writes the generated pages of the documentation."""

from collections.abc import Callable
from pathlib import Path

from cgloop.manual.config_page import config_page
from cgloop.manual.limits_page import limits_page

COMMAND = "cgloop manual docs"

PAGES: dict[str, Callable[[str], str]] = {"config-reference.md": config_page, "limits.md": limits_page}


def write_pages(folder: Path) -> list[Path]:
    """Write all pages into a folder, which is made if it is not there; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, page in PAGES.items():
        (folder / name).write_text(page(COMMAND), encoding="utf-8")
        written.append(folder / name)
    return written

"""The page on paper: printed by a browser without a window, the same one that shows it."""

import logging
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from cgloop.errors import UserError
from cgloop.stages import explained

log = logging.getLogger("cgloop.report")

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
OPTIONS = (
    "--headless=new", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync",
    "--disable-component-update", "--no-pdf-header-footer", "--virtual-time-budget=10000",
)  # fmt: skip
TIMEOUT_S = 180.0


def write_pdf(page: Path) -> Path:
    """Print a page to a PDF file beside it.

    Args:
        page: `report.html`.

    Returns:
        The file written, `report.pdf`.

    Raises:
        UserError: there is no browser, it fails, or the folder cannot be written.
    """
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise UserError(
            "no Chromium or Chrome was found on the path",
            where="--pdf",
            remedy=f"install one (Debian, Ubuntu: `apt install chromium`), or open {page} in any browser and print it",
        )
    target = page.with_suffix(".pdf")
    with explained(target), tempfile.TemporaryDirectory(prefix=".report-pdf-", dir=page.parent) as folder:
        made = Path(folder) / "report.pdf"
        # Chromium has no sandbox for root; the file is ours.
        options = [*OPTIONS, *(["--no-sandbox"] if os.geteuid() == 0 else []), f"--user-data-dir={folder}/profile"]
        command = [browser, *options, f"--print-to-pdf={made}", page.resolve().as_uri()]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
            said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        except subprocess.TimeoutExpired:
            said = f"it did not end within {TIMEOUT_S:.0f} s"
        if not made.is_file() or not made.stat().st_size:
            raise UserError(
                f"{Path(browser).name} could not print the page: {said}",
                where=page,
                remedy="open it in any browser and print it",
            )
        os.replace(made, target)
    log.info("%s (%.1f MB)", target, target.stat().st_size / 1e6)
    return target

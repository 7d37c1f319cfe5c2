"""Draws the picture of training.md: python docs/make_training_pictures.py LEARNING_CURVES.json

The file is that of `python -m benchmarks.learning_curves`.
"""

import json
import sys
from pathlib import Path
from typing import Any

from make_prior_pictures import MARGIN, WIDTH, Panel, write_svg

COLOURS = {"full": "#0072b2", "ml-only": "#009e73", "prior-only": "#d55e00"}
NAMES = {"full": "prior + network", "ml-only": "network alone", "prior-only": "prior alone"}


def by_frames(rows: list[dict[str, Any]], panel: Panel) -> None:
    """Test error over the number of training frames."""
    curves: dict[str, list[tuple[float, float]]] = {"full": [], "ml-only": [], "prior-only": []}
    for row in rows:
        place = float(row["frames"])
        curves["full" if row["energy"] == "hybrid" else "ml-only"].append((place, row["rmse"]["full"]))
        if row["energy"] == "hybrid":
            curves["prior-only"].append((place, row["rmse"]["prior-only"]))
    for name, points in curves.items():
        panel.line(*zip(*points, strict=True), COLOURS[name])


def by_epoch(rows: list[dict[str, Any]], panel: Panel) -> None:
    """Validation error over epochs with the most frames."""
    most = max(row["frames"] for row in rows)
    for row in rows:
        if row["frames"] == most:
            name = "full" if row["energy"] == "hybrid" else "ml-only"
            values = row["validation_rmse"]
            panel.line(range(1, len(values) + 1), values, COLOURS[name])


def main(source: Path) -> None:
    rows = json.loads(source.read_text(encoding="utf-8"))["rows"]
    width = (WIDTH - 3 * MARGIN) / 2
    lowest, highest = 8.4, 9.6
    left = Panel(MARGIN, width, (0, 1000), (lowest, highest), ("training frames", "force RMSE, test, kcal/mol/Å"))
    right = Panel(2 * MARGIN + width, width, (0, 40), (lowest, highest), ("epoch", "validation, 1,000 frames"))
    by_frames(rows, left)
    by_epoch(rows, right)
    left.legend([(NAMES[name], color) for name, color in COLOURS.items()])
    write_svg(Path(__file__).parent / "pictures" / "training_curves.svg", [left, right])


if __name__ == "__main__":
    main(Path(sys.argv[1]))

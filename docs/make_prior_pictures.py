"""Draws the pictures of priors.md from `priors/curves.json` of real fits: python docs/make_prior_pictures.py DATASET

DATASET is a folder that `cgloop prep` wrote. Plain SVG, so that the pictures need no plotting package.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cgloop.config.priors import PriorsConfig
from cgloop.data.dataset import DatasetReader
from cgloop.priors.curves import curves
from cgloop.priors.inversion import fit_samples
from cgloop.priors.samples import Samples

WIDTH, HEIGHT, MARGIN, GAP = 760, 300, 44, 30
INK, GRID = "#333333", "#dddddd"
COLORS = {"fourier": "#0072b2", "harmonic": "#d55e00", "spline": "#009e73"}
CEILING_KCAL_PER_MOL = 6.0


def read_samples(dataset: Path) -> tuple[Samples, float]:
    """Distributions of the training frames at the model's temperature."""
    reader = DatasetReader.open(dataset)
    samples = Samples()
    for name in reader.names:
        samples.add(reader.load(name, "train", reader.temperature_K))
    return samples, reader.temperature_K


def fitted_terms(samples: Samples, temperature_K: float, **forms: Any) -> dict[str, dict[str, Any]]:
    """Curves of one fit by name of the term; of the repulsion those from separation 6 on."""
    config = PriorsConfig.model_validate({"min_frames": 10, **forms})
    found = curves(fit_samples(samples, config, temperature_K, 12.0))
    return {term["term"]: term for term in found["terms"]}


class Panel:
    """One set of axes."""

    def __init__(
        self, left: float, width: float, x: tuple[float, float], y: tuple[float, float], labels: Sequence[str]
    ):
        self.left, self.width, self.x, self.y = left, width, x, y
        self.parts: list[str] = []
        bottom, top = HEIGHT - MARGIN, GAP
        for i in range(5):
            value = x[0] + (x[1] - x[0]) * i / 4
            place = left + width * i / 4
            self.parts.append(f'<line x1="{place:.1f}" x2="{place:.1f}" y1="{top}" y2="{bottom}" stroke="{GRID}"/>')
            self._text(place, bottom + 16, f"{value:g}", "middle")
        for i in range(4):
            value = y[0] + (y[1] - y[0]) * i / 3
            self._text(left - 5, self._down(value) + 4, f"{value:.2g}", "end")
        self._text(left + width / 2, HEIGHT - 8, labels[0], "middle")
        self._text(left, top - 10, labels[1], "start")

    def _down(self, value: float) -> float:
        share = (min(max(value, self.y[0]), self.y[1]) - self.y[0]) / (self.y[1] - self.y[0])
        return HEIGHT - MARGIN - share * (HEIGHT - MARGIN - GAP)

    def _text(self, x: float, y: float, text: str, anchor: str, color: str = INK) -> None:
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}">{text}</text>')

    def line(
        self, grid: Sequence[float], values: Sequence[float | None], color: str, dash: str = "", fill: bool = False
    ):
        """A curve; gaps where a value is None, cut off at the top of the axes."""
        points = []
        for x, y in zip(grid, values, strict=True):
            if y is not None and self.x[0] <= x <= self.x[1] and (fill or y <= self.y[1]):
                across = self.left + self.width * (x - self.x[0]) / (self.x[1] - self.x[0])
                points.append(f"{across:.1f},{self._down(y):.1f}")
        style = f'fill="{color}" fill-opacity="0.2" stroke="none"' if fill else f'fill="none" stroke="{color}"'
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(f'<polyline points="{" ".join(points)}" {style} stroke-width="1.8"{dashes}/>')

    def legend(self, entries: Sequence[tuple[str, str]]) -> None:
        """Names in their colours, at the top right."""
        for row, (name, color) in enumerate(entries):
            self._text(self.left + self.width - 6, GAP + 14 + 15 * row, name, "end", color)


def write_svg(path: Path, panels: Sequence[Panel]) -> None:
    """All panels side by side on white."""
    body = "\n".join(part for panel in panels for part in panel.parts)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="11">\n<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n{body}\n</svg>\n',
        encoding="utf-8",
    )


def bonded_picture(path: Path, fits: dict[str, dict[str, dict[str, Any]]], term: str, x: tuple[float, float]) -> None:
    """Potentials of several forms, and the densities behind them."""
    half = (WIDTH - 3 * MARGIN) / 2
    first = next(iter(fits.values()))[term]
    symbol = f"{first['coordinate']}, {first['unit']}"
    left = Panel(MARGIN, half, x, (0.0, CEILING_KCAL_PER_MOL), (symbol, "U, kcal/mol"))
    highest = 1.1 * max(max(first["density"]), max(first["implied_density"]))
    right = Panel(2 * MARGIN + half, half, x, (0.0, highest), (symbol, "density"))
    right.line(first["grid"], first["density"], INK, fill=True)
    for name, terms in fits.items():
        left.line(terms[term]["grid"], terms[term]["fitted"], COLORS[name])
        right.line(terms[term]["grid"], terms[term]["implied_density"], COLORS[name])
    left.line(first["grid"], first["reference"], INK, "2 3")
    left.legend([("reference, inverted", INK), *((name, COLORS[name]) for name in fits)])
    right.legend([("reference", INK), ("each term alone", INK)])
    write_svg(path, [left, right])


def repulsion_picture(path: Path, samples: Samples, temperature_K: float) -> None:
    """Every form from separation 6 on, on the distances of the reference."""
    colors = dict(
        zip(
            ("wca", "lj", "power4", "power6", "power12"),
            ("#0072b2", "#d55e00", "#cc79a7", "#009e73", "#e69f00"),
            strict=True,
        )
    )
    panel = Panel(
        MARGIN, WIDTH - 2 * MARGIN, (2.5, 10.5), (-1.0, 8.0), ("r, Å", "U, kcal/mol; dotted: density of distances")
    )
    for name, color in colors.items():
        term = fitted_terms(samples, temperature_K, repulsion_form=name)["repulsion"]
        if name == "wca":
            scale = 6.0 / max(term["density"])
            panel.line(term["grid"], [scale * value - 1.0 for value in term["density"]], INK, "2 3")
        panel.line(term["grid"], term["fitted"], color)
    panel.legend(list(colors.items()))
    write_svg(path, [panel])


def main(dataset: Path) -> None:
    """All pictures, beside this script."""
    folder = Path(__file__).resolve().parent / "pictures"
    folder.mkdir(exist_ok=True)
    samples, temperature_K = read_samples(dataset)
    angle_fits = {form: fitted_terms(samples, temperature_K, angle_form=form) for form in COLORS}
    bonded_picture(folder / "prior_angle.svg", angle_fits, "angle", (60.0, 180.0))
    dihedral_fits = {form: fitted_terms(samples, temperature_K, dihedral_form=form) for form in ("fourier", "spline")}
    bonded_picture(folder / "prior_dihedral.svg", dihedral_fits, "dihedral", (-180.0, 180.0))
    repulsion_picture(folder / "prior_repulsion.svg", samples, temperature_K)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

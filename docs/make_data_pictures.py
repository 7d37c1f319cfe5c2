"""Draws the pictures of data.md from the shipped example: python docs/make_data_pictures.py

Plain SVG, so that the pictures need no plotting package; a minute of work, all of it from real frames.
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from cgloop.config.data import DataConfig
from cgloop.data.dataset import DatasetReader
from cgloop.prep.constraints import guess_rigid_groups
from cgloop.prep.mdcath import MdcathFile
from cgloop.prep.optimal import fit_optimal, force_products
from cgloop.prep.pipeline import prepare
from cgloop.residues import RESIDUES

HERE = Path(__file__).resolve().parent
EXAMPLE = HERE.parent / "examples" / "chignolin" / "mdcath_dataset_cln025.h5"
INK, GREY, GRID = "#333333", "#777777", "#dddddd"
BLUE, ORANGE, GREEN, RED = "#0072b2", "#e69f00", "#009e73", "#d55e00"


class Picture:
    """Shapes on a white sheet."""

    def __init__(self, width: int, height: int):
        self.width, self.height, self.parts = width, height, list[str]()

    def box(self, x: float, y: float, width: float, height: float, fill: str, stroke: str = "none") -> None:
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{fill}" stroke="{stroke}"/>'
        )

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: float = 1.0, dash: str = "") -> None:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"{dashed}/>')

    def text(self, x: float, y: float, text: str, anchor: str = "middle", colour: str = INK, size: int = 13) -> None:
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-size="{size}">{text}</text>'
        )

    def save(self, name: str) -> None:
        body = "\n".join(self.parts)
        path = HERE / "pictures" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'font-family="system-ui, sans-serif"><rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n',
            encoding="utf-8",
        )
        print(path)


def draw_maps(report: dict) -> None:
    """How large forces are under each map, and how much of that is noise."""
    picture = Picture(720, 220)
    scale = 480 / 30
    rows = [(name, np.sqrt(report["mean_squared_force"][name]["value"])) for name in ("slice", "basic", "optimal")]
    for i, (name, rms) in enumerate(rows):
        y = 30 + 42 * i
        picture.text(95, y + 18, name, "end")
        picture.box(105, y, rms * scale, 28, ORANGE if name != "optimal" else BLUE)
        picture.text(112 + rms * scale, y + 18, f"{rms:.1f}", "start")
    noise = report["noise"]["rms"]
    picture.text(95, 174, "its noise", "end")
    picture.box(105, 156, noise * scale, 28, "#b8d4ea", BLUE)
    picture.text(112 + noise * scale, 174, f"{noise:.1f} or less: what no model can predict", "start")
    picture.text(105, 210, "RMS of a force component on held-out frames of CLN025, kcal/mol/Å", "start", GREY)
    picture.save("data_maps.svg")


def draw_weights(dataset: Path) -> None:
    """Which residues' atoms speak for which bead."""
    reader = DatasetReader.open(dataset)
    types = reader.structure("cln025").residue_type
    with h5py.File(dataset / "cln025.h5") as file, MdcathFile(EXAMPLE) as source:
        weights = np.abs(file["force_map"][:])
        resids = np.array([atom.resid for atom in source.atoms])
    share = np.stack([weights[:, resids == resid].sum(axis=1) for resid in np.unique(resids)], axis=1)
    share /= share.sum(axis=1, keepdims=True)
    picture, cell, left, top = Picture(720, 430), 34, 120, 40
    names = [f"{RESIDUES[kind].name} {i + 1}" for i, kind in enumerate(types)]
    for row, name in enumerate(names):
        picture.text(left - 8, top + cell * row + 22, name, "end", size=12)
        picture.text(left + cell * row + 17, top - 8, name.split()[0], size=10)
        for column in range(len(names)):
            depth = min(1.0, share[row, column] / 0.5)
            colour = "#" + "".join(f"{round(255 + (c - 255) * depth):02x}" for c in (0, 114, 178))
            picture.box(left + cell * column, top + cell * row, cell, cell, colour, "#f2f2f2")
            if share[row, column] >= 0.1:
                ink = "white" if depth > 0.6 else INK
                picture.text(
                    left + cell * column + 17, top + cell * row + 22, f"{share[row, column]:.0%}", "middle", ink, 11
                )
    picture.text(left + cell * 5, top + cell * 10 + 28, "atoms of this residue", "middle", GREY)
    picture.text(left + cell * 10 + 18, top + 20, "Each row is a bead:", "start", GREY)
    picture.text(left + cell * 10 + 18, top + 38, "how its force map", "start", GREY)
    picture.text(left + cell * 10 + 18, top + 56, "divides its weight", "start", GREY)
    picture.text(left + cell * 10 + 18, top + 74, "among residues.", "start", GREY)
    picture.save("data_weights.svg")


def draw_frames() -> None:
    """Held-out force against the number of frames of the fit, with and without the guard."""
    with MdcathFile(EXAMPLE) as source:
        frames = [
            np.concatenate([getattr(b, f) for t in source.trajectories for b in t.blocks()])
            for f in ("positions", "forces")
        ]
        atoms = np.array([atom.index for atom in source.atoms if atom.name == "CA"])
    positions, forces = frames
    groups = guess_rigid_groups(positions[::20])
    test = force_products(forces[1000:], groups)
    first = np.unique(groups.label, return_index=True)[1]
    counts, curves = (18, 24, 30, 45, 60, 100, 200, 400, 1000), {"guarded": [], "bare": []}
    for count in counts:
        chosen = forces[np.linspace(0, 999, count).astype(int)]
        folds = [force_products(part, groups) for part in np.array_split(chosen, 3)]
        for name, l2 in (("guarded", None), ("bare", 1e-6)):
            weights = fit_optimal(folds, groups, atoms, l2).weights[:, first]
            curves[name].append(np.sqrt(np.einsum("ng,gh,nh->", weights, test.total, weights) / test.rows / len(atoms)))
    basic = np.sqrt(np.mean([test.total[g, g] for g in groups.label[atoms]]) / test.rows)
    picture, left, right, bottom, top = Picture(720, 320), 60, 560, 270, 20

    def place(count: float, rms: float) -> tuple[float, float]:
        along = (np.log(count) - np.log(15)) / (np.log(1100) - np.log(15))
        return left + (right - left) * along, bottom - (bottom - top) * min(rms, 45.0) / 45.0

    for rms in (0, 10, 20, 30, 40):
        picture.line([place(15, rms), place(1100, rms)], GRID)
        picture.text(left - 8, place(15, rms)[1] + 4, f"{rms}", "end", size=12)
    for count in (20, 50, 100, 200, 500, 1000):
        picture.text(place(count, 0)[0], bottom + 18, f"{count}", size=12)
    picture.line([place(15, basic), place(1100, basic)], ORANGE, 2, "6 4")
    picture.line([place(*point) for point in zip(counts, curves["bare"], strict=True)], RED, 2, "2 3")
    picture.line([place(*point) for point in zip(counts, curves["guarded"], strict=True)], BLUE, 2.5)
    picture.text(right + 8, place(1000, basic)[1] + 4, "basic", "start", ORANGE)
    picture.text(right + 8, place(1000, curves["guarded"][-1])[1] + 4, "optimal", "start", BLUE)
    picture.text(place(30, 0)[0] + 10, 34, "optimal, penalty nearly 0", "start", RED)
    picture.text(
        (left + right) / 2, 308, "frames that the map is fitted to (83 free coefficients a bead)", "middle", GREY
    )
    picture.text(left, 14, "RMS force on 1000 other frames, kcal/mol/Å", "start", GREY, 12)
    picture.save("data_frames.svg")


def draw_splits() -> None:
    """The three ways to divide proteins and trajectories."""
    picture = Picture(720, 446)
    parts = {"train": BLUE, "validation": ORANGE, "test": GREEN}

    def bar(y: float, name: str, pieces: Sequence[tuple[float, str]]) -> None:
        picture.text(100, y + 16, name, "end", GREY, 12)
        x = 110.0
        for share, kind in pieces:
            width = 560 * share
            fill = parts.get(kind, {"gap": "#eeeeee", "bad": "#f6d5c9"}.get(kind, "white"))
            picture.box(x, y, width, 22, fill, "white")
            if kind in parts and share > 0.1:
                picture.text(x + width / 2, y + 16, kind, "middle", "white", 12)
            x += width

    picture.text(110, 20, "by: replica — whole trajectories", "start")
    for i, kind in enumerate(("train", "train", "validation", "test")):
        bar(30 + 26 * i, f"replica {i}", [(0.97 if i != 1 else 0.83, kind), *([(0.14, "bad")] if i == 1 else [])])
    picture.text(614, 72, "set aside", "middle", RED, 11)
    picture.text(110, 312, "by: protein — whole proteins, for a model that is to serve others", "start")
    proteins = (
        ("1abcA00", 0.97, "train"),
        ("2defB01", 0.55, "train"),
        ("3ghiC02", 0.8, "validation"),
        ("4jklD00", 0.7, "test"),
    )
    for i, (name, share, kind) in enumerate(proteins):
        bar(322 + 26 * i, name, [(share, kind)])
    picture.text(110, 166, "by: time_block — stretches of each trajectory, gaps between them", "start")
    for i in range(4):
        whole = 0.97 if i != 1 else 0.83
        pieces = [
            (0.66 * whole, "train"),
            (0.04, "gap"),
            (0.13 * whole, "validation"),
            (0.04, "gap"),
            (0.13 * whole, "test"),
        ]
        bar(176 + 26 * i, f"replica {i}", pieces if i != 1 else [*pieces, (0.14, "bad")])
    picture.save("data_splits.svg")


def main() -> None:
    split = {"by": "replica", "train": [0, 1], "validation": [2], "test": [3]}
    config = DataConfig.model_validate(
        {"sources": [{"path": EXAMPLE}], "temperature_K": 320, "projection": "optimal", "split": split}
    )
    with tempfile.TemporaryDirectory() as folder:
        prepare(config, Path(folder))
        draw_maps(json.loads((Path(folder) / "projection.json").read_text())["proteins"]["cln025"])
        draw_weights(Path(folder))
    draw_frames()
    draw_splits()


if __name__ == "__main__":
    main()

"""What a data set contains, in numbers: per protein, per residue type, and as distributions per part."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cgloop.data.dataset import SPLIT_NAMES, SPLITS, DatasetReader, ProteinData
from cgloop.data.geometry import bond_angles, bond_lengths, chain_indices, dihedral_angles, radius_of_gyration
from cgloop.residues import RESIDUES

FRAMES_PER_PROTEIN = 2000
"""Evenly spaced frames that statistics are taken from; enough for every number here, whatever the set's size."""

# Quantity -> unit, lower and upper end of its histogram, bins.
QUANTITIES: dict[str, tuple[str, float, float, int]] = {
    "bond": ("Å", 2.6, 4.8, 220),
    "angle": ("degrees", 40.0, 180.0, 140),
    "dihedral": ("degrees", -180.0, 180.0, 120),
    "rg": ("Å", 0.0, 60.0, 600),
    "force": ("kcal/mol/Å", 0.0, 200.0, 400),
}


@dataclass
class Moments:
    """Count, mean and variance of what was added (Chan, Golub, LeVeque, Am. Stat. 37, 242 (1983))."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, values: np.ndarray) -> None:
        if not values.size:
            return
        total = self.count + values.size
        shift = float(values.mean()) - self.mean
        self.squares += float(values.var()) * values.size + shift**2 * self.count * values.size / total
        self.mean += shift * values.size / total
        self.count = total

    @property
    def deviation(self) -> float:
        return float(np.sqrt(self.squares / self.count)) if self.count else float("nan")

    def to_json(self) -> dict[str, Any]:
        return {"mean": self.mean, "deviation": self.deviation} if self.count else {"mean": None, "deviation": None}


@dataclass
class Distribution:
    """Counts on the grid of a quantity, and moments; values beyond the ends count in the outermost bins."""

    quantity: str
    counts: np.ndarray = field(init=False)
    moments: Moments = field(default_factory=Moments)

    def __post_init__(self) -> None:
        self.counts = np.zeros(QUANTITIES[self.quantity][3])

    @property
    def edges(self) -> np.ndarray:
        _, low, high, bins = QUANTITIES[self.quantity]
        return np.linspace(low, high, bins + 1)

    def add(self, values: np.ndarray) -> None:
        edges = self.edges
        self.counts += np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
        self.moments.add(values)


@dataclass
class Statistics:
    """Of a whole data set, at the model's temperature.

    Attributes:
        distributions: quantity → part → distribution.
        proteins: per protein, plain data.
        residues: per residue type that occurs, plain data.
    """

    distributions: dict[str, dict[str, Distribution]]
    proteins: dict[str, dict[str, Any]]
    residues: dict[str, dict[str, Any]]


def gather(reader: DatasetReader, names: Iterable[str] | None = None, at_most: int = FRAMES_PER_PROTEIN) -> Statistics:
    """Statistics of some proteins (None: all), from at most so many frames of each.

    Raises:
        UserError: a missing or damaged file.
    """
    parts = [name for name in SPLITS if name != "unused"]
    distributions = {quantity: {part: Distribution(quantity) for part in parts} for quantity in QUANTITIES}
    by_type = [Moments() for _ in RESIDUES]
    beads_of_type, proteins = np.zeros(len(RESIDUES), int), {}
    for name in reader.names if names is None else names:
        collected = {quantity: Moments() for quantity in QUANTITIES}
        square = Moments()
        for protein in reader.blocks(name, temperature_K=reader.temperature_K, at_most=at_most):
            for quantity, values in measure(protein).items():
                codes = (protein.with_forces() if quantity == "force" else protein).split
                collected[quantity].add(values)
                for code in np.unique(protein.split):
                    part = SPLIT_NAMES[int(code)]
                    if part in distributions[quantity]:
                        distributions[quantity][part].add(values[codes == code])
            squares = (protein.with_forces().forces.astype(np.float64) ** 2).mean(axis=2)
            square.add(squares)
            for bead, kind in enumerate(protein.residue_type):
                by_type[kind].add(squares[:, bead])
        structure = reader.structure(name)
        np.add.at(beads_of_type, structure.residue_type, 1)
        proteins[name] = {
            **{quantity: moments.to_json() for quantity, moments in collected.items()},
            "rms_force": float(np.sqrt(square.mean)) if square.count else None,
            "breaks": int((~structure.linked).sum()),
        }
    residues = {
        residue.name: {"beads": int(beads), "rms_force": float(np.sqrt(moments.mean)) if moments.count else None}
        for residue, beads, moments in zip(RESIDUES, beads_of_type, by_type, strict=True)
        if beads
    }
    return Statistics(distributions, proteins, residues)


def measure(protein: ProteinData) -> dict[str, np.ndarray]:
    """Every quantity of every frame, float64 [F, …]; forces of the frames that have them."""
    bonds, angles, dihedrals = chain_indices(protein.linked)
    x = protein.positions.astype(np.float64)
    return {
        "bond": bond_lengths(x, bonds),
        "angle": np.degrees(bond_angles(x, angles)),
        "dihedral": np.degrees(dihedral_angles(x, dihedrals)),
        "rg": radius_of_gyration(x),
        "force": np.linalg.norm(protein.with_forces().forces.astype(np.float64), axis=2),
    }

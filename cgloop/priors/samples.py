"""What the fits need to know of the reference: histograms and smallest distances, gathered protein by protein.

Histograms rather than samples, so that memory does not grow with the number of frames.
"""

from dataclasses import dataclass, field

import numpy as np

from cgloop.data.dataset import ProteinData
from cgloop.data.geometry import bond_angles, bond_lengths, dihedral_angles
from cgloop.model.potentials import CONTACT_INNER_A, CONTACT_OUTER_A
from cgloop.model.terms import DEFAULT_FORMS, KEY_NAMES, N_SEPARATION_CLASSES, PriorForms, key_of_type
from cgloop.model.topology import Topology, build_topology, separation_matrix
from cgloop.residues import N_TYPES

CIS_BELOW_A = 3.4
"""Shorter CA–CA bonds belong to cis peptides (2.9 Å, trans 3.8 Å): one harmonic cannot describe both, and the few
cis ones are left out of the fit and counted."""

BOND_ORIGIN_A = 3.8

CONTACT_A = 0.5 * (CONTACT_INNER_A + CONTACT_OUTER_A)
"""Distance below which a pair is counted as a contact: where the contact function is one half."""

BLOCK_VALUES = 4_000_000
"""Largest number of pair distances in memory at a time."""


@dataclass
class Histogram:
    """Counts on a fixed grid.

    Attributes:
        edges: float [bins + 1].
        counts: float [bins]; values outside the grid are not counted.
    """

    edges: np.ndarray
    counts: np.ndarray

    @classmethod
    def between(cls, low: float, high: float, bins: int) -> "Histogram":
        return cls(np.linspace(low, high, bins + 1), np.zeros(bins))

    def add(self, values: np.ndarray) -> None:
        self.counts += np.histogram(values, self.edges)[0]

    @property
    def centres(self) -> np.ndarray:
        return 0.5 * (self.edges[1:] + self.edges[:-1])

    @property
    def width(self) -> float:
        return float(self.edges[1] - self.edges[0])

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    def density(self) -> np.ndarray:
        """Probability density [bins]; zero if nothing was counted."""
        return self.counts / (max(self.total, 1) * self.width)


@dataclass
class Samples:
    """Distributions over all frames and all bonds, angles, dihedrals and pairs added so far. Å and radians.

    Attributes:
        n_frames: added so far.
        n_bonds, bond_mean, bond_variance: of trans CA–CA bonds, Å and Å².
        n_cis: bonds that were left out.
        bonds, angles, dihedrals: histograms over r, θ in [0, π] and φ in [−π, π].
        distances: per separation class, histogram of pair distances.
        smallest: [3] Å, smallest pair distance per separation class, inf where there is no pair.
        forms: of the prior: which residues have distributions of their own beside those of all, and which separations
            along the chain are a class.
        key_bonds: [K, 3], number, sum and sum of squares of trans bond lengths less 3.8 Å.
        key_angles, key_dihedrals: counts [K, bins] and [K², bins] on the grids of `angles` and `dihedrals`.
        contacts: [2, 20, 20], by residue types of pairs far along the chain: contacts, and pairs.
    """

    n_frames: int = 0
    n_bonds: int = 0
    n_cis: int = 0
    bond_mean: float = 0.0
    bond_variance: float = 0.0
    bonds: Histogram = field(default_factory=lambda: Histogram.between(2.5, 5.5, 300))
    angles: Histogram = field(default_factory=lambda: Histogram.between(0.0, np.pi, 360))
    dihedrals: Histogram = field(default_factory=lambda: Histogram.between(-np.pi, np.pi, 360))
    distances: list[Histogram] = field(
        default_factory=lambda: [Histogram.between(0.0, 20.0, 200) for _ in range(N_SEPARATION_CLASSES)]
    )
    smallest: np.ndarray = field(default_factory=lambda: np.full(N_SEPARATION_CLASSES, np.inf))
    forms: PriorForms = DEFAULT_FORMS
    key_bonds: np.ndarray = field(init=False)
    key_angles: np.ndarray = field(init=False)
    key_dihedrals: np.ndarray = field(init=False)
    contacts: np.ndarray = field(default_factory=lambda: np.zeros((2, N_TYPES, N_TYPES)))

    def __post_init__(self) -> None:
        n = len(KEY_NAMES[self.forms.keyed]) if self.forms.keyed != "global" else 0
        self.key_bonds = np.zeros((n, 3))
        self.key_angles = np.zeros((n, len(self.angles.counts)))
        self.key_dihedrals = np.zeros((n * n, len(self.dihedrals.counts)))

    @property
    def sizes(self) -> dict[str, int]:
        """How many trans bonds, cis bonds, angles and dihedrals were counted."""
        return {
            "bonds": self.n_bonds,
            "cis": self.n_cis,
            "angles": self.angles.total,
            "dihedrals": self.dihedrals.total,
        }

    def add(self, protein: ProteinData) -> None:
        """Count all frames of a protein."""
        topology = build_topology(protein.linked)
        pairs = _pairs_by_class(protein.linked, self.forms)
        n_pairs = max(1, sum(len(indices) for indices in pairs))
        size = max(1, BLOCK_VALUES // (3 * n_pairs))
        for start in range(0, protein.n_frames, size):
            x = protein.positions[start : start + size].astype(np.float64)
            bonds, angles = bond_lengths(x, topology.bonds), bond_angles(x, topology.angles)
            dihedrals = dihedral_angles(x, topology.dihedrals)
            self._add_bonds(bonds)
            self.angles.add(angles)
            self.dihedrals.add(dihedrals)
            if self.forms.keyed != "global":
                self._add_keys(protein.residue_type, topology, bonds, angles, dihedrals)
            for kind, indices in enumerate(pairs):
                distances = bond_lengths(x, indices)
                self.distances[kind].add(distances)
                self.smallest[kind] = min(self.smallest[kind], distances.min(initial=np.inf))
                if kind == N_SEPARATION_CLASSES - 1:
                    self._add_contacts(protein.residue_type[indices], distances)
        self.n_frames += protein.n_frames

    def _add_keys(self, types: np.ndarray, topology: Topology, bonds, angles, dihedrals) -> None:
        """Count bonds, angles and dihedrals [F, M] again by the key of their residues."""
        keys = key_of_type(self.forms.keyed)[types.astype(int)]
        for row, lengths in zip(keys[topology.bonds[:, 1]], bonds.T, strict=True):
            apart = lengths[lengths >= CIS_BELOW_A] - BOND_ORIGIN_A
            self.key_bonds[row] += len(apart), apart.sum(), (apart**2).sum()
        for row, values in zip(keys[topology.angles[:, 1]], angles.T, strict=True):
            self.key_angles[row] += np.histogram(values, self.angles.edges)[0]
        pairs = len(KEY_NAMES[self.forms.keyed]) * keys[topology.dihedrals[:, 1]] + keys[topology.dihedrals[:, 2]]
        for row, values in zip(pairs, dihedrals.T, strict=True):
            self.key_dihedrals[row] += np.histogram(values, self.dihedrals.edges)[0]

    def _add_contacts(self, types: np.ndarray, distances: np.ndarray) -> None:
        """Count pairs [P, 2] of residue types and how often they are within the middle of the contact function."""
        near = (distances < CONTACT_A).sum(axis=0)
        for counts, values in zip(self.contacts, (near, np.full(len(types), len(distances))), strict=True):
            np.add.at(counts, (types[:, 0].astype(int), types[:, 1].astype(int)), values)

    def _add_bonds(self, lengths: np.ndarray) -> None:
        """Merge mean and variance (Chan, Golub, LeVeque, Am. Stat. 37, 242 (1983))."""
        self.bonds.add(lengths)
        trans = lengths[lengths >= CIS_BELOW_A]
        self.n_cis += lengths.size - trans.size
        if not trans.size:
            return
        total = self.n_bonds + trans.size
        shift = trans.mean() - self.bond_mean
        between = shift**2 * self.n_bonds * trans.size / total
        squares = self.bond_variance * self.n_bonds + trans.var() * trans.size + between
        self.bond_mean += float(shift) * trans.size / total
        self.bond_variance = float(squares) / total
        self.n_bonds = total


def _pairs_by_class(linked: np.ndarray, forms: PriorForms) -> list[np.ndarray]:
    """Bead pairs i < j, int [P, 2], of each class of `PriorForms.separations`."""
    separation = separation_matrix(linked)
    upper = np.triu(np.ones(separation.shape, bool), 1)
    return [
        np.argwhere(upper & (separation >= first) & (separation <= (last or separation.max(initial=first))))
        for first, last in forms.separations
    ]

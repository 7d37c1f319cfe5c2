"""What the structural checks look at in every frame: positions in, arrays out."""

from dataclasses import dataclass

import numpy as np

from cgloop.config.validate import ValidateConfig
from cgloop.data.geometry import bond_angles, bond_lengths, chain_indices, dihedral_angles
from cgloop.residues import RESIDUES
from cgloop.validate import geometry

MAX_PAIRS = 1000
"""Pair distances are compared for at most so many pairs, evenly chosen: those of a large protein are correlated, and
all of them would not fit into memory."""


BLOCK_DISTANCES = 200_000
"""Distances in memory at a time; few enough for a processor's cache."""


@dataclass(frozen=True, eq=False)
class Protein:
    """What is known of a protein before any frame.

    Attributes:
        native: [N, 3], Å.
        linked: bool [N-1].
        residues: names [N]; empty if they are not known.
        pairs: int [P, 2], pairs whose contacts are counted.
        contacts: those of the native structure.
        bonds, angles, dihedrals: int [·, 2], [·, 3], [·, 4], along linked beads.
        measured: int [P'], which of `pairs` have their distances compared.
        ends: int [pieces, 2], first and last bead of each linked piece of at least two beads.
    """

    native: np.ndarray
    linked: np.ndarray
    residues: tuple[str, ...]
    pairs: np.ndarray
    contacts: geometry.NativeContacts
    bonds: np.ndarray
    angles: np.ndarray
    dihedrals: np.ndarray
    measured: np.ndarray
    ends: np.ndarray

    @property
    def measured_pairs(self) -> np.ndarray:
        """int [P', 2], the pairs whose distances are compared."""
        return self.pairs[self.measured]

    @classmethod
    def of(
        cls, native: np.ndarray, linked: np.ndarray, settings: ValidateConfig, residue_type: np.ndarray | None = None
    ) -> "Protein":
        """From its native structure [N, 3], its links [N-1] and, where they are known, its types [N]."""
        linked = np.asarray(linked, bool)
        pairs = geometry.distant_pairs(linked, settings.contact_min_separation)
        contacts = geometry.native_contacts(native, pairs, settings.contact_cutoff_A)
        names = () if residue_type is None else tuple(RESIDUES[int(kind)].name for kind in residue_type)
        chosen = np.unique(np.linspace(0, len(pairs) - 1, min(len(pairs), MAX_PAIRS)).astype(int))
        breaks = np.flatnonzero(~linked)
        ends = np.stack([np.concatenate([[0], breaks + 1]), np.concatenate([breaks, [len(linked)]])], axis=1)
        return cls(
            np.asarray(native, float), linked, names, pairs, contacts, *chain_indices(linked), chosen,
            ends[ends[:, 1] > ends[:, 0]],
        )  # fmt: skip

    def label(self, beads: np.ndarray) -> str:
        """As `TYR1 TYR2 ASP3`, or bead numbers where the residues are not known."""
        return " ".join(f"{self.residues[i] if self.residues else ''}{i + 1}" for i in beads)


@dataclass(frozen=True, eq=False)
class Frames:
    """Per-frame observables of one replica.

    Attributes:
        rmsd, mirror_rmsd, rg: [F], Å; `mirror_rmsd` is that to the mirror image of the native structure.
        q: [F], fraction of native contacts; NaN if there are none.
        contacts: uint8 [F, P], of the protein's pairs.
        end_to_end: [F], Å, mean over the linked pieces.
        bonds: [F, B], Å.
        angles, dihedrals: [F, ·], degrees.
        distances: [F, P'], Å, of the protein's measured pairs.
    """

    rmsd: np.ndarray
    mirror_rmsd: np.ndarray
    rg: np.ndarray
    q: np.ndarray
    contacts: np.ndarray
    end_to_end: np.ndarray
    bonds: np.ndarray
    angles: np.ndarray
    dihedrals: np.ndarray
    distances: np.ndarray

    @property
    def n_contacts(self) -> np.ndarray:
        return self.contacts.sum(axis=1).astype(float)


def observe(positions: np.ndarray, protein: Protein, settings: ValidateConfig) -> Frames:
    """Everything that the structural checks need, from positions [F, N, 3] in Å, finite."""
    positions = np.asarray(positions)
    rmsd, mirror = geometry.kabsch_rmsd(positions, protein.native)
    contacts, distances = _pairs(positions, protein, settings.contact_cutoff_A)
    q = geometry.fraction_native(positions, protein.contacts, settings.q_beta_per_A, settings.q_lambda)
    # Near the origin single precision is a ten-thousandth of an Å, and half the memory.
    near = (positions - positions[:, :1]).astype(np.float32)
    ends = bond_lengths(near, protein.ends) if len(protein.ends) else np.zeros((len(near), 1), np.float32)
    return Frames(
        rmsd=rmsd,
        mirror_rmsd=mirror,
        rg=geometry.radius_of_gyration(positions),
        q=q,
        contacts=contacts,
        end_to_end=ends.mean(axis=1).astype(float),
        bonds=bond_lengths(near, protein.bonds),
        angles=np.degrees(bond_angles(near, protein.angles)),
        dihedrals=np.degrees(dihedral_angles(near, protein.dihedrals)),
        distances=distances,
    )


def _pairs(positions: np.ndarray, protein: Protein, cutoff_A: float) -> tuple[np.ndarray, np.ndarray]:
    """Contacts uint8 [F, P] and distances float32 [F, P'], by blocks of frames: all distances would not fit."""
    contacts = np.empty((len(positions), len(protein.pairs)), np.uint8)
    distances = np.empty((len(positions), len(protein.measured)), np.float32)
    size = max(1, BLOCK_DISTANCES // max(1, len(protein.pairs)))
    for first in range(0, len(positions), size):
        part = slice(first, first + size)
        found = geometry.pair_distances(positions[part], protein.pairs)
        contacts[part] = found < cutoff_A
        distances[part] = found[:, protein.measured]
    return contacts, distances

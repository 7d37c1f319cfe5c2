"""Which atoms become beads: one per residue, at its CA; and which beads are bonded.

Residue identity (chain, number, insertion code, name) comes from the PDB text of the protein's atoms. The arrays
`resid` and `resname` beside it lack insertion codes, so that two residues there can look like one.
"""

from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np

from cgloop.data.periodic import Molecules
from cgloop.errors import UserError
from cgloop.residues import TYPE_ID, parent_name

CAPS = frozenset({"ACE", "NME", "NMA", "NH2", "NHE", "FOR", "CT3"})
"""Names of terminal groups that are residues of their own; they have no CA and become no bead."""

MAX_PEPTIDE_BOND_A = 2.0
"""C–N distance up to which two residues are bonded (a peptide bond is 1.33 Å long)."""

MAX_CA_DISTANCE_A = 4.6
"""CA–CA distance up to which neighbours are bonded where C or N is missing (3.8 Å trans, 2.9 Å cis)."""


@dataclass(frozen=True)
class Atom:
    """One row of the PDB text; `index` is its row in `coords` and `forces`."""

    index: int
    name: str
    altloc: str
    resname: str
    chain: str
    resid: int
    insertion: str
    element: str
    position: tuple[float, float, float]

    @property
    def residue(self) -> tuple[str, int, str, str]:
        return self.chain, self.resid, self.insertion, self.resname

    @property
    def label(self) -> str:
        """The residue in words, e.g. `HIS 57A of chain 0`."""
        chain = f" of chain {self.chain.split('/')[0]}" if self.chain.split("/")[0] else ""
        return f"{self.resname} {self.resid}{self.insertion}{chain}"


@dataclass(frozen=True, eq=False)
class Beads:
    """The mapping of one protein; N beads.

    Attributes:
        atom: int [N], row of each bead's CA in the all-atom arrays.
        residue_type: int8 [N]. chain: int16 [N]. resid: int32 [N].
        native: float32 [N, 3], Å, from the PDB text.
        linked: bool [N-1], beads i and i+1 are bonded.
        labels: residues in words, for messages.
    """

    atom: np.ndarray
    residue_type: np.ndarray
    chain: np.ndarray
    resid: np.ndarray
    native: np.ndarray
    linked: np.ndarray
    labels: tuple[str, ...]


def parse_pdb(text: str, where: str | Path) -> list[Atom]:
    """Atoms of the first model of a PDB text, in order; TER starts a new chain.

    Raises:
        UserError: a row that cannot be understood.
    """
    atoms: list[Atom] = []
    terminated = 0
    for number, line in enumerate(text.splitlines(), start=1):
        record = line[:6].strip()
        if record == "ENDMDL":
            break
        if record == "TER":
            terminated += 1
        if record not in ("ATOM", "HETATM"):
            continue
        try:
            x, y, z = float(line[30:38]), float(line[38:46]), float(line[46:54])
            atoms.append(
                Atom(
                    index=len(atoms),
                    name=line[12:16].strip(),
                    altloc=line[16].strip(),
                    resname=line[17:21].strip().upper(),
                    chain=f"{line[21].strip()}/{terminated}",
                    resid=int(line[22:26]),
                    insertion=line[26].strip(),
                    element=line[76:78].strip().upper(),
                    position=(x, y, z),
                )
            )
        except (ValueError, IndexError):
            raise UserError(f"line {number} of the PDB text is not an atom: `{line.rstrip()}`", where=where) from None
    return atoms


def molecules_of(atoms: list[Atom]) -> Molecules:
    """Return what periodic images depend on: chains, residues and positions of the PDB text."""
    chains = {name: number for number, name in enumerate(dict.fromkeys(atom.chain for atom in atoms))}
    starts = [True, *(a.residue != b.residue for a, b in pairwise(atoms))]
    return Molecules(
        chain=np.array([chains[atom.chain] for atom in atoms]),
        residue=np.cumsum(starts),
        positions=np.array([atom.position for atom in atoms]),
    )


def map_to_ca(atoms: list[Atom], where: str | Path) -> Beads:
    """One bead per residue, at its CA.

    Atoms of caps (CAY, CY, OY, NT, CAT …) carry the number and name of the residue they sit on, and caps may also
    be residues of their own; neither becomes a bead. Of alternate locations the first counts.

    Raises:
        UserError: an unknown residue, a residue without CA, or no residue at all.
    """
    residues = [list(group) for _, group in groupby(atoms, key=lambda atom: atom.residue)]
    owners: list[tuple[Atom, list[Atom]]] = []
    for index, residue in enumerate(residues):
        first = residue[0]
        alphas = [atom for atom in residue if atom.name == "CA"]
        if first.resname in CAPS and not alphas:
            continue
        if parent_name(first.resname) is None:
            raise UserError(
                f"unknown residue `{first.resname}` ({first.label}, index {index})",
                where=where,
                remedy="only the 20 standard amino acids, their common variants and caps can be mapped",
            )
        if not alphas:
            raise UserError(f"residue {first.label} (index {index}) has no CA atom", where=where)
        owners += [(alpha, residue) for alpha in _first_locations(alphas)]
    if not owners:
        raise UserError("no residue with a CA atom", where=where)
    return _beads(owners)


def _first_locations(alphas: list[Atom]) -> list[Atom]:
    """CA atoms less alternate locations. Two without one are two residues that share number and name."""
    return [atom for atom in alphas if atom.altloc in ("", alphas[0].altloc)]


def _beads(owners: list[tuple[Atom, list[Atom]]]) -> Beads:
    alphas = [alpha for alpha, _ in owners]
    chains = {name: i for i, name in enumerate(dict.fromkeys(alpha.chain for alpha in alphas))}
    return Beads(
        atom=np.array([alpha.index for alpha in alphas]),
        residue_type=np.array([TYPE_ID[parent_name(alpha.resname) or ""] for alpha in alphas], np.int8),
        chain=np.array([chains[alpha.chain] for alpha in alphas], np.int16),
        resid=np.array([alpha.resid for alpha in alphas], np.int32),
        native=np.array([alpha.position for alpha in alphas], np.float32),
        linked=np.array([_bonded(*pair) for pair in pairwise(owners)], bool),
        labels=tuple(alpha.label for alpha in alphas),
    )


def _bonded(left: tuple[Atom, list[Atom]], right: tuple[Atom, list[Atom]]) -> bool:
    """Whether two residues that follow each other are joined by a peptide bond.

    The distance decides, not the numbering: numbering schemes jump without a break, and go on across one. Only where
    C or N is missing do consecutive numbers and the CA–CA distance have to do.
    """
    (left_ca, left_atoms), (right_ca, right_atoms) = left, right
    if left_ca.chain != right_ca.chain:
        return False
    carbon, nitrogen = _nearest("C", left_atoms, left_ca), _nearest("N", right_atoms, right_ca)
    if carbon is not None and nitrogen is not None:
        return _distance(carbon, nitrogen) < MAX_PEPTIDE_BOND_A
    return abs(right_ca.resid - left_ca.resid) <= 1 and _distance(left_ca, right_ca) < MAX_CA_DISTANCE_A


def _nearest(name: str, atoms: list[Atom], alpha: Atom) -> Atom | None:
    """The atom of this name next to a CA: two residues under one number share their list of atoms."""
    named = [atom for atom in atoms if atom.name == name]
    return min(named, key=lambda atom: _distance(atom, alpha), default=None)


def _distance(a: Atom, b: Atom) -> float:
    return float(np.linalg.norm(np.subtract(a.position, b.position)))

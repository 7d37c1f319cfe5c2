"""Masses against elemental composition, constants against CODATA."""

import pytest
from scipy import constants

from cgloop import residues, units

# C, H, N, O, S of each residue (the amino acid less one water), neutral form.
COMPOSITION = {
    "ALA": (3, 5, 1, 1, 0), "ARG": (6, 12, 4, 1, 0), "ASN": (4, 6, 2, 2, 0), "ASP": (4, 5, 1, 3, 0),
    "CYS": (3, 5, 1, 1, 1), "GLN": (5, 8, 2, 2, 0), "GLU": (5, 7, 1, 3, 0), "GLY": (2, 3, 1, 1, 0),
    "HIS": (6, 7, 3, 1, 0), "ILE": (6, 11, 1, 1, 0), "LEU": (6, 11, 1, 1, 0), "LYS": (6, 12, 2, 1, 0),
    "MET": (5, 9, 1, 1, 1), "PHE": (9, 9, 1, 1, 0), "PRO": (5, 7, 1, 1, 0), "SER": (3, 5, 1, 2, 0),
    "THR": (4, 7, 1, 2, 0), "TRP": (11, 10, 2, 1, 0), "TYR": (9, 9, 1, 2, 0), "VAL": (5, 9, 1, 1, 0),
}  # fmt: skip
ATOMIC_MASS = (12.011, 1.008, 14.007, 15.999, 32.06)


def test_types_are_the_twenty_in_alphabetical_order():
    assert list(residues.TYPE_ID) == sorted(COMPOSITION)
    assert list(residues.TYPE_ID.values()) == list(range(20))


@pytest.mark.parametrize("residue", residues.RESIDUES, ids=lambda residue: residue.name)
def test_mass_follows_from_composition(residue):
    expected = sum(n * m for n, m in zip(COMPOSITION[residue.name], ATOMIC_MASS, strict=True))
    assert residue.mass == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize(("name", "parent"), [("HSP", "HIS"), ("MSE", "MET"), ("CYX", "CYS"), (" lyn ", "LYS")])
def test_variants_have_a_parent(name, parent):
    assert residues.parent_name(name) == parent


def test_unknown_residue_has_no_parent():
    assert residues.parent_name("XYZ") is None


def test_sequence_of_chignolin():
    names = ["TYR", "TYR", "ASP", "PRO", "GLU", "THR", "GLY", "THR", "TRP", "TYR"]
    assert residues.sequence(residues.TYPE_ID[n] for n in names) == "YYDPETGTWY"


def test_constants_agree_with_codata():
    kcal_per_mol = constants.calorie * 1000 / constants.Avogadro
    assert pytest.approx(constants.Boltzmann / kcal_per_mol, rel=1e-5) == units.KB
    dalton, angstrom_per_fs = constants.atomic_mass, 1e-10 / 1e-15
    assert pytest.approx(dalton * angstrom_per_fs**2 / kcal_per_mol, rel=1e-5) == units.MVV_TO_KCAL_PER_MOL

"""Beads, chains, breaks and residue identity from the PDB text."""

import numpy as np
import pytest
from synthetic_mdcath import Residue, build, chain_of

from cgloop.errors import UserError
from cgloop.prep.mapping import map_to_ca, parse_pdb
from cgloop.residues import TYPE_ID


def beads_of(residues):
    molecule = build(residues)
    return molecule, map_to_ca(parse_pdb(molecule.text, "x.h5"), "x.h5")


def test_plain_chain():
    molecule, beads = beads_of(chain_of(5, "TRP"))
    np.testing.assert_array_equal(beads.atom, molecule.ca)
    np.testing.assert_array_equal(beads.residue_type, [TYPE_ID["TRP"]] * 5)
    np.testing.assert_array_equal(beads.resid, [1, 2, 3, 4, 5])
    np.testing.assert_allclose(beads.native, molecule.positions[molecule.ca], atol=6e-4)
    assert beads.linked.all()
    assert beads.chain.tolist() == [0] * 5
    assert beads.residue_type.dtype == np.int8
    assert beads.native.dtype == np.float32


def test_variants_map_to_their_parents():
    names = ["HSD", "HSE", "HSP", "HIE", "MSE", "CYX", "ASH", "GLH", "LYN"]
    _, beads = beads_of([Residue(name=name, resid=i) for i, name in enumerate(names)])
    parents = ["HIS", "HIS", "HIS", "HIS", "MET", "CYS", "ASP", "GLU", "LYS"]
    assert beads.residue_type.tolist() == [TYPE_ID[name] for name in parents]


def test_caps_make_no_beads():
    """CHARMM caps carry number and name of the terminal residue; Amber's are residues of their own."""
    first = [("CAY", "C", (-2.0, 2.0, 0.0)), ("HY1", "H", (-2.0, 3.0, 0.0)), ("CY", "C", (-1.0, 2.0, 0.0)),
             ("OY", "O", (-1.0, 3.0, 0.0))]  # fmt: skip
    last = [("NT", "N", (1.0, -2.0, 0.0)), ("HNT", "H", (1.0, -3.0, 0.0)), ("CAT", "C", (2.0, -2.0, 0.0)),
            ("HT1", "H", (2.0, -3.0, 0.0))]  # fmt: skip
    charmm = [Residue(resid=1, extra=first), Residue(resid=2), Residue(resid=3, extra=last)]
    _, beads = beads_of(charmm)
    assert beads.resid.tolist() == [1, 2, 3]
    assert beads.linked.all()

    molecule = build(chain_of(3))
    cap = "ATOM      1  CH3 ACE 0   0      -9.000   0.000   0.000  1.00  0.00           C"
    atoms = parse_pdb(molecule.text.replace("MODEL        1", f"MODEL        1\n{cap}"), "x.h5")
    beads = map_to_ca(atoms, "x.h5")
    assert beads.atom.tolist() == [i + 1 for i in molecule.ca]


def test_insertion_codes_tell_residues_apart():
    residues = [
        Residue(resid=57),
        Residue(resid=57, insertion="A"),
        Residue(resid=57, insertion="B"),
        Residue(resid=58),
    ]
    _, beads = beads_of(residues)
    assert beads.resid.tolist() == [57, 57, 57, 58]
    assert beads.linked.all()
    assert beads.labels[1] == "ALA 57A of chain 0"


def test_same_number_and_name_without_insertion_code():
    _, beads = beads_of([Residue(resid=57), Residue(resid=57), Residue(resid=58)])
    assert len(beads.atom) == 3
    assert beads.linked.all()


def test_breaks_are_where_the_peptide_bond_is_missing():
    numbered_on = [Residue(resid=1), Residue(resid=2), Residue(resid=3, gap=True), Residue(resid=4)]
    _, beads = beads_of(numbered_on)
    assert beads.linked.tolist() == [True, False, True]
    jump_in_numbers_only = [Residue(resid=1), Residue(resid=2), Residue(resid=30), Residue(resid=31)]
    _, beads = beads_of(jump_in_numbers_only)
    assert beads.linked.all()


def test_without_c_and_n_numbers_and_distance_decide():
    molecule = build([Residue(resid=1), Residue(resid=2), Residue(resid=9), Residue(resid=10, gap=True)])
    kept = [line for line in molecule.text.splitlines() if " CA " in line or not line.startswith("ATOM")]
    beads = map_to_ca(parse_pdb("\n".join(kept), "x.h5"), "x.h5")
    assert beads.linked.tolist() == [True, False, False]


def test_chains_are_never_linked():
    residues = [Residue(resid=i + 1, chain="A" if i < 2 else "B") for i in range(4)]
    _, beads = beads_of(residues)
    assert beads.chain.tolist() == [0, 0, 1, 1]
    assert beads.linked.tolist() == [True, False, True]


def test_ter_starts_a_new_chain():
    molecule = build(chain_of(4))
    lines = molecule.text.splitlines()
    lines.insert(1 + 2 * 4, "TER")
    beads = map_to_ca(parse_pdb("\n".join(lines), "x.h5"), "x.h5")
    assert beads.chain.tolist() == [0, 0, 1, 1]
    assert beads.linked.tolist() == [True, False, True]


def test_of_alternate_locations_the_first_counts():
    residues = [Residue(resid=1), Residue(resid=2), Residue(resid=2, altloc="B"), Residue(resid=3)]
    molecule = build(residues)
    lines = molecule.text.splitlines()
    altered = [line[:16] + "A" + line[17:] if line[22:26] == "   2" and line[16] == " " else line for line in lines]
    beads = map_to_ca(parse_pdb("\n".join(altered), "x.h5"), "x.h5")
    assert beads.atom.tolist() == [molecule.ca[i] for i in (0, 1, 3)]


def test_unknown_residue_names_file_residue_and_index():
    residues = chain_of(4)
    residues[2].name = "XYZ"
    with pytest.raises(UserError, match=r"x\.h5.*`XYZ` \(XYZ 3 of chain 0, index 2\)"):
        beads_of(residues)


def test_residue_without_ca():
    molecule = build(chain_of(3))
    text = "\n".join(line for i, line in enumerate(molecule.text.splitlines()) if i != 1 + molecule.ca[1])
    atoms = parse_pdb(text, "x.h5")
    with pytest.raises(UserError, match=r"ALA 2 of chain 0.*no CA"):
        map_to_ca(atoms, "x.h5")
    with pytest.raises(UserError, match="no residue"):
        map_to_ca([], "x.h5")


def test_one_residue():
    _, beads = beads_of(chain_of(1))
    assert beads.linked.shape == (0,)

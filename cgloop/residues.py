"""The one amino-acid vocabulary: names, synonyms, masses, charges, type ids.

Type ids are fixed: 0..19 in alphabetical order of the three-letter codes, LAMMPS types are id + 1.
They are never derived from what a data set happens to contain.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Residue:
    """One standard amino acid.

    Attributes:
        name: three-letter code.
        letter: one-letter code.
        mass: average mass of the residue (the amino acid less one water), g/mol.
        charge: net charge at pH 7, e (histidine neutral).
    """

    name: str
    letter: str
    mass: float
    charge: int = 0


RESIDUES: tuple[Residue, ...] = (
    Residue("ALA", "A", 71.0779),
    Residue("ARG", "R", 156.1857, +1),
    Residue("ASN", "N", 114.1026),
    Residue("ASP", "D", 115.0874, -1),
    Residue("CYS", "C", 103.1429),
    Residue("GLN", "Q", 128.1292),
    Residue("GLU", "E", 129.1140, -1),
    Residue("GLY", "G", 57.0513),
    Residue("HIS", "H", 137.1393),
    Residue("ILE", "I", 113.1576),
    Residue("LEU", "L", 113.1576),
    Residue("LYS", "K", 128.1723, +1),
    Residue("MET", "M", 131.1961),
    Residue("PHE", "F", 147.1739),
    Residue("PRO", "P", 97.1152),
    Residue("SER", "S", 87.0773),
    Residue("THR", "T", 101.1039),
    Residue("TRP", "W", 186.2099),
    Residue("TYR", "Y", 163.1733),
    Residue("VAL", "V", 99.1311),
)
N_TYPES = len(RESIDUES)
TYPE_ID: dict[str, int] = {residue.name: i for i, residue in enumerate(RESIDUES)}

SYNONYMS: dict[str, str] = {
    **dict.fromkeys(("HSD", "HSE", "HSP", "HID", "HIE", "HIP"), "HIS"),
    **dict.fromkeys(("CYX", "CYM", "CYS2"), "CYS"),
    **dict.fromkeys(("ASH", "ASPP"), "ASP"),
    **dict.fromkeys(("GLH", "GLUP"), "GLU"),
    **dict.fromkeys(("LYN", "LSN"), "LYS"),
    "MSE": "MET",
}


def parent_name(name: str) -> str | None:
    """Standard three-letter code of a residue name or of one of its variants; None if unknown."""
    code = name.strip().upper()
    code = SYNONYMS.get(code, code)
    return code if code in TYPE_ID else None


def masses() -> tuple[float, ...]:
    """Residue masses in g/mol, in order of type id."""
    return tuple(residue.mass for residue in RESIDUES)


def sequence(type_ids) -> str:
    """One-letter sequence of type ids."""
    return "".join(RESIDUES[int(i)].letter for i in type_ids)

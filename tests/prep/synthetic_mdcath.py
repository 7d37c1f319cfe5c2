"""Small files in the mdCATH layout, made by hand, for tests of the reader."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np


@dataclass
class Residue:
    """A residue to build: its CA lies at `ca`, the other atoms around it.

    Attributes:
        extra: further atoms as (name, element, offset from CA).
        gap: True puts a chain break (a long C–N distance) before this residue.
    """

    name: str = "ALA"
    resid: int = 1
    insertion: str = ""
    chain: str = "0"
    extra: Sequence[tuple[str, str, tuple[float, float, float]]] = ()
    gap: bool = False
    altloc: str = ""


@dataclass
class Molecule:
    """Atoms of a synthetic protein: PDB text, names, elements and positions."""

    text: str
    names: list[str]
    elements: list[str]
    resnames: list[str]
    resids: list[int]
    chains: list[str]
    positions: np.ndarray
    ca: list[int] = field(default_factory=list)


def chain_of(n_residues: int, name: str = "ALA") -> list[Residue]:
    """A plain chain, numbered from 1."""
    return [Residue(name=name, resid=i + 1) for i in range(n_residues)]


def build(residues: Sequence[Residue]) -> Molecule:
    """A zigzag chain with CA 3.8 Å apart; C and N of neighbours 1.3 Å apart unless there is a gap."""
    rows: list[tuple[str, str, Residue, np.ndarray]] = []
    x = 0.0
    for i, residue in enumerate(residues):
        x += 12.0 if residue.gap else 0.0
        ca = np.array([x, 1.0 if i % 2 else 0.0, 0.0])
        step = np.sqrt(3.8**2 - 1.0)
        middle = ca + np.array([step / 2, 0.5 - ca[1], 0.0])
        before = ca - np.array([step / 2, ca[1] - 0.5, 0.0])
        atoms = [
            ("N", "N", before + np.array([0.65, 0.0, 0.0])),
            ("CA", "C", ca),
            ("HA", "H", ca + np.array([0.0, 0.0, 1.09])),
            ("C", "C", middle - np.array([0.65, 0.0, 0.0])),
            *((name, element, ca + np.array(offset)) for name, element, offset in residue.extra),
        ]
        rows += [(name, element, residue, position) for name, element, position in atoms]
        x += step
    return _molecule(rows)


def _molecule(rows: list[tuple[str, str, Residue, np.ndarray]]) -> Molecule:
    lines = ["MODEL        1"]
    for serial, (name, element, residue, (x, y, z)) in enumerate(rows, start=1):
        shown = name if len(name) == 4 else f" {name}"
        lines.append(
            f"ATOM  {serial:5d} {shown:<4s}{residue.altloc:1s}{residue.name:<4s}{residue.chain:1s}{residue.resid:4d}"
            f"{residue.insertion:1s}   {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00          {element:>2s}"
        )
    names = [row[0] for row in rows]
    return Molecule(
        text="\n".join([*lines, "ENDMDL", "END", ""]),
        names=names,
        elements=[row[1] for row in rows],
        resnames=[row[2].name for row in rows],
        resids=[row[2].resid for row in rows],
        chains=[row[2].chain for row in rows],
        positions=np.array([row[3] for row in rows]),
        ca=[i for i, name in enumerate(names) if name == "CA"],
    )


def frames_of(molecule: Molecule, n_frames: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Positions that jitter about the structure, and random forces; float32 [n_frames, atoms, 3]."""
    random = np.random.default_rng(seed)
    shape = (n_frames, *molecule.positions.shape)
    positions = molecule.positions + random.normal(0.0, 0.05, shape)
    return positions.astype(np.float32), random.normal(0.0, 20.0, shape).astype(np.float32)


def write_mdcath(
    path: Path,
    molecule: Molecule,
    trajectories: Mapping[str, tuple[np.ndarray, np.ndarray] | None],
    name: str = "1abcA00",
) -> Path:
    """Write a file of the layout.

    Args:
        path: file to write.
        molecule: its atoms.
        trajectories: "<temperature>/<replica>" -> (positions, forces); None makes an empty group.
        name: id of the protein.
    """
    with h5py.File(path, "w") as file:
        file.attrs["layout"] = "mdcath-only-protein-v1.0"
        group = file.create_group(name)
        group.attrs.update(numProteinAtoms=len(molecule.names), numResidues=len(molecule.ca), numChains=1)
        group["pdbProteinAtoms"] = molecule.text.encode()
        for key, values in (
            ("element", molecule.elements), ("resname", molecule.resnames), ("chain", molecule.chains),
        ):  # fmt: skip
            group[key] = np.array([value.encode() for value in values], object)
        group["resid"] = np.array(molecule.resids)
        group["z"] = np.array([{"H": 1, "C": 6, "N": 7, "O": 8}[element] for element in molecule.elements])
        for place, arrays in trajectories.items():
            replica = group.create_group(place)
            if arrays is None:
                continue
            positions, forces = arrays
            replica.attrs["numFrames"] = len(positions)
            replica.create_dataset("coords", data=positions, chunks=(min(7, len(positions)), *positions.shape[1:]))
            replica.create_dataset("forces", data=forces)
            replica["box"] = np.zeros((3, 3), np.float32)
    return path

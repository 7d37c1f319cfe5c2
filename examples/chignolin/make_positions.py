#!/usr/bin/env python3
"""Copy the CA positions of all trajectories of an mdCATH file into a small one of the same layout, without forces.

Coordinates are rounded to three decimals (Å) and stored with HDF5's scale-offset filter. Attributes of trajectories,
such as `started_from`, are copied. The same source gives the same bytes.

    python make_positions.py SOURCE.h5 DESTINATION.h5
"""

import argparse
from pathlib import Path

import h5py
import numpy as np

DECIMALS = 3
"""Of Å; the source has no more."""

LIBRARY = ("earliest", "v110")
"""Any HDF5 library from 1.10 on can read the file."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("destination", type=Path)
    arguments = parser.parse_args()
    with h5py.File(arguments.source) as source, h5py.File(arguments.destination, "w", libver=LIBRARY) as target:
        target.attrs["layout"] = source.attrs["layout"]
        (protein,) = source
        molecule, copy = source[protein], target.create_group(protein)
        lines = molecule["pdbProteinAtoms"][()].decode().splitlines()
        atoms = [line for line in lines if line.startswith(("ATOM", "HETATM"))]
        chosen = np.array([line[12:16].strip() == "CA" for line in atoms])
        for key, value in molecule.attrs.items():
            copy.attrs[key] = value
        copy.attrs["numProteinAtoms"] = int(chosen.sum())
        kept = [line for line, keep in zip(atoms, chosen, strict=True) if keep]
        copy["pdbProteinAtoms"] = "\n".join(["MODEL        1", *kept, "ENDMDL", "END", ""])
        for temperature, group in molecule.items():
            if isinstance(group, h5py.Group):
                for replica, trajectory in group.items():
                    copy_positions(trajectory, copy.create_group(f"{temperature}/{replica}"), chosen)
    print(f"{arguments.destination}: {arguments.destination.stat().st_size / 1e6:.2f} MB")


def copy_positions(source: h5py.Group, target: h5py.Group, atoms: np.ndarray) -> None:
    """Write the positions of chosen atoms (bool [A]) of one trajectory."""
    for key, value in source.attrs.items():
        target.attrs[key] = value
    values = np.round(source["coords"][:, atoms].astype(np.float64), DECIMALS).astype(np.float32)
    coords = target.create_dataset("coords", data=values, chunks=values.shape, scaleoffset=DECIMALS)
    coords.attrs["unit"] = "Angstrom"
    if np.abs(coords[:].astype(np.float64) - values).max() > 0.6 * 10.0**-DECIMALS:
        raise SystemExit(f"{source.name}: rounding moved a value too far")


if __name__ == "__main__":
    main()

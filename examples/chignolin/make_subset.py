#!/usr/bin/env python3
"""Copy chosen trajectories of an mdCATH file into a small one of the same layout, coordinates and forces rounded.

Rounded arrays are stored with HDF5's scale-offset filter (fixed decimals, as few bits as the range of a
chunk needs), which every HDF5 library can read. Everything else is copied as it is. The same source and
arguments give the same bytes.

    python make_subset.py SOURCE.h5 DESTINATION.h5 --temperature 320 --replicas 0 1 2 3
"""

import argparse
from pathlib import Path

import h5py
import numpy as np

CHUNK_FRAMES = 100

LIBRARY = ("earliest", "v110")
"""Any HDF5 library from 1.10 on can read the file: clusters are slow to update."""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("destination", type=Path)
    parser.add_argument("--temperature", default="320", help="name of the temperature group")
    parser.add_argument("--replicas", nargs="+", default=["0", "1", "2", "3"])
    parser.add_argument("--coordinate-decimals", type=int, default=3, help="of Å")
    parser.add_argument("--force-decimals", type=int, default=2, help="of kcal/mol/Å")
    return parser.parse_args()


def copy_rounded(source: h5py.Dataset, target: h5py.Group, name: str, decimals: int) -> None:
    """Write `source` rounded to so many decimals, and say how far it moved."""
    values = np.round(source[:].astype(np.float64), decimals).astype(np.float32)
    chunks = (min(CHUNK_FRAMES, len(values)), *values.shape[1:])
    copy = target.create_dataset(name, data=values, chunks=chunks, scaleoffset=decimals)
    for key, value in source.attrs.items():
        copy.attrs[key] = value
    error = copy[:].astype(np.float64) - source[:]
    if not np.abs(error).max() <= 0.6 * 10.0**-decimals:
        raise SystemExit(f"{source.name}: rounding moved a value by {np.abs(error).max()}")
    rms = np.sqrt((source[:].astype(np.float64) ** 2).mean())
    change = np.sqrt((error**2).mean())
    print(f"{source.name}: RMS {rms:.4g}, RMS change {change:.2g}, largest {np.abs(error).max():.2g}")


def copy_whole(source: h5py.Dataset, target: h5py.Group, name: str) -> None:
    """Write `source` as it is. HDF5's own copy would keep a storage that older libraries cannot read."""
    shuffled = {"compression": "gzip", "shuffle": True} if source.ndim and source.dtype.kind in "fi" else {}
    copy = target.create_dataset(name, data=source[()], dtype=source.dtype, **shuffled)
    for key, value in source.attrs.items():
        copy.attrs[key] = value


def copy_trajectory(source: h5py.Group, target: h5py.Group, decimals: dict[str, int]) -> None:
    """One replica: arrays in `decimals` are rounded, the others copied."""
    for key, value in source.attrs.items():
        target.attrs[key] = value
    for name, dataset in source.items():
        if name in decimals:
            copy_rounded(dataset, target, name, decimals[name])
        else:
            copy_whole(dataset, target, name)


def main() -> None:
    arguments = parse_arguments()
    decimals = {"coords": arguments.coordinate_decimals, "forces": arguments.force_decimals}
    with h5py.File(arguments.source) as source, h5py.File(arguments.destination, "w", libver=LIBRARY) as target:
        target.attrs["layout"] = source.attrs["layout"]
        (protein,) = source
        molecule, copy = source[protein], target.create_group(protein)
        for key, value in molecule.attrs.items():
            copy.attrs[key] = value
        for name, item in molecule.items():
            if isinstance(item, h5py.Dataset):
                copy_whole(item, copy, name)
        for replica in arguments.replicas:
            path = f"{arguments.temperature}/{replica}"
            copy_trajectory(molecule[path], copy.create_group(path), decimals)
    print(f"{arguments.destination}: {arguments.destination.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()

"""Trajectories with forces in formats that MDAnalysis writes, for tests of their reader."""

import warnings

import MDAnalysis
import numpy as np

from cgloop.config.data import SourceConfig
from cgloop.prep.trajectory import MdaReference

KCAL = 4.184


def write_trajectory(path, topology, positions, forces, box=None, water=0):
    """Write Å and kcal/mol/Å in the units and the format that MDAnalysis has for this suffix."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        universe = MDAnalysis.Universe(str(topology))
        universe.trajectory.ts.has_forces = forces is not None
        universe.trajectory.ts.dimensions = box if box is not None else [90, 90, 90, 90, 90, 90]
        extra = {"lengthunit": "nm", "forceunit": "kJ/(mol*nm)", "timeunit": "ps"} if path.suffix == ".h5md" else {}
        with MDAnalysis.Writer(str(path), universe.atoms.n_atoms, **extra) as writer:
            for x, f in zip(positions, forces if forces is not None else positions, strict=True):
                universe.atoms.positions = np.concatenate([x, np.zeros((water, 3))])
                if forces is not None:
                    universe.atoms.forces = np.concatenate([f, np.zeros((water, 3))]) * KCAL
                writer.write(universe.atoms)
    return path


def source(path, topology, **settings):
    return SourceConfig(format="mdanalysis", path=path, topology=topology, **settings)


def opened(tmp_path, *sources):
    return MdaReference(sources, "pept", 320.0, tmp_path / "scratch")

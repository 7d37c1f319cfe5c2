"""Train a coarse-grained protein force field, and let LAMMPS decide whether it may be deployed."""

__version__ = "0.1.0"

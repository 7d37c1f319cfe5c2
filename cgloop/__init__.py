"""Train a coarse-grained protein force field, and let LAMMPS decide whether it may be deployed."""

from cgloop import jax_environment as _jax_environment

__version__ = "0.2.0"

# Before any module of the package can import JAX.
_jax_environment.REPLACED.update(_jax_environment.prepare())

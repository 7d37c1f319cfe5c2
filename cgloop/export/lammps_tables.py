"""Tables of energies and forces in LAMMPS's formats, made from the potentials that the model consists of.

Potentials are evaluated in float64; forces are their exact derivatives, so energy and force of a table belong together.
LAMMPS reads a table's lines with a cubic spline and keeps values on a grid of its own. Lines lie densest at the places
where a potential changes its form: there a force may have a kink, which a spline would smear over its neighbours.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cgloop.model import potentials
from cgloop.model.terms import dihedral_potential, zero_prior
from cgloop.units import DEGREES_PER_RADIAN

LINES_PER_PIECE = 240
"""Lines between two places where a potential changes its form: a spline through them is good to 1e-6 of the force."""

_BLOCK = 8192
"""Grids are padded to a multiple of it, so that a function is compiled once and not for each length."""


class Curve(NamedTuple):
    """A potential of one coordinate on a grid.

    Attributes:
        x: [G], rising; Å, or rad.
        energy: [G] kcal/mol.
        force: [G], minus its derivative.
    """

    x: np.ndarray
    energy: np.ndarray
    force: np.ndarray

    def scaled(self, factor: float) -> "Curve":
        """The same potential times a number."""
        return self._replace(energy=factor * self.energy, force=factor * self.force)

    def __sub__(self, other: "Curve") -> "Curve":
        return self._replace(energy=self.energy - other.energy, force=self.force - other.force)


class Section(NamedTuple):
    """One table of a file: its keyword, the parameters of the line `N …`, and the numbers to write."""

    keyword: str
    parameters: str
    curve: Curve


@partial(jax.jit, static_argnums=0)
def _value_and_slope(function: Callable[..., jax.Array], x: jax.Array, *parameters: jax.Array) -> Any:
    return jax.vmap(jax.value_and_grad(lambda one: function(one, *parameters)))(x)


def tabulate(function: Callable[..., jax.Array], x: np.ndarray, *parameters: Any) -> Curve:
    """A potential at places x [G], in float64.

    Args:
        function: of one coordinate and its parameters; one object for all its uses, so that it is compiled once.
        x: [G].
        parameters: numbers or arrays.
    """
    x = np.asarray(x, float)
    room = -(-len(x) // _BLOCK) * _BLOCK
    padded = np.concatenate([x, np.full(room - len(x), x[-1])])
    with jax.enable_x64(True):
        arrays = [jnp.asarray(np.asarray(value, np.float64)) for value in (padded, *parameters)]
        energy, slope = _value_and_slope(function, *arrays)
        return Curve(x, np.array(energy)[: len(x)], -np.array(slope)[: len(x)])


def grid(breaks: Iterable[float]) -> np.ndarray:
    """Places from the first to the last break, denser towards every break (Chebyshev's extrema in each piece)."""
    ends = np.unique(np.asarray(list(breaks), float))
    shape = 0.5 * (1.0 - np.cos(np.pi * np.arange(LINES_PER_PIECE + 1) / LINES_PER_PIECE))
    pieces = [a + (b - a) * shape[:-1] for a, b in itertools.pairwise(ends)]
    return np.concatenate([*pieces, ends[-1:]])


def cosine_series_of_angle(theta: jax.Array, coefficients: jax.Array) -> jax.Array:
    """`potentials.cosine_series` as a function of θ in rad."""
    return potentials.cosine_series(jnp.cos(theta), coefficients)


def spline_of_angle(theta: jax.Array, coefficients: jax.Array) -> jax.Array:
    """`potentials.angle_spline` as a function of θ in rad."""
    return potentials.angle_spline(jnp.cos(theta), coefficients)


def _dihedral(form: str) -> Callable[..., jax.Array]:
    def potential(phi: jax.Array, cosines: jax.Array, sines: jax.Array, spline: jax.Array) -> jax.Array:
        params = zero_prior()._replace(dihedral_cos=cosines, dihedral_sin=sines, dihedral_spline=spline)
        return dihedral_potential(jnp.cos(phi), jnp.sin(phi), params, form)

    return potential


DIHEDRALS = {form: _dihedral(form) for form in ("fourier", "spline")}
"""`terms.dihedral_potential` as functions of φ in rad and `terms.DIHEDRAL_FIELDS`."""


def screened_charges(r: jax.Array, strength: jax.Array, length: jax.Array, cutoff: jax.Array) -> jax.Array:
    """`potentials.debye_hueckel`, switched off towards the cutoff."""
    return potentials.debye_hueckel(r, strength, length) * switched(r, cutoff)


def switched(r: jax.Array, cutoff: jax.Array) -> jax.Array:
    """The factor that ends terms which do not end by themselves."""
    return potentials.switch(r, potentials.SWITCH_FROM * cutoff, cutoff)


def _reaching(form: str) -> Callable[..., jax.Array]:
    def potential(r: jax.Array, epsilon: jax.Array, r_min: jax.Array, cutoff: jax.Array) -> jax.Array:
        return potentials.REPULSION_FORMS[form](r, epsilon, r_min) * switched(r, cutoff)

    return potential


REACHING_REPULSIONS = {form: _reaching(form) for form in potentials.REPULSION_FORMS if form != "wca"}
"""Repulsions that reach to the cutoff, as functions of (r, ε, r_min or σ, cutoff)."""


def in_degrees(curve: Curve) -> Curve:
    """A curve over radians as LAMMPS wants it: degrees, and force in energy per degree."""
    return Curve(curve.x * DEGREES_PER_RADIAN, curve.energy, curve.force / DEGREES_PER_RADIAN)


def write_sections(path: Path, title: str, sections: Sequence[Section]) -> None:
    """One file with all tables of a style; numbers are written so that reading gives back the same ones."""
    lines = [f"# {title}"]
    for keyword, parameters, curve in sections:
        lines += ["", keyword, f"N {len(curve.x)} {parameters}".rstrip(), ""]
        rows = zip(curve.x.tolist(), curve.energy.tolist(), curve.force.tolist(), strict=True)
        lines += [f"{number} {x!r} {energy!r} {force!r}" for number, (x, energy, force) in enumerate(rows, start=1)]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")

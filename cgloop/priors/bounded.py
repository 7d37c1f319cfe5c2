"""Parameters of the prior as a point that a search can move freely, zero where the search starts.

Strengths and lengths go through a sigmoid of their logarithm, so that they stay between two factors of where they
started; coefficients of curves move in units of kT, and `project` (refine.py) makes the curves confining again.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from cgloop.model.terms import PriorForms, PriorParams

Point = dict[str, jax.Array]
"""By fields of `PriorParams`."""

BOUNDS: dict[str, tuple[float, float]] = {
    "bond_k": (0.5, 2.0),
    "bond_r0": (0.98, 1.02),
    "repulsion_epsilon": (0.5, 4.0),
    "repulsion_r_min": (0.9, 1.0),
    "electrostatics": (0.25, 2.0),
}
"""Smallest and largest factor on the inverted value. A repulsion may end nearer than the reference's smallest distance,
never farther, and the projection keeps it strong at contact."""


def free_fields(params: PriorParams, forms: PriorForms, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Fields that can be moved, with their shapes: those that the forms use and for which there are data.

    Args:
        params, forms: of the prior.
        sizes: numbers of bonds, angles and dihedrals in the data, see `Samples.sizes`.
    """
    curve = ("dihedral_spline",) if forms.dihedral == "spline" else ("dihedral_cos", "dihedral_sin")
    used = {
        "bond_k": sizes["bonds"],
        "bond_r0": sizes["bonds"],
        "angle_coeffs": sizes["angles"],
        **dict.fromkeys(curve, sizes["dihedrals"]),
        "repulsion_epsilon": True,
        "repulsion_r_min": True,
        "electrostatics": forms.electrostatics,
        "contact_energy": forms.contacts,
    }
    return {name: np.shape(getattr(params, name)) for name, flag in used.items() if flag}


def params_at(point: Point, centre: PriorParams, kT: float) -> PriorParams:
    """Parameters at a point.

    Args:
        point: offsets by field.
        centre: parameters at zero; but r_min, which is at its bound there, begins 1 % inside.
        kT: kcal/mol, unit of unbounded coefficients.
    """
    changed = {}
    for name, offset in point.items():
        value = getattr(centre, name)
        if name in BOUNDS:
            low, high = np.log(BOUNDS[name])
            place = jax.nn.sigmoid(_origin(name) + offset)
            changed[name] = value * jnp.exp(low + (high - low) * place)
        else:
            changed[name] = value + kT * offset
    return centre._replace(**changed)


def point_at(params: PriorParams, centre: PriorParams, kT: float, like: Point) -> Point:
    """The point of given parameters, or of the nearest within the bounds; same fields and types as `like`."""
    found = {}
    for name, offset in like.items():
        value, start = np.asarray(getattr(params, name), np.float64), np.asarray(getattr(centre, name), np.float64)
        if name in BOUNDS:
            low, high = np.log(BOUNDS[name])
            with np.errstate(divide="ignore", invalid="ignore"):
                factor = np.where(start == 0.0, 1.0, value / start)
            place = np.clip((np.log(factor) - low) / (high - low), 1e-4, 1.0 - 1e-4)
            found[name] = np.log(place / (1.0 - place)) - _origin(name)
        else:
            found[name] = (value - start) / kT
        found[name] = jnp.asarray(found[name], jnp.result_type(offset))
    return found


def _origin(name: str) -> float:
    """The logit of the place where a search begins. At the very bound of r_min it would not move: a little inside."""
    low, high = np.log(BOUNDS[name])
    origin = np.clip(-low / (high - low), 0.1, 0.9)
    return float(np.log(origin / (1.0 - origin)))

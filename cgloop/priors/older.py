"""Prior sections of older pipelines: `model: priors:` in YAML, converted to today's forms.

| key | meaning | unit |
|---|---|---|
| `r0`, `kr` | bond ½ kr (r − r0)² | Å, kcal/mol/Å² |
| `a`, `b` | angle Σ a_n cos nθ + b_n sin nθ, n = 1, 2, … | kcal/mol |
| `k_dihedral`, `gamma_dihedral` | dihedral Σ k_n [1 + cos(nφ − γ_n)], n = 1, 2, … | kcal/mol, rad |
| `epsilon`, `sigma` | repulsion ε (σ/r)⁴ from separation 6 on | kcal/mol, Å |
| `weights` | optional: `bond`, `angle`, `dihedral`, `repulsive`, factors on the energies; default 1 | |

Beside `priors` there may be `weights` in `model`'s stead and a section `meta`, which is ignored. Any other key is an
error. Nearer beads than separation 6 do not repel, as in these models. The sine series of the angle has no smooth
continuation at 0 and π (its force is divided by sin θ); it becomes a spline in cos θ, fitted where chains of CA go.
"""

from typing import Any

import numpy as np

from cgloop.model.names import PRIOR_TERM_NAMES
from cgloop.model.terms import PriorForms, PriorParams
from cgloop.priors.forms import angle_basis
from cgloop.priors.series import fit_linear

REQUIRED = ("r0", "kr", "a", "b", "k_dihedral", "gamma_dihedral", "epsilon", "sigma")
WEIGHTS = {"bond": "bond", "angle": "angle", "dihedral": "dihedral", "repulsive": "repulsion"}

INTERVALS = 40
FITTED_DEGREES = (20.0, 170.0)
"""The conversion of the angle is good to 2 % of the series' range between these; beyond, it goes on smoothly."""


def is_older(data: Any) -> bool:
    """Whether a YAML document is of the older kind."""
    return isinstance(data, dict) and isinstance(data.get("model"), dict) and "priors" in data["model"]


def read_older(data: dict[str, Any]) -> tuple[PriorForms, PriorParams]:
    """Forms and parameters of an older section.

    Raises:
        ValueError: an unknown key, or lists of different length.
        KeyError: a missing key.
        TypeError: not numbers.
    """
    _only("", data, ("model", "meta"))
    _only("model", data["model"], ("priors",))
    section = data["model"]["priors"]
    _only("model.priors", section, (*REQUIRED, "weights"))
    given = {name: np.asarray(section[name], np.float64) for name in REQUIRED}
    for one, other in (("a", "b"), ("k_dihedral", "gamma_dihedral")):
        if given[one].ndim != 1 or given[one].shape != given[other].shape:
            raise ValueError(f"`{one}` and `{other}` must be lists of the same length")
    if not all(np.isfinite(value).all() for value in given.values()):
        raise ValueError("a parameter is not finite")
    k, gamma = given["k_dihedral"], given["gamma_dihedral"]
    weights = dict.fromkeys(PRIOR_TERM_NAMES, 1.0)
    _only("weights", section.get("weights", {}), tuple(WEIGHTS))
    weights.update({WEIGHTS[name]: float(value) for name, value in section.get("weights", {}).items()})
    params = PriorParams(
        bond_k=given["kr"],
        bond_r0=given["r0"],
        angle_coeffs=_angle_spline(given["a"], given["b"]),
        dihedral_cos=np.concatenate([[k.sum()], k * np.cos(gamma)]),
        dihedral_sin=np.concatenate([[0.0], k * np.sin(gamma)]),
        repulsion_epsilon=np.array([0.0, 0.0, float(given["epsilon"])]),
        repulsion_r_min=np.full(3, float(given["sigma"])),
        weights=np.array(list(weights.values())),
    )
    return PriorForms(angle="spline", repulsion="power4"), params


def _only(name: str, section: Any, known: tuple[str, ...]) -> None:
    if not isinstance(section, dict):
        raise TypeError(f"`{name}` is not a section")
    unknown = sorted(set(section) - set(known))
    if unknown:
        raise ValueError(f"unknown key `{f'{name}.' if name else ''}{unknown[0]}`, known: {', '.join(known)}")


def older_angle(a: np.ndarray, b: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Σ a_n cos nθ + b_n sin nθ, n from 1."""
    n = np.arange(1, len(a) + 1)
    return np.cos(np.outer(theta, n)) @ a + np.sin(np.outer(theta, n)) @ b


def _angle_spline(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    theta = np.linspace(0.0, np.pi, 721)
    inside = (theta >= np.radians(FITTED_DEGREES[0])) & (theta <= np.radians(FITTED_DEGREES[1]))
    basis = angle_basis("spline", theta, INTERVALS, 1e-8)
    none = np.zeros((0, basis.values.shape[1]))
    weights = np.where(inside, 1.0, 1e-3)
    return fit_linear(basis.values, older_angle(a, b, theta), weights, basis.penalty, none, np.zeros(0))

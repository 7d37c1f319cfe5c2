"""`priors.yaml`: the prior as a file that a person can read, and the same numbers that the program uses."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cgloop.errors import UserError
from cgloop.model.terms import SEPARATION_CLASSES, PriorParams

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Origin:
    """Where the parameters come from; written as comments and counts beside them.

    Attributes:
        temperature_K: of the frames.
        proteins: name -> number of frames.
        samples: counted bonds, cis bonds left out, angles, dihedrals.
        r_min_from: per separation class, in words.
    """

    temperature_K: float
    proteins: Mapping[str, int]
    samples: Mapping[str, int]
    r_min_from: tuple[str, ...]


def write_priors(path: Path, params: PriorParams, origin: Origin) -> None:
    """Write the prior as commented YAML; `read_priors` gives the same parameters back, to the last bit."""
    Path(path).write_text(_render(params, origin), encoding="utf-8")


def read_priors(path: Path) -> PriorParams:
    """The prior of a file, float64.

    Raises:
        UserError: missing, not readable, or incomplete.
    """
    import yaml

    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError("no such file", where=path, remedy="`cgloop priors` makes it") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"cannot be read: {' '.join(str(error).split())}", where=path) from None
    try:
        version = data["schema_version"]
        if version != SCHEMA_VERSION:
            raise ValueError(f"schema version {version}, this cgloop reads {SCHEMA_VERSION}")
        return _checked(_params_of(data))
    except KeyError as error:
        raise UserError(f"missing key {error}", where=path, remedy="run `cgloop priors` again") from None
    except (TypeError, ValueError) as error:
        raise UserError(f"not a table of priors: {error}", where=path, remedy="run `cgloop priors` again") from None


def _params_of(data: Any) -> PriorParams:
    classes = [data["repulsion"][class_key(kind)] for kind in range(len(SEPARATION_CLASSES))]
    values = (
        data["bond"]["k"],
        data["bond"]["r0"],
        data["angle"]["cos"],
        data["dihedral"]["cos"],
        data["dihedral"]["sin"],
        [one["epsilon"] for one in classes],
        [one["r_min"] for one in classes],
        [data["weights"][name] for name in ("bond", "angle", "dihedral", "repulsion")],
    )
    return PriorParams(*(np.asarray(value, np.float64) for value in values))


def _checked(params: PriorParams) -> PriorParams:
    """Raise ValueError where a number or a length cannot be right."""
    for name, value in params._asdict().items():
        if not np.isfinite(value).all():
            raise ValueError(f"`{name}` is not finite")
    for name in ("angle_coeffs", "dihedral_cos", "dihedral_sin"):
        if getattr(params, name).ndim != 1 or not getattr(params, name).size:
            raise ValueError(f"`{name}` is not a list of numbers")
    if params.dihedral_cos.shape != params.dihedral_sin.shape:
        raise ValueError("dihedral: `cos` and `sin` differ in length")
    if not (params.repulsion_r_min > 0).all():
        raise ValueError("repulsion: r_min must be positive")
    return params


def class_key(kind: int) -> str:
    """Separation class as a key: "2", "3-5", "6+"."""
    first, last = SEPARATION_CLASSES[kind]
    return f"{first}+" if last is None else str(first) if first == last else f"{first}-{last}"


def _render(params: PriorParams, origin: Origin) -> str:
    samples = origin.samples
    left_out = f"; {samples['cis']} cis bonds left out" if samples["cis"] else ""
    no_bonds = "" if samples["bonds"] else "  # no bonds in the reference: no such energy"
    no_angles = "" if samples["angles"] else "  # no angles in the reference: no such energy"
    no_dihedrals = "" if samples["dihedrals"] else "  # no dihedrals in the reference: no such energy"
    lines = [
        "# Prior energy terms of the coarse-grained model, one bead per CA.",
        "# Energies in kcal/mol, lengths in Å, angles in radians.",
        f"schema_version: {SCHEMA_VERSION}",
        f"temperature_K: {origin.temperature_K:g}",
        "frames:",
        *(f"  {name}: {count}" for name, count in sorted(origin.proteins.items())),
        "",
        f"bond:  # U(r) = 1/2 k (r - r0)^2, from {samples['bonds']} CA-CA bonds{left_out}",
        f"  k: {_number(params.bond_k)}{no_bonds or '  # kcal/mol/Å²'}",
        f"  r0: {_number(params.bond_r0)}  # Å",
        "",
        f"angle:  # U(t) = sum over n of cos[n] cos(n t), n = 0, 1, ..., from {samples['angles']} angles",
        f"  cos: {_numbers(params.angle_coeffs)}{no_angles}",
        "",
        "dihedral:  # U(p) = sum over n of cos[n] cos(n p) + sin[n] sin(n p), n = 0, 1, ..., "
        f"from {samples['dihedrals']} dihedrals",
        f"  cos: {_numbers(params.dihedral_cos)}{no_dihedrals}",
        f"  sin: {_numbers(params.dihedral_sin)}",
        "",
        "repulsion:  # U(r) = epsilon ((r_min/r)^6 - 1)^2 below r_min, else 0; by separation along the chain",
    ]
    for kind, words in enumerate(origin.r_min_from):
        lines += [
            f'  "{class_key(kind)}":',
            f"    epsilon: {_number(params.repulsion_epsilon[kind])}  # kcal/mol",
            f"    r_min: {_number(params.repulsion_r_min[kind])}  # Å; {words}",
        ]
    lines += ["", "weights:  # factors on the energies; 1 is right"]
    names = ("bond", "angle", "dihedral", "repulsion")
    lines += [f"  {name}: {_number(value)}" for name, value in zip(names, params.weights, strict=True)]
    return "\n".join([*lines, ""])


def _number(value: Any) -> str:
    """Shortest decimal form that gives the same float64; YAML 1.1 needs a point before an exponent."""
    text = repr(float(value))
    return text.replace("e", ".0e") if "e" in text and "." not in text else text


def _numbers(values: np.ndarray) -> str:
    return f"[{', '.join(_number(value) for value in values)}]"

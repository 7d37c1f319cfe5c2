"""`priors.yaml`: the prior as a file that a person can read, and the same numbers that the program uses."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cgloop.errors import UserError
from cgloop.model.names import PRIOR_TERM_NAMES
from cgloop.model.potentials import ANGLE_FORMS, REPULSION_FORMS
from cgloop.model.terms import DEFAULT_FORMS, KEY_NAMES, N_SEPARATION_CLASSES, PriorForms, PriorParams
from cgloop.priors.older import is_older, read_older

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


def write_priors(path: Path, params: PriorParams, origin: Origin, forms: PriorForms = DEFAULT_FORMS) -> None:
    """Write the prior as commented YAML; `read_prior` gives the same back, to the last bit."""
    Path(path).write_text(_render(params, origin, forms), encoding="utf-8")


def read_priors(path: Path) -> PriorParams:
    """The parameters that `read_prior` reads."""
    return read_prior(path)[1]


def read_prior(path: Path) -> tuple[PriorForms, PriorParams]:
    """Forms and parameters (float64) of a file; also of the older kind that `older.py` describes.

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
        if is_older(data):
            return read_older(data)
        version = data["schema_version"]
        if version != SCHEMA_VERSION:
            raise ValueError(f"schema version {version}, this cgloop reads {SCHEMA_VERSION}")
        forms = PriorForms(**data.get("forms", {}))
        return forms, _checked(_params_of(data, forms), forms)
    except KeyError as error:
        raise UserError(f"missing key {error}", where=path, remedy="run `cgloop priors` again") from None
    except (TypeError, ValueError) as error:
        raise UserError(f"not a table of priors: {error}", where=path, remedy="run `cgloop priors` again") from None


def _params_of(data: Any, forms: PriorForms) -> PriorParams:
    classes = [data["repulsion"][class_key(kind, forms)] for kind in range(N_SEPARATION_CLASSES)]
    dihedral = data["dihedral"]
    none: Any = [0.0]
    spline = forms.dihedral == "spline"
    values: dict[str, Any] = {
        "bond_k": data["bond"]["k"],
        "bond_r0": data["bond"]["r0"],
        "angle_coeffs": data["angle"][ANGLE_KEYS[forms.angle]],
        "dihedral_cos": none if spline else dihedral["cos"],
        "dihedral_sin": none if spline else dihedral["sin"],
        "dihedral_spline": dihedral["spline"] if spline else none,
        "repulsion_epsilon": [one["epsilon"] for one in classes],
        "repulsion_r_min": [one["r_min"] for one in classes],
        # Files written before there were electrostatics and contacts have four weights.
        "weights": [data["weights"][name] for name in PRIOR_TERM_NAMES[:4]]
        + [data["weights"].get(name, 1.0) for name in PRIOR_TERM_NAMES[4:]],
    }
    if forms.electrostatics:
        values["electrostatics"] = [data["electrostatics"]["strength"], data["electrostatics"]["debye_length"]]
    if forms.contacts:
        values["contact_energy"] = [data["contact"][name] for name in KEY_NAMES["residue"]]
    return PriorParams(*(np.asarray(value, np.float64) for value in PriorParams(**values)))


def _checked(params: PriorParams, forms: PriorForms) -> PriorParams:
    """Raise ValueError where a form, a number or a length cannot be right."""
    known = {
        "angle": ANGLE_FORMS, "dihedral": ("fourier", "spline"), "repulsion": REPULSION_FORMS, "keyed": KEY_NAMES,
    }  # fmt: skip
    for name, values in known.items():
        if getattr(forms, name) not in values:
            raise ValueError(f"forms: `{getattr(forms, name)}` is no form of `{name}`")
    if not (isinstance(forms.repulsion_separation, int) and forms.repulsion_separation >= 4):
        raise ValueError(f"forms: `repulsion_separation` must be 4 or more, is {forms.repulsion_separation}")
    for name, value in params._asdict().items():
        if not np.isfinite(value).all():
            raise ValueError(f"`{name}` is not finite")
    rows = 0 if forms.keyed == "global" else len(KEY_NAMES[forms.keyed])
    dihedral = ("dihedral_spline",) if forms.dihedral == "spline" else ("dihedral_cos", "dihedral_sin")
    expected = {"bond_k": (rows,), "bond_r0": (rows,), "angle_coeffs": (rows,), **dict.fromkeys(dihedral, (rows**2,))}
    for name, first in expected.items():
        value, lists = getattr(params, name), name not in ("bond_k", "bond_r0")
        if value.ndim != bool(rows) + lists or not value.size or (rows and value.shape[:1] != first):
            raise ValueError(f"`{name}` is not {'a list of numbers' if lists else 'a number'} for each key of residues")
    if params.dihedral_cos.shape != params.dihedral_sin.shape:
        raise ValueError("dihedral: `cos` and `sin` differ in length")
    if forms.angle == "spline" and params.angle_coeffs.shape[-1] < 4:
        raise ValueError("angle: a spline has at least 4 coefficients")
    if not (params.repulsion_r_min > 0).all():
        raise ValueError("repulsion: r_min must be positive")
    if forms.electrostatics and not params.electrostatics[1] > 0:
        raise ValueError("electrostatics: debye_length must be positive")
    if forms.contacts and params.contact_energy.shape != (20, 20):
        raise ValueError("contact: 20 lists of 20 energies are needed")
    return params


def class_key(kind: int, forms: PriorForms = DEFAULT_FORMS) -> str:
    """Separation class as a key: "2", "3-5", "6+"."""
    first, last = forms.separations[kind]
    return f"{first}+" if last is None else str(first) if first == last else f"{first}-{last}"


ANGLE_KEYS = {"fourier": "cos", "harmonic": "k_theta0", "spline": "spline"}
ANGLE_WORDS = {
    "fourier": "U(t) = sum over n of cos[n] cos(n t), n = 0, 1, ...",
    "harmonic": "U(t) = 1/2 k (t - theta0)^2, k in kcal/mol/rad^2",
    "spline": "cubic B-spline in cos t, equal intervals of [-1, 1]",
}
REPULSION_WORDS = {
    "wca": "",
    "lj": '; "{far}": epsilon ((r_min/r)^12 - 2 (r_min/r)^6)',
    "power4": '; "{far}": epsilon (r_min/r)^4',
    "power6": '; "{far}": epsilon (r_min/r)^6',
    "power12": '; "{far}": epsilon (r_min/r)^12',
}


def _render(params: PriorParams, origin: Origin, forms: PriorForms) -> str:
    samples = origin.samples
    left_out = f"; {samples['cis']} cis bonds left out" if samples["cis"] else ""
    lines = [
        "# Prior energy terms of the coarse-grained model, one bead per CA.",
        "# Energies in kcal/mol, lengths in Å, angles in radians.",
        f"schema_version: {SCHEMA_VERSION}",
        f"temperature_K: {origin.temperature_K:g}",
        "frames:",
        *(f"  {name}: {count}" for name, count in sorted(origin.proteins.items())),
        *_form_lines(forms),
        "",
        f"bond:  # U(r) = 1/2 k (r - r0)^2, from {samples['bonds']} CA-CA bonds{left_out}",
        f"  k: {_numbers(params.bond_k)}{_absent(samples, 'bonds') or '  # kcal/mol/Å²'}",
        f"  r0: {_numbers(params.bond_r0)}  # Å",
        "",
        f"angle:  # {ANGLE_WORDS[forms.angle]}, from {samples['angles']} angles",
        f"  {ANGLE_KEYS[forms.angle]}: {_numbers(params.angle_coeffs)}{_absent(samples, 'angles')}",
        "",
        *_dihedral_lines(params, samples, forms),
        "",
        "repulsion:  # U(r) = epsilon ((r_min/r)^6 - 1)^2 below r_min, else 0; by separation along the chain"
        + REPULSION_WORDS[forms.repulsion].format(far=class_key(N_SEPARATION_CLASSES - 1, forms)),
    ]
    for kind, words in enumerate(origin.r_min_from):
        lines += [
            f'  "{class_key(kind, forms)}":',
            f"    epsilon: {_numbers(params.repulsion_epsilon[kind])}  # kcal/mol",
            f"    r_min: {_numbers(params.repulsion_r_min[kind])}  # Å; {words}",
        ]
    lines += [*_pair_lines(params, forms), "", "weights:  # factors on the energies; 1 is right"]
    names = PRIOR_TERM_NAMES[: len(params.weights)]
    lines += [f"  {name}: {_numbers(value)}" for name, value in zip(names, params.weights, strict=True)]
    return "\n".join([*lines, ""])


def _absent(samples: Mapping[str, int], name: str) -> str:
    return "" if samples[name] else f"  # no {name} in the reference: no such energy"


def _form_lines(forms: PriorForms) -> list[str]:
    """Nothing for the default forms."""
    if forms == DEFAULT_FORMS:
        return []
    lines = ["", "forms:"]
    for name, value in asdict(forms).items():
        lines.append(f"  {name}: {str(value).lower() if isinstance(value, bool) else value}")
    if forms.keyed != "global":
        names = KEY_NAMES[forms.keyed]
        lines += [
            f"# Bonded parameters have one row per key: {', '.join(names)};",
            "# a bond has the key of its second bead, an angle of its middle one, a dihedral of its two middle ones,",
            f"# row {len(names)} * (key of the second bead) + (key of the third).",
        ]
    return lines


def _dihedral_lines(params: PriorParams, samples: Mapping[str, int], forms: PriorForms) -> list[str]:
    if forms.dihedral == "spline":
        words = "periodic cubic B-spline in p, equal intervals of [-pi, pi]"
        parts = [f"  spline: {_numbers(params.dihedral_spline)}{_absent(samples, 'dihedrals')}"]
    else:
        words = "U(p) = sum over n of cos[n] cos(n p) + sin[n] sin(n p), n = 0, 1, ..."
        parts = [
            f"  cos: {_numbers(params.dihedral_cos)}{_absent(samples, 'dihedrals')}",
            f"  sin: {_numbers(params.dihedral_sin)}",
        ]
    return [f"dihedral:  # {words}, from {samples['dihedrals']} dihedrals", *parts]


def _pair_lines(params: PriorParams, forms: PriorForms) -> list[str]:
    lines = []
    if forms.electrostatics:
        lines += [
            "",
            "electrostatics:  # U(r) = q q' strength exp(-r/debye_length)/r",
            f"  strength: {_numbers(params.electrostatics[0])}  # kcal/mol Å",
            f"  debye_length: {_numbers(params.electrostatics[1])}  # Å",
        ]
    if forms.contacts:
        lines += ["", f"contact:  # kcal/mol, with {', '.join(KEY_NAMES['residue'])}"]
        lines += [
            f"  {name}: {_numbers(row)}" for name, row in zip(KEY_NAMES["residue"], params.contact_energy, strict=True)
        ]
    return lines


def _numbers(values: Any) -> str:
    """A number or nested list of numbers in the shortest decimal form that gives the same float64."""
    array = np.asarray(values, np.float64)
    if array.ndim:
        return f"[{', '.join(_numbers(value) for value in array)}]"
    text = repr(float(array))
    # YAML 1.1 needs a point before an exponent.
    return text.replace("e", ".0e") if "e" in text and "." not in text else text

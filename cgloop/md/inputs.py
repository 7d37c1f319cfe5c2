"""LAMMPS input: the scripts of `lammps_inputs/` with their variables filled in, and data files."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

import cgloop
from cgloop.errors import UserError
from cgloop.residues import RESIDUES

HALF_BOX_A = 5000.0
"""Half the edge of the periodic box. Positions are unwrapped with image flags, so its size never matters."""

_VARIABLE = re.compile(r"\$\{(\w+)\}")
_OWN_VARIABLE = re.compile(r"^\s*variable\s+(\w+)", re.MULTILINE)
_MODEL_FIX = re.compile(r"^\s*fix\s+model\s+all\s+external\b.*$", re.MULTILINE)
_RUN = re.compile(r"^[ \t]*run[ \t]+(\d+)[ \t]*(?:#.*)?$", re.MULTILINE)


def find_template(name: str, folder: Path | None = None) -> Path:
    """The script `<name>` of the user's folder if it has one, else that of `lammps_inputs/`: inside the installed
    package, or in the top folder of a checkout.

    Raises:
        UserError: it is in no place.
    """
    package = Path(cgloop.__file__).parent
    candidates = [parent / "lammps_inputs" / name for parent in (package, package.parent)]
    if folder is not None:
        candidates.insert(0, folder / name)
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise UserError(f"no LAMMPS script `{name}`", where=candidates[-1].parent, remedy="install cgloop again")
    return found


def render(template: str, values: Mapping[str, object], where: str | Path = "LAMMPS script") -> str:
    """The script with `${name}` replaced; names that the script defines by `variable` are left to LAMMPS.

    Raises:
        UserError: a name is neither given nor defined in the script.
    """
    own = set(_OWN_VARIABLE.findall(template))

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        if name in values:
            value = values[name]
            return f"{value:.12g}" if isinstance(value, float) else str(value)
        if name in own:
            return match[0]
        raise UserError(f"unknown variable ${{{name}}}", where=where, remedy=f"known: {', '.join(sorted(values))}")

    return _VARIABLE.sub(fill, template)


def write_script(name: str, values: Mapping[str, object], path: Path, folder: Path | None = None) -> Path:
    """Render the script `name` (see `find_template`) into the file `path`, and return that."""
    template = find_template(name, folder)
    path.write_text(render(template.read_text(encoding="utf-8"), values, template), encoding="utf-8")
    return path


def split_script(text: str, where: str | Path = "LAMMPS script") -> tuple[str, str]:
    """The commands up to and including `fix model all external …`, and those after it.

    Raises:
        UserError: the script has no such fix, so nothing could be coupled to it.
    """
    match = _MODEL_FIX.search(text)
    if match is None:
        raise UserError("no line `fix model all external pf/callback 1 1`", where=where, remedy="put it back")
    return text[: match.end()] + "\n", text[match.end() :]


def split_runs(commands: str) -> list[str | int]:
    """Commands in order, with each line `run N` as the number N, so that a run can be done in pieces."""
    parts: list[str | int] = list(_RUN.split(commands))
    parts[1::2] = [int(steps) for steps in parts[1::2]]
    return parts


def write_data_file(
    path: Path,
    types: np.ndarray,
    positions_A: np.ndarray,
    velocities: np.ndarray,
    masses: Sequence[float] = (),
    items: Mapping[str, np.ndarray] | None = None,
) -> None:
    """A LAMMPS data file (atom_style molecular) of replicas of one protein.

    Args:
        path: file to write.
        types: int [N], residue type ids; LAMMPS types are id + 1.
        positions_A: [R, N, 3], Å; molecule id is replica + 1.
        velocities: [R, N, 3], Å/fs. Written, as the positions, so that reading gives back the same numbers.
        masses: of the 20 types, g/mol; default: residue masses.
        items: sections `Bonds`, `Angles`, `Dihedrals`: int [M, 1 + 2…4], type from 1 and beads of one replica from 0.
    """
    n_replicas, n_beads = positions_A.shape[:2]
    masses = tuple(masses) or tuple(residue.mass for residue in RESIDUES)
    names = [residue.name for residue in RESIDUES]
    edges = [f"{-HALF_BOX_A:g} {HALF_BOX_A:g} {axis}lo {axis}hi" for axis in "xyz"]
    lines = [
        f"cgloop: {n_replicas} replicas of {n_beads} beads; units real",
        "",
        f"{n_replicas * n_beads} atoms",
        f"{len(masses)} atom types",
        *_counts(items or {}, n_replicas),
        *edges,
        "",
        "Masses",
        "",
        *(f"{i + 1} {mass!r}  # {name}" for i, (mass, name) in enumerate(zip(masses, names, strict=True))),
        "",
        "Atoms # molecular",
        "",
    ]
    flat = positions_A.reshape(-1, 3).tolist()
    for atom, (x, y, z) in enumerate(flat):
        replica, bead = divmod(atom, n_beads)
        lines.append(f"{atom + 1} {replica + 1} {int(types[bead]) + 1} {x!r} {y!r} {z!r}")
    lines += ["", "Velocities", ""]
    lines += [f"{i + 1} {x!r} {y!r} {z!r}" for i, (x, y, z) in enumerate(velocities.reshape(-1, 3).tolist())]
    for section, table in (items or {}).items():
        lines += ["", section, ""]
        shift = n_beads * np.arange(n_replicas)[:, None, None] + 1
        beads = (table[None, :, 1:] + shift).reshape(-1, table.shape[1] - 1).tolist()
        kinds = np.tile(table[:, 0], n_replicas).tolist()
        lines += [f"{i + 1} {kind} {' '.join(map(str, beads[i]))}" for i, kind in enumerate(kinds)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _counts(items: Mapping[str, np.ndarray], n_replicas: int) -> list[str]:
    lines = []
    for section, table in items.items():
        name = section.lower()
        lines += [f"{n_replicas * len(table)} {name}", f"{int(table[:, 0].max())} {name.removesuffix('s')} types"]
    return lines

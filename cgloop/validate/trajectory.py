"""Reads what MD left: `observables.h5`, DCD trajectories, `topology.pdb`.

With `universe` the only file of `validate` that imports MDAnalysis. A record that is missing or damaged does not stop
the validation: it is noted, and the checks that need it fail.
"""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cgloop.errors import UserError
from cgloop.residues import RESIDUES, parent_name
from cgloop.validate.artifact import Minimized, number
from cgloop.validate.rundata import MONITORED, Replica, StageRun


@dataclass(frozen=True)
class Asked:
    """What a stage was asked for, the denominator of everything that is measured.

    Attributes:
        replicas: how many.
        steps: of production, per replica.
        timestep_fs: of the integrator.
        temperature_K: target.
        dump_every_steps, observe_every_steps: intervals of the records.
        at_rest: whether the dynamics keep the center of mass at rest, for records that do not hold their degrees of
            freedom.
    """

    replicas: int
    steps: int
    timestep_fs: float
    temperature_K: float
    dump_every_steps: int
    observe_every_steps: int
    at_rest: bool = False


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """A JSON object. Raises UserError if the file is missing, damaged or something else."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError("no such file", where=path, remedy=remedy) from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot be read: {error}", where=path, remedy=remedy) from None
    if not isinstance(content, dict):
        raise UserError("is not a JSON object", where=path, remedy=remedy)
    return content


def read_stage(folder: Path, protein: str, stage: str, residue_type: np.ndarray, asked: Asked) -> StageRun:
    """One dynamic stage of one protein.

    Args:
        folder: `md/<protein>/<stage>`.
        protein, stage: names.
        residue_type: int [N], what the beads should be.
        asked: what the stage was asked for.
    """
    problems: list[str] = []
    replicas: list[Replica] = []
    n_beads, at_rest = len(residue_type), asked.at_rest
    types: tuple[str, ...] = ()
    freedom: tuple[float, ...] = ()
    try:
        with h5py.File(folder / "observables.h5") as file:
            if "dof" in file.attrs:
                at_rest = int(file.attrs["dof"]) < 3 * n_beads
            if "kinetic_types" in file.attrs:
                types = tuple(str(name) for name in file.attrs["kinetic_types"])
                freedom = tuple(float(number) for number in file.attrs["dof_by_type"])
            for name in sorted(group for group in file if group.startswith("replica_")):
                try:
                    replicas.append(_read_replica(file[name], folder, name, n_beads, asked))
                except (OSError, KeyError, ValueError) as error:
                    if file[name].attrs.get("limit") == "not-started":
                        problems.append(f"{stage} {name} was not started: it broke a limit in an earlier stage")
                    else:
                        problems.append(f"{stage} {name} cannot be read: {_plain(error, folder)}")
    except FileNotFoundError:
        problems.append(f"there is no record of a {stage.upper()} run")
    except OSError:
        problems.append(f"{stage}/observables.h5 is damaged")
    # Where no replica was started there is no topology either, and that is not what went wrong.
    if replicas and (wrong := _wrong_beads(folder / "topology.pdb", residue_type)):
        problems.insert(0, wrong)
    return StageRun(
        protein=protein,
        stage=stage,
        timestep_fs=asked.timestep_fs,
        temperature_K=asked.temperature_K,
        n_beads=n_beads,
        replicas_asked=asked.replicas,
        frames_asked=asked.steps // asked.dump_every_steps,
        points_asked=asked.steps // asked.observe_every_steps,
        replicas=replicas,
        problems=problems,
        at_rest=at_rest,
        types=types,
        freedom_by_type=freedom,
    )


def _read_replica(group: h5py.Group, folder: Path, name: str, n_beads: int, asked: Asked) -> Replica:
    series = {column: np.asarray(group[column][:], float) for column in MONITORED}
    if len({values.shape for values in series.values()}) != 1:
        raise ValueError("series of different lengths")
    attributes = group.attrs
    by_type = np.asarray(group["kinetic_by_type"][:], float) if "kinetic_by_type" in group else None
    limit = str(attributes.get("limit", "")) or ("" if bool(attributes["survived"]) else "unknown")
    return Replica(
        number=int(name.removeprefix("replica_")),
        steps_asked=asked.steps,
        steps_done=int(attributes["steps_done"]),
        limit=limit,
        series=series,
        positions=read_dcd(folder / f"{name}.dcd", n_beads),
        kinetic_by_type=by_type,
    )


def read_dcd(path: Path, n_beads: int) -> np.ndarray:
    """Positions [F, N, 3] of a DCD file in Å.

    Raises:
        OSError: missing or damaged.
        ValueError: it has another number of beads.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from MDAnalysis.lib.formats.libdcd import DCDFile

        with DCDFile(str(path)) as file:
            if file.header["natoms"] != n_beads:
                raise ValueError(f"{file.header['natoms']} beads in {path.name}, not {n_beads}")
            return file.readframes().xyz if len(file) else np.zeros((0, n_beads, 3), np.float32)


def frame_interval(path: Path) -> int:
    """Return the number of steps between two frames of a DCD file, from its header.

    Raises:
        OSError: the file is missing or damaged.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from MDAnalysis.lib.formats.libdcd import DCDFile

        with DCDFile(str(path)) as file:
            return int(file.header["nsavc"])


def _wrong_beads(topology: Path, residue_type: np.ndarray) -> str:
    """In what way the beads of a trajectory are not those of the reference, or nothing."""
    try:
        lines = topology.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        return f"{topology.parent.name}/{topology.name} cannot be read: {_plain(error, topology.parent)}"
    # Columns 18–20 of an ATOM record hold the residue name (wwPDB format 3.3).
    return wrong_order(
        [parent_name(line[17:20]) for line in lines if line.startswith(("ATOM  ", "HETATM"))], residue_type
    )


def wrong_order(found: Sequence[str | None], residue_type: np.ndarray) -> str:
    """In what way beads of these residues are not those of the reference, or nothing."""
    expected = [RESIDUES[int(kind)].name for kind in residue_type]
    if list(found) == expected:
        return ""
    if len(found) != len(expected):
        return f"the trajectory has {len(found)} beads, the reference {len(expected)}"
    first = next(i for i, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b)
    return f"bead {first + 1} of the trajectory is {found[first]}, in the reference {expected[first]}: wrong type order"


def read_minimized(folder: Path) -> tuple[list[Minimized], list[str]]:
    """What every minimisation ended with, and what could not be read."""
    results: list[Minimized] = []
    problems: list[str] = []
    try:
        with h5py.File(folder / "observables.h5") as file:
            for name in sorted(group for group in file if group.startswith("replica_")):
                end = file[name].attrs
                results.append(
                    Minimized(
                        int(name.removeprefix("replica_")),
                        number(end.get("energy_initial")),
                        number(end.get("energy_final")),
                        number(end.get("max_force_final")),
                        number(end.get("max_move_A")),
                        number(end.get("rmsd_A")),
                    )
                )
    except FileNotFoundError:
        problems.append("there is no record of a minimisation")
    except OSError:
        problems.append("minimize/observables.h5 is damaged")
    return results, problems


def _plain(error: Exception, folder: Path) -> str:
    """An error's text without the path of this machine: results do not depend on where they were made."""
    return str(error).replace(f"{folder}/", "").replace("'", "")

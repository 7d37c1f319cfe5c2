"""Candidates for all-atom relabelling: for people who can run all-atom MD from there and send back its forces."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cgloop.config.data import DataConfig
from cgloop.data.sources import expand_sources
from cgloop.errors import UserError
from cgloop.md.system import System
from cgloop.md.trajectory import write_topology
from cgloop.prep.mdcath import MdcathFile
from cgloop.prep.reference import Frames
from cgloop.stages import write_json

log = logging.getLogger("cgloop.feedback")

README = """\
Candidates for all-atom relabelling
===================================

Each candidate is a coarse-grained frame that the model reached and the training data do not cover, or only just.
An all-atom simulation near it would tell what the forces are there.

  candidate_000_ca.pdb         CA positions of the frame, Å
  candidate_000_all_atom.pdb   the all-atom frame of the reference that is nearest to it after superposition of the CA
                               atoms (if the source could be read): start from there, and pull or restrain the CA
                               atoms to the frame
  index.json                   where each comes from (protein, stage, replica, step), why it was chosen, and source
                               file, temperature, replica and frame of the nearest reference frame, with the RMSD

The CA frame has no solvent, no side chains and no forces. What comes back goes into `data.sources` like any other
trajectory.
"""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A frame worth labelling.

    Attributes:
        system: its protein.
        positions: [N, 3], Å.
        why: in words.
        origin: stage, replica, step and whatever else is known.
        nearest: see `Distribution.nearest`.
    """

    system: System
    positions: np.ndarray
    why: str
    origin: dict[str, Any]
    nearest: dict[str, Any] | None = field(default=None)


def write_outbox(folder: Path, candidates: Sequence[Candidate], source_of: dict[str, str], data: DataConfig) -> None:
    """Write candidates, their nearest all-atom frames, the index and a short text.

    Args:
        folder: made here.
        candidates: in order of preference.
        source_of: by protein, name of the reference file that it comes from.
        data: section of the config, to find these files.
    """
    folder.mkdir()
    (folder / "README.txt").write_text(README, encoding="utf-8")
    index = []
    for number, one in enumerate(candidates):
        stem = f"candidate_{number:03d}"
        write_topology(folder / f"{stem}_ca.pdb", one.system, one.positions - one.positions.mean(axis=0))
        entry: dict[str, Any] = {"frame": f"{stem}_ca.pdb", "protein": one.system.name, "why": one.why, **one.origin}
        if one.nearest is not None:
            source = source_of.get(one.system.name)
            entry["nearest"] = {**one.nearest, "source": source}
            target = folder / f"{stem}_all_atom.pdb"
            problem = _write_all_atom(target, source, one.system.name, one.nearest, data)
            entry["nearest"]["all_atom"] = None if problem else target.name
            if problem:
                entry["nearest"]["all_atom_problem"] = problem
        index.append(entry)
    write_json(folder / "index.json", {"schema_version": 1, "candidates": index})


def _write_all_atom(path: Path, source: str | None, protein: str, nearest: dict[str, Any], data: DataConfig) -> str:
    """Write the all-atom frame; says why not if it cannot be had."""
    try:
        files = [one for one in expand_sources(data) if one.path.name == source]
    except UserError as error:
        return str(error)
    if not files:
        return "the source file is not among those of the config"
    if files[0].format != "mdcath":
        return f"sources of format {files[0].format} are not written out: take the frame from the file itself"
    try:
        with MdcathFile(files[0].path) as file:
            for trajectory in file.trajectories:
                same = abs(trajectory.temperature_K - nearest["temperature_K"]) < 0.5
                if file.name == protein and same and trajectory.replica == nearest["replica"]:
                    frame = nearest["source_frame"]
                    block = next(iter(trajectory.blocks(Frames(frame, frame + 1))))
                    path.write_text(_as_pdb(file.atoms, block.positions[0], files[0].path.name, nearest), "ascii")
                    return ""
    except (UserError, StopIteration) as error:
        return str(error) or "the frame is not in the source"
    return "the trajectory is not in the source"


def _as_pdb(atoms: Sequence[Any], positions: np.ndarray, source: str, nearest: dict[str, Any]) -> str:
    title = f"TITLE     {source}, replica {nearest['replica']}, frame {nearest['source_frame']}"
    lines = [title.encode("ascii", "replace").decode()]
    for number, (atom, (x, y, z)) in enumerate(zip(atoms, np.asarray(positions, float), strict=True), start=1):
        name = atom.name if len(atom.name) > 3 else f" {atom.name}"
        chain = atom.chain.split("/")[0][:1] or "A"
        lines.append(
            f"ATOM  {number % 100000:5d} {name:<4s}{atom.altloc[:1] or ' '}{atom.resname[:4]:<4s}{chain}"
            f"{atom.resid % 10000:4d}{atom.insertion[:1] or ' '}   {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00"
            f"          {atom.element[:2]:>2s}"
        )
    return "\n".join([*lines, "END"]) + "\n"

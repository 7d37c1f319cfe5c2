"""The folders of a protein's jobs as one folder, as if one process had run all its replicas."""

import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cgloop.md.ending import END, OUTCOME, TIMING, State
from cgloop.md.job import STAGES
from cgloop.md.observables import SERIES
from cgloop.stages import write_json

_OF_A_REPLICA = re.compile(r"(replica|crash|minimize|log|lmp)[_.]\d{3}\b.*")
_TOPOLOGY = "topology.pdb"


def merge_jobs(folders: Sequence[Path], final: Path, stages: Sequence[str] = STAGES) -> None:
    """Put what jobs of one protein wrote into `final`, which appears at once and whole.

    Args:
        folders: of the jobs, in order of their replicas.
        final: folder of the protein; it does not exist.
        stages: folders of a job, relative to it, each with what a stage of dynamics or `minimize` writes.

    Files of single replicas lie side by side; series and outcomes become one file. What else a process writes (script,
    data file, log, end state) is of its own run: if there were several, it lies in `part_0`, `part_1` ….
    """
    draft = final.with_name(f".{final.name}.merged")
    shutil.rmtree(draft, ignore_errors=True)
    for stage in stages:
        parts = [folder / stage for folder in folders]
        into = draft / stage
        into.mkdir(parents=True)
        for number, part in enumerate(parts):
            _link_files(part, into, into if len(parts) == 1 else into / f"part_{number}")
        _merge_series([part / SERIES for part in parts], into / SERIES)
        write_json(into / OUTCOME, {key: one for part in parts for key, one in read_outcomes(part).items()})
    os.rename(draft, final)


def _link_files(part: Path, into: Path, of_the_process: Path) -> None:
    for path in sorted(part.iterdir()):
        if path.name in (SERIES, OUTCOME) or path.name.startswith("."):
            continue
        shared = path.name == _TOPOLOGY or _OF_A_REPLICA.fullmatch(path.name)
        target = (into if shared else of_the_process) / path.name
        if target.exists():
            continue
        target.parent.mkdir(exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, target)
            continue
        try:
            os.link(path, target)
        except OSError:
            shutil.copy2(path, target)


def _merge_series(parts: Sequence[Path], final: Path) -> None:
    """One file with the groups of all; attributes are those of the first, which are those of every one."""
    with h5py.File(final, "w") as file:
        for number, path in enumerate(parts):
            with h5py.File(path) as part:
                if number == 0:
                    file.attrs.update(part.attrs)
                for group in part:
                    part.copy(group, file)


def read_outcomes(folder: Path) -> dict[str, Any]:
    """What became of each replica of a stage, by id, in order."""
    outcomes = json.loads((folder / OUTCOME).read_text(encoding="utf-8"))
    return dict(sorted(outcomes.items(), key=lambda one: int(one[0])))


def read_survivors(folder: Path, n_beads: int) -> State:
    """The replicas of a stage of dynamics that survived it, as they were at its end; in order of their ids.

    Nobody, if the engine left no such state.
    """
    ends = sorted(folder.glob(f"part_*/{END}")) or [folder / END]
    found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for path in ends:
        if path.is_file():
            with np.load(path) as file:
                found |= dict(
                    zip(file["replicas"].tolist(), zip(file["positions"], file["velocities"], strict=True), strict=True)
                )
    if not found:
        return State.nobody(n_beads)
    replicas = sorted(found)
    positions, velocities = (np.stack([found[replica][part] for replica in replicas]) for part in (0, 1))
    return State(replicas, positions, velocities)


def read_timing(folder: Path) -> dict[str, dict[str, float]]:
    """Wall-clock figures of a stage of a merged protein, by process: `part_0` …, or `all` if there was one."""
    found = {path.parent.name: path for path in sorted(folder.glob(f"part_*/{TIMING}"))}
    return {
        name: json.loads(path.read_text(encoding="utf-8"))
        for name, path in (found or {"all": folder / TIMING}).items()
        if path.is_file()
    }

"""What the attempts of an external run left in its folder, as one run: a killed run goes on from a restart file.

An earlier attempt's log and trajectory are kept under numbers, `log.000.lammps` and `trajectory.000.dcd`. What it did
behind the step at which the next one began has not happened.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from MDAnalysis.lib.formats.libdcd import DCDFile

from cgloop.md.external_log import Log, read_log

LOG, TRAJECTORY = "log.lammps", "trajectory.dcd"


@dataclass(frozen=True, eq=False)
class Parts:
    """All attempts as one run.

    Attributes:
        log: thermo table of all, errors of the last.
        steps, frames: int [F] and float32 [F, N, 3] in Å, of the trajectory.
    """

    log: Log
    steps: np.ndarray
    frames: np.ndarray


def set_aside(folder: Path, restarts: Sequence[str], *, keep: bool) -> tuple[int, list[Path]]:
    """Make room for another attempt: number what the one before left, or remove it and all earlier ones.

    Args:
        folder: of the run.
        restarts: names of its restart files.
        keep: the run is to go on; without a restart file it begins anew all the same.

    Returns:
        How many attempts there were, and restart files to go on from, the newest first.
    """
    found = [path for name in restarts if (path := folder / name).is_file()]
    written = sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True) if keep else []
    if not written:
        for pattern in ("log.*lammps", "trajectory*.dcd", *restarts):
            for path in folder.glob(pattern):
                path.unlink()
        return 0, []
    number = len(_logs(folder))
    if (folder / LOG).is_file():
        (folder / LOG).rename(folder / f"log.{number:03d}.lammps")
        if (folder / TRAJECTORY).is_file():
            (folder / TRAJECTORY).rename(folder / f"trajectory.{number:03d}.dcd")
        number += 1
    return number, written


def _logs(folder: Path) -> list[Path]:
    return sorted(folder.glob("log.[0-9][0-9][0-9].lammps"))


def read_parts(folder: Path) -> Parts:
    """Read what all attempts left; a trajectory that breaks off is read up to there."""
    rows: dict[int, tuple[float, ...]] = {}
    frames: dict[int, np.ndarray] = {}
    names: tuple[str, ...] = ()
    last = read_log(folder / LOG)
    for path in [*_logs(folder), folder / LOG]:
        thermo = read_log(path).thermo
        if not thermo:
            continue
        names, first = tuple(thermo), int(thermo["Step"][0])
        rows = {step: row for step, row in rows.items() if step < first}
        frames = {step: frame for step, frame in frames.items() if step <= first}
        table = np.stack(list(thermo.values()), axis=1)
        rows |= {int(row[names.index("Step")]): tuple(row) for row in table.tolist()}
        frames |= _read_frames(path.with_name(path.name.replace("log.", "trajectory.").replace("lammps", "dcd")))
    columns = dict(zip(names, np.array(list(rows.values())).T, strict=True)) if rows else {}
    steps = np.array(sorted(frames), int)
    shown = np.stack([frames[step] for step in steps.tolist()]) if len(steps) else np.zeros((0, 0, 3), np.float32)
    return Parts(Log(columns, last.errors), steps, shown)


def _read_frames(path: Path) -> dict[int, np.ndarray]:
    """Frames [N, 3] in Å of a DCD by step; none of a file that is not there or too short."""
    found: dict[int, np.ndarray] = {}
    try:
        with DCDFile(str(path)) as file:
            first, every = int(file.header["istart"]), int(file.header["nsavc"])
            for number in range(len(file)):
                found[first + number * every] = file.read().xyz.copy()
    except OSError:
        pass
    return found

"""Dynamics that are asked to be longer go on where those that were judged ended, instead of from the start.

What a stage needs for that it keeps where `md.extend` is set: the state behind its last step, and its series as they
lie on disk while it runs. From these a folder of a job is made that looks as if its process had just been killed.
"""

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from cgloop.md.checkpoint import KEPT, KEPT_SERIES
from cgloop.md.checkpoint import NAME as RESTART
from cgloop.md.ending import END, OUTCOME
from cgloop.md.job import Job
from cgloop.md.observables import SERIES, group_name, spool_of
from cgloop.stages import write_json

log = logging.getLogger("cgloop.md")


def continue_jobs(earlier: Path, names: Sequence[str], nvt_longer: bool, jobs_dir: Path) -> None:
    """Make the folders of jobs that go on from earlier dynamics, for each protein of which they kept what it takes.

    Args:
        earlier: folder of the stage `md` with the same inputs but shorter lengths.
        names: of the proteins.
        nvt_longer: whether NVT goes on; NVE then begins anew, from another state. Otherwise NVT stays, and NVE goes on.
        jobs_dir: where jobs have their folders; those that are there already stay as they are.
    """
    for name in names:
        going_on = earlier / name / ("nvt" if nvt_longer else "nve")
        parts = [path.parent for path in sorted(going_on.glob(f"part_*/{KEPT}"))] or [going_on]
        if not all((part / file).is_file() for part in parts for file in (KEPT, KEPT_SERIES, END)):
            continue
        for part in parts:
            with np.load(part / END) as end:
                job = Job(name, tuple(end["replicas"].tolist()))
            if not (jobs_dir / job.folder).exists():
                _make_folder(jobs_dir / job.folder, job, part, going_on, nvt_longer)
        log.debug("%s goes on from %s", name, earlier)


def _make_folder(folder: Path, job: Job, part: Path, going_on: Path, nvt_longer: bool) -> None:
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    if not nvt_longer:
        nvt = going_on.parent / "nvt"
        _copy_done(nvt / part.relative_to(going_on), nvt, draft / "nvt", job)
    into = draft / going_on.name
    into.mkdir(parents=True)
    _copy_trajectories(going_on, into, job)
    shutil.copy2(part / KEPT, into / RESTART)
    shutil.copy2(part / KEPT_SERIES, spool_of(into / SERIES))
    draft.rename(folder)


def _copy_done(part: Path, whole: Path, into: Path, job: Job) -> None:
    """What a process wrote into the folder of a stage, out of that of all processes."""
    shutil.copytree(part, into, ignore=shutil.ignore_patterns("replica_*", SERIES, OUTCOME))
    _copy_trajectories(whole, into, job)
    if not (into / "topology.pdb").exists():
        shutil.copy2(whole / "topology.pdb", into)
    outcomes = json.loads((whole / OUTCOME).read_text(encoding="utf-8"))
    with h5py.File(whole / SERIES) as series, h5py.File(into / SERIES, "w") as own:
        own.attrs.update(series.attrs)
        for replica in job.replicas:
            series.copy(group_name(replica), own)
    write_json(into / OUTCOME, {str(replica): outcomes[str(replica)] for replica in job.replicas})


def _copy_trajectories(whole: Path, into: Path, job: Job) -> None:
    for replica in job.replicas:
        shutil.copy2(whole / f"replica_{replica:03d}.dcd", into)

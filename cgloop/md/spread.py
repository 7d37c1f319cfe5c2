"""How the replicas of proteins become jobs: as many as there are processes to run them side by side.

Replicas do not need each other, so a protein's may run in several processes. One process uses little more than a core:
programs that run on the same CPU device of XLA wait for each other, in threads as well.
"""

import re
from collections.abc import Sequence
from math import ceil
from pathlib import Path

from cgloop.config.md import MDConfig
from cgloop.executors.machine import memory_GB, usable_cores, visible_gpus
from cgloop.md.job import Job, shares
from cgloop.units import FS_PER_PS

WORTH_A_PROCESS_STEPS = 20_000
"""Steps of replicas below which starting another process, which compiles the model anew, takes longer than it saves."""

MEMORY_OF_A_PROCESS_GB = 2.0


def side_by_side(config: MDConfig) -> int:
    """Processes that run at once: those asked for, or one on each GPU, or one on each core that has the memory."""
    if config.processes is not None:
        return config.processes
    if config.engine == "lmp":
        return 1  # its program may be parallel itself
    return len(visible_gpus()) or max(1, min(usable_cores(), int(memory_GB() / MEMORY_OF_A_PROCESS_GB)))


def spread(names: Sequence[str], n_replicas: int, config: MDConfig, out: Path) -> dict[str, list[Job]]:
    """The jobs of each protein, in order of their replicas.

    Fewer proteins than processes are divided, as long as there is enough for a process to do. What an earlier attempt
    has begun goes on as it was divided then.

    Args:
        names: of the proteins.
        n_replicas: of each.
        config: how many processes, and how long the dynamics are.
        out: folder that has, or will have, a folder for each job.
    """
    length_ps = config.nvt.equilibration_ps + config.nvt.length_ps + config.nve.length_ps
    steps = n_replicas * length_ps * FS_PER_PS / config.timestep_fs
    worth = max(1, int(steps / WORTH_A_PROCESS_STEPS))
    parts = min(ceil(side_by_side(config) / max(1, len(names))), worth, n_replicas)
    return {
        name: _begun(name, n_replicas, out) or [Job(name, tuple(part)) for part in shares(n_replicas, parts)]
        for name in names
    }


def _begun(name: str, n_replicas: int, out: Path) -> list[Job]:
    """The jobs whose folders are there, if together they have every replica once."""
    jobs = []
    for path in out.glob(f"{name}-*-*"):
        if match := re.fullmatch(re.escape(name) + r"-(\d{3,})-(\d{3,})", path.name):
            first, last = map(int, match.groups())
            jobs.append(Job(name, tuple(range(first, last + 1))))
    jobs.sort(key=lambda job: job.replicas)
    ids = [replica for job in jobs for replica in job.replicas]
    return jobs if ids == list(range(n_replicas)) else []

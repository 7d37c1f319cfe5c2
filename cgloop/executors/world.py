"""One process, or one of several that work on the same thing.

A program that computes on all tasks of a job starts with

    world = initialize_world()

before it touches JAX, and from then on `jax.devices()` are the devices of all processes. Only `world.is_primary` writes
files. A program that is one process by design (everything but the workers of training) calls `refuse_copies` instead.
JAX is imported when it is needed, not before: a login node has no time for it.
"""

import os
from dataclasses import dataclass
from typing import Any

from cgloop.errors import ExitCode, UserError

EXPLICIT = ("CGLOOP_COORDINATOR", "CGLOOP_PROCESSES", "CGLOOP_PROCESS_ID")
"""host:port of process 0, number of processes, and which one this is: for clusters without SLURM."""


@dataclass(frozen=True)
class Launch:
    """How this process was started, from the environment alone.

    Attributes:
        by: what started it: "srun", "mpiexec", "the environment", or "" for a process on its own.
        rank, size: which of how many processes.
        local_rank, local_size: the same among those of this node.
        coordinator: host:port where process 0 gathers the others; None if it is not known.
    """

    by: str = ""
    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    coordinator: str | None = None


@dataclass(frozen=True)
class World:
    """The processes that compute together, once they know each other.

    Attributes:
        rank, size: which of how many processes this is.
        local_devices: JAX devices of this process; `jax.devices()` are those of all, in order of rank.
    """

    rank: int
    size: int
    local_devices: tuple[Any, ...]

    @property
    def is_primary(self) -> bool:
        """Whether this is the one process that writes files and shows progress."""
        return self.rank == 0

    def barrier(self, name: str) -> None:
        """Wait until every process has come here; all must pass the same name."""
        if self.size > 1:
            from jax.experimental import multihost_utils

            multihost_utils.sync_global_devices(name)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process; the answer is the same in all, and all must ask.

        So a request to stop, which reaches the processes at different moments, is obeyed at the same step by all.
        """
        if self.size == 1:
            return bool(flag)
        import numpy as np
        from jax.experimental import multihost_utils

        return bool(multihost_utils.process_allgather(np.asarray(flag)).any())


def launched() -> Launch:
    """How this process was started.

    Raises:
        UserError: only some of the variables `EXPLICIT` are set, or one is not what it should be.
    """
    explicit = _explicit()
    if explicit is not None:
        return explicit
    # In a batch script SLURM_NTASKS is set, too, but only a step has started that many tasks.
    tasks = _number("SLURM_STEP_NUM_TASKS", 1)
    if tasks > 1:
        return Launch(
            by="srun",
            rank=_number("SLURM_PROCID", 0),
            size=tasks,
            local_rank=_number("SLURM_LOCALID", 0),
            local_size=_tasks_on_node(),
            coordinator=_slurm_coordinator(),
        )
    for prefix in ("PMI", "OMPI_COMM_WORLD"):
        if _number(f"{prefix}_SIZE", 1) > 1:
            return Launch(by="mpiexec", rank=_number(f"{prefix}_RANK", 0), size=_number(f"{prefix}_SIZE", 1))
    return Launch()


def refuse_copies(world_size: int = 1) -> None:
    """Refuse to be one of several copies, none of which knows of the others.

    Under `srun` without a matching MPI every task believes that it is alone, and a job of N tasks would do the same
    work N times, in the same files. One task says so, the others leave silently.

    Args:
        world_size: processes that this one does know of (size of its MPI or JAX world).

    Raises:
        UserError: several were started, and the world has size 1.
        SystemExit: the same, in all tasks but the first.
    """
    launch = launched()
    if launch.size == 1 or world_size > 1:
        return
    if launch.rank > 0:
        raise SystemExit(int(ExitCode.BAD_INPUT))
    raise UserError(
        f"{launch.by} started {launch.size} tasks of this command, each of which believes that it is alone",
        remedy=f"start it once, without {launch.by}: it starts the tasks of the job itself; or use `cgloop submit`",
    )


def initialize_world(timeout_s: int = 300) -> World:
    """Meet the other processes of this job, if there are any, and say who is who.

    Under SLURM (`srun`) everything is found in the environment; elsewhere the variables `EXPLICIT` say it. On
    processors the processes talk over gloo. Alone, nothing is started. Must come before JAX computes anything; calling
    it again is harmless.

    Args:
        timeout_s: how long to wait for the others.

    Raises:
        UserError: the others did not come, or several processes were started that cannot find each other.
    """
    launch = launched()
    import jax

    if launch.size > 1 and not jax.distributed.is_initialized():
        if launch.coordinator is None:
            refuse_copies()
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        try:
            jax.distributed.initialize(
                launch.coordinator,
                launch.size,
                launch.rank,
                local_device_ids=local_device_ids(launch),
                cluster_detection_method="deactivate",
                initialization_timeout=timeout_s,
            )
        except RuntimeError as error:
            raise UserError(
                f"process {launch.rank} of {launch.size} did not meet the others at {launch.coordinator}: "
                f"{' '.join(str(error).split())}",
                remedy="the nodes must know each other's names and reach that port",
            ) from None
    world = World(jax.process_index(), jax.process_count(), tuple(jax.local_devices()))
    if world.size != launch.size:
        refuse_copies(world.size)
        raise UserError(f"{launch.size} processes were started, but the JAX world has {world.size}")
    return world


def local_device_ids(launch: Launch) -> list[int] | None:
    """GPUs of this process among those that it sees: all (None) if it is alone on its node, else its share."""
    if launch.local_size == 1:
        return None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", os.environ.get("ROCR_VISIBLE_DEVICES", ""))
    seen = len([one for one in visible.split(",") if one])
    if seen == 1:  # SLURM gave each task a GPU of its own
        return [0]
    share = max(seen // launch.local_size, 1)
    return list(range(launch.local_rank * share, (launch.local_rank + 1) * share))


def _explicit() -> Launch | None:
    given = {name: os.environ[name] for name in EXPLICIT if os.environ.get(name)}
    if not given:
        return None
    missing = [name for name in EXPLICIT if name not in given]
    if missing:
        raise UserError(f"{', '.join(given)} set, but not {', '.join(missing)}", remedy="set all three, or none")
    coordinator, size, rank = (given[name] for name in EXPLICIT)
    if not (size.isdigit() and rank.isdigit() and int(rank) < int(size)):
        raise UserError(f"{EXPLICIT[2]}={rank} of {EXPLICIT[1]}={size}: not a process", remedy="count from 0")
    # Which share of a node's GPUs a process has is then said by CUDA_VISIBLE_DEVICES.
    return Launch("the environment", int(rank), int(size), coordinator=coordinator)


def _slurm_coordinator() -> str:
    """The first node of the step, and a port that other steps on that node do not use."""
    number = _number("SLURM_JOB_ID", 0) * 31 + _number("SLURM_STEP_ID", 0)
    return f"{first_host(os.environ.get('SLURM_STEP_NODELIST', 'localhost'))}:{61440 + number % 4096}"


def first_host(nodes: str) -> str:
    """The first name of SLURM's short form: `n7` of `n[7-9,12],m3`, `n07-ib` of `n[07-09]-ib`."""
    head, bracket, rest = nodes.partition("[")
    if not bracket or "," in head:
        return head.partition(",")[0]
    numbers, _, tail = rest.partition("]")
    return head + numbers.replace("-", ",").partition(",")[0] + tail.partition(",")[0]


def _tasks_on_node() -> int:
    """Tasks of this step on this node, from SLURM's short form: `2(x3),1` is 2, 2, 2, 1."""
    counts: list[int] = []
    for part in os.environ.get("SLURM_STEP_TASKS_PER_NODE", "1").split(","):
        count, _, times = part.rstrip(")").partition("(x")
        counts += [int(count)] * int(times or 1)
    node = _number("SLURM_NODEID", 0)
    return counts[node] if node < len(counts) else 1


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdigit() else default

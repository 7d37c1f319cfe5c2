"""`mpiexec -n K cgloop md …`, or `control`: replicas are spread over the ranks, each with a LAMMPS instance of its own.

Rank 0 leads: it alone opens the run directory and says what is to be done. The others wait for jobs. Replicas do not
need each other, so nothing but a job and how it ended travels between ranks, and a rank without replicas just waits.
"""

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cgloop.config import Config, load_config
from cgloop.errors import Interrupted, UserError
from cgloop.executors.child import mistake, told
from cgloop.executors.machine import gpu_of
from cgloop.executors.world import launched
from cgloop.interrupt import request_stop, stop_requested
from cgloop.md.job import STAGES, Job, shares
from cgloop.md.merge import merge_jobs
from cgloop.md.spread import side_by_side, spread
from cgloop.md.supervise import Workplace, run_jobs

log = logging.getLogger("cgloop.md")

_WORK, _ENDED, _STOP = 1, 2, 3
_POLL_S = 0.05


class Ranks:
    """The processes that `mpiexec` started together."""

    def __init__(self, world: Any):
        """Args:
        world: mpi4py's `COMM_WORLD`.
        """
        from mpi4py import MPI

        self._world, self.rank, self.size = world, world.Get_rank(), world.Get_size()
        self._local = world.Split_type(MPI.COMM_TYPE_SHARED).Get_rank()

    def run(self, shares: Sequence[Sequence[Job]], config: Config, place: Workplace) -> None:
        """On rank 0: run the jobs of each rank there, and wait for all. Raises as `run_jobs`."""
        for rank in range(1, self.size):
            self._world.send((list(shares[rank]), place), dest=rank, tag=_WORK)
        endings = [self._work(shares[0], config, place, self._pass_on_stop(list(range(1, self.size))))]
        for rank in range(1, self.size):
            endings.append(self._wait(rank, self._pass_on_stop([rank])))
        for said in endings:
            if said and (error := told(said)) is not None:
                raise error
        broken = [said["broken"] for said in endings if said]
        if broken:
            raise RuntimeError(f"a rank broke: {broken[0]}")

    def serve(self) -> None:
        """On other ranks: do what rank 0 says until it says that this is all."""
        while True:
            self._sleep_until(0, _WORK, lambda: None)
            work = self._world.recv(source=0, tag=_WORK)
            if work is None:
                return
            jobs, place = work
            said = self._work(jobs, load_config(place.config_file), place, self._hear_stop)
            self._world.send(said, dest=0, tag=_ENDED)

    def dismiss(self) -> None:
        """On rank 0: let the others go."""
        for rank in range(1, self.size):
            self._world.send(None, dest=rank, tag=_WORK)

    def _work(
        self, jobs: Sequence[Job], config: Config, place: Workplace, listen: Callable[[], None]
    ) -> dict[str, str | None] | None:
        own = replace(place, environment=gpu_of(self._local))
        try:
            run_jobs(jobs, config, own, config.md.processes or 1, listen)
            return None
        except Interrupted as error:
            return {"interrupted": str(error)}
        except UserError as error:
            return mistake(error)
        except Exception as error:
            log.debug("what broke", exc_info=error)
            return {"broken": f"rank {self.rank}: {type(error).__name__}: {error}"}

    def _wait(self, rank: int, listen: Callable[[], None]) -> dict[str, str | None] | None:
        self._sleep_until(rank, _ENDED, listen)
        return self._world.recv(source=rank, tag=_ENDED)

    def _sleep_until(self, rank: int, tag: int, listen: Callable[[], None]) -> None:
        """Wait without using a processor, as MPI's own waiting does."""
        while not self._world.iprobe(source=rank, tag=tag):
            listen()
            time.sleep(_POLL_S)

    def _pass_on_stop(self, ranks: list[int]) -> Callable[[], None]:
        told_already: list[int] = []

        def listen() -> None:
            if stop_requested():
                for rank in ranks:
                    if rank not in told_already:
                        told_already.append(rank)
                        self._world.isend("stop", dest=rank, tag=_STOP)

        return listen

    def _hear_stop(self) -> None:
        if self._world.iprobe(source=0, tag=_STOP):
            self._world.recv(source=0, tag=_STOP)
            request_stop("rank 0 was asked to stop")


_joined: Ranks | None = None


def joined() -> Ranks | None:
    """The ranks that this process has met; None if it is alone."""
    return _joined


def join() -> Ranks | None:
    """Meet the other processes that `mpiexec` started; None if this one was not started by it.

    From then on rank 0 is the only process of the command: its environment no longer says that there are others, so
    that neither itself nor its children take themselves for one of several.

    Raises:
        UserError: mpi4py cannot be loaded, or its MPI is not that of `mpiexec`.
    """
    global _joined
    launch = launched()
    if launch.by != "mpiexec" or _joined is not None:
        return _joined
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise UserError(f"mpi4py cannot be loaded: {error}", where="mpiexec", remedy="pip install mpi4py") from None
    ranks = Ranks(MPI.COMM_WORLD)
    if ranks.size != launch.size:
        if launch.rank > 0:
            raise SystemExit(2)
        raise UserError(
            f"mpiexec started {launch.size} processes, but MPI knows of {ranks.size}",
            where="mpiexec",
            remedy="use the mpiexec that belongs to mpi4py's MPI library",
        )
    for name in [name for name in os.environ if name.startswith(("PMI_", "OMPI_COMM_WORLD"))]:
        if ranks.rank == 0:
            del os.environ[name]
    _joined = ranks
    return ranks


def run_replicas(
    names: Sequence[str],
    n_replicas: int,
    config: Config,
    place: Workplace,
    out: Path,
    stages: Sequence[str] = STAGES,
) -> None:
    """Run replicas of proteins, in processes here or on all ranks, and put each protein's folder into its place.

    Args:
        names: of the proteins.
        n_replicas: of each.
        config, place: as of `run_jobs`.
        out: folder of the stage; it gets a folder for each protein.
        stages: folders that a job writes, as of `merge_jobs`.

    Raises:
        Interrupted, UserError: as `run_jobs`.
    """
    ranks = joined()
    if ranks is None:
        jobs = spread(names, n_replicas, config.md, place.out)
        run_jobs([job for name in names for job in jobs[name]], config, place, side_by_side(config.md))
    else:
        parts = shares(n_replicas, ranks.size)
        by_rank = [[Job(name, tuple(part)) for name in names if len(part)] for part in parts]
        jobs = {name: [Job(name, tuple(part)) for part in parts if len(part)] for name in names}
        if names:
            ranks.run(by_rank, config, place)
    for name in names:
        merge_jobs([place.folder(job) for job in jobs[name]], out / name, stages)

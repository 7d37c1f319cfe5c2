"""Jobs in processes of their own, some side by side; what becomes of a process is recorded, and ends no other."""

import logging
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cgloop.config import Config
from cgloop.data.dataset import DatasetReader
from cgloop.errors import Interrupted
from cgloop.executors.child import Child, Ended
from cgloop.executors.machine import gpu_of
from cgloop.interrupt import check_stop, stop_requested
from cgloop.md.control_job import abandon_control_job
from cgloop.md.failure import FAILURES, Failure, failure_of, killed_for_memory, span
from cgloop.md.job import Job, abandon_job

log = logging.getLogger("cgloop.md")

POLL_S = 0.05
GRACE_S = 30.0
"""How long a process may take to stop after its time is over, before it is killed."""


@dataclass(frozen=True)
class Workplace:
    """Where jobs find what they need, and put what they make.

    Attributes:
        config_file: the config, with everything that was a default written out.
        bundle, dataset: folders of earlier stages.
        out: every job has a folder in it.
        log_file: that processes append to.
        environment: variables for processes, as which GPU they use.
        controls_of: folder of the dynamics whose controls the jobs are; None: they are the dynamics themselves.
    """

    config_file: Path
    bundle: Path
    dataset: Path
    out: Path
    log_file: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    controls_of: Path | None = None

    def folder(self, job: Job) -> Path:
        return self.out / job.folder

    def arguments(self, job: Job) -> list[str]:
        """Of the worker that runs a job."""
        paths = {
            "--config": self.config_file, "--bundle": self.bundle, "--dataset": self.dataset,
            "--out": self.folder(job),
        }  # fmt: skip
        if self.controls_of is not None:
            paths["--controls-of"] = self.controls_of
        named = [text for name, path in paths.items() for text in (name, str(path.resolve()))]
        return [*named, "--protein", job.protein, "--replicas", ",".join(map(str, job.replicas))]


class _Running:
    """A job and its process."""

    def __init__(self, job: Job, place: Workplace, gpu: dict[str, str], plain: bool):
        self.job, self.gpu, self._folder = job, gpu, place.folder(job)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._ooms = killed_for_memory()
        self.child = Child(
            "cgloop.md.worker", place.arguments(job), self._folder, log_file=place.log_file,
            environment=gpu | dict(place.environment), plain=plain,
        )  # fmt: skip
        self.asked_to_stop = 0.0
        self.out_of_time = False

    def stop(self) -> None:
        if not self.asked_to_stop:
            self.asked_to_stop = time.monotonic()
            self.child.stop()

    def watch(self, limit_minutes: float | None) -> None:
        """Hold it to its time; one that does not stop when asked is killed."""
        now = time.monotonic()
        if limit_minutes is not None and now - self.child.started > 60.0 * limit_minutes:
            self.out_of_time = True
            self.stop()
        if self.asked_to_stop and now - self.asked_to_stop > GRACE_S:
            self.child.kill()

    def failure(self, ended: Ended) -> Failure:
        if self.out_of_time:
            return Failure("timeout", FAILURES["timeout"])
        said = failure_of(ended.words)
        # What a process had said before is no reason for SIGKILL, which comes from outside.
        if ended.code == -signal.SIGKILL and said.limit != "out_of_memory":
            limit = "out_of_memory" if killed_for_memory() > self._ooms else "killed"
            return Failure(limit, f"{ended.describe} ({FAILURES[limit]})")
        return Failure(said.limit, ended.describe)


def run_jobs(
    jobs: Sequence[Job],
    config: Config,
    place: Workplace,
    processes: int = 1,
    listen: Callable[[], None] = lambda: None,
) -> None:
    """Run jobs, some at a time, each into its folder; those that are done are not repeated.

    Those of the largest proteins come first, so that none is left to run alone when the others are done.

    A job whose process dies is concluded from its last checkpoint: its replicas have failed.

    Args:
        jobs: what is to be done.
        config: sections `md` and `run`.
        place: where; where it names no GPU, processes side by side get one each.
        processes: how many at a time.
        listen: called now and then meanwhile.

    Raises:
        Interrupted: stopped on request, all processes have stopped.
        UserError: a job cannot be run at all; the others have been stopped.
    """
    reader = DatasetReader.open(place.dataset)
    proteins = reader.manifest["proteins"]
    waiting = deque(sorted(jobs, key=lambda job: -proteins[job.protein]["beads"]))
    running: list[_Running] = []
    side_by_side = min(processes, len(jobs))
    gpus = [gpu_of(number) if side_by_side > 1 else {} for number in range(side_by_side)]
    try:
        while waiting or running:
            listen()
            while waiting and len(running) < side_by_side and not stop_requested():
                free = next(gpu for gpu in gpus if all(one.gpu is not gpu for one in running))
                running.append(_Running(waiting.popleft(), place, free, plain=side_by_side > 1))
            for one in list(running):
                if stop_requested():
                    one.stop()
                one.watch(config.md.time_limit_minutes)
                ended = one.child.poll()
                if ended is not None:
                    running.remove(one)
                    _conclude(one, ended, config, reader, place)
            if not running:
                check_stop()
            time.sleep(POLL_S)
    finally:
        for one in running:
            one.stop()
        for one in running:
            if not _left(one):
                one.child.kill()


def _left(one: _Running) -> bool:
    """Whether a process that was asked to stop did so in time."""
    while time.monotonic() - one.asked_to_stop < GRACE_S:
        if one.child.poll() is not None:
            return True
        time.sleep(POLL_S)
    return False


def _conclude(one: _Running, ended: Ended, config: Config, reader: DatasetReader, place: Workplace) -> None:
    if ended.how == "done":
        return
    if ended.how == "refused":
        assert ended.error is not None
        raise ended.error
    if ended.how == "interrupted" and not one.out_of_time:
        check_stop()
        raise Interrupted(ended.words)
    failure = one.failure(ended)
    log.error("%s, replicas %s: %s: %s", one.job.protein, span(one.job.replicas), failure.limit, failure.message)
    if place.controls_of is None:
        abandon_job(config, reader, one.job, place.folder(one.job), failure)
    else:
        abandon_control_job(config, reader, one.job, place.controls_of, place.folder(one.job), failure)

"""Strong and weak scaling of training and MD over devices or nodes: every point a fresh process, resumable.

`train` is shared by devices step by step, as the stage does it: one process with n devices, or a task of SLURM for each
node. `md` is shared by replicas: a process for each device. On a processor the devices are virtual: they share its
cores, and then scaling says how well one device alone uses these cores, not what more hardware would bring.
"""

import json
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cgloop.bench.point import PointTask
from cgloop.bench.record import (
    Load,
    Measurement,
    Record,
    read_record,
    start_record,
    this_machine,
    watched_load,
    write_record,
)
from cgloop.bench.series import SCALING
from cgloop.config import Config
from cgloop.errors import ExitCode, Interrupted, UserError
from cgloop.executors.child import VERBOSITY, Child, Ended
from cgloop.executors.launch import run_on_tasks, tasks_of_job
from cgloop.executors.machine import visible_gpus
from cgloop.executors.world import EXPLICIT
from cgloop.interrupt import check_stop, stop_on_signals
from cgloop.progress import progress
from cgloop.rundir import RunDirectory, as_plain, write_config
from cgloop.stages import read_record as read_stage

log = logging.getLogger("cgloop.bench")

POLL_S = 0.1
SHARED = (
    "virtual devices of one processor: they share the same {cores} cores, so that this tells how well one device uses "
    "them, not what more hardware would bring"
)


@dataclass(frozen=True)
class Asked:
    """What is to be measured.

    Attributes:
        devices: numbers of them; with nodes, those of SLURM tasks.
        over_nodes: `devices` counts tasks of this SLURM job, each with all devices of its own.
        modes: of `strong` and `weak`.
        what: of `train` and `md`.
        repeats: processes for each point.
        epochs: of a training, of which the first is not counted.
        seconds: of an MD.
    """

    devices: tuple[int, ...]
    over_nodes: bool = False
    modes: tuple[str, ...] = ("strong", "weak")
    what: tuple[str, ...] = ("train", "md")
    repeats: int = 3
    epochs: int = 4
    seconds: float = 5.0


@dataclass(frozen=True)
class Point:
    """One measurement of scaling; `size` is of all devices together."""

    what: str
    mode: str
    count: int
    size: int

    @property
    def words(self) -> str:
        unit = "frames a batch" if self.what == "train" else "replicas"
        return f"{self.what} {self.mode}, {self.count} devices, {self.size} {unit}"


def points_of(asked: Asked, config: Config) -> list[Point]:
    """All points of one repeat.

    Raises:
        UserError: fewer frames in a batch, or replicas, than devices.
    """
    found = []
    for what in asked.what:
        size = config.train.batch_size if what == "train" else config.md.replicas
        for mode in asked.modes:
            for count in asked.devices:
                whole = size if mode == "strong" else size * count // min(asked.devices)
                if whole < count:
                    key = "train.batch_size" if what == "train" else "md.replicas"
                    raise UserError(
                        f"{whole} cannot be shared by {count} devices", where=key, remedy=f"--set {key}={count}"
                    )
                found.append(Point(what, mode, count, whole))
    return found


def measure_scaling(
    config: Config, run: RunDirectory, asked: Asked, out: Path, made_by: str = "cgloop bench scaling"
) -> Record:
    """Measure what is not in `out` yet, and write `out` after every point.

    Prep and priors of the run are brought up to date first. MD uses the run's exported model if there is one.

    Raises:
        UserError: nothing can be measured, or `out` is of another machine, config or state of the sources.
        Interrupted: stopped on request; the same command goes on.
    """
    from cgloop.cycle import run_to

    points = points_of(asked, config)
    if asked.over_nodes and max(asked.devices) > tasks_of_job():
        raise UserError(
            f"{max(asked.devices)} nodes asked for, and this SLURM job has {tasks_of_job()} tasks",
            remedy="start it in a batch script of a job with one task for each node",
        )
    outcome = run_to(config, run, "priors")
    if outcome.code != ExitCode.PASS:
        raise Interrupted(outcome.lines[-1])
    with ExitStack() as stack:
        stack.enter_context(stop_on_signals())
        folder = run.path / ".bench"
        folder.mkdir(exist_ok=True)
        write_config(config, folder / "config.yaml")
        place = _Place(config, run, asked, folder)
        record = opened_record(out, _fresh(config, asked, made_by))
        # Where both are asked for, weak scaling begins with the point that strong scaling begins with.
        both = {"strong", "weak"} <= set(asked.modes)
        first = min(asked.devices)
        points = [one for one in points if not (both and one.mode == "weak" and one.count == first)]
        work = [(repeat, point) for repeat in range(asked.repeats) for point in points]
        bar = stack.enter_context(progress("bench", len(work), "points"))
        for repeat, point in work:
            if _repeats(record, point) > repeat:
                bar.advance(1)
                continue
            check_stop()
            log.info("%s, repeat %d of %d", point.words, repeat + 1, asked.repeats)
            with watched_load() as load:
                found = place.measure(point)
            record = _add(record, point, found, load[0], asked)
            if both and point.count == first:
                record = _add(record, replace(point, mode="weak"), found, load[0], asked)
            write_record(out, record)
            bar.advance(1)
            log.info("%.5g %s (%s)", found["value"], found["unit"], load[0].words)
    return record


def _fresh(config: Config, asked: Asked, made_by: str) -> Record:
    plain = {"asked": {"epochs": asked.epochs, "seconds": asked.seconds, "over_nodes": asked.over_nodes}}
    sections = as_plain(config)
    plain |= {name: sections[name] for name in ("model", "data", "train", "md", "priors")}
    return start_record("scaling", made_by, plain, this_machine())


def opened_record(out: Path, fresh: Record) -> Record:
    """What is there already, if it is of the same things."""
    if not out.exists():
        return fresh
    there = read_record(out)
    known = there.machine.model_copy(update={"accelerators": ()})
    if there.model_copy(update={"machine": known}).origin != fresh.origin:
        raise UserError(
            "holds measurements of another machine, config or state of the sources", where=out,
            remedy="give another file, or remove it",
        )  # fmt: skip
    return there


def _repeats(record: Record, point: Point) -> int:
    """How often a point was measured."""
    wanted = (SCALING + point.what, point.mode, point.count, point.size)
    return max(
        (
            len(one.values)
            for one in record.measurements
            if (one.name, one.settings.get("mode"), one.facts.get("count"), one.facts.get("total size")) == wanted
        ),
        default=0,
    )


def _add(record: Record, point: Point, found: Mapping[str, Any], load: Load, asked: Asked) -> Record:
    """With one more value of a point."""
    base = point.size if point.mode == "strong" else f"{point.size // point.count} per device"
    devices = int(found["devices"])
    nodes = point.count if asked.over_nodes else 1
    settings = {"mode": point.mode, "devices": devices, "nodes": nodes, "size": base}
    new = Measurement(
        name=SCALING + point.what, settings=settings, unit=found["unit"], values=(found["value"],), better="higher",
        independent=True, load=(load,),
        facts={**found["facts"], "count": point.count, "total size": point.size, "shared cores": found["virtual"]},
    )  # fmt: skip
    old = record.find(new.key)
    if old is not None:
        new = new.model_copy(update={"values": (*old.values, *new.values), "load": (*old.load, load)})
    machine = record.machine.model_copy(update={"accelerators": tuple(found["accelerators"])})
    note = SHARED.format(cores=machine.cores) if found["virtual"] else record.note
    return record.with_measurement(new).model_copy(update={"machine": machine, "note": note})


class _Place:
    """Where points find the run, and how their processes are started."""

    def __init__(self, config: Config, run: RunDirectory, asked: Asked, folder: Path):
        self._asked, self._folder = asked, folder
        self._dataset, self._priors = run.stage(0, "prep"), run.stage(0, "priors")
        self._bundle = exported_bundle(run)

    def measure(self, point: Point) -> dict[str, Any]:
        """Measure it in fresh processes.

        Raises:
            UserError, Interrupted: as a process did.
            RuntimeError: a process broke.
        """
        out, task_file = self._folder / "found.json", self._folder / "task.json"
        out.unlink(missing_ok=True)
        PointTask(
            what=point.what, config_file=str((self._folder / "config.yaml").resolve()),
            dataset=str(self._dataset.resolve()), priors=str(self._priors.resolve()),
            bundle=str(self._bundle.resolve()) if self._bundle else "", size=point.size, epochs=self._asked.epochs,
            seconds=self._asked.seconds, out=str(out.resolve()),
        ).write(task_file)  # fmt: skip
        if self._asked.over_nodes:
            run_on_tasks(point.count, "cgloop.bench.point", [str(task_file.resolve())], self._folder)
        else:
            _run_here(self._environments(point), task_file, self._folder)
        found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        return found

    def _environments(self, point: Point) -> list[dict[str, str]]:
        """Variables of each process: of a training one process with n devices, of MD n processes with one."""
        gpus = visible_gpus()
        if gpus and point.count > len(gpus):
            raise UserError(f"{point.count} devices asked for, and there are {len(gpus)} GPUs", where="--devices")
        if point.what == "train":
            if gpus:
                return [{"CUDA_VISIBLE_DEVICES": ",".join(gpus[: point.count])}]
            flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={point.count}"
            return [{"XLA_FLAGS": flags.strip()}]
        own = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus[: point.count]] or [{} for _ in range(point.count)]
        if point.count == 1:
            return own
        coordinator = f"127.0.0.1:{_free_port()}"
        places = [dict(zip(EXPLICIT, (coordinator, str(point.count), str(i)), strict=True)) for i in range(point.count)]
        return [one | place for one, place in zip(own, places, strict=True)]


def exported_bundle(run: RunDirectory) -> Path | None:
    """The model that the latest cycle exported; None if it has not come that far."""
    folder = run.stage(max(run.cycles(), default=0), "export")
    return folder if read_stage(folder) else None


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _run_here(environments: Sequence[Mapping[str, str]], task_file: Path, folder: Path) -> None:
    """Run the processes of a point side by side, and wait for all."""
    quiet = {VERBOSITY: os.environ.get(VERBOSITY, "-1")}
    children: list[Child] = []
    try:
        for number, environment in enumerate(environments):
            own = folder / f"process_{number}"
            own.mkdir(exist_ok=True)
            arguments = [str(task_file.resolve())]
            children.append(
                Child("cgloop.bench.point", arguments, own, environment={**quiet, **environment}, plain=True)
            )
        for ended in _ends(children):
            if ended.how == "refused" and ended.error is not None:
                raise ended.error
            if ended.how != "done":
                check_stop()
                raise RuntimeError(f"a measurement broke: {ended.describe}")
    finally:
        for one in children:
            one.kill()


def _ends(children: Sequence[Child]) -> Iterator[Ended]:
    """How each child ended, when it does; a request to stop is passed on by killing: nothing is lost but the point."""
    running = list(children)
    while running:
        check_stop()
        for one in list(running):
            if (ended := one.poll()) is not None:
                running.remove(one)
                yield ended
        time.sleep(POLL_S)

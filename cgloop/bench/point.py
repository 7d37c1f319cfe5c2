"""One measurement of scaling, in a process of its own: `python -m cgloop.bench.point TASK.json`.

Of several processes, which a task of SLURM or `cgloop.bench.scaling` started, each does its share, all at the same
time. What compiles and what warms up is done before any clock runs.
"""

import json
import logging
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cgloop.config import Config, load_config
from cgloop.errors import UserError
from cgloop.executors.launch import run_task
from cgloop.executors.world import World, launched
from cgloop.stages import write_json
from cgloop.units import FS_PER_NS, FS_PER_PS

WARM_UP_STEPS = 20


@dataclass(frozen=True)
class PointTask:
    """What one point measures.

    Attributes:
        what: `train` or `md`.
        config_file: whole config.
        dataset, priors: folders of the stages.
        bundle: the trained model for MD; empty: an untrained one, which is as fast.
        size: frames of a batch, or replicas, over all devices.
        epochs: of a training; the first is not counted.
        seconds: that the MD is to take.
        out: file for what was found.
    """

    what: str
    config_file: str
    dataset: str
    priors: str
    bundle: str
    size: int
    epochs: int
    seconds: float
    out: str

    def write(self, path: Path) -> None:
        write_json(path, asdict(self))


def main(arguments: list[str] | None = None) -> int:
    """Measure; the exit code is for whoever started it."""
    (path,) = sys.argv[1:] if arguments is None else arguments
    task = PointTask(**json.loads(Path(path).read_text(encoding="utf-8")))
    if task.what == "md":
        from cgloop.md.evaluate import run_in_calling_thread

        run_in_calling_thread()
    return run_task(partial(_measure, task))


def _measure(task: PointTask, world: World) -> None:
    import jax

    from cgloop.allocator import keep_memory
    from cgloop.bench.record import accelerators
    from cgloop.model.compiler_check import require_right_sums

    logging.getLogger("cgloop").setLevel(logging.WARNING)
    keep_memory()
    require_right_sums()
    config = load_config(Path(task.config_file))
    found = (measure_training if task.what == "train" else measure_md)(task, config, world)
    if world.is_primary:
        launch = launched()
        neighbours = launch.local_size if launch.by == "srun" else launch.size
        virtual = jax.devices()[0].platform == "cpu" and (jax.local_device_count() > 1 or neighbours > 1)
        # MD has a process for each device that it uses.
        devices = world.size if task.what == "md" else jax.device_count()
        found |= {"devices": devices, "processes": world.size, "virtual": virtual}
        write_json(Path(task.out), {**found, "accelerators": list(accelerators())})


def measure_training(task: PointTask, config: Config, world: World) -> dict[str, Any]:
    """Frames per second of the steps of a training, by epoch; compilation, validation and checkpoints apart."""
    from cgloop.train.files import Place
    from cgloop.train.task import prepare_task

    train = config.train.model_copy(
        update={
            "batch_size": task.size, "batch_beads": None, "epochs": task.epochs, "patience_epochs": task.epochs,
            "fine_tuning": None, "checkpoint_every_s": 1e9, "keep_best": 1,
        }
    )  # fmt: skip
    config = config.model_copy(update={"train": train})
    with tempfile.TemporaryDirectory(prefix="cgloop-bench-") as folder:
        place = Place(Path(folder) / "frames", train.memory_MB, world)
        job = prepare_task(config, Path(task.dataset), Path(task.priors) / "priors.yaml", None, place)
        if job.is_empty:
            raise UserError("nothing to train: the energy is the prior alone", where="model.energy")
        speeds: list[float] = []
        walls = [time.perf_counter()]

        def note(row: dict[str, float]) -> None:
            speeds.append(row["frames_per_s"])
            walls.append(time.perf_counter())

        trainer = job.make_trainer(
            params=job.trained, config=train, folder=Path(folder) / "checkpoints", fingerprint="bench", on_epoch=note
        )
        timing = trainer.run().timing
        n_frames = job.sets.training.n_frames
        job.sets.close()
    if not world.is_primary:
        return {}
    steady = statistics.median(speeds[1:])
    return {
        "value": steady,
        "unit": "frames/s",
        "facts": {
            "first epoch, frames/s": speeds[0],
            "compile_s": timing["compile_s"],
            "epoch_s": n_frames / steady,
            "epoch with validation_s": statistics.median(np.diff(walls)[1:].tolist()),
            "loader_wait_share": timing["loader_wait_share"],
            "frames of an epoch": n_frames,
        },
    }


def measure_md(task: PointTask, config: Config, world: World) -> dict[str, Any]:
    """Nanoseconds per day of all replicas together, in LAMMPS under the thermostat, as the stage `md` runs them."""
    from cgloop.bench.subject import measured_model, measured_subject
    from cgloop.md.dynamics import SECONDS_PER_DAY, run_dynamics
    from cgloop.md.ending import State
    from cgloop.md.job import shares
    from cgloop.md.noise import Noise
    from cgloop.md.plan import noise_seed, plan_nvt
    from cgloop.md.thermostat import maxwell_velocities

    md = config.md.model_copy(update={"replicas": task.size, "engine": "lammps"})
    config = config.model_copy(update={"md": md})
    own = shares(task.size, world.size)[world.rank]
    if not len(own):
        raise UserError(f"{task.size} replicas cannot be shared by {world.size} processes", where="md.replicas")
    measured = measured_model(config, Path(task.dataset), Path(task.priors), task.bundle)
    subject = measured_subject(config, Path(task.dataset), measured, list(own))
    system = subject.system
    seed = noise_seed(config.run.seed, system.name)
    noise = Noise(seed, own, system.n_beads, "velocities")
    velocities = maxwell_velocities(noise, system.masses, config.md_temperature_K)
    state = State(list(own), subject.starts.positions[list(own)], velocities)

    def run(steps: int) -> dict[str, float]:
        nvt = md.nvt.model_copy(update={"equilibration_ps": 0.0, "length_ps": steps * md.timestep_fs / FS_PER_PS})
        plan = plan_nvt(md.model_copy(update={"nvt": nvt}), config.md_temperature_K, system.n_beads, seed)
        with tempfile.TemporaryDirectory(prefix="cgloop-bench-") as folder:
            timing = run_dynamics(plan, subject, state, Path(folder)).timing
        if timing["steps"] < steps:
            raise UserError(
                f"all replicas of {system.name} broke a limit within {timing['steps']:.0f} steps",
                remedy="measure a run whose training is done: its model is used",
            )
        return timing

    run(WARM_UP_STEPS)
    world.barrier("warm")
    began = time.perf_counter()
    pace = run(WARM_UP_STEPS)["ms_per_step"]
    around_s = max(0.0, time.perf_counter() - began - 1e-3 * pace * WARM_UP_STEPS)
    steps = int(_all(world, max(WARM_UP_STEPS, 1e3 * task.seconds / pace)).min())
    world.barrier("measure")
    timing = run(steps)
    seconds = _all(world, timing["seconds"])
    model_ms = _all(world, timing["model_ms_per_step"])
    ns = task.size * steps * md.timestep_fs / FS_PER_NS
    return {
        "value": ns / seconds.max() * SECONDS_PER_DAY,
        "unit": "ns/day",
        "facts": {
            "beads": system.n_beads,
            "steps": steps,
            "ms/step": 1e3 * seconds.max() / steps,
            "share outside the model": 1.0 - float(model_ms.mean()) * steps / 1e3 / float(seconds.mean()),
            "slowest over fastest process": float(seconds.max() / seconds.min()),
            "start and end of a run_s": around_s,
            "model": "trained" if task.bundle else "untrained",
        },
    }


def _all(world: World, value: float) -> np.ndarray:
    """The value of every process."""
    if world.size == 1:
        return np.array([value])
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(np.asarray(value, np.float32)), float)


if __name__ == "__main__":
    sys.exit(main())

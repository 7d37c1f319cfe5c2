"""`cgloop bench profile`: traces of the training step and of the MD step, their dearest operations, the roofline."""

import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cgloop.allocator import keep_memory
from cgloop.bench.record import (
    Measurement,
    Setting,
    accelerators,
    start_record,
    this_machine,
    watched_load,
    write_record,
)
from cgloop.bench.roofline import Kernel, measure
from cgloop.bench.roofline_facts import limited_by
from cgloop.bench.scaling import exported_bundle
from cgloop.bench.subject import measured_model, measured_subject
from cgloop.bench.tables import number, text_table, write_csv
from cgloop.bench.trace import Operation, operations, read_trace, sources_of
from cgloop.config import Config
from cgloop.errors import ExitCode, Interrupted, UserError
from cgloop.md.dynamics import run_dynamics
from cgloop.md.ending import State
from cgloop.md.evaluate import ModelEvaluator
from cgloop.md.noise import Noise
from cgloop.md.plan import noise_seed, plan_nvt
from cgloop.md.thermostat import maxwell_velocities
from cgloop.model.compiler_check import require_right_sums
from cgloop.model.graph import build_graph
from cgloop.rundir import RunDirectory, as_plain
from cgloop.stages import explained
from cgloop.train.devices import Devices
from cgloop.train.loader import AtOnce
from cgloop.train.task import Task, prepare_task
from cgloop.units import FS_PER_PS

log = logging.getLogger("cgloop.bench")

MOST = 10
HEAD = ["operation", "share", "ms/step", "calls/step", "what it was in JAX"]


def profile_run(config: Config, run: RunDirectory, out: Path, steps: int) -> list[str]:
    """Profile the training and the MD of a run, whose prep and priors are brought up to date first.

    Files in `out`: `train/` and `md/` with the traces, `train.csv` and `md.csv` with all operations, `profile.json`
    with the roofline.

    Args:
        steps: that are traced of each.

    Returns:
        Lines for the person who waited.

    Raises:
        UserError: the energy has no network, or `out` cannot be written.
    """
    from cgloop.cycle import run_to

    if config.model.energy == "prior-only":
        raise UserError("nothing to train: the energy is the prior alone", where="model.energy")
    outcome = run_to(config, run, "priors")
    if outcome.code != ExitCode.PASS:
        raise Interrupted(outcome.lines[-1])
    keep_memory()
    require_right_sums()
    with explained(out):
        out.mkdir(parents=True, exist_ok=True)
        record = start_record(
            "profile", "cgloop bench profile", as_plain(config), this_machine(accelerators()),
            "shares of operations are of the time in compiled programs, added up over threads",
        )  # fmt: skip
        lines: list[str] = []
        with watched_load() as load:
            parts = (_training(config, run, out, steps), _dynamics(config, run, out, steps))
            for kernel, (found, told) in parts:
                lines += told
                rated = measure(kernel)
                lines += [_roof_line(rated), ""]
                for one in (*found, rated):
                    record = record.with_measurement(one)
        record = record.model_copy(update={"load": load[0]})
        write_record(out / "profile.json", record)
    return [*lines, f"wrote {out}: traces, train.csv, md.csv, profile.json ({load[0].words})"]


def _roof_line(rated: Measurement) -> str:
    facts = rated.facts
    return (
        f"roofline of {rated.label}: {float(facts['FLOPs']) / 1e6:.3g} MFLOP, {float(facts['bytes']) / 1e6:.3g} MB, "
        f"{float(facts['fraction of matmul rate']):.1%} of the matmul rate "
        f"({float(facts['matmul FLOP/s']) / 1e9:.3g} GFLOP/s), {float(facts['fraction of copy rate']):.0%} of the copy "
        f"rate ({float(facts['copy byte/s']) / 1e9:.3g} GB/s); limited by {limited_by(facts)}"
    )


@contextmanager
def _traced(folder: Path) -> Iterator[None]:
    options = jax.profiler.ProfileOptions()
    # Python's own calls would be most of the trace, and slow down what is measured.
    options.python_tracer_level = 0
    jax.profiler.start_trace(str(folder), profiler_options=options)
    try:
        yield
    finally:
        jax.profiler.stop_trace()


def _dearest(name: str, out: Path, program: str, steps: int, wall_s: float) -> tuple[list[Measurement], list[str]]:
    """Table and measurements of a trace."""
    found = operations(read_trace(out / name), sources_of(program))
    total = sum(one.seconds for one in found)
    rows = [_row(one, total, steps) for one in found]
    write_csv(out / f"{name}.csv", [HEAD, *rows])
    shown = [*rows[:MOST]]
    if len(found) > MOST:
        left = sum(one.seconds for one in found[MOST:])
        shown.append(
            [f"{len(found) - MOST} others", f"{left / total:.1%}", number(1e3 * left / steps, 3), "",
             f"in {name}.csv"]
        )  # fmt: skip
    lines = [
        f"{name}: {1e3 * wall_s / steps:.3g} ms a step, of which {1e3 * total / steps:.3g} ms in compiled operations "
        "(added up over threads)",
        text_table(HEAD, shown),
    ]
    measurements = [
        Measurement(
            name=f"profile/{name}/{one.name}", unit="ms/step", values=(1e3 * one.seconds / steps,), better="neither",
            facts={"share": one.seconds / total, "calls per step": one.calls / steps, "what": one.source},
        )
        for one in found[:MOST]
    ]  # fmt: skip
    return measurements, lines


def _row(one: Operation, total: float, steps: int) -> list[str]:
    return [
        one.name, f"{one.seconds / total:.1%}", number(1e3 * one.seconds / steps, 3), number(one.calls / steps, 3),
        one.source,
    ]  # fmt: skip


def _training(config: Config, run: RunDirectory, out: Path, steps: int) -> tuple[Kernel, Any]:
    """The training step, of a batch of the config for the trace, without loops for the roofline."""
    log.info("training step")
    config = config.model_copy(update={"train": config.train.model_copy(update={"fine_tuning": None})})
    task = prepare_task(config, run.stage(0, "prep"), run.stage(0, "priors") / "priors.yaml")
    step, program, _ = _train_step(task, config.train.batch_size)
    for _ in range(2):
        step()
    with _traced(out / "train"):
        began = time.perf_counter()
        for _ in range(steps):
            step()
        seconds = time.perf_counter() - began
    table = _dearest("train", out, program, steps, seconds)
    mean_edges = task.sets.training.mean_neighbors * len(task.sets.training.types(np.array([0])))
    at_once = min(config.train.batch_size, AtOnce(config.train.frames_at_once).frames_of(float(mean_edges)))
    call, _, compiled = _train_step(task, at_once)
    settings: dict[str, Setting] = {"frames": at_once, **_network(config)}
    return Kernel("training step", settings, compiled, call), table


def _network(config: Config) -> dict[str, Setting]:
    preset = getattr(config.model, "preset", None)
    return {"network": config.model.network, **({"preset": str(preset)} if preset else {})}


def _train_step(task: Task, batch_size: int) -> tuple[Callable[[], Any], str, Any]:
    """A training step that goes on from the last with the same batch, its program, and it compiled."""
    train = task.config.train.model_copy(update={"batch_size": batch_size, "batch_beads": None})
    with tempfile.TemporaryDirectory(prefix="cgloop-bench-") as folder:
        trainer = task.make_trainer(
            config=train, params=task.trained, folder=Path(folder), fingerprint="bench",
            devices=Devices(jax.local_devices()[:1]),
        )  # fmt: skip
    bucket = trainer.buckets[0]
    batch = jax.device_put(trainer.batch(bucket, bucket.frames[: bucket.batch_size]))
    compiled: Any = trainer.devices.compile(trainer.step, trainer.arrays.state, batch)
    state = [jax.tree.map(jax.numpy.copy, trainer.arrays.state)]

    def step() -> Any:
        state[0], result = compiled(state[0], batch)
        return jax.block_until_ready(result)

    return step, compiled.as_text(), compiled


def _dynamics(config: Config, run: RunDirectory, out: Path, steps: int) -> tuple[Kernel, Any]:
    """Dynamics in LAMMPS for the trace; energy and forces of one replica for the roofline."""
    log.info("MD step")
    dataset, priors = run.stage(0, "prep"), run.stage(0, "priors")
    bundle = exported_bundle(run)
    measured = measured_model(config, dataset, priors, str(bundle) if bundle else "")
    replicas = list(range(config.md.replicas))
    subject = measured_subject(config, dataset, measured, replicas)
    system, starts = subject.system, subject.starts.positions
    seed = noise_seed(config.run.seed, system.name)
    noise = Noise(seed, replicas, system.n_beads, "velocities")
    state = State(replicas, starts, maxwell_velocities(noise, system.masses, config.md_temperature_K))
    ps = steps * config.md.timestep_fs / FS_PER_PS
    nvt = config.md.nvt.model_copy(update={"equilibration_ps": 0.0, "length_ps": ps})
    md = config.md.model_copy(update={"nvt": nvt, "engine": "lammps"})
    plan = plan_nvt(md, config.md_temperature_K, system.n_beads, seed)

    def dynamics() -> dict[str, float]:
        with tempfile.TemporaryDirectory(prefix="cgloop-bench-") as folder:
            return run_dynamics(plan, subject, state, Path(folder)).timing

    dynamics()
    with _traced(out / "md"):
        timing = dynamics()
    evaluator = subject.new_evaluator()
    assert isinstance(evaluator, ModelEvaluator)
    evaluator(starts)
    arguments = evaluator.arguments((starts - starts.mean(axis=1, keepdims=True)).astype(np.float32))
    program = evaluator.on_replicas.lower(*arguments).compile().as_text()  # type: ignore[attr-defined]
    found, lines = _dearest("md", out, program, int(timing["steps"]), timing["seconds"])
    lines.insert(1, f"{timing['coupling_share']:.0%} of a step is outside the model: LAMMPS, thermostat, limits, files")
    graph = jax.device_put(build_graph(system.residue_type, system.linked, starts[:1], measured.model.cutoff_A))
    positions = jax.device_put((starts[0] - starts[0].mean(axis=0)).astype(np.float32))
    compiled = jax.jit(measured.function).lower(positions, graph).compile()
    settings: dict[str, Setting] = {
        "beads": system.n_beads,
        "edges": int(np.sum(graph.edge_mask)),
        **_network(config),
    }
    return Kernel("energy and forces", settings, compiled, partial(compiled, positions, graph)), (found, lines)

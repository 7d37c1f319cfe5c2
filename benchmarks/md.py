"""Dynamics in LAMMPS beside the bare model and beside jax-md: python -m benchmarks.md [--beads …] [--replicas …]

In one process, in turns, and by the processor time of this process beside the wall clock, so that ratios hold on a
machine that is shared:

- `loop`: LAMMPS with all that a run of the stage `md` has: thermostat, monitor, recorder, observables, trajectory.
- `bare`: the compiled model alone in a loop, positions and graph on the device, exactly the pairs within the cutoff.
- `jax-md`: Langevin dynamics (BAOAB) of jax-md, many steps in one `lax.scan`, pairs within cutoff and skin, never
  rebuilt, nothing watched, nothing recorded.

Chains are self-avoiding and compact; the model is Allegro `nano` with random parameters and a typical prior.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.conftest import compact_chain
from cgloop.allocator import keep_memory
from cgloop.config.md import MDConfig
from cgloop.config.model import AllegroConfig
from cgloop.executors import machine
from cgloop.md.coupling import Coupling
from cgloop.md.evaluate import ModelEvaluator, compile_model, run_in_calling_thread
from cgloop.md.inputs import write_data_file, write_script
from cgloop.md.monitors import Monitor, limits_of
from cgloop.md.noise import Noise
from cgloop.md.observables import ObservablesWriter, StageInfo
from cgloop.md.plan import Plan, plan_nvt
from cgloop.md.recorder import Recorder
from cgloop.md.session import Session
from cgloop.md.system import System
from cgloop.md.thermostat import Langevin, half_kick, maxwell_velocities
from cgloop.md.trajectory import TrajectoryWriter
from cgloop.model.graph import Graph, build_graph
from cgloop.model.hybrid import Model, Params, build_model, energy_and_forces, init_params
from cgloop.units import FS_PER_NS, FS_PER_PS, KB, MVV_TO_KCAL_PER_MOL
from tests.md.model_worlds import PRIOR

CUTOFF_A, TEMPERATURE_K, SEED = 12.0, 320.0, 5
BEADS, REPLICAS = (10, 50, 200, 1000), (1, 10, 100)
SECONDS_PER_DAY = 86400.0
MEMORY_LIMIT_GB = 10.0
CONFIG = MDConfig()


@dataclass(frozen=True, eq=False)
class World:
    """Replicas of one chain, relaxed, with thermal velocities."""

    system: System
    model: Model
    params: Params
    positions: np.ndarray
    velocities: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """Replicas and beads."""
        return self.positions.shape[0], self.positions.shape[1]

    def graph(self, reach_A: float) -> Graph:
        """All pairs of the start within a distance."""
        return build_graph(self.system.residue_type, self.system.linked, self.positions, reach_A)

    def flat(self) -> jax.Array:
        """float32 [R·N, 3] on the device."""
        return jnp.asarray(self.positions.reshape(-1, 3), jnp.float32)


def make_world(n_beads: int, n_replicas: int) -> World:
    """A compact chain downhill to where its bonds and angles are at rest, copied, with a little noise."""
    chain, types, linked = compact_chain(n_beads), np.arange(n_beads) % 20, np.ones(n_beads - 1, bool)
    chain -= chain.mean(axis=0)
    graph = build_graph(types, linked, chain, CUTOFF_A + CONFIG.skin_A)
    config = AllegroConfig.model_validate({"preset": "nano"})
    model = build_model(config, avg_num_neighbors=float(graph.edge_mask.sum()) / n_beads)
    params = init_params(model, PRIOR, jax.random.key(1))
    function = jax.jit(partial(energy_and_forces, model, params))
    for _ in range(400):
        chain = chain + np.clip(0.002 * np.asarray(function(chain.astype(np.float32), graph)[1], float), -0.05, 0.05)
    chain -= chain.mean(axis=0)
    system = System(
        "chain", types, np.zeros(n_beads, int), np.arange(n_beads), linked, chain,
        np.linalg.norm(np.diff(chain, axis=0), axis=1),
    )  # fmt: skip
    noise = Noise(SEED, range(n_replicas), n_beads, "velocities")
    velocities = maxwell_velocities(noise, system.masses, TEMPERATURE_K)
    # About as far as thermal motion takes a bond.
    positions = chain + 0.03 * np.random.default_rng(SEED).standard_normal(velocities.shape)
    return World(system, model, params, positions, velocities)


def bare(world: World) -> tuple[Callable[[int], None], float]:
    """The model alone, and the memory of its temporary arrays in GB."""
    positions, graph = world.flat(), jax.device_put(world.graph(CUTOFF_A))
    function = jax.jit(partial(energy_and_forces, world.model, world.params))
    memory_GB = function.lower(positions, graph).compile().memory_analysis().temp_size_in_bytes / 1e9

    def steps(n: int) -> None:
        for _ in range(n):
            jax.block_until_ready(function(positions, graph))

    return steps, memory_GB


class Spent:
    """Processor time inside some functions, s."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def inside(self, function: Callable) -> Callable:
        """The same function, whose time is added up."""

        def timed(*arguments: Any) -> Any:
            began = time.process_time()
            result = function(*arguments)
            self.seconds += time.process_time() - began
            return result

        return timed


class Loop:
    """LAMMPS with the coupling as the stage `md` has it; use as a context manager.

    Attributes:
        coupling: of the run.
        model, watching: processor time of the model, and of monitor and recorder.
    """

    def __init__(self, world: World):
        (n_replicas, n_beads), system, stack = world.size, world.system, ExitStack()
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cgloop-bench-")))
        plan: Plan = plan_nvt(CONFIG, TEMPERATURE_K, n_beads, SEED)
        clock, ids, dof = plan.clock, range(n_replicas), plan.degrees_of_freedom
        every = [round(ps * FS_PER_PS / clock.timestep_fs) for ps in (CONFIG.observe_every_ps, CONFIG.dump_every_ps)]
        info = StageInfo(system.name, plan.stage, n_beads, dof, TEMPERATURE_K, clock)
        observables = ObservablesWriter(folder / "observables.h5", info, ids, every[0])
        trajectory = stack.enter_context(TrajectoryWriter(folder, clock, ids, n_beads, every[1]))
        compiled = compile_model(partial(energy_and_forces, world.model, world.params), CUTOFF_A)
        self.model, self.watching = Spent(), Spent()
        monitor = Monitor(limits_of(CONFIG.monitors, TEMPERATURE_K, dof), clock.timestep_fs, n_replicas)
        recorder = Recorder(CONFIG.crash_frames, n_replicas, n_beads, half_kick(system.masses, clock.timestep_fs))
        monitor.check = self.watching.inside(monitor.check)  # type: ignore[method-assign]
        recorder.push = self.watching.inside(recorder.push)  # type: ignore[method-assign]
        self.coupling = Coupling(
            self.model.inside(ModelEvaluator(compiled, system, CONFIG.skin_A, at_once=1)), system.masses, n_replicas,
            clock.timestep_fs, dof,
            thermostat=Langevin(
                Noise(SEED, ids, n_beads, "thermostat"), system.masses, TEMPERATURE_K, CONFIG.nvt.friction_per_ps,
                clock.timestep_fs,
            ),
            monitor=monitor,
            recorder=recorder,
            observers=(observables.observe, trajectory.observe),
        )  # fmt: skip
        write_data_file(folder / "system.data", system.residue_type, world.positions, world.velocities)
        values = plan.variables() | {"equilibration_steps": 0, "steps": 1}
        self._session = stack.enter_context(Session(folder / "log.lammps"))
        self._session.run_script(write_script("nvt.in", values, folder / "nvt.in"), self.coupling)
        self._stack = stack

    def __enter__(self) -> "Loop":
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def steps(self, n: int) -> None:
        """So many steps; a LAMMPS command evaluates the model once more than that, so ask for many."""
        # No set-up again: it would evaluate the same positions a second time.
        self._session.command(f"run {n} pre no post no")
        if not self.coupling.alive.all():
            raise RuntimeError(f"a replica broke a limit: {self.coupling.violations}")


def jax_md_scan(world: World) -> Callable[[int], None]:
    """jax-md's Langevin dynamics of all replicas; every call continues."""
    from jax_md import simulate, space

    unit = np.sqrt(MVV_TO_KCAL_PER_MOL)  # of time, fs: with it mass times acceleration is force
    graph = jax.device_put(world.graph(CUTOFF_A + CONFIG.skin_A))
    mass = jnp.asarray(np.tile(world.system.masses, world.size[0]), jnp.float32)

    def force(x: jax.Array, **_: Any) -> jax.Array:
        return energy_and_forces(world.model, world.params, x, graph)[1]

    friction = CONFIG.nvt.friction_per_ps / FS_PER_PS * unit
    dt = CONFIG.timestep_fs / unit
    init, step = simulate.nvt_langevin(force, space.free()[1], dt=dt, kT=KB * TEMPERATURE_K, gamma=friction)
    state = [init(jax.random.key(0), world.flat(), mass=mass)]
    many = jax.jit(lambda s, n: jax.lax.scan(lambda s, _: (step(s), None), s, length=n)[0], static_argnums=1)

    def steps(n: int) -> None:
        state[0] = jax.block_until_ready(many(state[0], n))

    return steps


def measure(n_beads: int, n_replicas: int, seconds: float = 1.0, repeats: int = 5, with_jax_md: bool = True):
    """One row of the table: medians over `repeats` turns of about `seconds` a leg each.

    Ratios are medians of the ratios of legs of the same turn.
    """
    world = make_world(n_beads, n_replicas)
    legs: dict[str, Callable[[int], None]] = {}
    legs["bare"], memory_GB = bare(world)
    row: dict[str, Any] = {"beads": n_beads, "replicas": n_replicas, "memory_GB": memory_GB}
    if memory_GB > MEMORY_LIMIT_GB:
        # The loop computes one replica after the other, and needs a part of that.
        row["left out"] = f"the model of all replicas at once needs more than {MEMORY_LIMIT_GB:g} GB"
        legs.clear()
    elif with_jax_md:
        legs["jax-md"] = jax_md_scan(world)
    with Loop(world) as loop:
        legs["loop"] = loop.steps
        probe = legs.get("bare", loop.steps)
        probe(1)
        began = time.perf_counter()
        probe(2)
        n_steps = max(2, round(seconds / ((time.perf_counter() - began) / 2)))
        for steps in legs.values():
            steps(n_steps)  # compiles
        loop.coupling.model_seconds = loop.model.seconds = loop.watching.seconds = 0.0
        times, cpu = ({name: [] for name in legs} for _ in range(2))
        for _ in range(repeats):
            for name, steps in legs.items():
                began = time.perf_counter(), time.process_time()
                steps(n_steps)
                times[name].append((time.perf_counter() - began[0]) / n_steps)
                cpu[name].append((time.process_time() - began[1]) / n_steps)
        evaluating, spent = loop.coupling.model_seconds, sum(cpu["loop"]) * n_steps
    row["steps"], row["repeats"] = n_steps, repeats
    row["cpu_ms_per_step"] = {name: 1e3 * statistics.median(values) for name, values in cpu.items()}
    row["cpu_loop_over"] = {
        name: statistics.median(np.divide(cpu["loop"], cpu[name]).tolist()) for name in set(legs) - {"loop"}
    }
    row["cpu_outside_model_share"] = 1.0 - loop.model.seconds / spent
    row["cpu_watching_share"] = loop.watching.seconds / spent
    row["ms_per_step"] = {name: 1e3 * statistics.median(values) for name, values in times.items()}
    for name in set(legs) - {"loop"}:
        row[f"loop_over_{name}"] = statistics.median(np.divide(times["loop"], times[name]).tolist())
    row["outside_model_share"] = 1.0 - evaluating / sum(times["loop"]) / n_steps
    per_s = 1e3 / row["ms_per_step"]["loop"]
    row["bead_steps_per_s"] = per_s * n_beads * n_replicas
    row["ns_per_day_per_replica"] = per_s * CONFIG.timestep_fs / FS_PER_NS * SECONDS_PER_DAY
    return row


def line(row: dict[str, Any]) -> str:
    """A row as text."""
    head = f"{row['beads']:5d} x {row['replicas']:3d}"
    cpu, nan = row["cpu_loop_over"], float("nan")
    return (
        f"{head}  {row['ms_per_step']['loop']:9.3f} ms  {row['ns_per_day_per_replica']:8.2f} ns/day  "
        f"{row['bead_steps_per_s']:9.0f} bead-steps/s  {row.get('loop_over_bare', nan):5.2f} x bare  "
        f"{row.get('loop_over_jax-md', nan):5.2f} x jax-md  {row['outside_model_share']:6.1%} outside  cpu: "
        f"{cpu.get('bare', nan):5.2f} x bare  {cpu.get('jax-md', nan):5.2f} x jax-md  "
        f"{row['cpu_outside_model_share']:6.1%} outside  {row['cpu_watching_share']:6.1%} watching"
    )


def surroundings() -> dict[str, Any]:
    """Hardware, versions and load."""
    names = [row.split(":")[1].strip() for row in _cpu_lines() if row.startswith("model name")]
    processor = names[0] if names else platform.machine()
    return {
        "hardware": f"{os.cpu_count()} cores, {processor}, {machine.memory_GB():.0f} GB",
        "load_average": list(os.getloadavg()),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("jax", "jax-md", "lammps")},
        },
    }


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--beads", type=int, nargs="+", default=BEADS)
    parser.add_argument("--replicas", type=int, nargs="+", default=REPLICAS)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a leg")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="file to write or to add rows to")
    asked = parser.parse_args()
    # As the processes of the stage.
    run_in_calling_thread()
    keep_memory()
    out = asked.out or Path(__file__).parent / "results" / f"{date.today()}-md.json"
    for n_beads in asked.beads:
        for n_replicas in asked.replicas:
            row = measure(n_beads, n_replicas, asked.seconds, asked.repeats) | {"load_average": os.getloadavg()[0]}
            print(line(row), flush=True)
            _add(out, row)


def _add(out: Path, row: dict[str, Any]) -> None:
    """Put a row into the place of an older one of this size."""
    record = {"date": str(date.today()), **surroundings(), "made by": "python -m benchmarks.md", "what": __doc__}
    rows = json.loads(out.read_text())["rows"] if out.exists() else []
    rows = [old for old in rows if (old["beads"], old["replicas"]) != (row["beads"], row["replicas"])] + [row]
    record["rows"] = sorted(rows, key=lambda one: (one["beads"], one["replicas"]))
    out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

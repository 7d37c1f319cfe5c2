"""Dynamics by jax-md in one compiled loop, for pre-screening: with the coupling, and so files and limits, of LAMMPS.

The only place that imports jax-md (it takes seconds). A chunk of steps is computed by `lax.scan`; then each of its
steps is shown to the coupling as LAMMPS would show it. Where that freezes a replica, or where the model's results were
worthless (too little room for pairs, a bead beyond the reach of the list), the rest of the chunk is thrown away, and
the next one starts there. Positions and velocities are float64, the model's forces float32, as in LAMMPS.

The steps are those of `jax_md.simulate.nve` and `nvt_langevin` (BAOAB), taken one by one, so that each replica has
random numbers of its own: they depend on seed, replica and step, and on nothing else.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax_md import simulate, space

from cgloop.interrupt import check_stop, stop_requested
from cgloop.md.coupling import Coupling
from cgloop.md.evaluate import ModelEvaluator, evaluation_of
from cgloop.md.evaluation import Evaluation
from cgloop.md.session import Atoms, Moment, StopRun, never_wrapped
from cgloop.model.graph import Graph
from cgloop.units import ACCELERATION, FS_PER_PS, MVV_TO_KCAL_PER_MOL, thermal_energy

UNIT_FS = float(np.sqrt(MVV_TO_KCAL_PER_MOL))
"""jax-md's unit of time: with it, force is mass times acceleration in g/mol, Å and kcal/mol."""

CHUNK_STEPS = 100
CHUNK_BYTES = 64e6

_shift = space.free()[1]


@dataclass(frozen=True)
class Bath:
    """A Langevin thermostat.

    Attributes:
        temperature_K: of the bath.
        friction_per_ps: γ, 1/ps.
        seed: below 2**64.
        replicas: ids, in the order of the rows.
    """

    temperature_K: float
    friction_per_ps: float
    seed: int
    replicas: Sequence[int]

    def keys(self) -> jax.Array:
        """A key for each replica, [R]."""
        key = jax.random.fold_in(jax.random.key(self.seed % 2**32), self.seed >> 32)
        return jax.vmap(partial(jax.random.fold_in, key))(jnp.asarray(self.replicas, jnp.uint32))


class _World(NamedTuple):
    """What does not change during a chunk; arrays of R replicas."""

    keys: jax.Array
    mass: jax.Array
    alive: jax.Array
    refuge: jax.Array
    listed_at: jax.Array
    reach_A: float
    graph: Graph
    candidates: Any
    bond_mean: Any


class _Steps(NamedTuple):
    """What a chunk gives, [K, …]: positions, velocities before the last half kick, forces, table, list too old."""

    positions: np.ndarray
    velocities: np.ndarray
    forces: np.ndarray
    table: np.ndarray
    stale: np.ndarray


class ScanEngine:
    """Runs replicas of one protein; it is the model of the coupling, too (`Evaluate`, `Restartable`)."""

    def __init__(
        self,
        model: ModelEvaluator,
        masses: np.ndarray,
        n_replicas: int,
        timestep_fs: float,
        bath: Bath | None = None,
        chunk_steps: int = CHUNK_STEPS,
    ):
        """Args:
        model: forces and energies.
        masses: [N], g/mol.
        n_replicas: R.
        timestep_fs: of the dynamics.
        bath: none for constant energy.
        chunk_steps: steps of one compiled loop, at most.
        """
        self._model, self._bath, self._shape = model, bath, (n_replicas, len(masses), 3)
        self._masses = np.broadcast_to(np.asarray(masses, float)[:, None], (n_replicas, len(masses), 1))
        self._half_kick = 0.5 * timestep_fs * ACCELERATION / self._masses
        bytes_per_step = n_replicas * len(masses) * 3 * (8 + 8 + 4)
        self._chunk = int(max(1, min(chunk_steps, CHUNK_BYTES // bytes_per_step)))
        self._compiled = jax.jit(
            partial(_chunk, model.on_replicas, bath, timestep_fs / UNIT_FS, self._chunk), static_argnums=6
        )
        self._given: Evaluation | None = None
        self.thrown_away = 0

    def __call__(self, positions: np.ndarray) -> Evaluation:
        """The model at the step that is being shown to the coupling, or at positions [R, N, 3] of its own."""
        return self._model(positions) if self._given is None else self._given

    @property
    def rebuilds(self) -> int:
        """How often the model has listed pairs."""
        return self._model.rebuilds

    def state(self) -> dict[str, np.ndarray]:
        """Of the model; for `restore`."""
        return self._model.state()

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go on as the engine did that gave this state."""
        self._model.restore(state)

    def run(
        self,
        coupling: Coupling,
        positions: np.ndarray,
        velocities: np.ndarray,
        steps: int,
        *,
        every: int = 0,
        save: Callable[[Moment], None] = lambda moment: None,
        start: Moment | None = None,
    ) -> None:
        """Do all steps, as `Session.run_script` does those of a script.

        Args:
            coupling: its model is this engine, and it has no thermostat.
            positions, velocities: [R, N, 3], Å and Å/fs.
            steps: to do, counted from step 0.
            every: steps from one saved state to the next; 0 for none.
            save: given the state.
            start: go on from here.

        Raises:
            Interrupted: stopped on request, with the state saved.
        """
        step, x, v = 0, np.array(positions, float), np.array(velocities, float)
        if start is not None:
            step, x = start.step, Atoms(*start[1:], box_A=0.0).unwrapped().reshape(self._shape)
            v = np.array(start.velocities).reshape(self._shape)
        try:
            forces = self._show(coupling, step, x, v)
            while step < steps:
                length = min(self._chunk, steps - step, *([every - step % every] if every else []))
                step, x, v, forces = self._advance(coupling, step, x, v, forces, length)
                if step == steps:
                    return
                stop = stop_requested()
                if every and (stop or step % every == 0):
                    flat = never_wrapped(x.reshape(-1, 3), v.reshape(-1, 3))
                    save(Moment(step, flat.positions.copy(), flat.velocities.copy(), flat.images))
                    # As after a restart: the same numbers follow.
                    forces = self._show(coupling, step, x, v)
                if stop:
                    check_stop()
        except StopRun:
            return

    def _show(self, coupling: Coupling, step: int, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Give a step to the coupling; returns the forces [R, N, 3] to go on with."""
        forces = np.zeros(self._shape)
        coupling(step, never_wrapped(x.reshape(-1, 3), v.reshape(-1, 3)), forces.reshape(-1, 3))
        return forces

    def _advance(
        self, coupling: Coupling, step: int, x: np.ndarray, v: np.ndarray, forces: np.ndarray, length: int
    ) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
        """Compute a chunk, and show its steps up to the first after which it is void."""
        alive, began = coupling.alive, time.perf_counter()
        *_, room = self._model.arguments(None)
        found = self._scan(x, v, forces, step, length, coupling)
        coupling.model_seconds += time.perf_counter() - began
        for row in range(length):
            numbers = np.asarray(found.table[row], np.float64)
            sound = bool(numbers[:, -1].max() <= room and not found.stale[row])
            # Where it is not sound the coupling asks the model itself, which lists and makes room anew.
            self._given = evaluation_of(found.forces[row], numbers) if sound else None
            try:
                forces = self._show(coupling, step + row + 1, found.positions[row], found.velocities[row])
            finally:
                self._given = None
            if not sound or coupling.alive is not alive:
                self.thrown_away += length - row - 1
                break
        return (
            step + row + 1,
            found.positions[row],
            found.velocities[row] + self._half_kick * forces,
            forces,
        )

    def _scan(
        self, x: np.ndarray, v: np.ndarray, forces: np.ndarray, step: int, length: int, coupling: Coupling
    ) -> _Steps:
        _, graph, candidates, bond_mean, room = self._model.arguments(None)
        with jax.enable_x64(True):
            keys = jnp.zeros(len(x)) if self._bath is None else self._bath.keys()
            world = _World(
                keys, jnp.asarray(self._masses), jnp.asarray(coupling.alive), jnp.asarray(coupling.state()["refuge"]),
                jnp.asarray(self._model.listed_at), self._model.reach_A, graph, candidates, bond_mean,
            )  # fmt: skip
            momenta = v * self._masses * UNIT_FS
            found = self._compiled(jnp.asarray(x), jnp.asarray(momenta), jnp.asarray(forces), step, length, world, room)
            # The coupling changes velocities in place.
            return _Steps(*(np.array(part) for part in found))


def _chunk(
    on_replicas: Callable[..., tuple[jax.Array, jax.Array]],
    bath: Bath | None,
    dt: float,
    n_steps: int,
    x: jax.Array,
    p: jax.Array,
    forces: jax.Array,
    first: int,
    length: int,
    world: _World,
    room: int,
) -> tuple[jax.Array, ...]:
    """`n_steps` steps behind step `first`, of which `length` are done; the fields of `_Steps`. In jax-md's units."""
    living = world.alive[:, None, None]

    def do(carry: tuple[jax.Array, ...], number: jax.Array) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
        x, p, forces = carry
        state = _drift(bath, dt, simulate.NVTLangevinState(x, p, forces, world.mass, world.keys), first + 1 + number)
        x, p = jnp.where(living, state.position, x), jnp.where(living, state.momentum, 0.0)
        shown = jnp.where(living, x, world.refuge)
        centred = shown - shown.mean(axis=1, keepdims=True)
        moved = jnp.sum((centred - world.listed_at) ** 2, axis=-1).max()
        found, table = on_replicas(centred.astype(jnp.float32), world.graph, world.candidates, world.bond_mean, room)
        forces = jnp.where(living, found.astype(x.dtype), 0.0)
        kicked = simulate.momentum_step(state.set(position=x, momentum=p, force=forces), 0.5 * dt)
        velocities = p / world.mass / UNIT_FS
        return (x, kicked.momentum, forces), (
            x, velocities, found.astype(jnp.float32), table.astype(jnp.float32), ~(moved <= world.reach_A**2),
        )  # fmt: skip

    def skip(carry: tuple[jax.Array, ...], number: jax.Array) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
        _, results = jax.eval_shape(do, carry, number)
        return carry, tuple(jnp.zeros(one.shape, one.dtype) for one in results)

    def body(carry: tuple[jax.Array, ...], number: jax.Array) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
        return jax.lax.cond(number < length, do, skip, carry, number)

    return jax.lax.scan(body, (x, p, forces), jnp.arange(n_steps))[1]


def _drift(bath: Bath | None, dt: float, state: Any, step: jax.Array) -> Any:
    """B A or B A O A: everything of a step that comes before the new forces."""
    state = simulate.momentum_step(state, 0.5 * dt)
    if bath is None:
        return simulate.position_step(state, _shift, dt)
    state = simulate.position_step(state, _shift, 0.5 * dt)
    keys = jax.vmap(lambda key: jax.random.fold_in(key, step))(state.rng)
    friction = bath.friction_per_ps / FS_PER_PS * UNIT_FS
    kT = thermal_energy(bath.temperature_K)
    state = jax.vmap(lambda one: simulate.stochastic_step(one, dt, kT, friction))(state.set(rng=keys))
    return simulate.position_step(state, _shift, 0.5 * dt)

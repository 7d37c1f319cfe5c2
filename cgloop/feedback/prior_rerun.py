"""Would the prior alone have crashed there, too? Dynamics of the prior from the last sound frame before a crash."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cgloop.feedback.crash import Crash
from cgloop.feedback.words import duration, number
from cgloop.model.compiler_check import require_right_sums
from cgloop.model.graph import Graph, build_graph
from cgloop.model.hybrid import Model, prior_forces
from cgloop.priors.tables import read_prior
from cgloop.units import FS_PER_PS, MVV_TO_KCAL_PER_MOL

CHUNK = 50
"""Steps between two lists of pairs."""

SKIN_A = 4.0
"""By which lists of pairs reach beyond the cutoff: two beads would have to approach by this in a chunk to be missed."""

ALL_PAIRS_BEADS = 64


@dataclass(frozen=True)
class PriorAlone:
    """The prior as a model of its own, ready to be run."""

    model: Model
    params: dict[str, Any]

    @classmethod
    def read(cls, priors_yaml: Path, cutoff_A: float) -> "PriorAlone":
        """Read the fitted prior. Raises UserError if it cannot be read, or sums are wrong on this machine."""
        require_right_sums()
        forms, prior = read_prior(priors_yaml)
        model = Model(spec=None, energy="prior-only", cutoff_A=cutoff_A, forms=forms)
        single = jax.tree.map(lambda value: jnp.asarray(value, jnp.float32), prior)
        return cls(model, {"prior": single, "ml": {}})

    def rerun(
        self, crash: Crash, start: int, bond_mean_A: np.ndarray, limits: Mapping[str, float], length_ps: float
    ) -> dict[str, Any]:
        """Integrate at constant energy from a frame of a crash, with its velocities and the masses of the run.

        Velocity Verlet; without a thermostat the outcome depends on nothing random. The temperature is not monitored:
        the velocities are those that the whole model had given.

        Args:
            crash: what was recorded.
            start: row of the frame, with finite positions and velocities.
            bond_mean_A: [B], reference length of each bond.
            limits: `limits` of md.json.
            length_ps: how long.

        Returns:
            `crashed`, `limit`, `value`, `time_ps` (reached), `from_step`, and `words`.
        """
        factor = jnp.asarray(1.0 / (crash.masses * MVV_TO_KCAL_PER_MOL), jnp.float32)[:, None]
        positions, velocities = crash.positions[start], crash.velocities[start]
        n_steps = max(1, round(length_ps * FS_PER_PS / crash.timestep_fs))
        bonds = jnp.asarray(bond_mean_A, jnp.float32)
        broken, done, value = "", 0, 0.0
        while done < n_steps and not broken:
            graph = self._graph(crash, positions)
            centred = (jnp.asarray(one, jnp.float32) for one in (positions - positions.mean(axis=0), velocities))
            x, v, table = _chunk(self.model, self.params, graph, factor, bonds, crash.timestep_fs, *centred)
            broken, value, steps = _first_broken(np.asarray(table, float)[: n_steps - done], limits)
            done += steps
            positions, velocities = np.asarray(x, float), np.asarray(v, float)
        time_ps = done * crash.timestep_fs / FS_PER_PS
        return {
            "crashed": bool(broken),
            "limit": broken,
            "value": value if broken else None,
            "time_ps": time_ps,
            "from_step": int(crash.steps[start]),
            "words": _words(broken, value, time_ps, -float(crash.time_fs[start])),
        }

    def _graph(self, crash: Crash, positions: np.ndarray) -> Graph:
        reach = np.inf if crash.n_beads <= ALL_PAIRS_BEADS else self.model.cutoff_A + SKIN_A
        graph = build_graph(crash.residue_type, crash.linked, positions, reach)
        if not np.isfinite(reach):
            return graph
        # Room in coarse steps, so that few sizes are compiled.
        return build_graph(
            crash.residue_type, crash.linked, positions, reach, edge_capacity=-(-len(graph.senders) // 1024) * 1024
        )


@partial(jax.jit, static_argnums=0)
def _chunk(
    model: Model,
    params: dict[str, Any],
    graph: Graph,
    factor: jax.Array,
    bond_mean: jax.Array,
    timestep_fs: float,
    positions: jax.Array,
    velocities: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Positions, velocities, and of every step: closest pair, bond deviation, largest force, 1 if finite."""

    def watch(x: jax.Array, force: jax.Array) -> jax.Array:
        distance = jnp.linalg.norm(x[graph.senders] - x[graph.receivers], axis=-1)
        closest = jnp.min(jnp.where(graph.edge_mask & (graph.separation > 1), distance, jnp.inf), initial=jnp.inf)
        bond = jnp.linalg.norm(x[graph.bonds[:, 1]] - x[graph.bonds[:, 0]], axis=-1)
        stretch = jnp.max(jnp.where(graph.bond_mask, jnp.abs(bond / bond_mean - 1.0), 0.0), initial=0.0)
        strongest = jnp.max(jnp.linalg.norm(force, axis=-1))
        sound = jnp.isfinite(x).all() & jnp.isfinite(force).all()
        return jnp.stack([closest, stretch, strongest, sound.astype(x.dtype)])

    def step(state: tuple[jax.Array, ...], _: None) -> tuple[tuple[jax.Array, ...], jax.Array]:
        x, v, force = state
        v = v + 0.5 * timestep_fs * force * factor
        x = x + timestep_fs * v
        force = prior_forces(model, params, x, graph)
        return (x, v + 0.5 * timestep_fs * force * factor, force), watch(x, force)

    start = (positions, velocities, prior_forces(model, params, positions, graph))
    (x, v, _), table = jax.lax.scan(step, start, None, length=CHUNK)
    return x, v, table


def _first_broken(table: np.ndarray, limits: Mapping[str, float]) -> tuple[str, float, int]:
    """The first limit that is broken, its value, and the steps done until then; no name if none is."""
    closest, stretch, force, sound = table.T
    wrong = {
        "non_finite": ~(sound == 1.0),
        "min_distance": ~(closest >= limits["min_distance_A"]),
        "bond": ~(stretch <= limits["max_bond_deviation"]),
        "max_force": ~(force <= limits["max_force"]),
    }
    values = {"non_finite": sound, "min_distance": closest, "bond": stretch, "max_force": force}
    when = {name: int(np.argmax(where)) for name, where in wrong.items() if where.any()}
    if not when:
        return "", 0.0, len(table)
    name = min(when, key=lambda one: when[one])
    return name, float(values[name][when[name]]), when[name] + 1


LIMIT_WORDS = {
    "non_finite": "a force was not a number",
    "min_distance": "two beads came within {} Å of each other",
    "bond": "a bond was off by {} of its length",
    "max_force": "the force on a bead was {} kcal/mol/Å",
}


def _words(broken: str, value: float, time_ps: float, before_fs: float) -> str:
    begin = f"The prior alone, started {duration(before_fs)} before the crash with the same velocities,"
    if not broken:
        return f"{begin} stayed inside all limits for {number(time_ps)} ps: the network brought the replica there."
    return f"{begin} crashed as well after {number(time_ps)} ps: {LIMIT_WORDS[broken].format(number(value))}."

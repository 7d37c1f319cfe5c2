"""Forces and energies of all replicas in one call of the compiled model, and cheap diagnostics beside them."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cgloop.md.evaluation import N_TERMS, Evaluation
from cgloop.md.system import System
from cgloop.model.graph import CapacityError, Graph, build_graph

ALL_PAIRS_BEADS = 32
"""Proteins up to this size list all pairs once: most are within reach anyway, and nothing is ever rebuilt."""

ModelFunction = Callable[[jax.Array, Graph], tuple[jax.Array, jax.Array, jax.Array]]
"""(positions f32 [n, 3], graph) -> (energies [R], forces [n, 3], terms [R, n_terms]), as `Bundle.function`."""


class Compiled(NamedTuple):
    """The model and its diagnostics as one compiled function, and the model's cutoff."""

    function: Callable[[np.ndarray, Graph, np.ndarray], tuple[jax.Array, jax.Array]]
    cutoff_A: float


def compile_model(model: ModelFunction, cutoff_A: float) -> Compiled:
    """Compile a model together with the diagnostics that every step needs.

    The function takes positions f32 [n, 3], a graph and reference bond lengths [B], and returns forces f32 [n, 3]
    and a table f32 [R, 9]: the five energy terms, smallest distance of beads that are not bonded (Å, inf if none
    is listed), largest relative deviation of a bond from its reference, largest force (kcal/mol/Å), and 1 where
    everything is finite.
    """

    def function(positions: jax.Array, graph: Graph, bond_mean: jax.Array) -> tuple[jax.Array, jax.Array]:
        _, forces, terms = model(positions, graph)
        n_replicas = len(graph.replica_mask)
        distance = jnp.linalg.norm(positions[graph.senders] - positions[graph.receivers], axis=-1)
        apart = jnp.where(graph.edge_mask & (graph.separation > 1), distance, jnp.inf)
        closest = jax.ops.segment_min(apart, graph.replica[graph.receivers], n_replicas)
        length = jnp.linalg.norm(positions[graph.bonds[:, 1]] - positions[graph.bonds[:, 0]], axis=-1)
        deviation = jnp.where(graph.bond_mask, jnp.abs(length / bond_mean - 1.0), 0.0)
        # A replica without bonds has no maximum: −inf.
        stretch = jnp.maximum(jax.ops.segment_max(deviation, graph.replica[graph.bonds[:, 0]], n_replicas), 0.0)
        strength = jnp.where(graph.bead_mask, jnp.linalg.norm(forces, axis=-1), 0.0)
        strongest = jax.ops.segment_max(strength, graph.replica, n_replicas)
        sound = jnp.isfinite(terms).all(axis=1) & jnp.isfinite(strongest) & jnp.isfinite(stretch)
        rest = jnp.stack([closest, stretch, strongest, sound.astype(jnp.float32)], axis=1)
        return forces, jnp.concatenate([terms, rest], axis=1)

    return Compiled(jax.jit(function), cutoff_A)


class ModelEvaluator:
    """A compiled model applied to replicas of one protein; lists the pairs within reach and keeps them up to date.

    The list holds all pairs within cutoff + skin. It is made anew, before anything is evaluated, as soon as a bead
    has moved more than half the skin since it was made: no pair within the cutoff is ever missing.
    """

    def __init__(self, compiled: Compiled, system: System, skin_A: float, edges_per_replica: int | None = None):
        """Args:
        compiled: the model.
        system: the protein.
        skin_A: reach of the pair list beyond the cutoff.
        edges_per_replica: room for so many directed pairs; replicas that share this number share a compilation.
        """
        self._compiled, self._system, self._skin = compiled, system, skin_A
        self._all_pairs = system.n_beads <= ALL_PAIRS_BEADS
        self._per_replica = edges_per_replica
        self._built: np.ndarray | None = None
        self._graph: Graph | None = None
        self._bond_mean = np.ones(1, np.float32)
        self.rebuilds = 0

    def __call__(self, positions: np.ndarray) -> Evaluation:
        """Evaluate unwrapped positions, float64 [R, N, 3] in Å.

        Each replica's centre is subtracted in float64 before the cast to float32: far from the origin float32 has
        too few digits left for an NVE run (500 Å away costs 1 kcal/mol/ns of drift).
        """
        centred = positions - positions.mean(axis=1, keepdims=True)
        if self._graph is None or self._moved_too_far(centred):
            self._rebuild(centred)
        assert self._graph is not None
        return evaluate_graph(self._compiled, centred, self._graph, self._bond_mean)

    def state(self) -> dict[str, np.ndarray]:
        """Where the pair list was made, and its room; for `restore`."""
        built = np.empty((0, 0, 3)) if self._built is None else self._built
        return {
            "built": built, "edges_per_replica": np.array(self._per_replica or 0), "rebuilds": np.array(self.rebuilds)
        }  # fmt: skip

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """List the pairs as the evaluator did that gave this state: their order and padding decide the rounding."""
        if state["built"].size:
            self._per_replica = int(state["edges_per_replica"]) or None
            self._rebuild(state["built"])
        self.rebuilds = int(state["rebuilds"])

    def renew(self) -> None:
        """List the pairs anew at the next evaluation, whatever has moved."""
        self._graph = None

    def _moved_too_far(self, centred: np.ndarray) -> bool:
        if self._all_pairs or self._built is None:
            return False
        moved = centred - self._built
        return not np.einsum("rni,rni->rn", moved, moved).max() <= (0.5 * self._skin) ** 2

    def _rebuild(self, centred: np.ndarray) -> None:
        system, n_replicas = self._system, len(centred)
        reach = math.inf if self._all_pairs else self._compiled.cutoff_A + self._skin
        if self._per_replica is None:
            self._per_replica = edges_per_replica(system, centred, self._compiled.cutoff_A, self._skin)
        arguments = (system.residue_type, system.linked, centred, reach)
        try:
            graph = build_graph(*arguments, edge_capacity=self._per_replica * n_replicas)
        except CapacityError as error:
            self._per_replica = _with_room(error.needed["edges"] / n_replicas)
            graph = build_graph(*arguments, edge_capacity=self._per_replica * n_replicas)
        self._graph = jax.device_put(graph)
        self._built = centred
        self.rebuilds += 1
        if len(system.bond_mean_A):
            self._bond_mean = np.tile(system.bond_mean_A, n_replicas).astype(np.float32)


def evaluate_graph(compiled: Compiled, centred: np.ndarray, graph: Graph, bond_mean_A: np.ndarray) -> Evaluation:
    """Evaluate R replicas of N beads on a graph, which may be padded to more.

    Args:
        compiled: the model.
        centred: float64 [R, N, 3] Å, near the origin.
        graph: its first R·N beads and R replicas are these.
        bond_mean_A: float32 [B], reference lengths, for all bonds of the graph.
    """
    n_replicas, n_beads, _ = centred.shape
    flat = centred.reshape(-1, 3).astype(np.float32)
    padding = len(graph.types) - len(flat)
    if padding:
        flat = np.concatenate([flat, np.zeros((padding, 3), np.float32)])
    forces, table = compiled.function(flat, graph, bond_mean_A)
    numbers = np.asarray(table, np.float64)[:n_replicas]
    return Evaluation(
        forces=np.asarray(forces, np.float64)[: n_replicas * n_beads].reshape(centred.shape),
        terms=numbers[:, :N_TERMS],
        min_distance_A=numbers[:, N_TERMS],
        bond_deviation=numbers[:, N_TERMS + 1],
        max_force=numbers[:, N_TERMS + 2],
        finite=numbers[:, N_TERMS + 3] > 0.5,
    )


def edges_per_replica(system: System, frames: np.ndarray, cutoff_A: float, skin_A: float) -> int:
    """Room for directed pairs that frames [F, N, 3] of a protein need, with some to spare; at least 1."""
    n = system.n_beads
    if n <= ALL_PAIRS_BEADS:
        return max(1, n * (n - 1))
    graph = build_graph(system.residue_type, system.linked, frames, cutoff_A + skin_A)
    most = np.bincount(graph.replica[graph.receivers[graph.edge_mask]], minlength=1).max()
    return _with_room(float(most))


def _with_room(edges: float) -> int:
    """A fifth more, rounded up to a coarse step, so that few different sizes are ever compiled."""
    return math.ceil(1.2 * edges / 64 + 1) * 64

"""Forces and energies of all replicas in one call of the compiled model, and cheap diagnostics beside them."""

import logging
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cgloop.md import neighbours
from cgloop.md.evaluation import N_TERMS, Evaluation
from cgloop.md.neighbours import Candidates, all_pairs, has_all_pairs, listed_pairs, with_edges
from cgloop.md.system import System
from cgloop.model.graph import Graph, build_graph

log = logging.getLogger("cgloop.md")

ROOM_STEP = 32
"""Room for pairs is a multiple of this: few different sizes are compiled, and rows start where vector registers do."""

ModelFunction = Callable[[jax.Array, Graph], tuple[jax.Array, jax.Array, jax.Array]]
"""(positions f32 [n, 3], graph) -> (energies [R], forces [n, 3], terms [R, n_terms]), as `Bundle.function`."""


class Compiled(NamedTuple):
    """The model and its diagnostics as compiled functions, and the model's cutoff.

    Attributes:
        function: for a graph of any making, see `compile_model`.
        on_replicas: for replicas of one protein whose pairs are found in the compiled code, see `compile_model`.
        cutoff_A: of the model.
        in_parts: whether `on_replicas` computes some replicas after the others.
    """

    function: Callable[[np.ndarray, Graph, np.ndarray], tuple[jax.Array, jax.Array]]
    on_replicas: Callable[[np.ndarray, Graph, Candidates, np.ndarray, int], tuple[jax.Array, jax.Array]]
    cutoff_A: float
    in_parts: bool


def compile_model(model: ModelFunction, cutoff_A: float, in_parts: bool | None = None) -> Compiled:
    """Compile a model together with the diagnostics that every step needs.

    `function` takes positions f32 [n, 3], a graph and reference bond lengths [B], and returns forces f32 [n, 3]
    and a table f32 [R, 9]: the five energy terms, smallest distance of beads that are not bonded (Å, inf if none
    is listed), largest relative deviation of a bond from its reference, largest force (kcal/mol/Å), and 1 where
    everything is finite.

    `on_replicas` takes positions f32 [R, N, 3], graph and candidates as `with_edges`, reference bond lengths, and room
    for edges of a replica (static: each number is compiled by itself). It lists the pairs within the cutoff itself; its
    table has one more column, how many there are. Where they are more than the room the results are worthless. With
    `in_parts` (default: on a CPU) it computes as many replicas at once as the graph is of; otherwise that is all.
    Positions that lie on a device are donated.
    """
    in_parts = jax.default_backend() == "cpu" if in_parts is None else in_parts

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
        # A bead that is nowhere is near nobody, and so may feel no force at all.
        place = jnp.where(graph.bead_mask, jnp.abs(positions).max(axis=-1), 0.0)
        farthest = jax.ops.segment_max(place, graph.replica, n_replicas)
        sound = jnp.isfinite(terms).all(axis=1) & jnp.isfinite(strongest) & jnp.isfinite(stretch)
        sound &= jnp.isfinite(farthest)
        rest = jnp.stack([closest, stretch, strongest, sound.astype(jnp.float32)], axis=1)
        return forces, jnp.concatenate([terms, rest], axis=1)

    def on_replicas(
        positions: jax.Array, graph: Graph, candidates: Candidates, bond_mean: jax.Array, room: int
    ) -> tuple[jax.Array, jax.Array]:
        def part(rows: jax.Array, own: Candidates) -> tuple[jax.Array, jax.Array]:
            edges, found = with_edges(graph, rows, own, cutoff_A, room)
            forces, table = function(rows.reshape(-1, 3), edges, bond_mean)
            return forces.reshape(rows.shape), jnp.concatenate([table, found[:, None].astype(table.dtype)], axis=1)

        if not in_parts:
            return part(positions, candidates)
        return _in_parts(part, positions, candidates, jnp.asarray(graph.replica_mask))

    # Positions are sent anew for every step: the forces, of the same shape, take their place.
    return Compiled(jax.jit(function), jax.jit(on_replicas, static_argnums=4, donate_argnums=0), cutoff_A, in_parts)


def _in_parts(
    part: Callable[[jax.Array, Candidates], tuple[jax.Array, jax.Array]],
    positions: jax.Array,
    candidates: Candidates,
    replica_mask: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """`part` of as many replicas at once as the mask is for, part after part; the last is filled up with copies.

    Every part is computed by the same instructions, however many there are, so that a replica is rounded in the same
    way whichever others run.
    """
    n_replicas, at_once = len(positions), len(replica_mask)
    n_parts = -(-n_replicas // at_once)
    # Room for two parts at least: taking all of an array is no taking, and what is around it would be compiled anew.
    missing = max(n_parts, 2) * at_once - n_replicas
    padded = _repeat_last(positions, missing)
    listed = candidates.senders.ndim > 1
    lists = Candidates(*(_repeat_last(jnp.asarray(one), missing) for one in candidates)) if listed else candidates

    def body(number: jax.Array, done: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        def take(whole: jax.Array) -> jax.Array:
            return jax.lax.dynamic_slice_in_dim(whole, number * at_once, at_once)

        results = part(take(padded), Candidates(*map(take, lists)) if listed else lists)
        return tuple(
            jax.lax.dynamic_update_slice_in_dim(whole, piece, number * at_once, 0)
            for whole, piece in zip(done, results, strict=True)
        )

    shapes = jax.eval_shape(part, padded[:at_once], jax.tree.map(lambda x: x[:at_once], lists) if listed else lists)
    nothing = tuple(jnp.zeros((len(padded), *one.shape[1:]), one.dtype) for one in shapes)
    # A number that the compiler does not know: a loop that is done once would be dissolved into what is around it.
    parts = jnp.where(replica_mask[0], n_parts, 0)
    forces, table = jax.lax.fori_loop(0, parts, body, nothing)
    return forces[:n_replicas], table[:n_replicas]


def _repeat_last(rows: jax.Array, times: int) -> jax.Array:
    return jnp.concatenate([rows, jnp.repeat(rows[-1:], times, axis=0)]) if times else rows


def run_in_calling_thread() -> None:
    """Let programs on the CPU run in the thread that calls them; only before JAX has computed anything.

    Otherwise another thread is woken for every evaluation, and waited for: a tenth of the time of ten beads, and more
    where cores are busy.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)


class ModelEvaluator:
    """A compiled model applied to replicas of one protein; finds the pairs within reach and makes room for them.

    The pairs within the cutoff are found anew in every evaluation, in the compiled code: pairs of a skin would cost
    more in the model than finding costs. So results depend on the positions and the room alone, not on what was
    evaluated before. Of large proteins not all pairs are looked at, but those on a list within cutoff + skin; it is
    made anew, before anything is evaluated, as soon as a bead has moved more than half the skin since it was made: no
    pair within the cutoff is ever missing. An evaluation that had not enough room is repeated with more, and never
    seen.

    Attributes:
        rebuilds: how often the pairs to look at were listed.
        repeats: how often an evaluation was repeated with more room.
    """

    def __init__(
        self,
        compiled: Compiled,
        system: System,
        skin_A: float,
        edges_per_replica: int | None = None,
        at_once: int | None = None,
    ):
        """Args:
        compiled: the model.
        system: the protein.
        skin_A: reach of the list of a large protein beyond the cutoff.
        edges_per_replica: room for so many directed pairs; evaluators that share this number share a compilation.
        at_once: replicas that are computed at once, where the model is computed in parts; default: all.
        """
        self._compiled, self._system, self._skin = compiled, system, skin_A
        self._room, self._at_once = edges_per_replica, at_once if compiled.in_parts else None
        self._list_room = 0
        self._built: np.ndarray | None = None
        self._graph: Graph | None = None
        self._graph_key = (0, 0.0)
        self._candidates: Candidates | None = None
        self._bond_mean: Any = np.ones(1, np.float32)
        self.rebuilds = self.repeats = 0

    @property
    def capacity(self) -> int | None:
        """Room for directed pairs of a replica; None before anything was evaluated and none was asked for."""
        return self._room

    def rebuild(self, positions: np.ndarray) -> None:
        """List the pairs to look at for unwrapped positions, [R, N, 3] Å."""
        self._prepare(positions - positions.mean(axis=1, keepdims=True))

    def __call__(self, positions: np.ndarray) -> Evaluation:
        """Evaluate unwrapped positions, float64 [R, N, 3] in Å.

        Each replica's centre is subtracted in float64 before the cast to float32: far from the origin float32 has
        too few digits left for an NVE run (500 Å away costs 1 kcal/mol/ns of drift).
        """
        centred = positions - positions.mean(axis=1, keepdims=True)
        if self._built is None or len(self._built) != len(centred) or self._moved_too_far(centred):
            self._prepare(centred)
        single = centred.astype(np.float32)
        while True:
            forces, table = self._compiled.on_replicas(*self.arguments(single))
            numbers = np.asarray(table, np.float64)
            if not self.make_room(float(numbers[:, -1].max())):
                return evaluation_of(forces, numbers)
            self._prepare(centred)

    def arguments(self, positions: Any) -> tuple[Any, Graph, Candidates, Any, int]:
        """What `Compiled.on_replicas` is called with for centred positions, float32 [R, N, 3] Å."""
        assert self._graph is not None
        assert self._candidates is not None
        assert self._room is not None
        return positions, self._graph, self._candidates, self._bond_mean, self._room

    def make_room(self, edges: float) -> bool:
        """Whether there was too little room for so many directed pairs of a replica; there is enough afterwards."""
        assert self._room is not None
        if edges <= self._room:
            return False
        self._room = _with_room(edges, self._system.n_beads)
        self.repeats += 1
        log.debug("%s: room for %d pairs", self._system.name, self._room)
        return True

    @property
    def on_replicas(self) -> Callable[..., tuple[jax.Array, jax.Array]]:
        """The compiled function that `arguments` are for."""
        return self._compiled.on_replicas

    @property
    def listed_at(self) -> np.ndarray:
        """Centred positions [R, N, 3] at which pairs were listed last."""
        assert self._built is not None
        return self._built

    @property
    def reach_A(self) -> float:
        """How far a bead may move, its replica's drift apart, before pairs have to be listed anew."""
        return np.inf if self._system.n_beads <= neighbours.DENSE_BEADS else 0.5 * self._skin

    def state(self) -> dict[str, np.ndarray]:
        """The room for pairs, and how often they were listed; for `restore`."""
        return {"capacity": np.array(self._room or 0), "rebuilds": np.array(self.rebuilds)}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Make as much room as the evaluator had that gave this state: padding decides the rounding, and the list of
        pairs to look at decides nothing."""
        self._room = int(state["capacity"]) or None
        self._built = None
        self.rebuilds = int(state["rebuilds"])

    def renew(self) -> None:
        """List the pairs to look at anew at the next evaluation, whatever has moved."""
        self._built = None

    def _moved_too_far(self, centred: np.ndarray) -> bool:
        if self._built is None or np.isinf(self.reach_A):
            return False
        moved = centred - self._built
        return not np.einsum("rni,rni->rn", moved, moved).max() <= self.reach_A**2

    def _prepare(self, centred: np.ndarray) -> None:
        system, n_replicas = self._system, len(centred)
        if self._room is None:
            self._room = edges_per_replica(system, centred, self._compiled.cutoff_A)
        reach = np.inf if has_all_pairs(system.n_beads, self._room) else 0.0
        at_once = self._at_once or n_replicas
        key = (at_once, reach)
        if self._graph is None or self._graph_key != key:
            # All pairs or none, wherever the beads are: a place that is not a number would lose its pairs for good.
            apart = np.broadcast_to(np.arange(3.0 * system.n_beads).reshape(-1, 3), (at_once, system.n_beads, 3))
            self._graph = jax.device_put(build_graph(system.residue_type, system.linked, apart, reach))
            self._graph_key = key
            if len(system.bond_mean_A):
                self._bond_mean = jax.device_put(np.tile(system.bond_mean_A, at_once).astype(np.float32))
        if system.n_beads <= neighbours.DENSE_BEADS:
            candidates = all_pairs(system.linked)
        else:
            reach = self._compiled.cutoff_A + self._skin
            candidates = listed_pairs(system.linked, centred, reach, self._list_room)
            self._list_room = candidates.separation.shape[1]
        self._candidates = jax.device_put(candidates)
        self._built = centred
        self.rebuilds += 1


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
    return evaluation_of(np.asarray(forces)[: n_replicas * n_beads].reshape(centred.shape), numbers)


def evaluation_of(forces: Any, numbers: np.ndarray) -> Evaluation:
    """Forces [R, N, 3] and a float64 table of `compile_model` as an evaluation."""
    return Evaluation(
        forces=np.asarray(forces, np.float64),
        terms=numbers[:, :N_TERMS],
        min_distance_A=numbers[:, N_TERMS],
        bond_deviation=numbers[:, N_TERMS + 1],
        max_force=numbers[:, N_TERMS + 2],
        finite=numbers[:, N_TERMS + 3] > 0.5,
    )


def edges_per_replica(system: System, frames: np.ndarray, cutoff_A: float) -> int:
    """Room for directed pairs that frames [F, N, 3] of a protein need, with some to spare; at least 1."""
    graph = build_graph(system.residue_type, system.linked, frames, cutoff_A)
    most = np.bincount(graph.replica[graph.receivers[graph.edge_mask]], minlength=1).max()
    return _with_room(float(most), system.n_beads)


def _with_room(edges: float, n_beads: int) -> int:
    """A tenth more, in coarse steps, so that few different sizes are ever compiled; but not more than all pairs."""
    return max(1, min(n_beads * (n_beads - 1), math.ceil(1.1 * edges / ROOM_STEP + 0.5) * ROOM_STEP))

"""Energies of single conformations as functions of the parameters that are refined."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cgloop.config.refine import Refined
from cgloop.model.graph import Graph, build_graph, find_edges
from cgloop.model.hybrid import Model, Params, bead_energies, energy_terms
from cgloop.model.terms import PRIOR_TERM_NAMES, TERM_NAMES
from cgloop.model.topology import separation_matrix
from cgloop.refine.lanes import Pieces

Trained = dict[str, Any]
"""Parameters as a training has them: {"ml": …}, and with a trained prior {"prior": point}."""

SPARE = 1.5
"""Room for pairs, over the largest number in the reference."""

ROOM_STEP = 16

MOVING_TERMS: dict[Refined, tuple[str, ...]] = {"network": ("ml",), "prior": PRIOR_TERM_NAMES, "both": TERM_NAMES}


@dataclass(frozen=True, eq=False)
class FrameEnergy:
    """The energy of one conformation of a protein of N beads.

    Its pairs within the cutoff are found anew for every conformation, in compiled code, unless there is room for all.

    Attributes:
        model: the energy function.
        whole: parameters of the model from trained ones.
        graph: of one replica, with all ordered pairs of beads as its edges.
        separation: int32 [N, N] along an unbroken piece of chain.
        room: largest number of ordered pairs within the cutoff.
        moving: what is refined.
    """

    model: Model
    whole: Callable[[Trained], Params]
    graph: Graph
    separation: np.ndarray
    room: int
    moving: Refined

    @classmethod
    def of(
        cls,
        model: Model,
        whole: Callable[[Trained], Params],
        residue_type: np.ndarray,
        linked: np.ndarray,
        room: int,
        moving: Refined,
    ) -> "FrameEnergy":
        """Return the energy of a protein.

        Args:
            model, whole, moving: as the attributes.
            residue_type: int [N].
            linked: bool [N-1].
            room: see `room_for`.
        """
        apart = np.arange(3.0 * len(residue_type)).reshape(-1, 3)
        graph = build_graph(residue_type, linked, apart, np.inf)
        return cls(model, whole, graph, separation_matrix(linked), room, moving)

    @property
    def n_beads(self) -> int:
        """Number of beads."""
        return len(self.graph.types)

    @property
    def all_pairs(self) -> bool:
        """Whether all pairs are edges, so that none has to be looked for."""
        return self.room >= self.n_beads * (self.n_beads - 1)

    def with_room(self, room: int) -> "FrameEnergy":
        """Return the same with other room."""
        return replace(self, room=min(room, self.n_beads * (self.n_beads - 1)))

    def total(self, trained: Trained, positions: jax.Array) -> jax.Array:
        """Return the whole energy of positions [N, 3] Å, a scalar in kcal/mol."""
        return self._sum(trained, positions, TERM_NAMES)

    def part(self, trained: Trained, positions: jax.Array) -> jax.Array:
        """Return the energy of the terms that are refined, a scalar in kcal/mol."""
        return self._sum(trained, positions, MOVING_TERMS[self.moving])

    def rest(self, trained: Trained, positions: jax.Array) -> jax.Array:
        """Return the energy of all other terms, a scalar in kcal/mol."""
        return self._sum(
            trained, positions, tuple(name for name in TERM_NAMES if name not in MOVING_TERMS[self.moving])
        )

    def beads(self, trained: Trained, positions: jax.Array) -> jax.Array:
        """Return the whole energy of every bead, [N] in kcal/mol."""
        return bead_energies(self.model, self.whole(trained), positions, self._at(positions))

    def pairs(self, positions: jax.Array) -> jax.Array:
        """Return the number of ordered pairs within the cutoff, int32; energies are wrong where it exceeds `room`."""
        return self._near(positions).sum(dtype=jnp.int32)

    def _sum(self, trained: Trained, positions: jax.Array, names: tuple[str, ...]) -> jax.Array:
        terms = energy_terms(self.model, self.whole(trained), positions, self._at(positions))
        return sum((jnp.sum(terms[name]) for name in names), jnp.zeros((), positions.dtype))

    def _near(self, positions: jax.Array) -> jax.Array:
        vectors = positions[:, None] - positions[None]
        return (jnp.sum(vectors**2, axis=-1) <= self.model.cutoff_A**2) & ~jnp.eye(self.n_beads, dtype=bool)

    def _at(self, positions: jax.Array) -> Graph:
        graph = jax.tree.map(jnp.asarray, self.graph)
        if self.all_pairs:
            return graph
        near = self._near(jax.lax.stop_gradient(positions)).reshape(-1)
        place = jnp.nonzero(near, size=self.room, fill_value=0)[0].astype(jnp.int32)
        filled = jnp.arange(self.room, dtype=jnp.int32) < near.sum(dtype=jnp.int32)
        return graph._replace(
            senders=jnp.where(filled, place % self.n_beads, self.n_beads - 1),
            receivers=jnp.where(filled, place // self.n_beads, self.n_beads - 1),
            separation=jnp.asarray(self.separation).reshape(-1)[place],
            edge_mask=filled,
        )


def room_for(positions: np.ndarray, cutoff_A: float) -> int:
    """Return the room for ordered pairs within the cutoff that conformations like these, [F, N, 3] Å, need.

    Small proteins get room for all pairs.
    """
    n_beads = positions.shape[1]
    most = max((len(find_edges(frame, cutoff_A)[0]) for frame in positions), default=0)
    room = int(np.ceil(SPARE * most / ROOM_STEP)) * ROOM_STEP
    return max(1, min(room, n_beads * (n_beads - 1)))


def energies(energy: FrameEnergy) -> Callable[[Trained, np.ndarray], np.ndarray]:
    """Return a function of parameters and frames [F, N, 3] Å: the energies [F] of the terms that are refined."""
    return Pieces(lambda trained, positions: jax.lax.map(partial(energy.part, trained), positions)).rows


def forces(
    function: Callable[[Trained, jax.Array], jax.Array],
) -> Callable[[Trained, np.ndarray], np.ndarray]:
    """Return a function of parameters and frames [F, N, 3] Å: forces [F, N, 3] in kcal/mol/Å.

    Args:
        function: energy of a frame.
    """
    slope = jax.grad(function, argnums=1)
    return Pieces(lambda trained, positions: jax.lax.map(lambda one: -slope(trained, one), positions)).rows

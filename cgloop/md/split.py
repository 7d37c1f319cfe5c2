"""The force on a replica, energy term by energy term, for frames that somebody wants explained."""

from collections.abc import Callable
from functools import partial

import jax
import numpy as np

from cgloop.md.system import System, TermForces
from cgloop.model.graph import CapacityError, build_graph
from cgloop.model.hybrid import Model, Params, term_forces
from cgloop.model.terms import TERM_NAMES

ALL_PAIRS_BEADS = 32
"""Up to this size all pairs are listed: most are within reach anyway."""

BEADS_AT_ONCE = 512


def split_forces(model: Model, params: Params, system: System) -> TermForces:
    """The forces of frames term by term, from the model in JAX; compiled when they are first needed.

    Frames are computed in blocks of one size, so that however many there are little is compiled.
    """
    function: Callable[..., jax.Array] = jax.jit(partial(term_forces, model, params))
    block = max(1, BEADS_AT_ONCE // system.n_beads)
    # Up to some size all pairs are listed, and there is one size of graph; beyond it room grows as it is needed.
    reach = np.inf if system.n_beads <= ALL_PAIRS_BEADS else model.cutoff_A
    room = {"edges": 1}

    def of_block(frames: np.ndarray) -> np.ndarray:
        centred = frames - frames.mean(axis=1, keepdims=True)
        full = np.concatenate([centred, np.repeat(centred[-1:], block - len(frames), axis=0)])
        try:
            graph = build_graph(system.residue_type, system.linked, full, reach, edge_capacity=room["edges"])
        except CapacityError as error:
            room["edges"] = int(1.2 * error.needed["edges"])
            graph = build_graph(system.residue_type, system.linked, full, reach, edge_capacity=room["edges"])
        forces = np.asarray(function(full.reshape(-1, 3).astype(np.float32), graph))
        by_frame = forces.reshape(len(TERM_NAMES), block, system.n_beads, 3)
        return np.moveaxis(by_frame, 1, 0)[: len(frames)]

    def split(frames: np.ndarray) -> np.ndarray:
        forces = np.full((len(frames), len(TERM_NAMES), system.n_beads, 3), np.nan, np.float32)
        finite = np.flatnonzero(np.isfinite(frames).all(axis=(1, 2)))
        for start in range(0, len(finite), block):
            chosen = finite[start : start + block]
            forces[chosen] = of_block(frames[chosen])
        return forces

    return split

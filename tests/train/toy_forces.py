"""A small model that is quick to compile, for tests of the loop."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from cgloop.train.evaluate import predictions

CUTOFF_A = 9.0
N_CENTRES = 24


def pair_forces(params, positions, graph):
    """Each pair's energy is a sum of Gaussians of its distance."""

    def energy(positions):
        vectors = positions[graph.senders] - positions[graph.receivers]
        square = jnp.where(graph.edge_mask, jnp.sum(vectors**2, axis=-1), 1.0)
        bumps = jnp.exp(-((jnp.sqrt(square)[:, None] - jnp.linspace(2.0, CUTOFF_A, N_CENTRES)) ** 2) / 0.3)
        bonded = (graph.separation == 1)[:, None]
        height = bumps @ params["free"] + jnp.where(bonded, bumps, 0.0) @ params["bonded"]
        return jnp.sum(jnp.where(graph.edge_mask, height[:, 0], 0.0))

    return -jax.grad(energy)(positions)


def start():
    return {"free": jnp.zeros((N_CENTRES, 1)), "bonded": jnp.zeros((N_CENTRES, 1))}


def predict(forces, params, frames, shape):
    """Forces on all frames at once."""
    return np.concatenate([found for _, (found,) in predictions([partial(forces, params)], frames, shape)])

"""Prints the gradient of the relative entropy of a bond by chemtrain's machinery and by ours, as JSON.

A program of its own: chemtrain 0.2.0 imports names from JAX that newer versions do not have, which are put back here.
"""

import json
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

for name in ("map", "unflatten", "flatten", "leaves", "structure", "transpose"):
    setattr(jax, f"tree_{name}", getattr(jax.tree, name))

from chemtrain.ensemble import evaluation, reweighting, sampling  # noqa: E402
from chemtrain.learn import difftre  # noqa: E402

from cgloop.refine.energy import energies  # noqa: E402
from cgloop.refine.objective import pool_weights, weighted_gradient  # noqa: E402
from tests.refine.dimers import KT, dimer_energy, drawn, frames_of, point  # noqa: E402


class Frames(NamedTuple):
    """States as chemtrain wants them; only positions matter."""

    position: Any
    mass: Any
    velocity: Any


@jax.tree_util.register_static
class NoNeighbors:
    """A list of neighbors that nobody asks."""

    reference_position = jnp.zeros((2, 3))
    did_buffer_overflow = False
    format = None
    idx = jnp.zeros((2, 1), int)

    def update(self, *_, **__):
        return self

    def set(self, **_):
        return self


def frames(position) -> Frames:
    return Frames(position, jnp.ones((len(position), 2, 1)), jnp.zeros_like(position))


def main() -> None:
    energy = dimer_energy()
    made, now = point(20.0), point(24.0, 4.05)
    samples = frames_of(drawn(20.0, 200, 3)).astype(np.float32)
    reference = frames_of(drawn(35.0, 300, 4)).astype(np.float32)
    old = energies(energy)(made, samples)

    def template(params):
        return lambda position, neighbor=None, **_: energy.part(params, position)

    evaluation.SimpleState = frames
    timings = sampling.process_printouts(2.0, 10.0, 2.0, 2.0)
    _, compute_weights, *_ = reweighting.init_pot_reweight_propagation_fns(
        template, lambda *_, **__: (None, None), None, timings, {"kT": KT}, safe_propagation=False
    )
    state = sampling.TrajectoryState(
        sim_state=SimpleNamespace(nbrs=NoNeighbors()),
        trajectory=frames(jnp.asarray(samples)),
        dynamic_kwargs={},
        static_kwargs={"kT": jnp.float32(KT)},
        aux={"energy": jnp.asarray(old)},
    )
    loss = difftre.init_rel_entropy_loss_fn(template, compute_weights, KT, 10)
    theirs = jax.grad(loss)(now, state, {"R": jnp.asarray(reference)})["prior"]
    change = (energies(energy)(now, samples).astype(float) - old) / KT
    weights = pool_weights([change], [np.ones(len(samples), bool)], 0.0)
    signed = np.concatenate([np.full(len(reference), 1.0 / len(reference)), -weights.frames[0]]) / KT
    both = np.concatenate([reference, samples])
    ours = weighted_gradient(energy)(now, both, signed.astype(np.float32))["prior"]
    print(json.dumps({name: [float(one[name]) for one in (theirs, ours)] for name in ours}))


if __name__ == "__main__":
    main()

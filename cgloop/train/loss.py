"""The force-matching loss.

The force of a coarse-grained model at a configuration is the mean of the projected all-atom forces there
(Noid et al., doi:10.1063/1.2938860). Minimising the mean squared deviation from the instantaneous forces finds it;
the scatter of these forces around their mean is a floor under the loss that no model gets below.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cgloop.train.loader import Batch


class Sums(NamedTuple):
    """What a loss is made of; sums over real beads, so that those of parts of a batch add up.

    Attributes:
        total: Σ w·c(F_pred − F_target), c the square or Huber's function.
        weight: Σ 3w, the number of force components if there are no weights.
        squares: Σ |F_pred − F_target|², without weights.
        components: number of force components.
    """

    total: jax.Array
    weight: jax.Array
    squares: jax.Array
    components: jax.Array

    @property
    def mean(self) -> jax.Array:
        """total / weight, (kcal/mol/Å)²; 0 for an empty batch."""
        return self.total / jnp.maximum(self.weight, jnp.finfo(self.total.dtype).tiny)


def force_loss(predicted: jax.Array, batch: Batch, huber_delta: float | None = None) -> Sums:
    """Deviation of forces from the target over the real beads of a batch.

    Args:
        predicted: [N, 3], kcal/mol/Å.
        batch: with the target; padding counts nothing.
        huber_delta: where the square gives way to a line, kcal/mol/Å.
    """
    mask = batch.graph.bead_mask
    deviation = jnp.where(mask[:, None], predicted - batch.target, 0.0)
    squares, components = jnp.sum(deviation**2), 3 * jnp.sum(mask)
    if batch.weight is None and huber_delta is None:
        return Sums(squares, components, squares, components)
    weight = bead_weights(batch)
    cost = cost_of(deviation, huber_delta)
    return Sums(jnp.sum(weight[:, None] * cost), 3 * jnp.sum(weight), squares, components)


def size_loss(forces: jax.Array, batch: Batch) -> jax.Array:
    """Σ w |F|² of forces [N, 3] over the real beads of a batch."""
    mask = batch.graph.bead_mask
    return jnp.sum(bead_weights(batch)[:, None] * jnp.where(mask[:, None], forces, 0.0) ** 2)


def bead_weights(batch: Batch) -> jax.Array:
    """Weight [N] of every bead in the loss, 0 on padding."""
    mask = batch.graph.bead_mask
    return jnp.where(mask, 1.0 if batch.weight is None else batch.weight, 0.0).astype(batch.target.dtype)


def cost_of(deviation: Any, huber_delta: float | None) -> Any:
    """d², or Huber's function (doi:10.1214/aoms/1177703732) scaled to equal d² up to `huber_delta`, then 2δ|d| − δ²."""
    if huber_delta is None:
        return deviation**2
    inside = np.minimum if isinstance(deviation, np.ndarray) else jnp.minimum
    near = inside(abs(deviation), huber_delta)
    return near * (2.0 * abs(deviation) - near)


def mean_loss(
    predicted: np.ndarray, target: np.ndarray, weight: np.ndarray | None, huber_delta: float | None
) -> tuple[float, float]:
    """The loss of whole sets in float64: sums of w·c and of 3w; forces [B, 3], weights [B]."""
    cost = cost_of(predicted.astype(np.float64) - target, huber_delta)
    if weight is None:
        return float(cost.sum()), float(cost.size)
    return float((weight[:, None] * cost).sum()), float(3.0 * weight.sum(dtype=np.float64))

"""The force-matching loss.

The force of a coarse-grained model at a configuration is the mean of the projected all-atom forces there
(Noid et al., doi:10.1063/1.2938860). Minimising the mean squared deviation from the instantaneous forces finds it;
the scatter of these forces around their mean is a floor under the loss that no model gets below.
"""

import jax
import jax.numpy as jnp

from cgloop.train.loader import Batch


def force_loss(predicted: jax.Array, batch: Batch) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Mean squared deviation per force component over the real beads of a batch.

    Args:
        predicted: [N, 3], kcal/mol/Å.
        batch: with the target; padding counts nothing.

    Returns:
        The mean, (kcal/mol/Å)², and what it was made of: Σ |F_pred − F_target|² and the number of components; with
        weights, all three are weighted.
    """
    mask = batch.graph.bead_mask
    deviation = jnp.where(mask[:, None], predicted - batch.target, 0.0)
    if batch.weight is None:
        total, components = jnp.sum(deviation**2), 3 * jnp.sum(mask)
    else:
        weight = jnp.where(mask, batch.weight, 0.0)
        total, components = jnp.sum(weight[:, None] * deviation**2), 3 * jnp.sum(weight)
        return total / jnp.maximum(components, jnp.finfo(components.dtype).tiny), (total, components)
    return total / jnp.maximum(components, 1), (total, components)

"""The gradient of the relative entropy from samples, and their weights at parameters they were not made with.

S(θ) = ⟨ln p_reference − ln p_θ⟩_reference has the gradient β (⟨∂U_θ/∂θ⟩_reference − ⟨∂U_θ/∂θ⟩_θ): M. S. Shell, J. Chem.
Phys. 129, 144108 (2008). Averages over the model come from frames that were made with somewhat older parameters, with
weights exp(−β ΔU): S. Thaler and J. Zavadlav, Nat. Commun. 12, 6884 (2021).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cgloop.refine.energy import FrameEnergy, Trained
from cgloop.refine.lanes import Pieces


@dataclass(frozen=True)
class Weights:
    """Weights of the frames of several blocks.

    Attributes:
        ess: per block, effective share of its frames, 1 / (n Σ w²).
        frames: per block, weights [n_b]; all blocks together have the sum 1.
    """

    ess: list[float]
    frames: list[np.ndarray]


def pool_weights(changes: Sequence[np.ndarray], sound: Sequence[np.ndarray], drop_ess: float) -> Weights:
    """Return the weights of frames at new parameters, normalized block by block.

    The partition functions of blocks are not known, hence each block is normalized by itself. Those with an effective
    share below `drop_ess` count nothing, the others by their effective samples; if none is left, the newest alone.

    Args:
        changes: per block, the newest last, β (U_new − U_old) of every frame [n_b].
        sound: per block, bool [n_b], which frames count; at least one of each block.
        drop_ess: smallest share.
    """
    within, ess, counts = [], [], []
    for change, good in zip(changes, sound, strict=True):
        exponent = np.where(good, -np.asarray(change, np.float64), -np.inf)
        weight = np.exp(exponent - exponent.max())
        weight /= weight.sum()
        within.append(weight)
        counts.append(int(good.sum()))
        ess.append(float(1.0 / (counts[-1] * (weight**2).sum())))
    share = np.array([n * one if one >= drop_ess else 0.0 for n, one in zip(counts, ess, strict=True)])
    if not share.any():
        share[-1] = 1.0
    share /= share.sum()
    return Weights(ess, [part * weight for part, weight in zip(share, within, strict=True)])


def weighted_gradient(energy: FrameEnergy) -> Callable[[Trained, np.ndarray, np.ndarray], Trained]:
    """Return a function of parameters, frames [F, N, 3] Å and coefficients [F]: Σ c_f ∂U(x_f)/∂θ, a tree like θ.

    U is the energy of the terms that are refined; the others do not depend on θ.
    """

    def piece(trained: Trained, positions: jax.Array, coefficients: jax.Array) -> Trained:
        def add(total: Any, item: Any) -> tuple[Any, None]:
            frame, coefficient = item
            slope = jax.grad(energy.part)(trained, frame)
            return jax.tree.map(lambda old, new: old + coefficient * new, total, slope), None

        zero = jax.tree.map(jnp.zeros_like, trained)
        return jax.lax.scan(add, zero, (positions, coefficients))[0]

    return Pieces(piece).total


def force_gradient(
    energy: FrameEnergy,
) -> Callable[[Trained, np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, Trained]]:
    """Return a function of parameters, frames [F, N, 3] Å, the forces that the refined terms should have on them
    [F, N, 3] kcal/mol/Å, and weights [F]: the weighted sum over frames of the mean squared deviation of a component,
    and its gradient."""

    def deviation(trained: Trained, frame: jax.Array, target: jax.Array, weight: jax.Array) -> jax.Array:
        return weight * jnp.mean((-jax.grad(energy.part, argnums=1)(trained, frame) - target) ** 2)

    def piece(trained: Trained, *arrays: jax.Array) -> Any:
        def add(total: Any, item: Any) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, jax.value_and_grad(deviation)(trained, *item)), None

        zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, trained))
        return jax.lax.scan(add, zero, arrays)[0]

    return Pieces(piece).total


def norm(tree: Any) -> float:
    """Return the Euclidean norm over all leaves."""
    return float(np.sqrt(sum(float(np.sum(np.asarray(leaf, np.float64) ** 2)) for leaf in jax.tree.leaves(tree))))

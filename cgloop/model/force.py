"""Forces whose derivative by the parameters is cheap."""

from collections.abc import Callable
from typing import Any

import jax

Energy = Callable[[Any, jax.Array], jax.Array]
"""(params, positions) -> a scalar."""


def minus_gradient(energy: Energy) -> Callable[[Any, jax.Array], jax.Array]:
    """F(p, x) = −∂E/∂x, with a reverse pass that goes forwards.

    A loss of forces with derivatives v = ∂L/∂F has ∂L/∂p = −∂/∂ε ∂E/∂p(p, x + ε v) at ε = 0: the gradient of the energy
    by the parameters, differentiated once along v. The usual way, reverse over reverse, keeps every intermediate result
    of the energy and of its gradient for a second way back; this way nothing is kept but what the gradient itself
    needs, and a tangent beside it (B. A. Pearlmutter, Neural Comput. 6, 147 (1994)).

    Args:
        energy: twice differentiable.

    Returns:
        a function of (params, positions); differentiable in reverse, not forwards.
    """

    def force(params: Any, positions: jax.Array) -> jax.Array:
        return -jax.grad(energy, argnums=1)(params, positions)

    def reverse(arguments: tuple[Any, jax.Array], cotangent: jax.Array) -> tuple[Any, jax.Array]:
        params, positions = arguments
        _, change = jax.jvp(lambda x: jax.grad(energy, argnums=(0, 1))(params, x), (positions,), (cotangent,))
        of_params, of_positions = jax.tree.map(lambda part: -part, change)
        return of_params, of_positions

    differentiable = jax.custom_vjp(force)
    differentiable.defvjp(lambda params, positions: (force(params, positions), (params, positions)), reverse)
    return differentiable

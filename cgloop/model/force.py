"""Forces whose derivative by the parameters is cheap."""

from collections.abc import Callable
from typing import Any

import jax

Energy = Callable[[Any, jax.Array, Any], jax.Array]
"""(params, positions, graph) -> a scalar."""


def minus_gradient(energy: Energy) -> Callable[[Any, jax.Array, Any], jax.Array]:
    """F(p, x, graph) = −∂E/∂x, with a reverse pass that goes forwards.

    A loss of forces with derivatives v = ∂L/∂F has ∂L/∂p = −∂/∂ε ∂E/∂p(p, x + ε v) at ε = 0: the gradient of the energy
    by the parameters, differentiated once along v. The usual way, reverse over reverse, keeps every intermediate result
    of the energy and of its gradient for a second way back; this way nothing is kept but what the gradient itself
    needs, and a tangent beside it (B. A. Pearlmutter, Neural Comput. 6, 147 (1994)).

    Args:
        energy: twice differentiable by params and positions; it refers to no other traced arrays.

    Returns:
        a function of (params, positions, graph); differentiable in reverse, not forwards, and not by the graph.
    """

    def force(params: Any, positions: jax.Array, graph: Any) -> jax.Array:
        return -jax.grad(energy, argnums=1)(params, positions, graph)

    def reverse(arguments: tuple[Any, jax.Array, Any], cotangent: jax.Array) -> tuple[Any, jax.Array, None]:
        params, positions, graph = arguments
        slopes = jax.grad(energy, argnums=(0, 1))
        _, change = jax.jvp(lambda x: slopes(params, x, graph), (positions,), (cotangent,))
        of_params, of_positions = jax.tree.map(lambda part: -part, change)
        return of_params, of_positions, None

    differentiable = jax.custom_vjp(force)
    differentiable.defvjp(lambda *arguments: (force(*arguments), arguments), reverse)
    return differentiable

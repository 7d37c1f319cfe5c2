"""The sums over edges and channels of an equivariant network, each with its own reverse pass.

Written for how XLA compiles them on CPUs. Arrays of edges are [edges, ..., channels] with contiguous rows, so that
gathers and segment sums move whole rows. Products of an edge and a bead are recomputed in the reverse pass instead of
being kept. Every reverse pass is made of the same kind of operations and can be differentiated again.

Shapes: E edges, N beads, H = (l_max + 1)² components m of all harmonics, L = l_max + 1 degrees, C channels, F features.
Components of degree l are l² … (l + 1)² − 1.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

dot = partial(jnp.dot, precision=jax.lax.Precision.HIGHEST)
"""Products in full float32 also where the machine would rather use fewer digits; no difference on CPUs."""


def reverse_pass(reverse: Callable[[tuple, Any], tuple]) -> Callable[[Callable], Callable]:
    """Decorator that gives a function its reverse pass.

    Args:
        reverse: of (arguments, cotangent of the result) to one cotangent for each argument, None for zero. Nothing but
            the arguments is kept from the forward pass.
    """

    def decorate(function: Callable) -> Callable:
        differentiable = jax.custom_vjp(function)
        # `function` itself, so that both passes can be differentiated forwards, too.
        differentiable.defvjp(lambda *arguments: (function(*arguments), arguments), reverse)
        return differentiable

    return decorate


def gather(rows: jax.Array, index: jax.Array) -> jax.Array:
    """rows[index] along the first axis; indices must be valid."""
    return rows.at[index].get(mode="promise_in_bounds", wrap_negative_indices=False)


def segment_sum(values: jax.Array, index: jax.Array, n: int) -> jax.Array:
    """[n, ...]: sums of the rows of `values` with the same index; indices must be valid."""
    zeros = jnp.zeros((n, *values.shape[1:]), values.dtype)
    return zeros.at[index].add(values, mode="promise_in_bounds", wrap_negative_indices=False)


def degrees(n_components: int) -> list[slice]:
    """Where the components of each degree are."""
    return [slice(d * d, (d + 1) ** 2) for d in range(round(n_components**0.5))]


def degree_of_component(n_degrees: int) -> np.ndarray:
    """Degree of each component: 0, 1, 1, 1, 2, …"""
    return np.repeat(np.arange(n_degrees), 2 * np.arange(n_degrees) + 1)


def stored(values: jax.Array) -> jax.Array:
    """`values` as an array in memory; their cotangent, too.

    XLA would fuse the sums that make `values` into whatever reads them, and do them anew for each edge of a bead or
    each term of the next sum. Nothing is fused into a matrix product: this is one, with the unit matrix.
    """
    width = values.shape[-1]
    return dot(values.reshape(-1, width), jnp.eye(width, dtype=values.dtype)).reshape(values.shape)


def const_dot(matrix: np.ndarray, values: jax.Array) -> jax.Array:
    """matrix [a, b] · values [b, X] for a constant, with its transpose as a constant, too, in the reverse pass."""

    @reverse_pass(lambda _, cotangent: (dot(jnp.asarray(matrix.T.copy(), cotangent.dtype), cotangent),))
    def product(values: jax.Array) -> jax.Array:
        return dot(jnp.asarray(matrix, values.dtype), values)

    return product(values)


def _by_degree(rows: jax.Array, n_degrees: int) -> jax.Array:
    """[N, H, F] as [N·H, L·F]: each row in the columns of its degree, zeros elsewhere.

    One matrix product with the weights of all degrees below each other then takes the right ones for every row.
    """
    n, n_components, width = rows.shape
    own = degree_of_component(n_degrees)[:, None] == np.arange(n_degrees)
    spread = rows[:, :, None, :] * own[:, :, None].astype(rows.dtype)
    return spread.reshape(n * n_components, n_degrees * width)


def _sum_over_pairs_reverse(arguments: tuple, cotangent: jax.Array) -> tuple:
    harmonics, latent, receivers, _ = arguments
    (n_edges, n_components), n_features = harmonics.shape, latent.shape[1]
    rows = gather(cotangent.reshape(-1, n_components * n_features), receivers)
    rows = rows.reshape(n_edges, n_components, n_features)
    of_harmonics = jnp.sum(latent[:, None] * rows, axis=-1)
    of_latent = sum(harmonics[:, m, None] * rows[:, m] for m in range(n_components))
    return of_harmonics, of_latent, None, None


@reverse_pass(_sum_over_pairs_reverse)
def sum_over_pairs(harmonics: jax.Array, latent: jax.Array, receivers: jax.Array, beads: jax.Array) -> jax.Array:
    """A[i, m, f] = Σ_{e → i} Y[e, m] x[e, f].

    Args:
        harmonics: [E, H].
        latent: [E, F].
        receivers: int [E].
        beads: [N] of integers that do not matter.

    Returns:
        [N, H, F].
    """
    return segment_sum(harmonics[:, :, None] * latent[:, None, :], receivers, beads.shape[0])


def _mix_by_degree_reverse(arguments: tuple, cotangent: jax.Array) -> tuple:
    rows, weights = arguments
    n_features, n_degrees, channels = weights.shape
    spread = _by_degree(cotangent, n_degrees)
    stacked = weights.transpose(1, 2, 0).reshape(n_degrees * channels, n_features)
    of_weights = dot(rows.reshape(-1, n_features).T, spread).reshape(weights.shape)
    return dot(spread, stacked).reshape(rows.shape), of_weights


@reverse_pass(_mix_by_degree_reverse)
def mix_by_degree(rows: jax.Array, weights: jax.Array) -> jax.Array:
    """Γ[i, m, c] = Σ_f A[i, m, f] w[f, l(m), c], of [N, H, F] and [F, L, C]."""
    n_features, n_degrees, channels = weights.shape
    stacked = jnp.swapaxes(weights, 0, 1).reshape(n_degrees * n_features, channels)
    return dot(_by_degree(rows, n_degrees), stacked).reshape(*rows.shape[:2], channels)


def _outer_reverse(arguments: tuple, cotangent: jax.Array) -> tuple:
    harmonics, factors = arguments
    n_edges, n_components, channels = factors.shape
    # A product with blocks of ones is much faster than a reduction along the last axis.
    ones = np.kron(np.eye(n_components), np.ones((channels, 1)))
    flat = (factors * cotangent).reshape(n_edges, n_components * channels)
    return dot(flat, jnp.asarray(ones, flat.dtype)), harmonics[:, :, None] * cotangent


@reverse_pass(_outer_reverse)
def outer(harmonics: jax.Array, factors: jax.Array) -> jax.Array:
    """V[e, m, c] = Y[e, m] w[e, m, c], of [E, H] and [E, H, C]."""
    return harmonics[:, :, None] * factors


def _own_scalars_reverse(arguments: tuple, cotangent: jax.Array) -> tuple:
    tensors, environment, receivers = arguments
    n_edges, n_components, channels = tensors.shape
    rows = gather(environment.reshape(-1, n_components * channels), receivers).reshape(tensors.shape)
    parts = [
        jnp.broadcast_to(cotangent[:, None, i * channels : (i + 1) * channels], (n_edges, 2 * i + 1, channels))
        for i in range(len(degrees(n_components)))
    ]
    spread = jnp.concatenate(parts, axis=1)
    return spread * rows, segment_sum(spread * tensors, receivers, environment.shape[0]), None


@reverse_pass(_own_scalars_reverse)
def own_scalars(tensors: jax.Array, environment: jax.Array, receivers: jax.Array) -> jax.Array:
    """s[e, l·C + c] = Σ_{m of l} V[e, m, c] Γ[i(e), m, c], of [E, H, C] and [N, H, C]."""
    _, n_components, channels = tensors.shape
    rows = gather(environment.reshape(-1, n_components * channels), receivers).reshape(tensors.shape)
    sums = [sum(tensors[:, m] * rows[:, m] for m in range(d.start, d.stop)) for d in degrees(n_components)]
    return jnp.concatenate(sums, axis=1)


def _scalars_reverse(arguments: tuple, cotangent: jax.Array) -> tuple:
    tensors, _, _, chains, receivers = arguments
    n_edges, n_components, channels = tensors.shape
    n_scalars = chains.shape[2]
    rows = gather(chains.reshape(chains.shape[0], -1), receivers).reshape(n_edges, n_components, -1)
    cotangent = cotangent.reshape(n_edges, 1, n_scalars, channels)
    of_tensors = sum(cotangent[:, :, r] * rows[:, :, r * channels : (r + 1) * channels] for r in range(n_scalars))
    of_chains = segment_sum(cotangent * tensors[:, :, None], receivers, chains.shape[0])
    return of_tensors, None, None, of_chains, None


@reverse_pass(_scalars_reverse)
def scalars(
    tensors: jax.Array, harmonics: jax.Array, factors: jax.Array, chains: jax.Array, receivers: jax.Array
) -> jax.Array:
    """s[e, r·C + c] = Σ_m V[e, m, c] T[i(e), m, r, c], with V[e, m, c] = Y[e, m] w[e, l(m), c].

    Args:
        tensors: V, [E, H, C]; derivatives go here.
        harmonics, factors: Y [E, H] and w [E, L, R·C], repeated R times: the same V, for the forward pass, in the
            shape in which it is fastest. The reverse pass gives no derivative by them.
        chains: T, [N, H, R, C].
        receivers: int [E].

    Returns:
        [E, R·C].
    """
    n_edges, n_components, _ = tensors.shape
    rows = gather(chains.reshape(chains.shape[0], -1), receivers).reshape(n_edges, n_components, -1)
    return sum(
        factors[:, i] * sum(harmonics[:, m, None] * rows[:, m] for m in range(d.start, d.stop))
        for i, d in enumerate(degrees(n_components))
    )


def _apply_matrices_reverse(arguments: tuple, cotangent: jax.Array) -> tuple:
    matrices, vectors = arguments
    of_matrices = sum(cotangent[r][:, None] * vectors[r][None] for r in range(len(vectors)))
    of_vectors = sum(matrices[a][None] * cotangent[:, a][:, None] for a in range(len(matrices)))
    return of_matrices, of_vectors


@reverse_pass(_apply_matrices_reverse)
def apply_matrices(matrices: jax.Array, vectors: jax.Array) -> jax.Array:
    """T[r, a, X] = Σ_b M[a, b, X] t[r, b, X], of [A, B, X] and [R, B, X], for each X by itself."""
    return sum(matrices[None, :, b] * vectors[:, b][:, None] for b in range(matrices.shape[1]))

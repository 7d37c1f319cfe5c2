"""What networks are built of: dense layers and radial functions."""

from math import prod, sqrt
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cgloop.model.contraction import dot

Params = dict[str, Any]

SILU_GAIN = 1.6765324703310907
"""Makes the mean square of silu(z) one for normally distributed z."""


def silu(x: jax.Array) -> jax.Array:
    """SiLU, scaled so that activations keep unit variance."""
    return SILU_GAIN * jax.nn.silu(x)


_FEWEST = 4096
"""Numbers drawn at once, at least; more go up in powers of two."""


def random_weights(key: jax.Array, shape: tuple[int, ...], n_in: int, scale: float = 1.0) -> jax.Array:
    """Normal numbers with variance scale²/n_in: those of `jax.random.normal`, without compiling it for every shape.

    JAX's numbers are a function of key and place in the array alone (`jax_threefry_partitionable`), so that those of an
    array are the first of a longer one; and there are few different lengths of these.
    """
    size = prod(shape)
    room = max(_FEWEST, 1 << (size - 1).bit_length())
    numbers = scale * jax.random.normal(key, (room,)) / sqrt(n_in)
    return jnp.asarray(np.asarray(numbers)[:size].reshape(shape))


def mlp_init(key: jax.Array, n_in: int, widths: tuple[int, ...]) -> Params:
    """Random parameters of `mlp`: normal with variance 1/n_in, biases zero."""
    params = {}
    for i, (key_i, width) in enumerate(zip(jax.random.split(key, len(widths)), widths, strict=True)):
        params[f"weight_{i}"] = random_weights(key_i, (n_in, width), n_in)
        params[f"bias_{i}"] = jnp.zeros(width)
        n_in = width
    return params


def mlp(params: Params, x: jax.Array, first: int = 0) -> jax.Array:
    """Dense layers from number `first` on, each followed by SiLU."""
    for i in range(first, len(params) // 2):
        x = silu(dot(x, params[f"weight_{i}"]) + params[f"bias_{i}"])
    return x


def envelope(distances: jax.Array, cutoff_A: float, p: int) -> jax.Array:
    """u(d): 1 at 0, 0 from the cutoff on, two continuous derivatives.

    Source: J. Gasteiger, J. Groß, S. Günnemann, Directional message passing, ICLR 2020, eq. 8.
    """
    x = jnp.minimum(distances / cutoff_A, 1.0)
    return 1.0 - 0.5 * (p + 1) * (p + 2) * x**p + p * (p + 2) * x ** (p + 1) - 0.5 * p * (p + 1) * x ** (p + 2)


def radial_basis(distances: jax.Array, cutoff_A: float, n_radial: int) -> jax.Array:
    """sin(nπx)/x of x = d/cutoff, n = 1 … n_radial: [E, n_radial]; of the order of one at the distances of chains."""
    x = (distances / cutoff_A)[:, None]
    return jnp.sin(jnp.arange(1, n_radial + 1, dtype=distances.dtype) * jnp.pi * x) / x

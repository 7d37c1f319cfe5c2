"""Test of the compiler that computes forces here: sums that are known must come out right."""

from collections.abc import Callable
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from cgloop.errors import UserError
from cgloop.jax_environment import FUSION_OPTION, NO_FUSED_REDUCTIONS

N_ROWS = 32_769
"""Smallest number of rows in float32 at which jaxlib 0.10.2 was seen to return a wrong sum."""

SquaredNorms = Callable[[np.ndarray], jax.Array]
"""Rows [n, 3] to the squared norms [n] of their products with the identity matrix."""


def squared_norms(rows: jax.Array) -> jax.Array:
    """Return |I r|² of each row [n, 3]: a matrix–vector product under `vmap`, followed by a sum."""
    identity = jnp.eye(3, dtype=rows.dtype)
    return jax.vmap(lambda row: jnp.sum((identity @ row) ** 2))(rows)


def find_wrong_sum(compute: SquaredNorms) -> str:
    """Return what is wrong with a known sum, in words; empty if it is right.

    The last row is (n − 1, 0, 0), whose squared norm is a power of two that float32 holds exactly.

    Args:
        compute: how the norms are computed.
    """
    rows = np.zeros((N_ROWS, 3), np.float32)
    rows[:, 0] = np.arange(N_ROWS)
    found, right = float(np.asarray(compute(rows))[-1]), (N_ROWS - 1) ** 2
    return "" if found == right else f"a compiled sum is {found:.0f}, and must be {right}"


def require_right_sums(compute: SquaredNorms | None = None) -> None:
    """Refuse to compute where compiled sums are wrong; nothing is tested where JAX does not compute on the CPU.

    Args:
        compute: how the tested norms are computed; default: compiled by JAX, once a process.

    Raises:
        UserError: a sum is wrong.
    """
    if jax.default_backend() != "cpu":
        return
    wrong = _wrong_sum_here() if compute is None else find_wrong_sum(compute)
    if wrong:
        raise UserError(
            f"jax {jax.__version__} computes wrong numbers on this CPU: {wrong}",
            remedy=f"pip install 'jax==0.10.1', or take {FUSION_OPTION} out of XLA_FLAGS, or set "
            f"XLA_FLAGS={NO_FUSED_REDUCTIONS} if this is jax 0.10.2",
        )


@cache
def _wrong_sum_here() -> str:
    return find_wrong_sum(jax.jit(squared_norms))

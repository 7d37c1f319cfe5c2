"""Times on a machine that is shared: in turns, so that what disturbs disturbs all; and the machine's own rates."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

MATMUL_SIZE = 1024
MATMUL_FLOPS = 2 * MATMUL_SIZE**3
COPY_BYTES = 128 * 2**20
"""Of the copied array: larger than the caches of processors."""


def in_turns(
    functions: Mapping[str, Callable[[], Any]], *, seconds: float = 8.0, rounds: int = 40
) -> dict[str, list[float]]:
    """Seconds of each call of each function, one after the other, again and again, after one call that compiles.

    Args:
        functions: by name; what they return is waited for.
        seconds: after which no new round begins; one is always done.
        rounds: at most.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for call in functions.values():
        jax.block_until_ready(call())
    end = time.perf_counter() + seconds
    for _ in range(rounds):
        for name, call in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(time.perf_counter() - start)
        if time.perf_counter() > end:
            break
    return times


def matmul() -> Callable[[], jax.Array]:
    """A product of two float32 matrices of 1024 × 1024: `MATMUL_FLOPS`."""
    a = jax.random.normal(jax.random.key(0), (MATMUL_SIZE, MATMUL_SIZE))
    return partial(jax.jit(jnp.matmul), a, a)


def copy() -> Callable[[], jax.Array]:
    """Reads and writes `COPY_BYTES` of memory each."""
    a = jnp.ones(COPY_BYTES // 4, jnp.float32)
    # A sum with something that the compiler does not know: a mere copy would be left out.
    return partial(jax.jit(lambda x, y: x + y), a, jnp.float32(1.0))


def against_matmul(function: Callable[[], Any], *, seconds: float = 8.0, rounds: int = 40) -> tuple[float, float]:
    """Shortest times in seconds of `function()` and of `matmul`, measured in turns.

    The shortest, because on a shared machine everything longer tells of the others.
    """
    times = in_turns({"function": function, "matmul": matmul()}, seconds=seconds, rounds=rounds)
    return min(times["function"]), min(times["matmul"])

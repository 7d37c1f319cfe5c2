"""Times on a machine that is shared: in turns, so that what disturbs disturbs all; and the machine's own rates."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from math import ceil
from typing import Any

import jax
import jax.numpy as jnp

MATMUL_SIZE = 1024
MATMUL_FLOPS = 2 * MATMUL_SIZE**3
COPY_BYTES = 128 * 2**20
"""Of the copied array: larger than the caches of processors."""


TURN_S = 0.01
"""What takes less is called so long in a row: after another program it finds neither caches nor threads as it finds
them in a loop of its own, which is how dynamics and training call it."""


def in_turns(
    functions: Mapping[str, Callable[[], Any]], *, seconds: float = 8.0, rounds: int = 40
) -> dict[str, list[float]]:
    """Seconds of a call of each function in every turn, one after the other, again and again.

    A function that takes less than `TURN_S` is called once without being measured, and then so often that its turn
    takes as long; its time is the mean.

    Args:
        functions: by name; what they return is waited for.
        seconds: after which no new round begins; one is always done.
        rounds: at most.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    calls = {name: _calls_in_a_turn(call) for name, call in functions.items()}
    end = time.perf_counter() + seconds
    for _ in range(rounds):
        for name, call in functions.items():
            if calls[name] > 1:
                jax.block_until_ready(call())
            times[name].append(_seconds(call, calls[name]))
        if time.perf_counter() > end:
            break
    return times


def _calls_in_a_turn(call: Callable[[], Any]) -> int:
    jax.block_until_ready(call())  # compiles
    return ceil(TURN_S / _seconds(call, 1))


def _seconds(call: Callable[[], Any], times: int) -> float:
    """Mean of so many calls."""
    start = time.perf_counter()
    for _ in range(times):
        jax.block_until_ready(call())
    return (time.perf_counter() - start) / times


def matmul() -> Callable[[], jax.Array]:
    """A product of two float32 matrices of 1024 × 1024: `MATMUL_FLOPS`."""
    a = jax.random.normal(jax.random.key(0), (MATMUL_SIZE, MATMUL_SIZE))
    return partial(jax.jit(jnp.matmul), a, a)


def copy() -> Callable[[], jax.Array]:
    """Reads and writes `COPY_BYTES` of memory each."""
    a = jnp.ones(COPY_BYTES // 4, jnp.float32)
    # A sum with something that the compiler does not know: a mere copy would be left out.
    return partial(jax.jit(lambda x, y: x + y), a, jnp.float32(1.0))

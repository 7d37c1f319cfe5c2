"""How functions are compiled that are called a few times only: compiling them costs more than all calls together."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp

OPTIONS: dict[str, Any] = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
"""Options of XLA for CPUs: no optimization, and the older way to compile fusions, which takes half the time."""


def quickly() -> dict[str, Any]:
    """Options of `jax.jit` for such a function: a third of the time to compile, calls that take twice as long.

    On a CPU alone: what compilers for accelerators make of these options was not measured.
    """
    return _known_here() if jax.default_backend() == "cpu" else {}


@cache
def _known_here() -> dict[str, Any]:
    """Return those of `OPTIONS` that the installed XLA knows: each version adds and removes some."""
    known = {}
    for name, value in OPTIONS.items():
        try:
            jax.jit(jnp.negative, compiler_options={name: value}).lower(jnp.float32(0)).compile()
        except (jax.errors.JaxRuntimeError, ValueError):
            continue
        known[name] = value
    return known

"""How functions are compiled that are called a few times only: compiling them costs more than all calls together."""

from typing import Any

import jax


def quickly() -> dict[str, Any]:
    """Options of `jax.jit` for such a function: half the time to compile, calls that take twice as long.

    On a CPU alone: what compilers for accelerators make of these options was not measured.
    """
    return {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else {}

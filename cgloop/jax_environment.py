"""Environment variables that decide which numbers JAX computes; this module imports no JAX.

`prepare` runs when the package is imported, hence before JAX is, in the command and in every process that it starts. It
pins what would change models and trainings while the digests of their inputs stay the same, and works around a defect
of one version of jaxlib.
"""

import importlib.metadata
import os
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any, NamedTuple


class Pin(NamedTuple):
    """Setting of JAX that has one value in every process of cgloop.

    Attributes:
        variable: environment variable that JAX reads when it is imported.
        text: its value.
        option: name of the setting in `jax.config`.
        value: the same value there.
    """

    variable: str
    text: str
    option: str
    value: Any


PINS = (
    Pin("JAX_ENABLE_X64", "0", "jax_enable_x64", False),
    Pin("JAX_DEFAULT_MATMUL_PRECISION", "highest", "jax_default_matmul_precision", "highest"),
)
"""Single precision unless the code asks for float64, and matrix products in full float32 on every device."""

FAULTY_JAXLIB = "0.10.2"
"""Version whose fused reductions return wrong sums on CPUs: https://github.com/jax-ml/jax/issues/39103."""

FUSION_OPTION = "--xla_cpu_experimental_ynn_fusion_type"
NO_FUSED_REDUCTIONS = f"{FUSION_OPTION}=-reduce"
"""XLA flag that leaves reductions out of these fusions. Other versions of XLA may refuse to start with it."""

CACHE = "JAX_COMPILATION_CACHE_DIR"
LOG_LEVEL = ("TF_CPP_MIN_LOG_LEVEL", "3")
"""Environment variable of XLA's log on stderr, and the level from which on it is written (3: what ends the process)."""

JAX_LOG_LEVEL = "1"

ADDED_FLAG = "CGLOOP_ADDED_XLA_FLAG"
"""Environment variable that marks `NO_FUSED_REDUCTIONS` as added by cgloop, so that another XLA can be started without
it."""

HARMLESS = (
    "JAX_PLATFORM",
    "JAX_CUDA_VISIBLE_DEVICES",
    "JAX_ROCM_VISIBLE_DEVICES",
    "JAX_NUM_CPU_DEVICES",
    "JAX_CPU_COLLECTIVES_",
    "JAX_CPU_ENABLE_ASYNC_DISPATCH",
    "JAX_COORDINATOR_",
    "JAX_NUM_PROCESSES",
    "JAX_PROCESS_ID",
    "JAX_LOCAL_DEVICE_IDS",
    "JAX_DISTRIBUTED_DEBUG",
    "JAX_COMPILATION_CACHE_",
    "JAX_ENABLE_COMPILATION_CACHE",
    "JAX_PERSISTENT_CACHE_",
    "JAX_RAISE_PERSISTENT_CACHE_ERRORS",
    "JAX_LOG",
    "JAX_DEBUG_",
    "JAX_EXPLAIN_CACHE_MISSES",
    "JAX_DUMP_IR_",
    "JAX_TRACEBACK_",
    "JAX_CHECK_TRACER_LEAKS",
    "JAX_TRANSFER_GUARD",
    "JAX_CHECK_PROXY_ENVS",
)
"""Beginnings of variables that choose devices, caches, logs or tests of JAX, and do not change results on a device."""

HARMLESS_XLA_FLAGS = (
    "--xla_force_host_platform_device_count",
    "--xla_gpu_deterministic_ops",
    "--xla_dump_",
    "--xla_backend_optimization_level",
    "--xla_cpu_use_fusion_emitters",
    NO_FUSED_REDUCTIONS,
)
"""Beginnings of XLA flags that do not change results, or change their rounding alone, as another processor does, or are
documented here to make them reproducible or right."""

REPLACED: dict[str, str] = {}
"""Variables of this process whose values `prepare` replaced, with the values they had."""


def prepare(environment: MutableMapping[str, str] | None = None, jaxlib: str | None = None) -> dict[str, str]:
    """Pin JAX's settings, and work around the defect of `FAULTY_JAXLIB`, before JAX is imported.

    With a compilation cache XLA's log is restricted to what ends the process, unless its level is set already.
    XLA_FLAGS of the user are kept: the flag is appended, and not at all if they set the same option. Calling it again,
    also in a child process, changes nothing.

    Args:
        environment: default: that of this process.
        jaxlib: installed version; default: looked up.

    Returns:
        Pinned variables that had another value, and this value.
    """
    environment = os.environ if environment is None else environment
    given = {pin.variable: environment[pin.variable] for pin in PINS if pin.variable in environment}
    environment.update({pin.variable: pin.text for pin in PINS})
    if CACHE in environment and environment.get(LOG_LEVEL[0], JAX_LOG_LEVEL) == JAX_LOG_LEVEL:
        # On some processors XLA writes 7 kB of "errors" for every program that it loads from the cache, since two
        # features that it tuned for are no features of a processor. They filled a pipe that nobody read.
        # JAX itself sets the level 1 where there is none, and programs that it starts inherit that.
        environment.update([LOG_LEVEL])
    if (_installed_jaxlib() if jaxlib is None else jaxlib) != FAULTY_JAXLIB:
        # Inherited from a process with another JAX, as through a SLURM job.
        _remove_added_flag(environment)
    elif FUSION_OPTION not in (flags := environment.get("XLA_FLAGS", "")):
        environment["XLA_FLAGS"] = f"{flags} {NO_FUSED_REDUCTIONS}".strip()
        environment[ADDED_FLAG] = NO_FUSED_REDUCTIONS
    return {name: value for name, value in given.items() if value != environment[name]}


def environment_for_other_programs() -> dict[str, str]:
    """Return this process's environment without the XLA flag that cgloop added, which another XLA may not know."""
    environment = dict(os.environ)
    _remove_added_flag(environment)
    return environment


@contextmanager
def pinned() -> Iterator[None]:
    """Hold a JAX that is loaded already to `PINS`; its settings are restored afterwards.

    Environment variables come too late where a library imports JAX before cgloop, or changes its settings, as pymbar
    does.
    """
    jax = sys.modules.get("jax")
    if jax is None or not hasattr(jax, "config"):
        yield
        return
    before = {pin.option: getattr(jax.config, pin.option) for pin in PINS}
    try:
        for pin in PINS:
            jax.config.update(pin.option, pin.value)
        yield
    finally:
        for option, value in before.items():
            jax.config.update(option, value)


def recorded(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables that JAX and XLA read, for a record: `JAX_*` and `XLA_FLAGS`."""
    environment = os.environ if environment is None else environment
    return {name: environment[name] for name in sorted(environment) if name.startswith("JAX_") or name == "XLA_FLAGS"}


def environment_warnings(
    environment: Mapping[str, str] | None = None, replaced: Mapping[str, str] | None = None
) -> list[str]:
    """Return a sentence for each variable that was replaced, or that is not known to leave numbers alone.

    Args:
        environment, replaced: default: those of this process, see `REPLACED`.
    """
    found = recorded(environment)
    pins = {pin.variable: pin.text for pin in PINS}
    lines = [
        f"{name}={given} is ignored: cgloop computes with {name}={pins[name]}"
        for name, given in sorted((REPLACED if replaced is None else replaced).items())
    ]
    unknown = [f"{name}={value}" for name, value in found.items() if name not in {*pins, "XLA_FLAGS"}]
    unknown = [one for one in unknown if not one.startswith(HARMLESS)]
    unknown += [flag for flag in found.get("XLA_FLAGS", "").split() if not flag.startswith(HARMLESS_XLA_FLAGS)]
    lines += [
        f"{one} may change numbers, and is not part of the digests by which stages are found up to date"
        for one in unknown
    ]
    return lines


def _installed_jaxlib() -> str:
    try:
        return importlib.metadata.version("jaxlib")
    except importlib.metadata.PackageNotFoundError:
        return ""


def _remove_added_flag(environment: MutableMapping[str, str]) -> None:
    added = environment.pop(ADDED_FLAG, None)
    if added is None:
        return
    kept = [flag for flag in environment.get("XLA_FLAGS", "").split() if flag != added]
    if kept:
        environment["XLA_FLAGS"] = " ".join(kept)
    else:
        environment.pop("XLA_FLAGS", None)

"""What this machine has: each part is looked at for real, and a part that is missing says what to do."""

import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path

import cgloop
from cgloop.errors import UserError


def examine() -> str:
    """A line for each part: Python, processor, memory, disk, JAX, LAMMPS, MPI."""
    parts: dict[str, Callable[[], str]] = {
        "cgloop": lambda: f"{cgloop.__version__} in {Path(cgloop.__file__).parent}",
        "Python": lambda: f"{platform.python_version()} on {platform.platform()}",
        "processor": _processor,
        "memory": _memory,
        "disk": _disk,
        "JAX": _jax,
        "LAMMPS": _lammps,
        "MPI": _mpi,
        "browser": _browser,
    }
    return "\n".join(f"{name:<10}{_line(part)}" for name, part in parts.items())


def _line(part: Callable[[], str]) -> str:
    try:
        return f"✓ {part()}"
    except UserError as error:
        return f"✗ {error}"
    except (ImportError, OSError, RuntimeError) as error:
        return f"✗ {type(error).__name__}: {' '.join(str(error).split())}"


def _processor() -> str:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{usable} of {os.cpu_count()} cores usable, {platform.machine()}"


def _memory() -> str:
    import psutil

    memory = psutil.virtual_memory()
    return f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free"


def _disk() -> str:
    here = Path.cwd()
    usage = shutil.disk_usage(here)
    return f"{usage.free / 1e9:.1f} of {usage.total / 1e9:.1f} GB free at {here}"


def _jax() -> str:
    import jax
    import jax.numpy as jnp

    # A device that is listed but cannot compute is worse than none: use it.
    total = float(jnp.arange(1000.0).sum())
    if total != 499500.0:
        raise RuntimeError(f"the sum of 0..999 came out as {total}")
    return f"{jax.__version__}, devices: {', '.join(str(device) for device in jax.devices())}"


def _lammps() -> str:
    from cgloop.md.session import lammps_facts

    version, packages = lammps_facts()
    return f"{version}, packages: {' '.join(packages)}"


def _mpi() -> str:
    found = shutil.which("mpiexec")
    if found is None:
        raise UserError("no mpiexec on the path", remedy="only runs over several ranks need it")
    return found


def _browser() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        raise UserError("no Chromium on the path", remedy="only the tests of the report need it")
    return found

"""What this machine has for the processes that share it; JAX is not asked."""

import os
from pathlib import Path


def usable_cores() -> int:
    """Cores that this process may use: those of the job on a cluster."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_GB() -> float:
    """Memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def visible_gpus() -> list[str]:
    """Names by which CUDA knows the GPUs that this process may use; empty where JAX computes on a processor."""
    if os.environ.get("JAX_PLATFORMS", "").split(",")[0] == "cpu":
        return []
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        numbers = sorted(path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*"))
        return [name for name in numbers if name.isdigit()]
    return [name for name in given.split(",") if name]


def gpu_of(number: int) -> dict[str, str]:
    """Variables that give one of several processes a GPU of its own; none where there are none."""
    names = visible_gpus()
    return {"CUDA_VISIBLE_DEVICES": names[number % len(names)]} if names else {}

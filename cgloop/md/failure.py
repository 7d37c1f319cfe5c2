"""What ends a run for all its replicas at once, without a record of their last steps."""

from collections.abc import Sequence
from dataclasses import dataclass

FAILURES = {
    "lost_atoms": "LAMMPS lost atoms",
    "engine_error": "LAMMPS, or what it calls, gave up",
    "out_of_memory": "the machine or the accelerator had too little memory",
    "timeout": "the time allowed for it was over",
    "killed": "its process was killed from outside",
    "missing_plugin": "the `lmp` has no `pair_style chemtrain_deploy`, which a network needs there",
}
"""Their names, which stand beside those of limits, and what they mean."""

_OUT_OF_MEMORY = ("resource_exhausted", "out of memory", "bad_alloc", "cannot allocate memory", "memoryerror")


@dataclass(frozen=True)
class Failure:
    """Why a run ended for all its replicas: a key of `FAILURES`, and what was said."""

    limit: str
    message: str


def failure_of(error: BaseException | str) -> Failure:
    """The failure that an exception, or the last words of a process, stand for."""
    text = " ".join(str(error).split())
    lower = f"{type(error).__name__}: {text}".lower()
    if any(sign in lower for sign in _OUT_OF_MEMORY):
        return Failure("out_of_memory", text or FAILURES["out_of_memory"])
    if "lost atoms" in lower:
        return Failure("lost_atoms", text)
    named = text if isinstance(error, str) or text.startswith("LAMMPS") else f"{type(error).__name__}: {text}"
    return Failure("engine_error", named or FAILURES["engine_error"])


def span(replicas: Sequence[int]) -> str:
    """Ids as they are said: `3`, `0 to 7`, or `0, 2, 5`."""
    if len(replicas) > 2 and list(replicas) == list(range(replicas[0], replicas[-1] + 1)):
        return f"{replicas[0]} to {replicas[-1]}"
    return ", ".join(map(str, replicas))


def killed_for_memory() -> int:
    """Processes that the kernel has killed for memory in our group or on this machine; 0 where it does not say."""
    for path, key in (("/sys/fs/cgroup/memory.events", "oom_kill"), ("/proc/vmstat", "oom_kill")):
        try:
            with open(path, encoding="ascii") as file:
                counts = dict(line.split()[:2] for line in file)
            if key in counts:
                return int(counts[key])
        except (OSError, ValueError):
            continue
    return 0

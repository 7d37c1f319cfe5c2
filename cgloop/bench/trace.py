"""What JAX's profiler wrote: time by operation of compiled programs. The standard library alone."""

import gzip
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cgloop.errors import UserError

METADATA = re.compile(r"%?([\w.\-]+) = .*metadata=\{.*?op_name=\"([^\"]*)\"")


@dataclass(frozen=True)
class Operation:
    """One operation of a compiled program.

    Attributes:
        name, module: of it, as XLA calls them.
        seconds: in it alone, without operations that it consists of, over all threads.
        calls: how often.
        source: what it was in JAX; empty where it is not known.
    """

    name: str
    module: str
    seconds: float
    calls: int
    source: str = ""


def read_trace(folder: Path) -> list[dict[str, Any]]:
    """Events of all operations in the newest trace below a folder.

    Raises:
        UserError: there is none, or no operation in it.
    """
    files = sorted(Path(folder).glob("**/*.trace.json.gz"), key=lambda path: path.stat().st_mtime)
    if not files:
        raise UserError("the profiler has written no trace", where=folder)
    with gzip.open(files[-1], "rt", encoding="utf-8") as file:
        events = json.load(file)["traceEvents"]
    found = [one for one in events if one.get("ph") == "X" and "hlo_op" in one.get("args", {})]
    if not found:
        raise UserError("no operation of a compiled program is in the trace", where=files[-1])
    return found


def operations(events: Iterable[Mapping[str, Any]], sources: Mapping[str, str] | None = None) -> list[Operation]:
    """Operations, most expensive first.

    A loop or call is an event that lies around those of its body, in the same thread: their time is not its own.

    Args:
        events: of `read_trace`.
        sources: of `sources_of`.
    """
    own: dict[tuple[str, str], float] = defaultdict(float)
    calls: dict[tuple[str, str], int] = defaultdict(int)
    by_thread: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for event in events:
        by_thread[event.get("pid"), event.get("tid")].append(event)
    for thread in by_thread.values():
        around: list[tuple[float, tuple[str, str]]] = []
        for event in sorted(thread, key=lambda one: (one["ts"], -one["dur"])):
            key = (event["args"]["hlo_op"].removeprefix("end: "), event["args"].get("hlo_module", ""))
            start, length = float(event["ts"]), float(event["dur"])
            while around and around[-1][0] <= start:
                around.pop()
            if around:
                own[around[-1][1]] -= length
            own[key] += length
            calls[key] += not event["name"].startswith("end: ")
            around.append((start + length, key))
    known = sources or {}
    found = [
        Operation(name, module, max(0.0, 1e-6 * own[name, module]), calls[name, module], known.get(name, ""))
        for name, module in own
    ]
    return sorted(found, key=lambda one: -one.seconds)


def sources_of(program: str) -> dict[str, str]:
    """What the operations of an optimised program, `compiled.as_text()`, were in JAX."""
    found = {}
    for line in program.splitlines():
        if match := METADATA.search(line):
            parts = [re.sub(r"^jit\((.*)\)$", r"\1", part) for part in match[2].split("/")]
            found[match[1]] = "/".join(parts[-3:])
    return found

"""What a run directory holds: which stages are done, stale, begun or missing, and what was judged."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cgloop.config import Config
from cgloop.errors import UserError
from cgloop.extension import lengthened
from cgloop.pipeline import Stage, context_of, stage_inputs, stages_of
from cgloop.rundir import RunDirectory
from cgloop.stages import digest_of, read_record
from cgloop.submit import submission_lines

State = Literal["done", "stale", "begun", "missing"]


@dataclass(frozen=True)
class StageStatus:
    """State of one stage of one cycle; `seconds` and `finished` are those of its last result."""

    cycle: int
    stage: str
    state: State
    seconds: float | None
    finished: str | None
    note: str = ""


def read_status(config: Config, run: RunDirectory) -> list[StageStatus]:
    """The state of every stage of every cycle that was begun."""
    return [
        _stage_status(config, run, cycle, stage)
        for cycle in run.cycles()
        for stage in stages_of(context_of(config, run, cycle).config)
    ]


def _stage_status(config: Config, run: RunDirectory, cycle: int, stage: Stage) -> StageStatus:
    folder = run.stage(cycle, stage.name)
    record = read_record(folder)
    begun = (folder.parent / f".{folder.name}.partial").exists()
    if record is None:
        return StageStatus(cycle, stage.name, "begun" if begun else "missing", None, None)
    note = _outdated(config, run, cycle, stage, record.inputs)
    state: State = "begun" if begun else "stale" if note else "done"
    return StageStatus(cycle, stage.name, state, record.seconds, record.finished, note)


def _outdated(config: Config, run: RunDirectory, cycle: int, stage: Stage, inputs: dict[str, Any]) -> str:
    """Why the result no longer fits config or upstream; empty if it does."""
    try:
        now = stage_inputs(lengthened(context_of(config, run, cycle)), stage)
    except UserError as error:
        return str(error)
    return "" if digest_of(now) == digest_of(inputs) else "its inputs changed"


def format_status(config: Config, run: RunDirectory) -> str:
    """The status as text: lock, jobs, stages, verdict."""
    lines = [f"run      {run.path}"]
    lock = _json(run.path / "lock.json")
    if lock:
        lines.append(f"in use   by process {lock.get('pid')} on {lock.get('host')} since {lock.get('since')}")
    lines += submission_lines(run)
    for cycle in run.cycles():
        lines.append(f"cycle {cycle}")
        for status in read_status(config, run):
            if status.cycle == cycle:
                time = f"{status.seconds:8.1f} s" if status.seconds is not None else " " * 10
                lines.append(f"  {status.stage:<10}{status.state:<9}{time}  {status.note}".rstrip())
        verdict = _json(run.cycle(cycle) / "verdict.json")
        if verdict:
            lines.append(f"  verdict   {verdict['verdict']}: {verdict['summary']}")
            lines += [f"  caution   {caution['text']}" for caution in verdict.get("cautions") or []]
    if not run.cycles():
        lines.append("nothing was done yet")
    free = shutil.disk_usage(run.path).free / 1e9
    lines.append(f"disk     {free:.3g} GB free")
    return "\n".join(lines)


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}

"""What is there in a run directory: whatever exists is read, whatever is missing is said to be missing."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from cgloop.rundir import STAGES, RunDirectory


@dataclass(frozen=True)
class CycleFiles:
    """One cycle of a run. All contents are plain data, `{}` where a file is missing or not readable.

    Attributes:
        index: from 0.
        folder: `cycle_000`.
    """

    index: int
    folder: Path

    def read(self, name: str) -> dict[str, Any]:
        """Contents of a JSON file below the cycle's folder, `train/history.json`."""
        return {} if name.split("/")[0] in self.left_over else read_json(self.folder / name)

    @cached_property
    def records(self) -> dict[str, dict[str, Any]]:
        """`stage.json` of each finished stage, in order; `shared` where an earlier cycle did the work."""
        found = {}
        for stage in STAGES:
            record = self.read(f"{stage}/stage.json")
            if record:
                found[stage] = {**record, "shared": (self.folder / stage).is_symlink()}
        return found

    @cached_property
    def verdict(self) -> dict[str, Any]:
        return self.read("verdict.json")

    @cached_property
    def metrics(self) -> dict[str, Any]:
        return self.read("validate/metrics.json")

    @cached_property
    def plots(self) -> dict[str, Any]:
        return self.read("validate/plots.json")

    @cached_property
    def md(self) -> dict[str, Any]:
        return self.read("md/md.json")

    @cached_property
    def crashes(self) -> list[dict[str, Any]]:
        return list(self.read("feedback/feedback.json").get("crashes") or [])

    @property
    def cautions(self) -> list[dict[str, Any]]:
        """What a user has to know beside the verdict; of a cycle that was not judged yet, what its bundle says."""
        return list(self.verdict.get("cautions") or self.read("export/manifest.json").get("cautions") or [])

    @property
    def checks(self) -> list[dict[str, Any]]:
        """Results of all checks; those of the verdict have titles and definitions."""
        return list(self.verdict.get("checks") or self.metrics.get("checks") or [])

    def check(self, name: str) -> list[dict[str, Any]]:
        """Results of one check, one per subject."""
        return [check for check in self.checks if check.get("check") == name]

    @property
    def missing_stages(self) -> list[str]:
        return [stage for stage in self.stages if stage not in self.records]

    @cached_property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages of this cycle; `refine` only where it was done or begun."""
        begun = any((self.folder / name).exists() for name in ("refine", ".refine.partial"))
        return tuple(stage for stage in STAGES if stage != "refine" or begun)

    @property
    def trained(self) -> str:
        """Folder of the parameters that were judged: `refine` where the training was refined, else `train`."""
        return "refine" if "refine" in self.records else "train"

    @property
    def stopped_at_parity(self) -> bool:
        """The loop goes no further where the artifact differs from the model."""
        parity = read_json(self.folder / "parity" / "parity.json")
        return bool(parity) and parity.get("verdict") != "pass"

    @cached_property
    def left_over(self) -> tuple[str, ...]:
        """Stages whose folders, if there are any, are of an earlier state of the cycle that got further."""
        return STAGES[STAGES.index("parity") + 1 :] if self.stopped_at_parity else ()


@dataclass(frozen=True)
class RunFiles:
    """A run directory.

    Attributes:
        path: of the run.
        config: text of `config.yaml`, "" if there is none.
        cycles: oldest first.
        events: lines of `events.jsonl`.
    """

    path: Path
    config: str
    cycles: list[CycleFiles]
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def latest(self) -> CycleFiles | None:
        """The newest cycle with a verdict, or the newest of all."""
        judged = [cycle for cycle in self.cycles if cycle.verdict] or self.cycles
        return judged[-1] if judged else None

    @property
    def last_event(self) -> dict[str, Any]:
        return self.events[-1] if self.events else {}


def read_run_files(run_dir: Path) -> RunFiles:
    """Look into a run directory; nothing is loaded that is not asked for later."""
    run = RunDirectory(run_dir)
    try:
        config = run.config.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        config = ""
    cycles = [CycleFiles(index, run.cycle(index)) for index in run.cycles()]
    return RunFiles(run.path, config, cycles, _events(run.path / "events.jsonl"))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, or `{}` if there is none to be read: the page says what is missing."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _events(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    events = []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:  # the last line of a process that was killed
            continue
        if isinstance(event, dict):
            events.append(event)
    return events

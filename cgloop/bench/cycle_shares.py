"""Where the time of a cycle went, from the records that its stages left. The standard library alone."""

import json
import platform
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cgloop.bench.record import Measurement, Record, start_record, this_machine
from cgloop.errors import UserError
from cgloop.rundir import STAGES, RunDirectory, as_plain, read_run
from cgloop.stages import read_record

WORK = ("train", "md")
REFINEMENT = "refine"
"""Trains and runs dynamics at once; not every cycle has it."""

GOAL = 0.1
"""Of the time of a cycle, what neither trained nor ran dynamics should take at most."""


@dataclass(frozen=True)
class Shares:
    """Of one cycle.

    Attributes:
        seconds: of each stage that is there.
        between_s: from the start of the first to the end of the last stage, in none of them.
    """

    seconds: dict[str, float]
    between_s: float

    @property
    def total_s(self) -> float:
        return sum(self.seconds.values()) + self.between_s

    @property
    def idle_share(self) -> float:
        """Of the time in which neither training nor MD ran."""
        return 1.0 - sum(self.seconds.get(name, 0.0) for name in (*WORK, REFINEMENT)) / self.total_s

    def measurements(self) -> list[Measurement]:
        """For a record."""
        parts = {**self.seconds, "between the stages": self.between_s}
        found = [
            Measurement(name=f"cycle/{name}", unit="s", values=(value,), facts={"share": value / self.total_s})
            for name, value in parts.items()
        ]
        neither = Measurement(name="cycle/neither training nor MD", unit="%", values=(100 * self.idle_share,))
        return [*found, neither]


def read_shares(place: Path, cycle: int = 0) -> Shares:
    """Shares of a cycle of a run, done in one go.

    Raises:
        UserError: no training or no MD is done there, or the stages were done in several goes.
    """
    run = RunDirectory(Path(place))
    records = {name: record for name in STAGES if (record := read_record(run.stage(cycle, name))) is not None}
    missing = [name for name in WORK if name not in records]
    if missing:
        raise UserError(
            f"cycle {cycle} has no finished stage {' and '.join(missing)}", where=place,
            remedy="give the directory of a run that ended",
        )  # fmt: skip
    starts = [datetime.fromisoformat(record.started) for record in records.values()]
    ends = [datetime.fromisoformat(record.finished) for record in records.values()]
    seconds = {name: record.seconds for name, record in records.items()}
    whole = _ended(run, max(ends)) - min(starts)
    between = whole.total_seconds() - sum(seconds.values())
    goes = sum(1 for line in _events(run) if line.get("event") == "cycle-command")
    if goes > 1 or any(record.attempts > 1 for record in records.values()):
        raise UserError(
            "this cycle was done in several goes: what lay between them is nobody's time", where=place,
            remedy="measure a run that was not interrupted",
        )  # fmt: skip
    # Starts and ends are kept to the second.
    return Shares(seconds, max(0.0, between))


def cycle_record(place: Path, shares: Shares) -> Record:
    """A record of a run that ended on this machine.

    Raises:
        UserError: it was done on another.
    """
    config, run = read_run(place)
    found = read_record(run.stage(0, "train"))
    if found is None or found.host != platform.node():
        raise UserError(
            "this run was done on another machine", where=place, remedy="write the file on the machine that ran it"
        )
    note = (
        f"a run of {config.train.epochs} epochs, {config.md.replicas} replicas of {config.md.nvt.length_ps:g} and "
        f"{config.md.nve.length_ps:g} ps; what else the machine did was not recorded"
    )
    record = start_record("cycle", "cgloop bench cycle", as_plain(config), this_machine(), note)
    # Of the day and the packages of the run, not of today; which state of the sources ran is not known.
    record = record.model_copy(update={"date": found.finished[:10], "versions": found.versions, "commit": ""})
    for one in shares.measurements():
        record = record.with_measurement(one)
    return record


def _events(run: RunDirectory) -> list[dict[str, str]]:
    path = run.path / "events.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _ended(run: RunDirectory, last: datetime) -> datetime:
    """When the verdict was there, which is after the last stage."""
    times = [datetime.fromisoformat(line["time"]) for line in _events(run) if line.get("event") == "verdict"]
    return max([last, *times[:1]])


def shares_text(shares: Shares) -> str:
    """For the terminal."""
    parts = {**shares.seconds, "between": shares.between_s}
    lines = [f"{name:10s} {seconds:9.1f} s  {seconds / shares.total_s:6.1%}" for name, seconds in parts.items()]
    verdict = "inside" if shares.idle_share < GOAL else "above"
    lines.append(f"{'total':10s} {shares.total_s:9.1f} s")
    lines.append(f"neither training nor MD: {shares.idle_share:.1%} ({verdict} the goal of {GOAL:.0%})")
    return "\n".join(lines)

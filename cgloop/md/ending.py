"""How a stage of dynamics ends: what became of every replica, and what is kept of it for the next stage."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cgloop.checks import jsonable
from cgloop.md.coupling import Coupling
from cgloop.md.failure import Failure
from cgloop.md.monitors import Violation
from cgloop.md.recorder import Clock
from cgloop.stages import write_json
from cgloop.units import FS_PER_PS

OUTCOME, END, TIMING = "outcome.json", "end.npz", "timing.json"


@dataclass(frozen=True, eq=False)
class State:
    """Replicas at one moment: ids [R], positions [R, N, 3] Å, velocities [R, N, 3] Å/fs."""

    replicas: Sequence[int]
    positions: np.ndarray
    velocities: np.ndarray

    @classmethod
    def nobody(cls, n_beads: int) -> "State":
        """No replica at all."""
        none = np.empty((0, n_beads, 3))
        return cls([], none, none)


@dataclass(frozen=True, eq=False)
class StageResult:
    """How a stage ended.

    Attributes:
        end: the survivors.
        outcomes: by replica id, what became of it; also the attributes of its group in observables.h5.
        timing: wall-clock figures.
    """

    end: State
    outcomes: dict[int, dict[str, Any]]
    timing: dict[str, float]

    def write(self, folder: Path) -> None:
        """Keep it in the stage's folder; `outcome.json`, the last file written, says that the stage is done."""
        np.savez(
            folder / END,
            replicas=np.array(self.end.replicas, int),
            positions=self.end.positions,
            velocities=self.end.velocities,
        )
        write_json(folder / TIMING, jsonable(self.timing))
        write_json(folder / OUTCOME, jsonable({str(replica): one for replica, one in self.outcomes.items()}))

    @classmethod
    def read(cls, folder: Path) -> "StageResult | None":
        """What `write` kept; None if the stage is not done."""
        if not (folder / OUTCOME).is_file():
            return None
        outcomes = json.loads((folder / OUTCOME).read_text(encoding="utf-8"))
        timing = json.loads((folder / TIMING).read_text(encoding="utf-8"))
        with np.load(folder / END) as file:
            end = State(file["replicas"].tolist(), file["positions"], file["velocities"])
        return cls(end, {int(replica): one for replica, one in outcomes.items()}, timing)


def outcomes_of(
    coupling: Coupling, replicas: Sequence[int], clock: Clock, failure: Failure | None = None
) -> dict[int, dict[str, Any]]:
    """What became of each replica of a run, by id.

    Args:
        coupling: at the end of the run.
        replicas: ids, in order of its rows.
        clock: of the stage.
        failure: what ended the run before its time, if something did.
    """
    return {
        replica: outcome_at(int(coupling.last_step[row]), clock, coupling.violations.get(row), failure)
        for row, replica in enumerate(replicas)
    }


def outcome_at(last: int, clock: Clock, violation: Violation | None, failure: Failure | None) -> dict[str, Any]:
    """What became of one replica: it did its last sound step, then broke a limit or was ended, if it was."""
    outcome: dict[str, Any] = {
        "steps_asked": clock.steps,
        "steps_done": max(0, last - clock.equilibration_steps),
        "survived": violation is None and failure is None,
    }
    if violation is not None:
        outcome |= {
            "limit": violation.limit,
            "limit_value": violation.value,
            "limit_threshold": violation.threshold,
            # Counted from the start of the stage, as in LAMMPS's log.
            "crash_step": last + 1,
            "crash_time_ps": (last + 1) * clock.timestep_fs / FS_PER_PS,
            "crash_phase": "equilibration" if last + 1 < clock.equilibration_steps else "production",
        }
    elif failure is not None:
        outcome |= {"limit": failure.limit, "message": failure.message}
    return outcome


def failed_at(
    last_steps: Mapping[int, int], clock: Clock, failure: Failure, broken: Mapping[int, Violation]
) -> dict[int, dict[str, Any]]:
    """Outcomes, by id, of replicas whose run ended from outside.

    Args:
        last_steps: by id, the last step that is known to be sound; −1 if none is.
        clock: of the stage.
        failure: what happened.
        broken: by id, limits that had been broken before.
    """
    return {
        replica: outcome_at(last, clock, broken.get(replica), None if replica in broken else failure)
        for replica, last in last_steps.items()
    }


def not_started(clock: Clock) -> dict[str, Any]:
    """Outcome of a replica that broke in an earlier stage."""
    return {"steps_asked": clock.steps, "steps_done": 0, "survived": False, "limit": "not-started"}

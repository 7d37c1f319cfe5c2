"""What one MD stage of one protein was asked to do and what it recorded: plain arrays, no files."""

from dataclasses import dataclass, field

import numpy as np

MONITORED = ("time_ps", "temperature_K", "kinetic", "potential", "total", "min_distance_A", "max_force",
             "max_bond_deviation")  # fmt: skip
"""Series of `observables.h5` that must be there, one value per observation."""


def sound(name: str, values: np.ndarray) -> np.ndarray:
    """Where a series is a number: finite, or infinite for the smallest distance of a protein without such pairs."""
    values = np.asarray(values, float)
    return np.isfinite(values) | (np.isposinf(values) if name == "min_distance_A" else False)


@dataclass(frozen=True)
class Replica:
    """One replica of a stage.

    Attributes:
        number: from 0.
        steps_asked: what the config asked for.
        steps_done: what was done within all limits.
        limit: name of the limit that the MD itself found violated, "" if none.
        series: the `MONITORED` series, [T] each; Å, K, ps, kcal/mol.
        positions: trajectory [F, N, 3], Å.
        kinetic_by_type: [T, K], kcal/mol, of the beads of each of `StageRun.types`; None where the engine does not
            record it.
    """

    number: int
    steps_asked: int
    steps_done: int
    limit: str
    series: dict[str, np.ndarray]
    positions: np.ndarray
    kinetic_by_type: np.ndarray | None = None


@dataclass(frozen=True)
class StageRun:
    """All replicas of one protein in one stage.

    Attributes:
        protein: its name.
        stage: `nvt` or `nve`.
        timestep_fs: of the integrator.
        temperature_K: target of the run.
        n_beads: of one replica.
        replicas_asked: the denominator of everything.
        frames_asked: trajectory frames that a complete replica has.
        points_asked: observations that a complete replica has.
        replicas: those that left readable records.
        problems: one sentence for each record that is missing or damaged.
        at_rest: whether the dynamics keep the center of mass at rest, as CSVR and Nosé–Hoover do.
        types: residue names of `Replica.kinetic_by_type`, [K].
        freedom_by_type: degrees of freedom of the beads of each type, [K].
    """

    protein: str
    stage: str
    timestep_fs: float
    temperature_K: float
    n_beads: int
    replicas_asked: int
    frames_asked: int
    points_asked: int
    replicas: list[Replica]
    problems: list[str] = field(default_factory=list)
    at_rest: bool = False
    types: tuple[str, ...] = ()
    freedom_by_type: tuple[float, ...] = ()

    @property
    def degrees_of_freedom(self) -> int:
        """Return those of one replica: 3N under Langevin; 3N − 3 where the center of mass is at rest, as in NVE."""
        return max(1, 3 * self.n_beads - (3 if self.at_rest or self.stage == "nve" else 0))

    def unfinished(self) -> list[str]:
        """Why this stage's data is not complete, one sentence per cause; empty if it is.

        Averages over what happens to be there would hide exactly the replicas that broke.
        """
        missing = list(self.problems)
        finished = sum(self._finished(replica) for replica in self.replicas)
        if finished < self.replicas_asked:
            missing.insert(0, f"{self.replicas_asked - finished} of {self.replicas_asked} replicas did not finish")
        return missing

    def non_finite(self) -> list[str]:
        """Where a recorded number is NaN or infinite."""
        found = []
        for replica in self.replicas:
            names = [name for name, values in replica.series.items() if not sound(name, values).all()]
            if not np.isfinite(replica.positions).all():
                names.append("positions")
            if names:
                found.append(f"replica {replica.number} has non-finite {', '.join(names)}")
        return found

    def _finished(self, replica: Replica) -> bool:
        return (
            not replica.limit
            and replica.steps_done >= replica.steps_asked > 0
            and len(replica.positions) >= self.frames_asked
            and all(len(values) >= self.points_asked for values in replica.series.values())
        )

"""One step of all replicas: thermostat, model, limits, observation. Called by LAMMPS between its two half kicks."""

import time
from collections.abc import Callable, Sequence

import numpy as np

from cgloop.md.evaluation import Evaluate
from cgloop.md.monitors import Monitor, Violation
from cgloop.md.recorder import Recorder, Snapshot
from cgloop.md.session import Atoms, StopRun
from cgloop.md.thermostat import Langevin, half_kick, kinetic_energy
from cgloop.units import KB

Observer = Callable[[Snapshot], None]


class Coupling:
    """The force function of a run of R replicas of one protein of N beads.

    A replica that breaks a limit is frozen: its forces and velocities are zero from then on, after everything else
    has been done, so that it neither moves nor is observed. The others go on. When none is left the run ends.

    Attributes:
        alive: bool [R].
        last_step: int [R], the last step at which a replica was inside all limits; −1 if it never was.
        violations: by row, the limit that each frozen replica broke at the step after.
        final: all replicas at the last step done.
        model_seconds: wall time inside `evaluate`.
    """

    def __init__(
        self,
        evaluate: Evaluate,
        masses: np.ndarray,
        n_replicas: int,
        timestep_fs: float,
        degrees_of_freedom: int,
        *,
        thermostat: Langevin | None = None,
        monitor: Monitor | None = None,
        recorder: Recorder | None = None,
        observers: Sequence[Observer] = (),
        on_freeze: Callable[[Violation], None] = lambda violation: None,
    ):
        """Args:
        evaluate: the model.
        masses: [N], g/mol.
        n_replicas: R.
        timestep_fs: of the dynamics.
        degrees_of_freedom: of one replica, for its temperature.
        thermostat: friction and noise; none for constant energy.
        monitor: the limits; without one only non-finite values freeze a replica.
        recorder: keeps the last steps.
        observers: called after every step with the state of all replicas.
        on_freeze: told of each replica that breaks a limit, when the recorder holds that step.
        """
        self._evaluate, self._masses, self._shape = evaluate, masses, (n_replicas, len(masses), 3)
        self._half_kick = half_kick(masses, timestep_fs)
        self._kelvin = 2.0 / (degrees_of_freedom * KB)
        self._thermostat, self._monitor, self._recorder = thermostat, monitor, recorder
        self._observers, self._on_freeze = tuple(observers), on_freeze
        self.alive = np.ones(n_replicas, bool)
        self.last_step = np.full(n_replicas, -1)
        self.violations: dict[int, Violation] = {}
        self.final: Snapshot | None = None
        self.model_seconds = 0.0
        self._step: int | None = None
        self._refuge: np.ndarray | None = None

    def state(self) -> dict[str, np.ndarray]:
        """What the next step depends on, beside positions and velocities; for `restore`."""
        refuge = np.zeros(self._shape) if self._refuge is None else self._refuge
        return {"alive": self.alive, "last_step": self.last_step, "refuge": refuge}

    def restore(self, step: int, state: dict[str, np.ndarray], violations: Sequence[Violation]) -> None:
        """Go on behind a step that another coupling has done.

        Args:
            step: its number.
            state: of `state`.
            violations: of replicas that are frozen.
        """
        self._step, self._refuge = step, state["refuge"]
        self.alive, self.last_step = state["alive"].astype(bool), state["last_step"]
        self.violations = {violation.row: violation for violation in violations}

    def __call__(self, step: int, atoms: Atoms, forces: np.ndarray) -> float:
        """See `session.ForceFunction`; changes positions and velocities, too."""
        first = self._step is None
        # Every `run` begins by asking for forces again, without having moved anything.
        advanced = not first and step != self._step
        self._step = step
        velocities = atoms.velocities.reshape(self._shape)
        if advanced and self._thermostat is not None:
            self._thermostat.apply(step, atoms.positions.reshape(self._shape), velocities, self.alive)
        snapshot = self._measure(step, atoms.unwrapped().reshape(self._shape), velocities, advanced)
        if self._recorder is not None and (advanced or first):
            self._recorder.push(snapshot, velocities if advanced else None, getattr(self._evaluate, "rebuilds", 0))
        for violation in self._broken(snapshot, advanced):
            self._freeze(violation)
        alive, forces_by_replica = self.alive, forces.reshape(self._shape)
        forces_by_replica[:] = snapshot.evaluation.forces
        self.last_step[alive] = step
        if alive.all():
            energy = snapshot.evaluation.terms.sum()
        else:
            forces_by_replica[~alive] = 0.0
            velocities[~alive] = 0.0
            if not alive.any():
                raise StopRun("every replica broke a limit")
            energy = snapshot.evaluation.terms[alive].sum()
            snapshot = snapshot._replace(alive=alive)
        self.final = snapshot
        if advanced:
            for observe in self._observers:
                observe(snapshot)
        return float(energy)

    def _measure(self, step: int, positions: np.ndarray, velocities: np.ndarray, advanced: bool) -> Snapshot:
        if self._refuge is None:
            self._refuge = positions
        # Whatever a frozen replica has come to, the model is shown the harmless place where it began.
        shown = positions if self.alive.all() else np.where(self.alive[:, None, None], positions, self._refuge)
        start = time.perf_counter()
        evaluation = self._evaluate(shown)
        self.model_seconds += time.perf_counter() - start
        # Behind the drift LAMMPS's velocities are those of the half step; the second half kick is still to come.
        now = velocities + self._half_kick * evaluation.forces if advanced else velocities.copy()
        kinetic = kinetic_energy(now, self._masses)
        return Snapshot(step, positions, now, evaluation, kinetic, self._kelvin * kinetic, self.alive)

    def _broken(self, snapshot: Snapshot, advanced: bool) -> list[Violation]:
        if self._monitor is not None:
            return self._monitor.check(
                snapshot.evaluation, snapshot.positions, snapshot.temperature_K, self.alive, advanced
            )
        rows = np.flatnonzero(self.alive & ~snapshot.evaluation.finite)
        return [Violation(int(row), "non-finite", float("nan"), 0.0) for row in rows]

    def _freeze(self, violation: Violation) -> None:
        # A new array: snapshots taken before keep theirs.
        self.alive = self.alive.copy()
        self.alive[violation.row] = False
        self.violations[violation.row] = violation
        self._on_freeze(violation)

"""Limits that no replica may leave, judged at every step before anything spreads.

All comparisons are written so that a value that is not a number breaks the limit.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from cgloop.config.md import MonitorConfig
from cgloop.md.evaluation import Evaluation
from cgloop.units import FS_PER_PS, thermal_energy

LIMIT_NAMES = (
    "non-finite",
    "min_distance",
    "bond",
    "max_force",
    "energy_jump",
    "temperature_instant",
    "temperature_mean",
)
"""In the order in which they are named when several are broken at once."""


@dataclass(frozen=True)
class Limits:
    """Thresholds of one stage.

    Attributes:
        min_distance_A: smallest distance of beads that are not bonded, Å.
        bond: largest relative deviation of a bond from its reference mean.
        max_force: kcal/mol/Å on a bead.
        temperature_instant_K: kinetic temperature of one step.
        temperature_mean_K: its mean over the last picosecond.
        energy_jump: kcal/mol, what the energy may change by in one step beyond the work of the forces.
    """

    min_distance_A: float
    bond: float
    max_force: float
    temperature_instant_K: float
    temperature_mean_K: float
    energy_jump: float = math.inf

    def threshold(self, limit: str) -> float:
        """The threshold of one of `LIMIT_NAMES`; 0 for `non-finite`."""
        values = (0.0, self.min_distance_A, self.bond, self.max_force, self.energy_jump)
        return dict(zip(LIMIT_NAMES, (*values, self.temperature_instant_K, self.temperature_mean_K), strict=True))[
            limit
        ]


@dataclass(frozen=True)
class Violation:
    """The limit that a replica broke, by its row in the arrays of the run; the value found, and the threshold."""

    row: int
    limit: str
    value: float
    threshold: float


def limits_of(config: MonitorConfig, temperature_K: float, degrees_of_freedom: int) -> Limits:
    """The thresholds of a config for a replica with so many degrees of freedom.

    The kinetic energy of a healthy replica follows the Gamma distribution of shape dof/2 and scale kT, so its
    temperature exceeds T · quantile(1 − q) / (dof/2) with chance q.

    The mean over a picosecond smooths the exchange of kinetic and potential energy, but not the slow exchange of
    total energy with the bath: it scatters like the total energy of a harmonic system, Gamma with shape dof. For
    small proteins that is wider than the ratio of the config allows, and the same quantile of it is the limit then.
    (Measured, 10 beads, 1/ps, 12 ns: the mean exceeds 1.5 T ten times per ns, its scatter is 17 % where this
    distribution has 18 %, its largest value 2.1 T; the limit becomes 2.5 T. From about 60 beads on it is 1.5 T.)

    The energy jump is limited to a number of kT, whatever the size, see `unexplained_energy`.
    """
    shape = 0.5 * degrees_of_freedom
    quantile = config.temperature_quantile
    widest_mean = float(stats.gamma.isf(quantile, 2.0 * shape)) / (2.0 * shape)
    return Limits(
        min_distance_A=config.min_distance_A,
        bond=config.max_bond_deviation,
        max_force=config.max_force,
        temperature_instant_K=temperature_K * float(stats.gamma.isf(quantile, shape)) / shape,
        temperature_mean_K=temperature_K * max(config.max_temperature_ratio, widest_mean),
        energy_jump=config.max_energy_jump_kT * thermal_energy(temperature_K),
    )


def unexplained_energy(
    positions: np.ndarray, forces: np.ndarray, energies: np.ndarray, before: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> np.ndarray:
    """Change of the potential energy in one step that is not the work of the forces, kcal/mol, [...].

    ΔU + ½ (F + F′)·Δx, the trapezoid rule along the straight line of the step. Where the forces are the gradient of a
    smooth energy this is of third order in the step and vanishes for a harmonic one; at constant energy it is the
    change of the total energy up to that of velocity Verlet's own h²F²/8m; under a thermostat the heat of the bath
    drops out, because it moves beads and is not in U. A step of the energy, a pair that the list missed, or forces
    that are not the gradient appear in full.

    (Measured on both proteins of the examples, 10 and 20 beads, 8 replicas, 2 fs: the change of U has an rms of
    0.25 kT and a maximum of 1.4 kT, this quantity an rms of 4e-5 kT.)

    Args:
        positions, forces: [..., N, 3] Å and kcal/mol/Å; energies: [...] kcal/mol.
        before: the same three at the step before.
    """
    positions_before, forces_before, energies_before = before
    work = np.einsum("...ni,...ni->...", positions - positions_before, forces + forces_before)
    return energies - energies_before + 0.5 * work


_BEFORE = ("positions_before", "forces_before", "energies_before")


class Monitor:
    """Judges every step; keeps the last picosecond of temperatures for the running mean, and the step before."""

    def __init__(self, limits: Limits, timestep_fs: float, n_replicas: int):
        """Args:
        limits: of this stage.
        timestep_fs: of the dynamics.
        n_replicas: R.
        """
        self.limits = limits
        window = max(1, round(FS_PER_PS / timestep_fs))
        self._window = np.zeros((window, n_replicas))
        self._sum = np.zeros(n_replicas)
        self._weight = 1.0 / window
        self._pushed = 0
        self._before: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        # A row for each of LIMIT_NAMES, written so that healthy values lie below their bound; a distance is negative.
        self._values = np.zeros((len(LIMIT_NAMES), n_replicas))
        bounds = np.array([[limits.threshold(name)] for name in LIMIT_NAMES])
        bounds[0], bounds[1] = 0.5, -limits.min_distance_A
        self._bounds = bounds

    def state(self) -> dict[str, np.ndarray]:
        """What later judgements depend on; for `restore`."""
        before = self._before or (np.zeros(0),) * 3
        return {
            "window": self._window, "sum": self._sum, "pushed": np.array(self._pushed),
            **dict(zip(_BEFORE, before, strict=True)),
        }  # fmt: skip

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go on as the monitor did that gave this state."""
        self._window, self._sum, self._pushed = state["window"], state["sum"], int(state["pushed"])
        before, forces, energies = (state[name] for name in _BEFORE)
        self._before = (before, forces, energies) if before.size else None

    def check(
        self,
        evaluation: Evaluation,
        positions: np.ndarray,
        temperature_K: np.ndarray,
        alive: np.ndarray,
        advanced: bool,
    ) -> list[Violation]:
        """Which living replicas break a limit, and which one.

        Args:
            evaluation: of this step.
            positions: [R, N, 3] Å, unwrapped.
            temperature_K: [R], kinetic temperature of this step.
            alive: bool [R]; others are not judged.
            advanced: whether time has passed since the last call (the first call of a run repeats a step).
        """
        if advanced or not self._pushed:
            slot = self._window[self._pushed % len(self._window)]
            self._sum += temperature_K - slot
            slot[:] = temperature_K
            self._pushed += 1
        values, jump = self._values, self._jump(evaluation, positions, advanced)
        np.subtract(1.0, evaluation.finite, out=values[0])
        np.negative(evaluation.min_distance_A, out=values[1])
        values[2], values[3] = evaluation.bond_deviation, evaluation.max_force
        np.abs(jump, out=values[4])
        values[5] = temperature_K
        # Before a whole picosecond has passed there is no running mean to judge.
        if self._pushed > len(self._window):
            np.multiply(self._sum, self._weight, out=values[6])
        ok = values <= self._bounds
        if ok.all():
            return []
        return [self._name(int(row), ok[:, row]) for row in np.flatnonzero(~ok.all(axis=0) & alive)]

    def _jump(self, evaluation: Evaluation, positions: np.ndarray, advanced: bool) -> np.ndarray:
        """Unexplained energy [R] of this step; zero where no time has passed."""
        energies = evaluation.energies
        if self._before is None:
            self._before = positions.copy(), evaluation.forces.copy(), energies
            return np.zeros(len(energies))
        before_positions, before_forces, _ = self._before
        if not advanced:
            jump = np.zeros(len(energies))
        else:
            jump = unexplained_energy(positions, evaluation.forces, energies, self._before)
        before_positions[:], before_forces[:] = positions, evaluation.forces
        self._before = before_positions, before_forces, energies
        return jump

    def _name(self, row: int, ok: np.ndarray) -> Violation:
        """The first limit that a replica breaks; `ok` [limits] says which it keeps."""
        index = int(np.argmin(ok))
        limit, value = LIMIT_NAMES[index], float(self._values[index, row])
        found = {"non-finite": float("nan"), "min_distance": -value}.get(limit, value)
        return Violation(row, limit, found, self.limits.threshold(limit))


def offending_beads(
    limit: str,
    threshold: float,
    positions: np.ndarray,
    forces: np.ndarray,
    bead_kinetic: np.ndarray,
    separation: np.ndarray,
    bonds: np.ndarray,
    bond_mean_A: np.ndarray,
) -> np.ndarray:
    """The beads of one replica that break a limit, sorted.

    Args:
        limit, threshold: which limit, and where it lies.
        positions, forces: [N, 3].
        bead_kinetic: [N], kinetic energy of each bead; for a temperature the fastest bead is named, for a jump of the
            energy the one with the largest force.
        separation: int [N, N], along the chain.
        bonds, bond_mean_A: int [B, 2], and their reference lengths [B].
    """
    if limit == "non-finite":
        return np.flatnonzero(~np.isfinite(forces).all(axis=1) | ~np.isfinite(positions).all(axis=1))
    if limit == "min_distance":
        distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
        return np.unique(np.argwhere((separation > 1) & ~(distance >= threshold)))
    if limit == "bond":
        length = np.linalg.norm(positions[bonds[:, 1]] - positions[bonds[:, 0]], axis=-1)
        return np.unique(bonds[~(np.abs(length / bond_mean_A - 1.0) <= threshold)])
    if limit == "max_force":
        return np.flatnonzero(~(np.linalg.norm(forces, axis=1) <= threshold))
    if limit == "energy_jump":
        return np.array([np.argmax(np.linalg.norm(forces, axis=1))])
    return np.array([np.argmax(bead_kinetic)])

"""The reference of a protein as if a model had made it: what known-bad trajectories are made from."""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.signal import lfilter

from cgloop.config import Config
from cgloop.residues import RESIDUES
from cgloop.units import FS_PER_PS, KB
from cgloop.validate import geometry, nvt
from cgloop.validate.reference import SAME_TEMPERATURE_K, Reference
from cgloop.validate.rundata import Replica, StageRun

SEED = 20231
"""Of the analytic energies. A constant: controls of the same run shall come out the same."""

SURVIVAL_FRAMES = 200
"""Frames of a replica that go through the survival check; it looks at each for itself, so that more tell no more."""

TOTAL_ENERGY_SCATTER = 0.01
"""kcal/mol; what the integrator leaves of a conserved energy."""


@dataclass(frozen=True)
class Specimen:
    """The reference as if a model had made it, sound or with one thing wrong.

    Attributes:
        frames: an NVT stage with frames of the reference, and the distances that its record would show.
        kinetics: an NVT stage of as many replicas and observations as were asked for, without frames.
        energies: an NVE stage, likewise.
        ensemble: all frames of every replica of the reference, [F, N, 3].
        residues: names of the beads, as a trajectory would give them.
        force_error: of the kernel, relative: by what its forces are off their energy.
    """

    frames: StageRun
    kinetics: StageRun
    energies: StageRun
    ensemble: list[np.ndarray]
    residues: list[str]
    force_error: float = 0.0


def specimen(reference: Reference, config: Config, replicas: int) -> Specimen:
    """The sound original that all cases are made from."""
    at = np.abs(reference.data.temperature_K - config.md_temperature_K) < SAME_TEMPERATURE_K
    numbers = np.unique(reference.data.replica[at])
    ensemble = [reference.data.positions[at & (reference.data.replica == number)] for number in numbers]
    rng = np.random.default_rng(SEED)
    return Specimen(
        frames=_frames(ensemble, reference, config, rng),
        kinetics=_energies("nvt", config.md.nvt.length_ps, reference, config, replicas, rng),
        energies=_energies("nve", config.md.nve.length_ps, reference, config, replicas, rng),
        ensemble=ensemble,
        residues=[RESIDUES[int(kind)].name for kind in reference.data.residue_type],
    )


def _frames(ensemble: list[np.ndarray], reference: Reference, config: Config, rng: np.random.Generator) -> StageRun:
    """Frames of the reference with the series that a healthy run would have beside them, one point a frame."""
    linked, bonded = reference.data.linked, np.flatnonzero(reference.data.linked)
    kept = [positions[:SURVIVAL_FRAMES] for positions in ensemble]
    length = max(map(len, kept))
    run = _stage("nvt", length * config.md.dump_every_ps, reference, config, len(kept))
    pairs = geometry.distant_pairs(linked, 2)
    done = []
    for number, positions in enumerate(kept):
        bonds = np.linalg.norm(positions[:, bonded + 1].astype(float) - positions[:, bonded], axis=2)
        series = _series(len(positions), config.md.dump_every_ps, run, config, rng)
        series["min_distance_A"] = geometry.pair_distances(positions, pairs).min(axis=1, initial=np.inf)
        series["max_bond_deviation"] = np.abs(bonds / reference.bonds_A - 1).max(axis=1, initial=0.0)
        # Shorter replicas of the reference count as they are: nobody asked them to be longer.
        steps = _steps(len(positions) * config.md.dump_every_ps, config)
        done.append(Replica(number, steps, steps, "", series, positions))
    shortest = min(map(len, kept))
    return replace(run, frames_asked=shortest, points_asked=shortest, replicas=done)


def _energies(
    stage: str, length_ps: float, reference: Reference, config: Config, replicas: int, rng: np.random.Generator
) -> StageRun:
    run = _stage(stage, length_ps, reference, config, replicas)
    nothing = np.zeros((0, run.n_beads, 3))
    steps = _steps(length_ps, config)
    done = [
        Replica(number, steps, steps, "", _series(run.points_asked, config.md.observe_every_ps, run, config, rng),
                nothing)
        for number in range(replicas)
    ]  # fmt: skip
    return replace(run, replicas=done)


def _stage(stage: str, length_ps: float, reference: Reference, config: Config, replicas: int) -> StageRun:
    return StageRun(
        protein=reference.data.name, stage=stage, timestep_fs=config.md.timestep_fs,
        temperature_K=config.md_temperature_K, n_beads=len(reference.data.residue_type), replicas_asked=replicas,
        frames_asked=max(1, math.floor(length_ps / config.md.dump_every_ps + 1e-6)),
        points_asked=max(1, math.floor(length_ps / config.md.observe_every_ps + 1e-6)), replicas=[],
        at_rest=stage == "nve" or config.md.nvt.conserves_momentum,
    )  # fmt: skip


def _steps(length_ps: float, config: Config) -> int:
    return max(1, round(length_ps * FS_PER_PS / config.md.timestep_fs))


def _series(
    points: int, spacing_ps: float, run: StageRun, config: Config, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Series of a healthy replica: kinetic energy ½ kT Σ z² over Ornstein–Uhlenbeck components z.

    z forgets with the rate γ of the friction, as the velocity of a free bead does; z² then has the integrated
    correlation time 1/2γ, as the square of the velocity of any damped harmonic oscillator has, exp(−γt) cos²ωt.
    """
    keep = math.exp(-config.md.nvt.friction_per_ps * spacing_ps)
    noise = rng.normal(size=(points, run.degrees_of_freedom)) * math.sqrt(1 - keep**2)
    noise[0] = rng.normal(size=run.degrees_of_freedom)
    kinetic = 0.5 * KB * run.temperature_K * (lfilter([1.0], [1.0, -keep], noise, axis=0) ** 2).sum(axis=1)
    scatter = TOTAL_ENERGY_SCATTER * rng.normal(size=points)
    total = scatter if run.stage == "nve" else kinetic + scatter
    return {
        "time_ps": spacing_ps * np.arange(1, points + 1),
        "temperature_K": nvt.kinetic_temperature(kinetic, run.degrees_of_freedom),
        "kinetic": kinetic,
        "potential": total - kinetic,
        "total": total,
        "min_distance_A": np.full(points, np.inf),
        "max_force": np.zeros(points),
        "max_bond_deviation": np.zeros(points),
    }

"""Small worlds with known physics, and a way to run them through LAMMPS and the real coupling."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cgloop.md.coupling import Coupling
from cgloop.md.evaluation import N_TERMS, Evaluation
from cgloop.md.inputs import write_data_file, write_script
from cgloop.md.noise import Noise
from cgloop.md.session import Session
from cgloop.md.thermostat import Langevin, maxwell_velocities
from cgloop.residues import masses

TEMPERATURE_K = 320.0


def evaluation(forces: np.ndarray, energies: np.ndarray, **changes: np.ndarray) -> Evaluation:
    """Forces [R, N, 3] and energies [R] as an evaluation with healthy diagnostics, or with those in `changes`."""
    n_replicas = len(forces)
    terms = np.zeros((n_replicas, N_TERMS))
    terms[:, 0] = energies
    strength = np.linalg.norm(forces, axis=-1).max(axis=1)
    healthy = Evaluation(
        forces=forces,
        terms=terms,
        min_distance_A=np.full(n_replicas, np.inf),
        bond_deviation=np.zeros(n_replicas),
        max_force=strength,
        finite=np.isfinite(strength) & np.isfinite(energies),
    )
    return healthy._replace(**changes)


def wells(stiffness: float) -> Callable[[np.ndarray], Evaluation]:
    """Every bead in a harmonic well of its own around the origin, ½ k r²; k in kcal/mol/Å²."""
    return lambda x: evaluation(-stiffness * x, 0.5 * stiffness * np.einsum("rni,rni->r", x, x))


def springs(stiffness: float, length_A: float) -> Callable[[np.ndarray], Evaluation]:
    """Neighbours along the chain joined by springs ½ k (d − d₀)²; each replica computed by itself."""

    def one(x: np.ndarray) -> tuple[np.ndarray, float]:
        vector = x[1:] - x[:-1]
        distance = np.sqrt((vector**2).sum(axis=1))
        pull = (stiffness * (distance - length_A) / distance)[:, None] * vector
        force = np.zeros_like(x)
        force[:-1] += pull
        force[1:] -= pull
        return force, float(0.5 * stiffness * ((distance - length_A) ** 2).sum())

    def evaluate(positions: np.ndarray) -> Evaluation:
        forces, energies = zip(*(one(frame) for frame in positions), strict=True)
        return evaluation(np.stack(forces), np.array(energies))

    return evaluate


def chain_frames(n_replicas: int, n_beads: int, seed: int = 0) -> np.ndarray:
    """Zigzag chains [R, N, 3] with bonds of about 3.8 Å."""
    beads = np.arange(n_beads)
    frame = np.stack([3.2 * beads, 2.0 * (beads % 2), 0.6 * ((beads // 2) % 2)], axis=1)
    frame -= frame.mean(axis=0)
    return frame + 0.1 * np.random.default_rng(seed).standard_normal((n_replicas, n_beads, 3))


def types_of(n_beads: int) -> np.ndarray:
    """All kinds of residues in turn."""
    return (np.arange(n_beads) * 7) % 20


def masses_of(n_beads: int) -> np.ndarray:
    """[N], g/mol."""
    return np.array(masses())[types_of(n_beads)]


def thermostat(
    n_beads: int, replicas: list[int], timestep_fs: float, friction_per_ps: float = 1.0, seed: int = 5
) -> Langevin:
    """A bath at `TEMPERATURE_K`."""
    noise = Noise(seed, replicas, n_beads, "thermostat")
    return Langevin(noise, masses_of(n_beads), TEMPERATURE_K, friction_per_ps, timestep_fs)


def thermal_velocities(n_beads: int, replicas: list[int], seed: int = 5) -> np.ndarray:
    """[R, N, 3] in Å/fs at `TEMPERATURE_K`."""
    return maxwell_velocities(Noise(seed, replicas, n_beads, "velocities"), masses_of(n_beads), TEMPERATURE_K)


def run_in_lammps(
    folder: Path,
    evaluate: Callable[[np.ndarray], Evaluation],
    positions: np.ndarray,
    velocities: np.ndarray,
    steps: int,
    timestep_fs: float,
    degrees_of_freedom: int | None = None,
    runs: str = "",
    **options,
) -> Coupling:
    """Run the script nve.in with a coupling (its options are passed on), and return the coupling.

    `runs` are commands to put in the place of the script's one `run`.
    """
    n_replicas, n_beads, _ = positions.shape
    folder.mkdir(parents=True, exist_ok=True)
    write_data_file(folder / "system.data", types_of(n_beads), positions, velocities)
    values = {"data_file": "system.data", "timestep_fs": timestep_fs, "thermo_every": 1000, "steps": steps}
    script = write_script("nve.in", values, folder / "nve.in")
    if runs:
        script.write_text(re.sub(r"^run .*$", runs, script.read_text(), flags=re.MULTILINE))
    coupling = Coupling(
        evaluate, masses_of(n_beads), n_replicas, timestep_fs, degrees_of_freedom or 3 * n_beads, **options
    )
    with Session(folder / "log.lammps") as session:
        session.run_script(script, coupling)
    return coupling

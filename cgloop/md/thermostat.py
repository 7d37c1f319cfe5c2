"""Langevin dynamics with the BAOAB splitting, done inside velocity Verlet.

BAOAB (Leimkuhler & Matthews, Appl. Math. Res. Express 2013, 34–56, doi:10.1093/amrx/abs010) advances one time
step h by

    B  v += ½h F(x)/m
    A  x += ½h v
    O  v  = c v + √((1−c²) kT/m) R,   c = exp(−γh),  R standard normal
    A  x += ½h v
    B  v += ½h F(x)/m

LAMMPS's `fix nve` does B(½), then the whole drift x += h v, then asks for forces, then does the last B(½).
When the forces are asked for, v is still the velocity v₁ of the drift and x = x₀ + h v₁. What BAOAB wants there
is x₀ + ½h v₁ + ½h v₂ with v₂ = c v₁ + √((1−c²) kT/m) R, which is x + ½h (v₂ − v₁). So writing v₂ into LAMMPS's
velocities, adding ½h (v₂ − v₁) to its positions, and computing the forces there turns velocity Verlet into exact
BAOAB. Its configurations of a harmonic oscillator have no error in h at all, which the tests use.
"""

import math

import numpy as np

from cgloop.config.md import NVTConfig
from cgloop.md.noise import Noise
from cgloop.units import ACCELERATION, FS_PER_PS, MVV_TO_KCAL_PER_MOL, thermal_energy


class Langevin:
    """The O step, and what it changes in the positions."""

    def __init__(
        self, noise: Noise, masses: np.ndarray, temperature_K: float, friction_per_ps: float, timestep_fs: float
    ):
        """Args:
        noise: standard normal numbers for each step.
        masses: [N], g/mol.
        temperature_K: of the bath.
        friction_per_ps: γ, 1/ps.
        timestep_fs: h, fs.
        """
        self._noise = noise
        self._half_step = 0.5 * timestep_fs
        self._decay = math.exp(-friction_per_ps * timestep_fs / FS_PER_PS)
        self._width = math.sqrt(1.0 - self._decay**2) * thermal_speed(masses, temperature_K)[:, None]

    def apply(self, step: int, positions: np.ndarray, velocities: np.ndarray, alive: np.ndarray) -> None:
        """Change positions and velocities [R, N, 3] in place, those of replicas that are alive (bool [R]).

        Args:
            step: number of the step that is being done; it selects the noise.
        """
        change = (self._decay - 1.0) * velocities
        change += self._width * self._noise.at(step)
        if not alive.all():
            change[~alive] = 0.0
        velocities += change
        change *= self._half_step
        positions += change


LAMMPS_SEEDS = 900_000_000
"""LAMMPS takes seeds from 1 to below this."""


def lammps_fixes(config: NVTConfig, temperature_K: float, seed: int) -> str:
    """The commands that integrate in time: `fix nve`, which our own thermostat works in, or one with a thermostat of
    LAMMPS's.

    Args:
        config: which one, friction or coupling time.
        temperature_K: of the bath.
        seed: of the random numbers of those that have some.
    """
    temperature, seed = f"{temperature_K:.12g} {temperature_K:.12g}", 1 + seed % (LAMMPS_SEEDS - 1)
    friction_fs, coupling_fs = (
        f"{time:.12g}" for time in (FS_PER_PS / config.friction_per_ps, FS_PER_PS * config.coupling_time_ps)
    )
    nve = "fix             integrate all nve       # velocity Verlet"
    return {
        "langevin": nve,
        "lammps-langevin": f"{nve}\nfix             thermostat all langevin {temperature} {friction_fs} {seed}",
        "csvr": f"{nve}\nfix             thermostat all temp/csvr {temperature} {coupling_fs} {seed}",
        "nose-hoover": f"fix             integrate all nvt temp {temperature} {coupling_fs}",
    }[config.thermostat]


def thermal_speed(masses: np.ndarray, temperature_K: float) -> np.ndarray:
    """Standard deviation √(kT/m) of a velocity component, Å/fs, for masses [N] in g/mol."""
    return np.sqrt(thermal_energy(temperature_K) / (np.asarray(masses, float) * MVV_TO_KCAL_PER_MOL))


def maxwell_velocities(noise: Noise, masses: np.ndarray, temperature_K: float) -> np.ndarray:
    """Velocities [R, N, 3] in Å/fs, drawn from the Maxwell–Boltzmann distribution with all 3N degrees of freedom."""
    return thermal_speed(masses, temperature_K)[:, None] * noise.at(0)


def remove_net_momentum(velocities: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """Velocities [R, N, 3] with each replica's centre of mass at rest, which leaves 3N − 3 degrees of freedom."""
    return velocities - np.average(velocities, axis=1, weights=masses)[:, None]


def kinetic_energy(velocities: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """Kinetic energy [R] in kcal/mol of velocities [R, N, 3] in Å/fs."""
    return 0.5 * MVV_TO_KCAL_PER_MOL * np.einsum("rni,rni,n->r", velocities, velocities, masses)


def half_kick(masses: np.ndarray, timestep_fs: float) -> np.ndarray:
    """½h/m [N, 1]: times forces in kcal/mol/Å, the velocities in Å/fs that beads gain in half a time step."""
    return (0.5 * timestep_fs * ACCELERATION / masses)[:, None]

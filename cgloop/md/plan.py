"""What a stage of dynamics has to do: how long, how hot, with what random numbers."""

import hashlib
from dataclasses import dataclass

from cgloop.config.md import MDConfig
from cgloop.md.recorder import Clock
from cgloop.md.thermostat import lammps_fixes
from cgloop.units import FS_PER_PS


@dataclass(frozen=True)
class Plan:
    """What a stage of dynamics has to do.

    Attributes:
        stage: `nvt` or `nve`; also the name of the LAMMPS script.
        clock: time step and numbers of steps.
        temperature_K: target; at constant energy only the limits refer to it.
        degrees_of_freedom: per replica.
        seed: of the noise.
        config: intervals, limits, friction.
    """

    stage: str
    clock: Clock
    temperature_K: float
    degrees_of_freedom: int
    seed: int
    config: MDConfig

    @property
    def restart_steps(self) -> int:
        """Steps between checkpoints; 0 for none: the state of LAMMPS's own thermostats cannot be restored exactly."""
        if self.stage == "nvt" and self.config.nvt.thermostat != "langevin":
            return 0
        return max(1, round(self.config.restart_every_ps * FS_PER_PS / self.clock.timestep_fs))

    @property
    def may_go_on(self) -> bool:
        """Whether what it takes to make the run longer is kept at its end."""
        return self.config.extend and self.config.engine == "lammps" and self.restart_steps > 0

    def variables(self) -> dict[str, object]:
        """What the LAMMPS script of the stage is filled in with."""
        return {
            "data_file": "system.data",
            "timestep_fs": self.clock.timestep_fs,
            "temperature_K": self.temperature_K,
            "friction_per_ps": self.config.nvt.friction_per_ps,
            "integrator": lammps_fixes(self.config.nvt, self.temperature_K, self.seed) if self.stage == "nvt" else "",
            "equilibration_steps": self.clock.equilibration_steps,
            "steps": self.clock.steps,
            "thermo_every": max(1, self.clock.steps // 100),
        }


def plan_nvt(config: MDConfig, temperature_K: float, n_beads: int, seed: int) -> Plan:
    """Dynamics under a thermostat, which acts on all 3N degrees of freedom if it is Langevin's."""
    clock = Clock(
        config.timestep_fs, _steps(config.nvt.equilibration_ps, config), max(1, _steps(config.nvt.length_ps, config))
    )
    held = 3 if config.nvt.conserves_momentum else 0
    return Plan("nvt", clock, temperature_K, max(1, 3 * n_beads - held), seed, config)


def plan_nve(config: MDConfig, temperature_K: float, n_beads: int, seed: int) -> Plan:
    """Constant energy: each replica's centre of mass stays at rest, which takes three degrees of freedom."""
    clock = Clock(config.timestep_fs, 0, max(1, _steps(config.nve.length_ps, config)))
    return Plan("nve", clock, temperature_K, max(1, 3 * n_beads - 3), seed, config)


def _steps(length_ps: float, config: MDConfig) -> int:
    return round(length_ps * FS_PER_PS / config.timestep_fs)


def noise_seed(run_seed: int, protein: str) -> int:
    """64-bit seed of a protein's noise: different proteins of a run get different numbers."""
    return int.from_bytes(hashlib.sha256(f"{run_seed}/{protein}".encode()).digest()[:8], "little")

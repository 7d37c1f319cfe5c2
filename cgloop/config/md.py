"""`md:` dynamics in LAMMPS that the model has to survive."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from cgloop.config.base import Section


class MinimizeConfig(Section):
    """Energy minimization before the dynamics, one replica at a time."""

    force_tolerance: float = Field(
        0.05,
        gt=0,
        description="Largest force on a bead in kcal/mol/Å at which a minimization has converged; limit of "
        "`minimize.converged`.",
    )
    max_steps: int = Field(2000, ge=1, description="Largest number of iterations of the minimizer.")


class NVTConfig(Section):
    """Dynamics under a thermostat."""

    length_ps: float = Field(
        100.0, gt=0, description="Length of the production run of every replica under the thermostat."
    )
    equilibration_ps: float = Field(
        5.0, ge=0, description="Length of the equilibration before it, which is not analyzed."
    )
    friction_per_ps: float = Field(1.0, gt=0, description="Friction coefficient of Langevin dynamics.")
    thermostat: Literal["langevin", "lammps-langevin", "csvr", "nose-hoover"] = Field(
        "langevin",
        description="`langevin`: cgloop's own, with random numbers for each replica; the others are those of LAMMPS,"
        " which couple all atoms of a run and need `replicas: 1`.",
    )
    coupling_time_ps: float = Field(0.1, gt=0, description="Coupling time of `csvr` and `nose-hoover`.")

    @property
    def conserves_momentum(self) -> bool:
        """Whether the centre of mass stays at rest, which takes three degrees of freedom."""
        return self.thermostat in ("csvr", "nose-hoover")


class NVEConfig(Section):
    """Constant-energy dynamics, the test of the forces."""

    length_ps: float = Field(50.0, gt=0, description="Length of the run of every replica at constant energy.")


class MonitorConfig(Section):
    """Limits that no replica may leave at any step; `stability.survival` checks the records against the same limits."""

    min_distance_A: float = Field(2.0, gt=0, description="Smallest distance of two beads that are not bonded.")
    max_bond_deviation: float = Field(
        0.2,
        gt=0,
        description="Largest deviation of a CA–CA bond from its mean in the reference, relative to that mean.",
    )
    max_force: float = Field(1000.0, gt=0, description="Largest force on a bead in kcal/mol/Å.")
    max_energy_jump_kT: float = Field(
        1.0, gt=0, description="Largest change of the energy in one step that is not the work of the forces."
    )
    max_temperature_ratio: float = Field(
        1.5,
        gt=1,
        description="Largest running mean of the kinetic temperature over 1 ps, relative to the target; small "
        "proteins have a wider limit (docs/md.md).",
    )
    temperature_quantile: float = Field(
        1e-9,
        gt=0,
        lt=0.01,
        description="Probability with which a healthy replica exceeds the limit of the instantaneous temperature.",
    )


class MDConfig(Section):
    """Replicas, lengths and limits of the LAMMPS runs."""

    engine: Literal["lammps", "lmp", "jax_md"] = Field(
        "lammps",
        description="`lammps`: LAMMPS inside this process, watched at every step, the only engine that a model can "
        "pass with; `lmp`: a LAMMPS program of yours; `jax_md`: for pre-screening.",
    )
    lmp: list[str] = Field(
        default_factory=lambda: ["lmp"],
        min_length=1,
        description="Program of `engine: lmp` and its first arguments, e.g. `[mpiexec, -n, 4, /opt/lammps/bin/lmp]`.",
    )
    lmp_device: str = Field(
        "cuda12", description="Device that chemtrain's plugin computes a network on (`engine: lmp`)."
    )
    lmp_energy_limit: float = Field(
        1e-3,
        gt=0,
        description="Largest difference between the energy of the external LAMMPS and the model's, relative to "
        "max(|energy|, N kT) (`engine: lmp`).",
    )
    replicas: int = Field(
        8, ge=1, le=1000, description="Replicas of every protein; they start from different held-out frames."
    )
    proteins: list[str] | None = Field(
        None, description="Proteins that are simulated. Default: those with held-out frames, up to `max_proteins`."
    )
    max_proteins: int = Field(
        8,
        ge=1,
        description="Largest number of proteins simulated by default: those of the test part first, spread over all "
        "sizes.",
    )
    timestep_fs: float = Field(2.0, gt=0, description="Time step of the dynamics.")
    masses: Literal["residue"] | float = Field(
        "residue", description="Mass of every bead: that of its residue, or this number in g/mol."
    )
    temperature_K: float | None = Field(
        None,
        gt=0,
        description="Temperature of the dynamics. Default: the model's; at any other temperature checks are reported"
        " and not gated.",
    )
    minimize: MinimizeConfig = MinimizeConfig()
    nvt: NVTConfig = NVTConfig()
    nve: NVEConfig = NVEConfig()
    dump_every_ps: float = Field(0.5, gt=0, description="Interval of the frames of a trajectory.")
    observe_every_ps: float = Field(
        0.1, gt=0, description="Interval at which energies, temperature and distances are recorded."
    )
    monitors: MonitorConfig = MonitorConfig()
    crash_frames: int = Field(200, ge=2, description="Steps of every replica that are kept for the record of a crash.")
    skin_A: float = Field(
        2.0,
        gt=0,
        description="Width of the neighbor list beyond the cutoff; the list is rebuilt when a bead has moved half of"
        " it.",
    )
    restart_every_ps: float = Field(
        20.0, gt=0, description="Interval of the checkpoints from which a killed run continues."
    )
    processes: int | None = Field(
        None,
        ge=1,
        description="Processes side by side, for proteins or parts of their replicas. Default: one on each GPU, else"
        " one on each core.",
    )
    time_limit_minutes: float | None = Field(
        None,
        gt=0,
        description="Wall time of one process; replicas that are not done by then have failed. Default: no limit.",
    )
    extend: bool = Field(
        False, description="Whether the dynamics continue where a longer run would decide an inconclusive verdict."
    )
    max_extensions: int = Field(3, ge=1, description="How often they continue at most.")
    max_length_factor: float = Field(
        10.0, gt=1, description="Largest length of an extended run, relative to the length asked for."
    )
    lammps_inputs: Path | None = Field(
        None, description="Folder with LAMMPS scripts of your own, which replace the shipped scripts of the same name."
    )

    @model_validator(mode="after")
    def _intervals_hold_steps(self):
        for name in ("dump_every_ps", "observe_every_ps"):
            if getattr(self, name) * 1000 < self.timestep_fs:
                raise ValueError(f"`{name}` is shorter than one time step")
        return self

    @field_validator("lmp", mode="before")
    @classmethod
    def _one_word_is_a_program(cls, given: Any) -> Any:
        return [given] if isinstance(given, str) else given

    @model_validator(mode="after")
    def _thermostat_of_replicas(self):
        if self.engine == "lmp":
            if self.nvt.conserves_momentum:
                raise ValueError(f"engine lmp has no `nvt.thermostat: {self.nvt.thermostat}`: its is `fix langevin`")
            return self
        if self.replicas > 1 and self.nvt.thermostat != "langevin":
            raise ValueError(
                f"`nvt.thermostat: {self.nvt.thermostat}` couples all atoms of a run, replicas would depend on each "
                "other: set `replicas: 1`, or use `langevin`"
            )
        return self

    @model_validator(mode="after")
    def _masses_are_positive(self):
        if not isinstance(self.masses, str) and not self.masses > 0:
            raise ValueError("`masses` is not positive")
        return self

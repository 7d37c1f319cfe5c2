"""`md:` what the model has to survive in LAMMPS."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from cgloop.config.base import Section


class MinimizeConfig(Section):
    """Energy minimisation before dynamics, one replica at a time."""

    force_tolerance: float = Field(0.05, gt=0, description="kcal/mol/Å, largest force on a bead")
    max_steps: int = Field(2000, ge=1)


class NVTConfig(Section):
    """Langevin dynamics at the model's temperature."""

    length_ps: float = Field(100.0, gt=0, description="per replica, after equilibration")
    equilibration_ps: float = Field(5.0, ge=0, description="run before, not analysed")
    friction_per_ps: float = Field(1.0, gt=0)
    thermostat: Literal["langevin", "lammps-langevin", "csvr", "nose-hoover"] = Field(
        "langevin",
        description="langevin: ours, each replica with random numbers of its own; the others are LAMMPS's and couple "
        "all atoms of a run: for one replica only",
    )
    coupling_time_ps: float = Field(0.1, gt=0, description="of csvr and nose-hoover")

    @property
    def conserves_momentum(self) -> bool:
        """Whether the centre of mass stays at rest, which takes three degrees of freedom."""
        return self.thermostat in ("csvr", "nose-hoover")


class NVEConfig(Section):
    """Constant-energy dynamics, the test of the forces."""

    length_ps: float = Field(50.0, gt=0, description="per replica")


class MonitorConfig(Section):
    """Limits that no replica may leave; VALIDATION of survival uses the same ones."""

    min_distance_A: float = Field(2.0, gt=0, description="between beads that are not bonded")
    max_bond_deviation: float = Field(0.2, gt=0, description="of a CA–CA bond from the reference mean, relative")
    max_force: float = Field(1000.0, gt=0, description="kcal/mol/Å on a bead")
    max_energy_jump_kT: float = Field(
        1.0, gt=0, description="change of the energy in one step that is not the work of the forces, in kT"
    )
    max_temperature_ratio: float = Field(1.5, gt=1, description="running mean over 1 ps over the target")
    temperature_quantile: float = Field(
        1e-9, gt=0, lt=0.01, description="chance that a healthy replica's instantaneous temperature exceeds the limit"
    )


class MDConfig(Section):
    """Replicas, lengths and limits of the LAMMPS runs."""

    engine: Literal["lammps", "lmp", "jax_md"] = Field(
        "lammps",
        description="lammps: inside this process, what a verdict is made from; lmp: a LAMMPS program of yours, which "
        "nothing watches step by step; jax_md: for pre-screening. Neither of the two is ever a pass",
    )
    lmp: list[str] = Field(
        default_factory=lambda: ["lmp"], min_length=1,
        description="of engine lmp: the program and its first arguments, as [mpiexec, -n, 4, /opt/lammps/bin/lmp]",
    )  # fmt: skip
    lmp_device: str = Field("cuda12", description="of engine lmp: what chemtrain's plugin computes a network on")
    lmp_energy_limit: float = Field(
        1e-3, gt=0, description="of engine lmp: largest difference of its energy and the model's, see `parity`"
    )
    replicas: int = Field(8, ge=1, le=1000, description="per protein; start from different held-out frames")
    proteins: list[str] | None = Field(None, description="default: those that have held-out frames, up to max_proteins")
    max_proteins: int = Field(8, ge=1, description="test part first, spread from the smallest to the largest protein")
    timestep_fs: float = Field(2.0, gt=0)
    masses: Literal["residue"] | float = Field("residue", description="of a bead: its residue's, or this one, g/mol")
    temperature_K: float | None = Field(None, gt=0, description="default: the model's; others are reported, not gated")
    minimize: MinimizeConfig = MinimizeConfig()
    nvt: NVTConfig = NVTConfig()
    nve: NVEConfig = NVEConfig()
    dump_every_ps: float = Field(0.5, gt=0, description="frames of the trajectory")
    observe_every_ps: float = Field(0.1, gt=0, description="energies, temperature, distances")
    monitors: MonitorConfig = MonitorConfig()
    crash_frames: int = Field(200, ge=2, description="steps kept before a crash")
    skin_A: float = Field(2.0, gt=0, description="neighbours are rebuilt when a bead moved half of it")
    restart_every_ps: float = Field(20.0, gt=0, description="from there a run that was killed goes on")
    processes: int | None = Field(
        None, ge=1,
        description="side by side, for proteins or parts of their replicas; default: on each GPU, else core, one",
    )  # fmt: skip
    time_limit_minutes: float | None = Field(
        None, gt=0, description="wall time of one process; replicas that are not done by then have failed"
    )
    extend: bool = Field(
        False, description="go on with the dynamics where a longer run would decide an inconclusive verdict"
    )
    max_extensions: int = Field(3, ge=1, description="at most so often")
    max_length_factor: float = Field(10.0, gt=1, description="at most so many times the length asked for")
    lammps_inputs: Path | None = Field(
        None, description="folder with scripts of your own, used instead of those of the same name that are shipped"
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

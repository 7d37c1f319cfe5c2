"""`validate:` definitions and limits of the checks; `gate:` which of them decide."""

from pydantic import Field

from cgloop.config.base import Section


class ParityConfig(Section):
    """The exported artifact in LAMMPS against the model in JAX."""

    frames: int = Field(20, ge=1, description="held-out frames")
    force_limit: float = Field(1e-4, gt=0, description="largest force difference over RMS force")
    energy_limit: float = Field(1e-5, gt=0, description="energy difference over max(|energy|, N kT)")
    emulation_limit: float = Field(
        1e-4, gt=0, description="of model.ptb run here as chemtrain's plugin would: both differences, as above"
    )


class ValidateConfig(Section):
    """Limits are defaults here, never constants in code."""

    max_trim: float = Field(0.25, ge=0, lt=1, description="largest part cut off as equilibration")
    min_effective_samples: float = Field(20.0, gt=0)
    static_second_minimum_kT: float = Field(
        1.0, ge=0, description="a prior's minimum outside the data is at least so far above the lowest one inside"
    )
    static_angle_excess_kT: float = Field(3.0, ge=0, description="an angle term over the data's free energy")
    static_repulsion_kT: float = Field(3.0, gt=0, description="of two beads at 3 Å")
    static_separated_A: float = Field(3.0, gt=0, description="of beads that overlapped before a minimisation")
    static_gradient_relative: float = Field(1e-5, gt=0, description="of the RMS force")
    static_symmetry_relative: float = Field(1e-5, gt=0, description="of the energy, or of the RMS force")
    training_change: float = Field(0.01, gt=0, description="of the loss over the last fifth of the epochs, relative")
    min_replicas: int = Field(3, ge=2)
    survival_fraction: float = Field(1.0, gt=0, le=1)
    minimize_max_move_A: float = Field(5.0, gt=0)
    nvt_temperature_deviation: float = Field(0.02, gt=0, description="relative")
    nvt_p_value: float = Field(
        0.01, gt=0, lt=1, description="chance at which a healthy run is called unlikely: distribution, equipartition"
    )
    nvt_temperature_margin: float = Field(
        0.005, ge=0, description="relative; deviations of the temperature that no test of the ensemble looks at"
    )
    nve_order_deviation: float = Field(0.25, gt=0, description="of the order of the integrator from 2")
    nve_drift_kcal_per_mol_per_ns: float = Field(1.0, gt=0)
    nve_drift_kT_per_ns_per_dof: float = Field(0.01, gt=0)
    nve_drift_over_kinetic_fluctuation: float = Field(1.0, gt=0)
    rmsd_wasserstein_A: float = Field(1.0, gt=0, description="floor of the noise-calibrated limit")
    contact_cutoff_A: float = Field(8.0, gt=0)
    contact_min_separation: int = Field(4, ge=1)
    contact_pearson: float = Field(0.9, gt=0, le=1)
    contact_mad: float = Field(0.1, gt=0)
    q_beta_per_A: float = Field(5.0, gt=0)
    q_lambda: float = Field(1.2, gt=0)
    q_wasserstein: float = Field(0.1, gt=0, description="floor of the noise-calibrated limit")
    rg_wasserstein_A: float = Field(0.5, gt=0, description="floor of the noise-calibrated limit")
    end_to_end_wasserstein_A: float = Field(1.5, gt=0, description="floor of the noise-calibrated limit")
    handedness_decided: float = Field(
        0.9, gt=0.5, le=1, description="smallest share of one sign in the reference for a dihedral to count"
    )
    handedness_fraction: float = Field(0.9, gt=0, le=1, description="of these dihedrals with the reference's sign")
    local_divergence: float = Field(0.05, gt=0, le=1, description="bonds, angles, dihedrals; floor of the limit")
    pair_divergence: float = Field(0.05, gt=0, le=1, description="CA–CA distances; floor of the limit")
    class_min_effective_samples: float = Field(200.0, gt=0, description="a class of coordinates with fewer is left out")
    bond_bin_A: float = Field(0.05, gt=0, description="width of the bins of bond lengths")
    angle_bin_deg: float = Field(5.0, gt=0, le=45)
    dihedral_bin_deg: float = Field(10.0, gt=0, le=90)
    pair_bin_A: float = Field(0.5, gt=0)
    surface_lag_frames: int = Field(5, ge=1, description="lag of TICA, in frames of the reference")
    surface_bins: int = Field(20, ge=4, le=100, description="of the free-energy surface, along each component")
    surface_cutoff_kcal_per_mol: float = Field(4.0, gt=0)
    surface_mae_kcal_per_mol: float = Field(1.0, gt=0, description="floor of the noise-calibrated limit")
    noise_blocks: int = Field(200, ge=20, description="resampled reference blocks for each noise limit")


REQUIRED = [
    "static.prior",
    "static.gradient",
    "static.symmetry",
    "parity.forces",
    "parity.energy",
    "stability.survival",
    "minimize.converged",
    "nvt.temperature",
    "nvt.distribution",
    "nvt.equipartition",
    "nve.drift",
    "nve.order",
    "structure.rmsd",
    "structure.mirror",
    "structure.contacts",
    "structure.q",
    "structure.rg",
    "structure.end_to_end",
    "structure.handedness",
]


class GateConfig(Section):
    """Checks that decide; all others are reported."""

    required: list[str] = Field(default_factory=lambda: list(REQUIRED), min_length=1)
    optional: list[str] = Field([], description="do not decide, but the verdict tells if they fail")
    significance: float = Field(
        0.01, gt=0, lt=0.5, description="chance that a healthy model is failed by any of the required checks"
    )

"""`validate:` definitions and limits of the checks; `gate:` which of them decide."""

from pydantic import Field

from cgloop.config.base import Section


class ParityConfig(Section):
    """Comparison of the exported artifact in LAMMPS with the model in JAX."""

    frames: int = Field(
        20,
        ge=1,
        description="Held-out frames on which the exported artifact in LAMMPS is compared with the model in JAX.",
    )
    force_limit: float = Field(
        1e-4, gt=0, description="Largest difference of a force component, relative to the RMS force."
    )
    energy_limit: float = Field(
        1e-5, gt=0, description="Largest difference of the energy, relative to max(|energy|, N kT)."
    )
    emulation_limit: float = Field(
        1e-4,
        gt=0,
        description="Largest difference of force and energy, relative as above, between the model and `model.ptb` "
        "run as chemtrain's plugin would run it.",
    )


class ValidateConfig(Section):
    """Definitions and limits of the checks."""

    max_trim: float = Field(
        0.25, ge=0, lt=1, description="Largest part of a trajectory that is cut off as equilibration."
    )
    min_effective_samples: float = Field(
        20.0,
        gt=0,
        description="Smallest number of effective (independent) samples for which a check that averages over time is"
        " decided.",
    )
    static_second_minimum_kT: float = Field(
        1.0,
        ge=0,
        description="Smallest height of a minimum of a prior term outside the data above the lowest minimum inside.",
    )
    static_angle_excess_kT: float = Field(
        3.0, ge=0, description="Largest amplitude of an angle term beyond that of the free energy of the data."
    )
    static_repulsion_kT: float = Field(3.0, gt=0, description="Smallest energy of two beads at a distance of 3 Å.")
    static_separated_A: float = Field(
        3.0, gt=0, description="Smallest distance after a minimization of two beads that were put onto each other."
    )
    static_gradient_relative: float = Field(
        1e-5,
        gt=0,
        description="Largest difference between force and finite difference of the energy, relative to the RMS force.",
    )
    static_symmetry_relative: float = Field(
        1e-5,
        gt=0,
        description="Largest change of energy (relative) or force (relative to the RMS force) under rotation, "
        "translation and renumbering.",
    )
    training_change: float = Field(
        0.01,
        gt=0,
        description="Largest excess of the validation loss of the kept epoch over the lowest, and largest fall over"
        " the last fifth of the epochs where the lowest lies in it, with which a training counts as converged; both"
        " relative.",
    )
    min_replicas: int = Field(
        3, ge=2, description="Smallest number of replicas for which an error bar over replicas is believed."
    )
    lineages: dict[str, list[list[int]]] = Field(
        {},
        description="Replicas of the reference that are one lineage (a simulation and what continues it), in order of "
        "time, by protein (`*`: any), as `{cln025: [[0, 4], [1, 5]]}`. All others are one each, unless the data say "
        "that they were begun from another (`branch_skip_ps`).",
    )
    branch_skip_ps: float = Field(
        1000.0,
        ge=0,
        description="Time after which a replica of the reference that was begun from a frame of another (attribute "
        "`started_from`) is a lineage of its own; what comes before is dropped. At least twice the longest relaxation "
        "time.",
    )
    survival_fraction: float = Field(
        1.0, gt=0, le=1, description="Smallest share of the time asked for that every replica must survive."
    )
    minimize_caution_rmsd_A: float = Field(
        2.0,
        gt=0,
        description="RMSD after superposition between start and end of a minimization above which the verdict "
        "carries a caution; it fails nothing.",
    )
    nvt_temperature_deviation: float = Field(
        0.02,
        gt=0,
        description="Largest relative deviation of the mean kinetic temperature from the set point, and largest "
        "relative change of it from start to end.",
    )
    nvt_p_value: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="Significance level of the tests of kinetic energies: a run that a healthy one is less likely to"
        " be fails `nvt.distribution` or `nvt.equipartition`.",
    )
    nvt_temperature_margin: float = Field(
        0.005,
        ge=0,
        description="Relative deviation of the temperature that these two tests ignore, because the error of the "
        "time step causes it.",
    )
    nve_order_deviation: float = Field(
        0.25, gt=0, description="Largest deviation of the measured order of the integrator from 2."
    )
    nve_drift_kcal_per_mol_per_ns: float = Field(
        1.0,
        gt=0,
        description="Largest drift of the total energy of a replica; the tightest of the three limits of the drift "
        "counts.",
    )
    nve_drift_kT_per_ns_per_dof: float = Field(
        0.01, gt=0, description="Largest drift of the total energy in kT per ns and degree of freedom."
    )
    nve_drift_over_kinetic_fluctuation: float = Field(
        1.0,
        gt=0,
        description="Largest drift over the whole run, relative to the standard deviation of the kinetic energy.",
    )
    rmsd_wasserstein_A: float = Field(
        1.0,
        gt=0,
        description="Floor of the limit of `structure.rmsd`; the reference's own noise replaces it where that is "
        "larger.",
    )
    contact_cutoff_A: float = Field(8.0, gt=0, description="CA–CA distance below which two beads are in contact.")
    contact_min_separation: int = Field(
        4, ge=1, description="Smallest separation along the chain of two beads whose contact counts."
    )
    contact_pearson: float = Field(
        0.9, gt=0, le=1, description="Smallest Pearson correlation of the contact probabilities of model and reference."
    )
    contact_mad: float = Field(
        0.1,
        gt=0,
        description="Largest mean absolute difference of contact probabilities; floor of the noise-calibrated limit.",
    )
    q_beta_per_A: float = Field(
        5.0, gt=0, description="Steepness β of the switching function in the Best–Hummer fraction of native contacts."
    )
    q_lambda: float = Field(
        1.2, gt=0, description="Tolerance λ of the native distances in the Best–Hummer fraction of native contacts."
    )
    q_wasserstein: float = Field(
        0.1,
        gt=0,
        description="Floor of the limit of `structure.q`; the reference's own noise replaces it where that is larger.",
    )
    rg_wasserstein_A: float = Field(
        0.5,
        gt=0,
        description="Floor of the limit of `structure.rg`; the reference's own noise replaces it where that is larger.",
    )
    end_to_end_wasserstein_A: float = Field(
        1.5,
        gt=0,
        description="Floor of the limit of `structure.end_to_end`; the reference's own noise replaces it where that "
        "is larger.",
    )
    handedness_decided: float = Field(
        0.9,
        gt=0.5,
        le=1,
        description="Smallest share of one sign in the reference for which a dihedral counts in "
        "`structure.handedness`.",
    )
    handedness_fraction: float = Field(
        0.9, gt=0, le=1, description="Smallest fraction of these dihedrals with the reference's sign."
    )
    local_divergence: float = Field(
        0.05,
        gt=0,
        le=1,
        description="Floor of the limit of `local.bonds`, `local.angles` and `local.dihedrals` (Jensen–Shannon, base"
        " 2).",
    )
    pair_divergence: float = Field(
        0.05, gt=0, le=1, description="Floor of the limit of `pair.distances` (Jensen–Shannon, base 2)."
    )
    class_min_effective_samples: float = Field(
        200.0,
        gt=0,
        description="Smallest number of effective samples for which a class of coordinates counts; a class with "
        "fewer is left out and named.",
    )
    bond_bin_A: float = Field(0.05, gt=0, description="Bin width of bond lengths.")
    angle_bin_deg: float = Field(5.0, gt=0, le=45, description="Bin width of angles.")
    dihedral_bin_deg: float = Field(10.0, gt=0, le=90, description="Bin width of dihedrals.")
    pair_bin_A: float = Field(0.5, gt=0, description="Bin width of CA–CA distances.")
    surface_lag_frames: int = Field(5, ge=1, description="Lag time of TICA in frames of the reference.")
    surface_bins: int = Field(
        20, ge=4, le=100, description="Bins of the free-energy surface along each of its two components."
    )
    surface_cutoff_kcal_per_mol: float = Field(
        4.0,
        gt=0,
        description="Free energy up to which states are compared; a state that only one of both visits counts as this.",
    )
    surface_mae_kcal_per_mol: float = Field(
        1.0,
        gt=0,
        description="Floor of the limit of `ensemble.surface`; the reference's own noise replaces it where that is "
        "larger.",
    )
    noise_blocks: int = Field(
        200, ge=20, description="Resampled blocks of the reference from which each noise limit is taken."
    )


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


REQUIRED_OF_HYBRID = ["training.network_helps"]
"""Required besides `REQUIRED` where a network is added to a prior."""


def required_by_default(energy: str) -> list[str]:
    """Return the names of the checks that decide by default for a model with `model.energy`."""
    return [*REQUIRED, *(REQUIRED_OF_HYBRID if energy == "hybrid" else [])]


class GateConfig(Section):
    """Checks that decide the verdict; all others are reported."""

    required: list[str] | None = Field(
        None,
        min_length=1,
        description="Checks that decide the verdict; all others are reported. Default: every check with a limit that"
        " the usual references can decide (docs/validation.md), and `training.network_helps` only where"
        " `model.energy` is `hybrid`.",
    )
    optional: list[str] = Field([], description="Checks that do not decide; the verdict says if they fail.")
    significance: float = Field(
        0.01,
        gt=0,
        lt=0.5,
        description="Probability with which a healthy model is failed by any of the required checks.",
    )

"""Limits of checks and monitors: what each judges, and where it comes from.

Values are not repeated here: those of the config are read from its models, constants from the modules that use them.
"""

import importlib
from dataclasses import dataclass

from cgloop.checks import Direction

CHODERA = "Chodera, J. Chem. Theory Comput. 12, 1799 (2016)"
STUDENT = "Student's t over replicas"
NOISE = "floor; the reference's own noise (95th percentile of its blocks) where that is larger"


@dataclass(frozen=True)
class Limit:
    """A number that a verdict, or the end of a replica, depends on.

    Attributes:
        of: check or monitor.
        judged: quantity that is compared.
        at: key of the config; `module:CONSTANT` below `cgloop` for a number that is not in the config; or the number
            itself where it is part of the definition.
        unit: of the quantity; empty if it is dimensionless.
        direction: which values are good; `reported` for numbers that are no limit of the quantity itself, as a
            confidence.
        source: paper, or reason.
    """

    of: str
    judged: str
    at: str
    unit: str
    direction: Direction
    source: str

    @property
    def is_key(self) -> bool:
        """Whether the number is a key of the config."""
        return self.at[0].isalpha() and ":" not in self.at

    def constant(self) -> float:
        """Return the number of a limit that is not in the config."""
        if ":" not in self.at:
            return float(self.at)
        module, name = self.at.split(":")
        return float(getattr(importlib.import_module(f"cgloop.{module}"), name))


FORCE = "kcal/mol/Å"

MONITORS = (
    Limit("every step of MD", "distance of two beads that are not bonded", "md.monitors.min_distance_A", "Å",
          "at least", "below any CA–CA distance of a protein; `stability.survival` applies it to the record"),
    Limit("every step of MD", "deviation of a CA–CA bond, relative", "md.monitors.max_bond_deviation", "", "at most",
          "CA–CA bonds vary by 1 to 2 %, cis bonds by 20 %"),
    Limit("every step of MD", "force on a bead", "md.monitors.max_force", FORCE, "at most",
          "an order of magnitude above thermal forces"),
    Limit("every step of MD", "change of the energy that is not the work of the forces",
          "md.monitors.max_energy_jump_kT", "kT", "at most", "healthy steps have 4e-5 kT (md/monitors.py)"),
    Limit("every step of MD", "mean temperature over 1 ps, over the target", "md.monitors.max_temperature_ratio", "",
          "at most", "or the Gamma quantile below, which is wider for fewer than about 60 beads"),
    Limit("every step of MD", "probability of an instantaneous temperature as high",
          "md.monitors.temperature_quantile", "", "at least", "Gamma distribution of the kinetic energy"),
    Limit("engine `lmp`", "energy of LAMMPS against the model, relative", "md.lmp_energy_limit", "", "at most",
          "frames of trajectories have single precision"),
)  # fmt: skip

MODEL = (
    Limit("static.prior", "number of faults, by the limits below", "0", "", "at most", "no fault is harmless"),
    Limit("static.prior", "height of a minimum outside the data above the lowest inside",
          "validate.static_second_minimum_kT", "kT", "at least", "a lower one would be populated"),
    Limit("static.prior", "amplitude of an angle term beyond that of the data's free energy",
          "validate.static_angle_excess_kT", "kT", "at most", "an angle term stiffer than its data"),
    Limit("static.prior", "energy of two beads at 3 Å", "validate.static_repulsion_kT", "kT", "at least",
          "a contact that dynamics at kT does not reach"),
    Limit("static.prior", "distance at which that energy is read", "validate.static:CONTACT_PROBE_A", "Å", "reported",
          "closer than any two CA atoms that are not bonded"),
    Limit("static.prior", "distance of overlapping beads after minimization", "validate.static_separated_A", "Å",
          "at least", "as the contact above"),
    Limit("static.gradient", "force against difference of the energy, over the RMS force",
          "validate.static_gradient_relative", "", "at most", "truncation and rounding of a central difference"),
    Limit("static.symmetry", "change under rotation, translation, renumbering, relative",
          "validate.static_symmetry_relative", "", "at most", "rounding in float64"),
    Limit("parity.forces", "largest difference of a force component, over the RMS force", "parity.force_limit", "",
          "at most", "rounding in float32"),
    Limit("parity.energy", "difference of the energy, over max(|energy|, N kT)", "parity.energy_limit", "", "at most",
          "rounding in float32"),
    Limit("parity (model.ptb)", "differences of force and energy of the emulated plugin, as above",
          "parity.emulation_limit", "", "at most", "reported beside parity, and written into the manifest"),
    Limit("training.converged", "validation loss of the kept epoch above the lowest, and its fall at the end, relative",
          "validate.training_change", "", "at most", "reported by default"),
    Limit("training.converged", "last part of the epochs that is looked at", "validate.training:LAST_PART", "",
          "reported", "definition of the check"),
    Limit("training.converged", "epochs for which anything is decided", "validate.training:FEWEST_EPOCHS", "epochs",
          "at least", "points of a line with an error"),
    Limit("training.network_helps", "gain of the network over the prior alone, mean squared force error", "0",
          "(kcal/mol/Å)²", "at least", "more than its 95 % error over blocks of frames"),
    Limit("training.network_helps", "length of a block", "validate.network:BLOCK_INEFFICIENCIES", "inefficiencies",
          "at least", CHODERA),
    Limit("training.network_helps", "blocks", "validate.network:FEWEST_BLOCKS", "", "at least", STUDENT),
    Limit("training.network_helps", "blocks up to which longer ones are made", "validate.network:BLOCKS_ENOUGH", "",
          "at least", "Student's factor is within 7 % of its limit"),
    Limit("minimize.converged", "largest force on a bead", "md.minimize.force_tolerance", FORCE, "at most",
          "what minimizers reach with float32 forces"),
    Limit("minimize.converged", "rise of the energy, over max(1 kcal/mol, |energy|)",
          "validate.artifact:ENERGY_ROUNDING", "", "at most", "rounding of float32 energies"),
    Limit("minimize.converged (caution)", "RMSD between start and end after superposition",
          "validate.minimize_caution_rmsd_A", "Å", "at most", "carried as a caution; fails nothing"),
)  # fmt: skip

DYNAMICS = (
    Limit("stability.survival", "shortest survived time over the time asked for", "validate.survival_fraction", "",
          "at least", "all of it; crashes are then rarer than 3/S per ns (Poisson, 95 %)"),
    Limit("stability.survival", "motion of any bead between two frames", "validate.stability:FROZEN_A", "Å",
          "at least", "thermal motion is tenths of an Å"),
    Limit("stability.survival", "window of the running mean of the temperature", "validate.stability:RUNNING_MEAN_PS",
          "ps", "reported", "as the monitor's"),
    Limit("stability.survival", "observations in that window", "validate.stability:RUNNING_MEAN_POINTS", "",
          "at least", "a mean of fewer scatters too much"),
    Limit("nvt.temperature", "deviation of the mean temperature, relative; change from start to end, relative",
          "validate.nvt_temperature_deviation", "", "at most", STUDENT),
    Limit("nvt.temperature", "confidence for a change from start to end", "validate.nvt:TREND_CONFIDENCE", "",
          "reported", "a second way to fail needs stronger evidence"),
    Limit("nvt.distribution, nvt.equipartition", "p-value", "validate.nvt_p_value", "", "at least",
          "Kolmogorov–Smirnov test (Merz and Shirts, PLoS ONE 13, e0202764, 2018); Gamma distribution and Holm"),
    Limit("nvt.distribution, nvt.equipartition", "deviation of the temperature that is ignored, relative",
          "validate.nvt_temperature_margin", "", "at most", "error of the time step, (ωΔt)²/4"),
    Limit("nvt.distribution", "statistical inefficiencies between two samples", "validate.nvt_ensemble:APART", "",
          "reported", "neighbors are then alike by exp(−2)"),
    Limit("nve.drift", "drift of the total energy of a replica", "validate.nve_drift_kcal_per_mol_per_ns",
          "kcal/mol/ns", "at most", "the tightest of the three limits counts; the row names it"),
    Limit("nve.drift", "drift per degree of freedom", "validate.nve_drift_kT_per_ns_per_dof",
          "kT/ns per degree of freedom", "at most", "as above"),
    Limit("nve.drift", "drift over the run, over the standard deviation of the kinetic energy",
          "validate.nve_drift_over_kinetic_fluctuation", "", "at most", "as above"),
    Limit("nve.drift", "confidence for a replica that drifts alone", "validate.nve:RUNAWAY_CONFIDENCE", "",
          "reported", "Student's t of the fit, Bonferroni over replicas"),
    Limit("nve.order", "deviation of the order of the integrator from 2", "validate.nve_order_deviation", "",
          "at most", "velocity Verlet is of second order"),
    Limit("nve.order", "share of rounding in the variance of the energy", "validate.order:NOISE_SHARE", "",
          "at most", "more hides the fluctuation: undecided"),
)  # fmt: skip

STRUCTURE = (
    Limit("structure.rmsd", "Wasserstein-1 distance of the CA-RMSD", "validate.rmsd_wasserstein_A", "Å", "at most",
          NOISE),
    Limit("structure.mirror", "RMSD to the mirror image less RMSD, folded frames", "0", "Å", "at least",
          "closer to the native structure than to its mirror image"),
    Limit("structure.mirror", "percentile of the reference's RMSD up to which a frame is folded",
          "validate.handedness:FOLDED_PERCENTILE", "%", "reported", "definition of the folded state"),
    Limit("structure.mirror", "smallest share of mirrored frames in a replica; fails whatever the samples",
          "validate.handedness:MIRRORED_FRACTION", "", "at most", "then every replica is mirrored"),
    Limit("structure.contacts", "mean absolute difference of contact probabilities", "validate.contact_mad", "",
          "at most", NOISE),
    Limit("structure.contacts", "Pearson correlation of contact probabilities", "validate.contact_pearson", "",
          "at least", NOISE),
    Limit("structure.contacts", "probability from which on a pair counts", "validate.distances:CONTACT_PROBABILITY",
          "", "at least", "definition of the check"),
    Limit("structure.q", "Wasserstein-1 distance of Q", "validate.q_wasserstein", "", "at most",
          f"{NOISE}; Q of Best, Hummer and Eaton, PNAS 110, 17874 (2013)"),
    Limit("structure.rg", "Wasserstein-1 distance of the radius of gyration", "validate.rg_wasserstein_A", "Å",
          "at most", NOISE),
    Limit("structure.end_to_end", "Wasserstein-1 distance of the end-to-end distance",
          "validate.end_to_end_wasserstein_A", "Å", "at most", NOISE),
    Limit("structure.handedness", "fraction of decided dihedrals with the reference's sign",
          "validate.handedness_fraction", "", "at least", NOISE),
    Limit("structure.handedness", "share of one sign in the reference from which on a dihedral is decided",
          "validate.handedness_decided", "", "at least", "others have no sign that means something"),
    Limit("structure.handedness", "largest fraction of a replica; fails whatever the samples",
          "validate.handedness:OTHER_HAND", "", "at least", "below it every replica has the other hand"),
    Limit("local.bonds, local.angles, local.dihedrals", "Jensen–Shannon divergence, base 2",
          "validate.local_divergence", "", "at most", NOISE),
    Limit("local.*, pair.distances", "share of coordinates in classes with enough samples",
          "validate.local:SMALLEST_COUNTED_SHARE", "", "at least", "fewer leave the check undecided"),
    Limit("local.*, pair.distances", "effective samples of a class", "validate.class_min_effective_samples", "",
          "at least", "the bias of a histogram's divergence falls as 1/n; a class with fewer is left out"),
    Limit("pair.distances", "Jensen–Shannon divergence, base 2", "validate.pair_divergence", "", "at most", NOISE),
    Limit("pair.distances", "separation below which every separation is a class of its own",
          "validate.pairs:NARROW_SEPARATION", "", "reported", "definition of the classes"),
    Limit("ensemble.surface", "mean absolute difference of the free energy", "validate.surface_mae_kcal_per_mol",
          "kcal/mol", "at most", NOISE),
    Limit("ensemble.surface", "free energy up to which states count", "validate.surface_cutoff_kcal_per_mol",
          "kcal/mol", "at most", "about 6 kT at 320 K: rarer states are not sampled"),
    Limit("ensemble.surface", "margin around the reference's range, relative", "validate.landscape:MARGIN", "",
          "reported", "what lies beyond is one state"),
)  # fmt: skip

EVIDENCE = (
    Limit("every average over time", "effective samples", "validate.min_effective_samples", "", "at least",
          f"statistical inefficiency, {CHODERA}; fewer forbid a pass"),
    Limit("every error bar", "replicas", "validate.min_replicas", "", "at least", STUDENT),
    Limit("every error bar", "confidence", "validate.statistics:CONFIDENCE", "", "reported", "95 % half-widths"),
    Limit("every average over time", "part cut off as equilibration", "validate.max_trim", "", "at most", CHODERA),
    Limit("every average over time", "last cut that is tried", "validate.equilibration:LAST_CANDIDATE", "", "at most",
          "later ones leave too little for a correlation time"),
    Limit("every average over time", "gain of a later cut that proves a series not stationary",
          "validate.equilibration:NON_STATIONARY_GAIN", "", "at most", "stationary AR(1) series exceed it in 1.7 %"),
    Limit("every average over time", "chance of that for a stationary series", "validate.equilibration:FALSE_ALARM",
          "", "reported", "measured with 300 series"),
    Limit("every average over time", "probability of so many such replicas by chance",
          "validate.equilibration:ALARMS_BY_CHANCE", "", "at least", "binomial distribution"),
    Limit("every average over time", "common drift in half the run, in standard deviations",
          "validate.sample:DRIFT_SIZE", "", "at most", "a smaller drift is of no interest"),
    Limit("every average over time", "confidence of that drift", "validate.sample:DRIFT_CONFIDENCE", "", "reported",
          STUDENT),
    Limit("evident failure", "lineages of the model", "validate.evidence:FEWEST_MODEL", "", "at least",
          "error of its distance from the nearest lineage of the reference"),
    Limit("evident failure", "lineages of the reference", "validate.evidence:FEWEST_REFERENCE", "", "at least",
          "distance of a lineage from the others"),
    Limit("lineages of the reference", "time after which a replica begun from another is independent",
          "validate.branch_skip_ps", "ps", "at least", "at least twice the longest relaxation time"),
    Limit("lineages of the reference", "frames that such a replica must have left", "validate.lineages:FEWEST_FRAMES",
          "", "at least", "with fewer it is the continuation of the other"),
    Limit("lineages of the reference", "RMSD of starts that are one conformation",
          "validate.reference:ONE_CONFORMATION_A", "Å", "at most", "fluctuations within a basin"),
    Limit("reference of a refined model", "effective samples of unseen lineages", "validate.unseen:MIN_EFFECTIVE", "",
          "at least", "of RMSD, Q and radius of gyration; else the whole reference judges, with a caution"),
    Limit("reference of a refined model", "unseen lineages", "validate.unseen:FEWEST_LINEAGES", "", "at least",
          "and as many as `validate.min_replicas`, for the reference control"),
    Limit("comparisons with the reference", "percentile of the reference's own distances that is its noise",
          "validate.comparison:NOISE_PERCENTILE", "%", "reported", "one-sided 95 %"),
    Limit("comparisons with the reference", "noise over the floor from which on a reference cannot decide",
          "validate.comparison:UNDECIDABLE_NOISE", "", "at most", "its own blocks would fail"),
    Limit("comparisons with the reference", "difference of temperatures that is none",
          "validate.reference:SAME_TEMPERATURE_K", "K", "at most", "rounding"),
    Limit("gate", "probability that a healthy model is failed by any required check", "gate.significance", "",
          "at most", "Holm, Scand. J. Stat. 6, 65 (1979); Berger, Technometrics 24, 295 (1982)"),
    Limit("trajectories of other engines", "distance of two CA atoms along a chain that are linked",
          "validate.universe:MAX_CA_DISTANCE_A", "Å", "at most", "a larger one is a chain break"),
)  # fmt: skip

FEEDBACK = (
    Limit("near misses", "used share of a limit", "feedback.near_misses.limit_share", "", "at most",
          "listed, fails nothing"),
    Limit("near misses", "distance beyond the training frames", "feedback.near_misses.outside_A", "Å", "at most",
          "listed, fails nothing"),
    Limit("near misses", "disagreement of an ensemble, over that on validation frames",
          "feedback.near_misses.disagreement", "", "at most", "listed, fails nothing"),
    Limit("cycles", "gain of survival that is an improvement", "feedback.min_gain", "", "at least",
          "share of the time asked for"),
)  # fmt: skip

GROUPS: dict[str, tuple[Limit, ...]] = {
    "Monitors of the dynamics": MONITORS,
    "The model and its minimum": MODEL,
    "Stability and ensembles": DYNAMICS,
    "Structure": STRUCTURE,
    "What evidence a verdict needs": EVIDENCE,
    "Feedback": FEEDBACK,
}

ALL = tuple(limit for group in GROUPS.values() for limit in group)

DEFINITIONS = frozenset(
    {
        "validate.contact_cutoff_A", "validate.contact_min_separation", "validate.q_beta_per_A", "validate.q_lambda",
        "validate.bond_bin_A", "validate.angle_bin_deg", "validate.dihedral_bin_deg", "validate.pair_bin_A",
        "validate.surface_lag_frames", "validate.surface_bins", "validate.noise_blocks", "validate.lineages",
        "parity.frames",
        "gate.required", "gate.optional",
    }
)  # fmt: skip
"""Keys of the sections of limits that define a quantity, and limit none."""

NO_LIMITS = frozenset(
    {
        "sample:NON_STATIONARY_RUN_FACTOR", "distances:FLAT", "distances:GRID_POINTS",
        "equilibration:CANDIDATE_STEP", "equilibration:MIN_LAG", "figures:BINS", "figures:MAX_CELLS",
        "figures:MAX_BARS", "gate:SCHEMA_VERSION", "multiplicity:FEWEST_REPLICAS", "gate_words:LONGEST_RUN_FACTOR",
        "known_bad:WRONG_TEMPERATURE", "known_bad:SWOLLEN", "known_bad:NARROWED",
        "known_bad:DRIFT_KCAL_PER_MOL_PER_NS", "known_bad:BEYOND", "known_bad:LONGER",
        "known_bad:ZIGZAG_DEGREES",
        "landscape:MAX_FEATURES", "nve:PS_PER_NS", "nvt_ensemble:MARGIN_POINTS", "nvt_ensemble:BINS",
        "observables:MAX_PAIRS", "observables:BLOCK_DISTANCES", "order:EXPECTED", "plots:MAX_BYTES", "plots:DIGITS",
        "plots:BINS", "specimen:SEED", "specimen:SURVIVAL_FRAMES", "specimen:TOTAL_ENERGY_SCATTER",
        "static:ROUNDING", "static:SHOWN_KT", "static:MOST_CURVES", "structure:CONSTANT", "universe:BLOCK",
        "wrong_kernel:FORCE_ERROR", "wrong_kernel:SEEN_IN_GRADIENT", "wrong_kernel:INTEGRATION_ERROR",
        "wrong_kernel:PERIOD_STEPS",
    }
)  # fmt: skip
"""Numbers in `cgloop/validate` that no verdict is compared with: sizes of plots and blocks, rounding, control cases."""

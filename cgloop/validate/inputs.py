"""What each result was computed from."""

from typing import Any

from cgloop.checks import CheckResult
from cgloop.config import Config
from cgloop.config.validate import ValidateConfig
from cgloop.validate.family import FAMILIES
from cgloop.validate.reference import Reference


def inputs_of(check: CheckResult, config: Config, reference: Reference) -> dict[str, Any]:
    """What a result was computed from, by names that hold on any machine."""
    family = check.check.split(".")[0]
    folder = f"md/{check.subject}"
    if family in FAMILIES:
        return {
            "trajectories": f"{folder}/nvt/replica_*.dcd",
            "reference": {"file": f"{check.subject}.h5", **reference.description},
            "settings": structural_settings(check, config.validate_),
        }
    files = {
        "minimize": [f"{folder}/minimize/observables.h5"],
        "stability": [f"{folder}/{stage}/{file}" for stage in ("nvt", "nve")
                      for file in ("observables.h5", "replica_*.dcd")],
        "nvt": [f"{folder}/nvt/observables.h5"],
        "nve": [f"{folder}/nve/observables.h5"],
    }  # fmt: skip
    inputs: dict[str, Any] = {"files": files.get(family, [])}
    if check.check == "nve.order":
        inputs = {"files": [f"control/{check.subject}/order/dt_*/observables.h5"]}
    if family == "stability":
        inputs["limits"] = config.md.monitors.model_dump(mode="json")
    return inputs


SHARED = ("max_trim", "min_effective_samples", "min_replicas", "noise_blocks", "lineages", "branch_skip_ps")
OWN = {
    "structure": ("contact_cutoff_A", "contact_min_separation", "q_beta_per_A", "q_lambda", "handedness_decided"),
    "local": ("class_min_effective_samples", "bond_bin_A", "angle_bin_deg", "dihedral_bin_deg"),
    "pair": ("class_min_effective_samples", "contact_min_separation", "pair_bin_A"),
    "ensemble": ("contact_min_separation", "surface_lag_frames", "surface_bins", "surface_cutoff_kcal_per_mol"),
}


def structural_settings(check: CheckResult, settings: ValidateConfig) -> dict[str, Any]:
    """The settings that a structural check depends on, less its limits, which are in the result."""
    return {name: getattr(settings, name) for name in (*SHARED, *OWN[check.check.split(".")[0]])}

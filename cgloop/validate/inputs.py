"""What each result was computed from."""

from typing import Any

from cgloop.checks import CheckResult
from cgloop.config import Config
from cgloop.validate.reference import Reference


def inputs_of(check: CheckResult, config: Config, reference: Reference) -> dict[str, Any]:
    """What a result was computed from, by names that hold on any machine."""
    family = check.check.split(".")[0]
    folder = f"md/{check.subject}"
    if family == "structure":
        chosen = ("max_trim", "min_effective_samples", "min_replicas", "contact_cutoff_A", "contact_min_separation",
                  "q_beta_per_A", "q_lambda", "noise_blocks")  # fmt: skip
        return {
            "trajectories": f"{folder}/nvt/replica_*.dcd",
            "reference": {"file": f"{check.subject}.h5", **reference.description},
            "settings": {name: getattr(config.validate_, name) for name in chosen},
        }
    files = {
        "minimize": [f"{folder}/minimize/observables.h5"],
        "stability": [f"{folder}/{stage}/{file}" for stage in ("nvt", "nve")
                      for file in ("observables.h5", "replica_*.dcd")],
        "nvt": [f"{folder}/nvt/observables.h5"],
        "nve": [f"{folder}/nve/observables.h5"],
    }  # fmt: skip
    inputs: dict[str, Any] = {"files": files.get(family, [])}
    if family == "stability":
        inputs["limits"] = config.md.monitors.model_dump(mode="json")
    return inputs

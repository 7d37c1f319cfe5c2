"""What each stage's results depend on in the config, as plain data: the part of its digest that settings are."""

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from cgloop.config import Config
from cgloop.config.neutral import is_neutral
from cgloop.stages import digest_file

OBSERVED = (
    "contact_cutoff_A", "contact_min_separation", "q_beta_per_A", "q_lambda", "lineages", "branch_skip_ps", "max_trim",
    "min_effective_samples",
)  # fmt: skip
"""Keys of `validate` that define observables, lineages and effective samples of a refinement."""


def sections(*names: str) -> Callable[[Config], dict[str, Any]]:
    def select(config: Config) -> dict[str, Any]:
        whole = config.model_dump(mode="json", by_alias=True)
        return {name: whole[name] for name in names}

    return select


def prep_settings(config: Config) -> dict[str, Any]:
    """The data section, with each source named by its content: a moved file is the same file."""
    from cgloop.data.sources import describe_sources

    data = config.data.model_dump(mode="json", exclude={"sources", "workers"})
    return {"data": {**data, "sources": describe_sources(config.data)}}


def prior_settings(config: Config) -> dict[str, Any]:
    return {
        **sections("priors")(config),
        "temperature_K": config.data.temperature_K,
        "cutoff_A": config.model.cutoff_A,
        "energy": config.model.energy,
    }


def md_settings(config: Config) -> dict[str, Any]:
    """The md section without what says only how work is done; scripts of the user's own by their content."""
    only_how = {"processes", "restart_every_ps", "lammps_inputs", "extend", "max_extensions", "max_length_factor"}
    md = config.md.model_dump(mode="json", exclude=only_how)
    if (folder := config.md.lammps_inputs) is not None:
        md["lammps_inputs"] = {path.name: digest_file(path) for path in sorted(folder.glob("*.in"))}
    if config.md.engine != "lmp":
        for name in ("lmp", "lmp_device", "lmp_energy_limit"):
            md.pop(name)
    return {"md": md, "temperature_K": config.data.temperature_K, "seed": config.run.seed}


def control_settings(config: Config) -> dict[str, Any]:
    return {**sections("control")(config), **md_settings(config), "energy": config.model.energy}


def validate_settings(config: Config) -> dict[str, Any]:
    return {**sections("validate")(config), "md": md_settings(config)["md"]}


def train_settings(config: Config) -> dict[str, Any]:
    settings = sections("model", "train")(config)
    # When checkpoints are written, where frames are kept and who is told does not change what is trained; of a start
    # the contents count.
    for name in ("checkpoint_every_s", "memory_MB", "tracking", "start"):
        settings["train"].pop(name)
    return {**settings, "seed": config.run.seed, "temperatures": config.priors.temperatures, **_labels(config)}


def _labels(config: Config) -> dict[str, Any]:
    """Labels and weights of the sources, unless all are neutral: what is read of a source counts in `prep`."""
    sources = [(source.path.name, source.label, source.weight) for source in config.data.sources]
    if all(
        is_neutral("data.sources.label", label) and is_neutral("data.sources.weight", weight)
        for _, label, weight in sources
    ):
        return {}
    return {"sources": [list(one) for one in sources]}


def refine_settings(config: Config) -> dict[str, Any]:
    """The section without what decides whether there is a refinement, and what its chains and observables depend on."""
    refine = config.refine.model_dump(mode="json", exclude={"when", "parameters"})
    observed = config.validate_.model_dump(mode="json")
    return {
        "refine": {**refine, "parameters": config.refined_parameters},
        "validate": {name: observed[name] for name in OBSERVED},
        "monitors": config.md.monitors.model_dump(mode="json"),
        "temperature_K": config.data.temperature_K,
        "seed": config.run.seed,
    }


def feedback_settings(config: Config) -> dict[str, Any]:
    """What frames are kept and listed; not what the loop makes of them."""
    own = config.feedback.model_dump(mode="json", include={"decoys", "near_misses", "prior_rerun_ps", "outbox"})
    own["decoys"].pop("weight")
    return {"feedback": own, "cutoff_A": config.model.cutoff_A, "min_distance_A": config.md.monitors.min_distance_A}


def export_settings(config: Config) -> dict[str, Any]:
    """With the versions that decide which JAX loads the modules: where they are others, the model is exported again."""
    exporter = {package: version(package) for package in ("jax", "jaxlib")}
    return {"temperature_K": config.data.temperature_K, "temperatures": config.priors.temperatures, **exporter}

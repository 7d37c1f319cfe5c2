"""The remedies: what a class of crashes suggests to change in the config, and what each change is.

A remedy is tried only if `feedback.allow` names it, one a cycle, and is undone if the next cycle is no better.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from cgloop.config.feedback import RemedyName
from cgloop.config.root import Config
from cgloop.feedback.taxonomy import CrashClass
from cgloop.units import thermal_energy

Changes = dict[str, Any]
"""Dotted keys of the config, and their new values."""

STRONGER = 2.0
MOST_REPULSION_KT = 32.0
BOUND_KT = 5.0
LONGER = 2
LOWER_RATE = 0.3
FIRST_GAMMA, MORE_GAMMA, MOST_GAMMA = 0.01, 3.0, 1.0
SMALLER_STEP, SMALLEST_STEP_FS = 0.5, 0.5


@dataclass(frozen=True)
class Remedy:
    """A change of the config.

    Attributes:
        name: as in `feedback.allow`.
        what: in words.
        change: from a config to the changes, or in words why there is nothing to change.
    """

    name: RemedyName
    what: str
    change: Callable[[Config], Changes | str]


def _refine(config: Config) -> Changes | str:
    if config.refine.when == "never":
        return "`refine.when: never`"
    if config.refine.when == "always":
        return "every training is refined already"
    return {"refine.when": "always"}


def _add_prior(config: Config) -> Changes | str:
    if config.model.energy != "ml-only":
        return "the model has a prior"
    return {"model.energy": "hybrid"}


def _stronger_repulsion(config: Config) -> Changes | str:
    if config.model.energy == "ml-only":
        return "the model has no prior"
    new = config.priors.repulsion_epsilon_kT * STRONGER
    if new > MOST_REPULSION_KT:
        return f"the repulsion would be stronger than {MOST_REPULSION_KT:g} kT"
    return {"priors.repulsion_epsilon_kT": new}


def _refine_prior(config: Config) -> Changes | str:
    if config.model.energy == "ml-only":
        return "the model has no prior"
    if config.priors.refine.enabled:
        return "the prior is refined already"
    return {"priors.refine.enabled": True}


def _bound_network(config: Config) -> Changes | str:
    if config.model.energy != "hybrid":
        return "only beside a prior the network can be bounded"
    bound = config.model.ml_energy_bound_kcal_per_mol
    new = round(BOUND_KT * thermal_energy(config.data.temperature_K), 3)
    if bound is not None and bound <= new:
        return f"the network is bounded by {bound:g} kcal/mol already"
    return {"model.ml_energy_bound_kcal_per_mol": new}


def _longer_training(config: Config) -> Changes | str:
    if config.model.energy == "prior-only":
        return "there is no network"
    return {"train.epochs": config.train.epochs * LONGER}


def _lower_learning_rate(config: Config) -> Changes | str:
    if config.model.energy == "prior-only":
        return "there is no network"
    return {"train.learning_rate": float(f"{config.train.learning_rate * LOWER_RATE:.3g}")}


def _stronger_regularisation(config: Config) -> Changes | str:
    if config.model.energy != "hybrid":
        return "only beside a prior the network's force may be drawn to zero"
    if config.train.engine != "cgloop":
        return f"`train.engine: {config.train.engine}` cannot do it"
    gamma = config.train.gammas.network
    new = gamma * MORE_GAMMA if gamma else FIRST_GAMMA
    if new > MOST_GAMMA:
        return f"the weight would be larger than {MOST_GAMMA:g}"
    return {"train.gammas.network": float(f"{new:.3g}")}


def _smaller_time_step(config: Config) -> Changes | str:
    new = config.md.timestep_fs * SMALLER_STEP
    if new < SMALLEST_STEP_FS:
        return f"the time step would be shorter than {SMALLEST_STEP_FS:g} fs"
    return {"md.timestep_fs": new}


REMEDIES: dict[str, Remedy] = {
    remedy.name: remedy
    for remedy in (
        Remedy("refine", "relative-entropy refinement, beginning with the frames of the failed cycle", _refine),
        Remedy("add-prior", "bonds, angles, dihedrals and repulsion below the network", _add_prior),
        Remedy("stronger-repulsion", f"excluded volume {STRONGER:g} times as strong", _stronger_repulsion),
        Remedy("refine-prior", "prior parameters refined by force matching", _refine_prior),
        Remedy("bound-network", f"every bead's learned energy bounded by {BOUND_KT:g} kT", _bound_network),
        Remedy("longer-training", f"{LONGER} times as many epochs", _longer_training),
        Remedy("lower-learning-rate", f"learning rate times {LOWER_RATE:g}", _lower_learning_rate),
        Remedy("stronger-regularisation", "the network's force drawn to zero", _stronger_regularisation),
        Remedy("smaller-time-step", "half the time step in MD", _smaller_time_step),
    )
}
assert set(REMEDIES) == set(get_args(RemedyName))

NO_CRASH = "no crash"
"""Stands for a cycle that fell short without one."""

WRONG_STRUCTURE = "wrong structure without a crash"
"""Stands for a cycle without a crash whose ensemble is not that of the reference, by required structural checks."""

TOO_LITTLE_DATA = "too little data for a network"
"""Stands for a cycle without a crash whose network learned its training frames and gains nothing on others."""

AGAINST: Mapping[str, tuple[RemedyName, ...]] = {
    CrashClass.CLASH: (
        "add-prior", "stronger-repulsion", "bound-network", "stronger-regularisation", "longer-training",
    ),
    CrashClass.BROKEN_BOND: ("add-prior", "bound-network", "refine-prior", "smaller-time-step", "longer-training"),
    CrashClass.FORCE_EXPLOSION: (
        "add-prior", "bound-network", "stronger-regularisation", "lower-learning-rate", "longer-training",
    ),
    CrashClass.NON_FINITE: ("add-prior", "bound-network", "lower-learning-rate", "smaller-time-step"),
    CrashClass.THERMOSTAT_RUNAWAY: (
        "add-prior", "bound-network", "stronger-regularisation", "smaller-time-step", "longer-training",
    ),
    CrashClass.ENERGY_DRIFT: ("smaller-time-step", "add-prior", "bound-network", "stronger-regularisation"),
    CrashClass.LOST_ATOMS: ("add-prior", "bound-network", "smaller-time-step"),
    WRONG_STRUCTURE: ("refine",),
    NO_CRASH: ("longer-training", "refine-prior", "lower-learning-rate"),
    TOO_LITTLE_DATA: ("stronger-regularisation", "refine-prior"),
}  # fmt: skip
"""What is tried against each class, the most likely cause first."""

NOTHING_AGAINST: Mapping[str, str] = {
    CrashClass.BAD_INPUT: "the start structure is broken, not the model: mend the data",
    CrashClass.TYPE_OR_UNIT: "types or units do not fit the data: no setting of the model mends that",
    CrashClass.OUT_OF_MEMORY: "the machine had too little memory: use fewer `md.replicas` or another machine",
    CrashClass.TIMEOUT: "the run was too slow: raise `md.time_limit_minutes`",
    CrashClass.ENGINE: "LAMMPS or the process gave up, which says nothing about the model: see the log",
}
"""Why there is no remedy against a class."""

NO_REMEDY_FOR_DATA = "too little data for a network: add reference frames, or set `model.energy: prior-only`"


@dataclass(frozen=True)
class Choice:
    """What was decided: a remedy with its changes, or none; and why, with what was passed over."""

    remedy: str | None
    changes: Changes
    reason: str


def choose(
    config: Config,
    classes: Mapping[str, int],
    rejected: frozenset[str],
    *,
    too_little_data: bool = False,
    wrong_structure: bool = False,
) -> Choice:
    """Return the next remedy.

    Args:
        config: with the remedies that are in force.
        classes: number of crashes of each class.
        rejected: names of remedies that did not help.
        too_little_data: the check `training.network_helps` says so.
        wrong_structure: a required structural check fails; what is tried against that comes before all else where
            nothing crashed.
    """
    passed_over = [NO_REMEDY_FOR_DATA] if too_little_data else []
    counted = dict(classes)
    if not counted:
        quiet = TOO_LITTLE_DATA if too_little_data else NO_CRASH
        counted = dict.fromkeys([WRONG_STRUCTURE, quiet] if wrong_structure else [quiet], 1)
    order = [*CrashClass, WRONG_STRUCTURE, NO_CRASH, TOO_LITTLE_DATA]
    for kind in sorted(counted, key=lambda one: (-counted[one], order.index(one))):
        if kind in NOTHING_AGAINST:
            passed_over.append(f"{kind}: {NOTHING_AGAINST[kind]}")
            continue
        for name in AGAINST[kind]:
            if name in rejected:
                passed_over.append(f"{name} did not help before")
            elif name not in config.feedback.allow:
                passed_over.append(f"{name} is not in `feedback.allow`")
            elif isinstance(changes := REMEDIES[name].change(config), str):
                passed_over.append(f"{name}: {changes}")
            else:
                often = f"{counted[kind]} × {kind}" if classes else kind
                return Choice(name, changes, f"against {often}: {REMEDIES[name].what}")
    return Choice(None, {}, "no remedy is left: " + "; ".join(dict.fromkeys(passed_over)))


def changed(config: Config, changes: Mapping[str, Any]) -> Config:
    """The config with these values instead, validated as a whole."""
    if not changes:
        return config
    data = config.model_dump(mode="json", by_alias=True)
    for key, value in changes.items():
        *sections, last = key.split(".")
        section = data
        for name in sections:
            section = section[name]
        section[last] = value
    return Config.model_validate(data)

"""The classes of crashes, and the rules by which one is chosen."""

from dataclasses import dataclass
from enum import StrEnum


class CrashClass(StrEnum):
    """Every crash is of one of these."""

    BAD_INPUT = "bad input"
    TYPE_OR_UNIT = "type or unit mapping"
    LOST_ATOMS = "lost atoms"
    CLASH = "clash"
    BROKEN_BOND = "broken bond"
    FORCE_EXPLOSION = "force explosion"
    NON_FINITE = "non-finite"
    THERMOSTAT_RUNAWAY = "thermostat runaway"
    ENERGY_DRIFT = "energy drift"
    OUT_OF_MEMORY = "out of memory"
    TIMEOUT = "timeout"
    ENGINE = "engine failure"


MEANING: dict[CrashClass, str] = {
    CrashClass.BAD_INPUT: "The structure that the run started from was already broken: the model is not to blame.",
    CrashClass.TYPE_OR_UNIT: (
        "Residue types or lengths do not fit the data set: the wrong bundle, a wrong type order or a wrong unit."
    ),
    CrashClass.LOST_ATOMS: "LAMMPS lost a bead: it left the box, or moved further in one step than a bead can.",
    CrashClass.CLASH: (
        "Two beads that are not bonded came closer than beads do. Usually the network attracts them where it has seen "
        "no data, and the excluded volume is too weak to stop them."
    ),
    CrashClass.BROKEN_BOND: (
        "A CA–CA bond left its range. The bond prior is too soft for the forces that act on it, or the time step is "
        "too long for the bond."
    ),
    CrashClass.FORCE_EXPLOSION: (
        "The force on a bead outgrew every force of the reference. Usually the energy is steep where it has seen no "
        "data."
    ),
    CrashClass.NON_FINITE: "A position, force or energy was not a number: a division by zero or an overflow.",
    CrashClass.THERMOSTAT_RUNAWAY: (
        "The replica heated up faster than the thermostat cools, without one outstanding force: the forces are not "
        "the gradient of one smooth energy, or the time step is too long."
    ),
    CrashClass.ENERGY_DRIFT: (
        "Without a thermostat the total energy rose until the replica was too hot: the forces are not the gradient of "
        "one smooth energy, or the time step is too long."
    ),
    CrashClass.OUT_OF_MEMORY: "The machine or the accelerator had too little memory for the run.",
    CrashClass.TIMEOUT: "The run did not end within its time.",
    CrashClass.ENGINE: (
        "LAMMPS, MPI or the process itself gave up. Nothing is known about the model; the log of the run says more."
    ),
}

WELL = (
    "The replica fell into a well of the energy that the reference does not have, and what it lost became heat faster "
    "than a thermostat takes it away. Usually the network is deep where it has seen no data."
)
"""Meaning of a crash by heat that one energy term gave away."""

JUMP = (
    "The energy changed in one step by more than the work of the forces: it has a step there, a pair of beads came "
    "into reach unnoticed, the forces are not its gradient, or the time step is too long for how steep it is."
)
"""Meaning of a crash by a jump of the energy."""

BY_LIMIT: dict[str, CrashClass] = {
    "min_distance": CrashClass.CLASH,
    "bond": CrashClass.BROKEN_BOND,
    "max_force": CrashClass.FORCE_EXPLOSION,
    "non_finite": CrashClass.NON_FINITE,
    "energy_jump": CrashClass.ENERGY_DRIFT,
    "temperature_mean": CrashClass.THERMOSTAT_RUNAWAY,
    "temperature_instant": CrashClass.THERMOSTAT_RUNAWAY,
    "lost_atoms": CrashClass.LOST_ATOMS,
    "out_of_memory": CrashClass.OUT_OF_MEMORY,
    "timeout": CrashClass.TIMEOUT,
    "killed": CrashClass.ENGINE,
    "engine_error": CrashClass.ENGINE,
    "missing_plugin": CrashClass.ENGINE,
}
"""The class that a limit stands for when nothing else is known."""

TEMPERATURE_LIMITS = ("temperature_mean", "temperature_instant")
LENGTH_SCALE = (0.5, 2.0)
FORCE_BURST = 5.0


@dataclass(frozen=True)
class Evidence:
    """What the class is decided from.

    Attributes:
        limit: name of the limit that was broken, see `limit_name`.
        stage: `minimize`, `nvt` or `nve`.
        started_broken: the structure that came from the data was not finite.
        types_match: residue types are those of the data set; None if there is none to compare with.
        length_scale: mean bond length of the first frame that was kept over that of the reference.
        dominant_term: energy term that carries the offending force, None if no term does.
        force_growth: largest force in the frames that were kept over their early median.
    """

    limit: str
    stage: str
    started_broken: bool = False
    types_match: bool | None = None
    length_scale: float = 1.0
    dominant_term: str | None = None
    force_growth: float = 1.0


def limit_name(name: str) -> str:
    """A limit's name in the one spelling used here: `non-finite` and `Lost atoms` become `non_finite`, `lost_atoms`."""
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def meaning(kind: CrashClass, evidence: Evidence) -> str:
    """What a crash of this class usually means."""
    by_heat = limit_name(evidence.limit) in TEMPERATURE_LIMITS and evidence.force_growth < FORCE_BURST
    if by_heat and evidence.dominant_term is not None and kind not in (CrashClass.TYPE_OR_UNIT, CrashClass.BAD_INPUT):
        return WELL
    if limit_name(evidence.limit) == "energy_jump" and kind is CrashClass.ENERGY_DRIFT:
        return JUMP
    return MEANING[kind]


def classify(evidence: Evidence) -> CrashClass:
    """The class of a crash; what explains the broken limit comes before the limit itself.

    Raises:
        KeyError: the limit is not one of `BY_LIMIT`.
    """
    limit = limit_name(evidence.limit)
    if evidence.types_match is False or not LENGTH_SCALE[0] <= evidence.length_scale <= LENGTH_SCALE[1]:
        return CrashClass.TYPE_OR_UNIT
    if evidence.started_broken:
        return CrashClass.BAD_INPUT
    if limit == "max_force" or (limit == "energy_jump" and evidence.force_growth >= FORCE_BURST):
        # A large force of a prior term says what the geometry did, before a limit of geometry was reached.
        by_term = {"repulsion": CrashClass.CLASH, "bond": CrashClass.BROKEN_BOND}
        return by_term.get(evidence.dominant_term or "", CrashClass.FORCE_EXPLOSION)
    if limit in TEMPERATURE_LIMITS:
        # Without a thermostat heat that a term gave away is no drift: the total energy is what it was.
        released = evidence.dominant_term is not None and evidence.stage == "nve"
        if evidence.force_growth >= FORCE_BURST or released:
            return CrashClass.FORCE_EXPLOSION
        return CrashClass.ENERGY_DRIFT if evidence.stage == "nve" else CrashClass.THERMOSTAT_RUNAWAY
    return BY_LIMIT[limit]

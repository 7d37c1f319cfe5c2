"""Known-bad trajectories that run with every gate, because a gate that cannot fail is no gate.

Each is the reference itself with one thing wrong, goes through the very functions that judge the model, and has to be
failed by the check that is meant for it. Frames are those of the reference; kinetic and total energies, which a
reference does not have, are analytic: as many replicas, as long, and as slow to forget as the run's.
"""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cgloop.checks import CheckResult, Verdict
from cgloop.config import Config
from cgloop.validate import handedness, local, nve, nvt, nvt_ensemble, order, stability, static, structure
from cgloop.validate.family import COMPARISONS
from cgloop.validate.observables import observe
from cgloop.validate.reference import Reference
from cgloop.validate.rundata import StageRun
from cgloop.validate.specimen import Specimen, specimen
from cgloop.validate.structure import StructuralCheck
from cgloop.validate.trajectory import wrong_order
from cgloop.validate.wrong_kernel import FORCE_ERROR, gradient_result, order_result

WRONG_TEMPERATURE = 1.1
SWOLLEN = 1.05
HEATING = (0.92, 1.08)
NARROWED = 0.5
"""As under a thermostat that scales velocities towards the target."""
DRIFT_KCAL_PER_MOL_PER_NS = 5.0
BEYOND = 2.0
"""Broken bonds and overlaps are beyond their limits by this factor."""
LONGER = 10.0
"""A case that a check lets pass is tried again in runs of so many times the length: a short run may have too few
samples to tell, which says nothing against the check."""
ZIGZAG_DEGREES = 130.0
"""CA–CA–CA angle of an extended strand."""


@dataclass(frozen=True)
class KnownBad:
    """One way to be wrong.

    Attributes:
        name: of the case.
        checks: those that are meant for it.
        text: what is wrong, in words.
        damage: does it; None if that cannot be done to this protein.
    """

    name: str
    checks: tuple[str, ...]
    text: str
    damage: Callable[[Specimen, Reference, Config], Specimen | None]


def known_bad_control(
    reference: Reference,
    config: Config,
    replicas: int,
    sound: dict[str, dict[str, Any]],
    only: Collection[str] | None = None,
) -> dict[str, dict[str, Any]]:
    """All cases that can be made from a reference, each judged by the checks meant for it.

    Args:
        reference: with frames at the MD's temperature.
        config: limits, and lengths of the run.
        replicas: that were asked for.
        sound: what the reference control found, by check.
        only: checks that are tried; None for all.

    Returns:
        By `case` or, where several checks are meant for it, `case:check`: `case`, `check`, `text`, `verdict`,
        `caught`, `reason`. `caught` is True for a fail; False for a pass, which shows that the check cannot judge; and
        None where nothing was decided: the check is inconclusive, it fails the sound original as well, or it passes
        this run and fails one `LONGER`. In the last case the entry has `needs`, what the check needs to judge at all.
    """
    original = specimen(reference, config, replicas)
    sound_verdicts: dict[str, Verdict] = {name: entry["verdict"] for name, entry in sound.items()}
    outcome: dict[str, dict[str, Any]] = {}
    for case in CASES:
        meant = [check for check in case.checks if only is None or check in only]
        bad = case.damage(original, reference, config) if meant else None
        for check in meant:
            if check not in sound_verdicts:
                sound_verdicts[check] = JUDGES[check](original, reference, config).verdict
            key = case.name if len(case.checks) == 1 else f"{case.name}:{check}"
            entry = {"case": case.name, "check": check, "text": case.text}
            outcome[key] = {**entry, **_outcome(bad, check, sound_verdicts[check], reference, config)}
            if outcome[key]["caught"] is False and _is_caught_if_longer(case, check, reference, config, replicas):
                reason = f"{outcome[key]['reason']}; it is caught in a run {LONGER:g} times as long"
                outcome[key] |= {"caught": None, "reason": reason, "needs": {"run_factor": LONGER}}
    return outcome


def _is_caught_if_longer(case: KnownBad, check: str, reference: Reference, config: Config, replicas: int) -> bool:
    """Whether the check fails the case, and not the sound original, in runs of `LONGER` times the length."""
    nvt = config.md.nvt.model_copy(update={"length_ps": LONGER * config.md.nvt.length_ps})
    nve = config.md.nve.model_copy(update={"length_ps": LONGER * config.md.nve.length_ps})
    longer = config.model_copy(update={"md": config.md.model_copy(update={"nvt": nvt, "nve": nve})})
    original = specimen(reference, longer, replicas)
    sound = JUDGES[check](original, reference, longer).verdict
    bad = case.damage(original, reference, longer)
    return _outcome(bad, check, sound, reference, longer)["caught"] is True


def _outcome(bad: Specimen | None, check: str, sound: Verdict, reference: Reference, config: Config) -> dict[str, Any]:
    if bad is None:
        return {"verdict": None, "caught": None, "reason": "cannot be made from this protein"}
    result = JUDGES[check](bad, reference, config)
    caught: bool | None = {"fail": True, "inconclusive": None}.get(result.verdict, False)
    reason = result.reason
    if caught and sound == "fail":
        caught, reason = None, f"the sound original fails as well; {reason}"
    return {"verdict": result.verdict, "caught": caught, "reason": reason}


Judge = Callable[[Specimen, Reference, Config], CheckResult]


def _survival(one: Specimen, reference: Reference, config: Config) -> CheckResult:
    wrong = wrong_order(one.residues, reference.data.residue_type)
    run = replace(one.frames, problems=[wrong] if wrong else [])
    return stability.survival_check(
        [run], reference.bonds_A, reference.data.linked, config.md.monitors, config.validate_
    )


def _temperature(one: Specimen, reference: Reference, config: Config) -> CheckResult:
    return nvt.temperature_check(one.kinetics, config.validate_)


def _distribution(one: Specimen, reference: Reference, config: Config) -> CheckResult:
    return nvt_ensemble.distribution_check(one.kinetics, config.validate_)


def _drift(one: Specimen, reference: Reference, config: Config) -> CheckResult:
    return nve.drift_check(one.energies, config.validate_)


def _mirror(one: Specimen, reference: Reference, config: Config) -> CheckResult:
    model = [observe(positions, reference.protein, config.validate_) for positions in one.ensemble]
    return handedness.mirror_check(model, reference.frames, config.validate_, reference.data.name)


def _comparison(spec: StructuralCheck) -> Judge:
    def judge(one: Specimen, reference: Reference, config: Config) -> CheckResult:
        model = [observe(positions, reference.protein, config.validate_) for positions in one.ensemble]
        return structure.run_comparison(spec, model, reference.target, reference.name)

    return judge


def _gradient(one: Specimen, reference: Reference, config: Config) -> CheckResult:
    return gradient_result(one.force_error, config)


def _order(one: Specimen, reference: Reference, config: Config) -> CheckResult:
    replicas = min(config.control.replicas, len(one.energies.replicas))
    return order_result(one.force_error, one.energies.n_beads, replicas, config)


JUDGES: dict[str, Judge] = {
    static.GRADIENT.name: _gradient,
    order.ORDER.name: _order,
    stability.SURVIVAL.name: _survival,
    nvt.TEMPERATURE.name: _temperature,
    nvt_ensemble.DISTRIBUTION.name: _distribution,
    nve.DRIFT.name: _drift,
    handedness.MIRROR.name: _mirror,
    **{spec.check.name: _comparison(spec) for spec in COMPARISONS},
}
"""How a specimen is judged by each check: the functions that judge the model."""


def _with_frames(one: Specimen, change: Callable[[np.ndarray], np.ndarray]) -> Specimen:
    """With the frames of the first replica changed; one that breaks is enough."""
    first, *others = one.frames.replicas
    broken = replace(first, positions=change(first.positions.copy()))
    return replace(one, frames=replace(one.frames, replicas=[broken, *others]))


def _with_series(run: StageRun, name: str, change: Callable[[np.ndarray], np.ndarray]) -> StageRun:
    changed = [replace(r, series={**r.series, name: change(r.series[name])}) for r in run.replicas]
    return replace(run, replicas=changed)


def _nan_frame(one: Specimen, reference: Reference, config: Config) -> Specimen:
    def change(positions: np.ndarray) -> np.ndarray:
        positions[len(positions) // 2, 0, 0] = np.nan
        return positions

    return _with_frames(one, change)


def _broken_bond(one: Specimen, reference: Reference, config: Config) -> Specimen | None:
    bonded = np.flatnonzero(reference.data.linked)
    if not len(bonded):
        return None
    bead, length = int(bonded[len(bonded) // 2]), float(reference.bonds_A[len(bonded) // 2])

    def change(positions: np.ndarray) -> np.ndarray:
        half = len(positions) // 2
        bond = positions[half:, bead + 1] - positions[half:, bead]
        longer = length * (1 + BEYOND * config.md.monitors.max_bond_deviation)
        along = bond / np.linalg.norm(bond, axis=1, keepdims=True)
        positions[half:, bead + 1 :] += (longer * along - bond)[:, None]
        return positions

    return _with_frames(one, change)


def _overlap(one: Specimen, reference: Reference, config: Config) -> Specimen | None:
    """The last bead lies on its second neighbour: bonds keep their lengths, nearly."""
    if one.frames.n_beads < 3:
        return None

    def change(positions: np.ndarray) -> np.ndarray:
        half = len(positions) // 2
        back = positions[half:, -2] - positions[half:, -3]
        apart = config.md.monitors.min_distance_A / (2 * BEYOND)
        positions[half:, -1] = positions[half:, -3] + apart * back / np.linalg.norm(back, axis=1, keepdims=True)
        return positions

    return _with_frames(one, change)


def _frozen(one: Specimen, reference: Reference, config: Config) -> Specimen:
    return _with_frames(one, lambda positions: np.repeat(positions[:1], len(positions), axis=0))


def _truncated(one: Specimen, reference: Reference, config: Config) -> Specimen:
    return _with_frames(one, lambda positions: positions[: one.frames.frames_asked // 2])


def _wrong_type_order(one: Specimen, reference: Reference, config: Config) -> Specimen | None:
    """The names of the beads in reverse order, or shifted by one where that reads the same."""
    for other in (one.residues[::-1], one.residues[1:] + one.residues[:1]):
        if other != one.residues:
            return replace(one, residues=other)
    return None


def _mirror_image(one: Specimen, reference: Reference, config: Config) -> Specimen:
    return replace(one, ensemble=[positions * np.array([-1, 1, 1], np.float32) for positions in one.ensemble])


def _stretched(one: Specimen, reference: Reference, config: Config) -> Specimen | None:
    """Every bond of every frame keeps its length, and they follow each other in a zigzag."""
    if one.frames.n_beads < 3:
        return None
    turn = math.radians(180.0 - ZIGZAG_DEGREES) / 2
    side = (-1.0) ** np.arange(one.frames.n_beads - 1)
    directions = np.stack([np.full(len(side), math.cos(turn)), side * math.sin(turn), np.zeros(len(side))], axis=1)

    def stretch(positions: np.ndarray) -> np.ndarray:
        lengths = np.linalg.norm(np.diff(positions, axis=1), axis=2)
        start = np.zeros((len(positions), 1, 3))
        return np.concatenate([start, np.cumsum(lengths[:, :, None] * directions, axis=1)], axis=1)

    return replace(one, ensemble=[stretch(positions) for positions in one.ensemble])


def _swollen(one: Specimen, reference: Reference, config: Config) -> Specimen:
    return replace(one, ensemble=[(SWOLLEN * positions).astype(np.float32) for positions in one.ensemble])


def _wrong_temperature(one: Specimen, reference: Reference, config: Config) -> Specimen:
    return replace(one, kinetics=_with_series(one.kinetics, "kinetic", lambda kinetic: kinetic * WRONG_TEMPERATURE))


def _heating(one: Specimen, reference: Reference, config: Config) -> Specimen:
    heated = _with_series(one.kinetics, "kinetic", lambda kinetic: kinetic * np.linspace(*HEATING, len(kinetic)))
    return replace(one, kinetics=heated)


def _too_narrow(one: Specimen, reference: Reference, config: Config) -> Specimen:
    narrowed = _with_series(one.kinetics, "kinetic", lambda k: k.mean() + NARROWED * (k - k.mean()))
    return replace(one, kinetics=narrowed)


def _energy_drift(one: Specimen, reference: Reference, config: Config) -> Specimen:
    gain = DRIFT_KCAL_PER_MOL_PER_NS * config.md.nve.length_ps / 1000.0
    drifting = _with_series(one.energies, "total", lambda total: total + np.linspace(0, gain, len(total)))
    return replace(one, energies=drifting)


def _wrong_kernel(one: Specimen, reference: Reference, config: Config) -> Specimen:
    return replace(one, force_error=FORCE_ERROR)


OTHERWISE = (local.BONDS, local.DIHEDRALS, handedness.HANDEDNESS)
"""Comparisons that an extended chain is not meant for: its bonds are right, and its dihedrals do not move."""

_SURVIVAL = (stability.SURVIVAL.name,)

CASES: tuple[KnownBad, ...] = (
    KnownBad("nan_frame", _SURVIVAL, "one coordinate of one frame is no number", _nan_frame),
    KnownBad("broken_bond", _SURVIVAL, "half-way a bond is stretched to twice its limit", _broken_bond),
    KnownBad("overlap", _SURVIVAL, "half-way two beads come closer than half the limit", _overlap),
    KnownBad("frozen", _SURVIVAL, "all frames of a replica are the same", _frozen),
    KnownBad("truncated", _SURVIVAL, "the frames of a replica end half-way", _truncated),
    KnownBad("wrong_type_order", _SURVIVAL, "the beads are named in another order", _wrong_type_order),
    KnownBad("wrong_temperature", (nvt.TEMPERATURE.name,), "10 % too hot", _wrong_temperature),
    KnownBad("slow_heating", (nvt.TEMPERATURE.name,), "from 8 % too cold to 8 % too hot, right on average", _heating),
    KnownBad("too_narrow", (nvt_ensemble.DISTRIBUTION.name,), "kinetic energy fluctuates half as much", _too_narrow),
    KnownBad("energy_drift", (nve.DRIFT.name,), "total energy rises by 5 kcal/mol/ns", _energy_drift),
    KnownBad(
        "wrong_kernel",
        (static.GRADIENT.name, order.ORDER.name),
        "forces are 1 % off their energy",
        _wrong_kernel,
    ),
    KnownBad(
        "mirror_image",
        (handedness.MIRROR.name, handedness.HANDEDNESS.name, local.DIHEDRALS.name),
        "every frame is its mirror image",
        _mirror_image,
    ),
    KnownBad("swollen", (local.BONDS.name,), "every frame is 5 % too large", _swollen),
    KnownBad(
        "stretched",
        tuple(spec.check.name for spec in COMPARISONS if spec.check not in OTHERWISE),
        "every frame is an extended chain",
        _stretched,
    ),
)

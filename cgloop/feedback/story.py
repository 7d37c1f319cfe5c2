"""What happened in a crash, one teller per kind of limit: sentences and the numbers in them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cgloop.feedback import evidence
from cgloop.feedback.crash import Crash
from cgloop.feedback.reference import Coverage
from cgloop.feedback.words import (
    FORCE_UNIT,
    TERM_WORDS,
    came_about,
    capital,
    largest,
    length,
    number,
)
from cgloop.wording import listing


@dataclass
class Story:
    """What is told of a crash, in this order.

    Attributes:
        event: what broke which limit, after "…: ".
        sentences: how it came about, which term is behind it, how unusual it is.
        beads: the beads that it is about.
        dominant_term: the energy term behind it, None if none stands out.
        worst: name of the quantity that broke the limit, its unit, and its values [K].
        numbers: what the sentences say, for machines.
    """

    event: str
    sentences: list[str]
    beads: list[int]
    dominant_term: str | None
    worst: tuple[str, str, np.ndarray]
    numbers: dict[str, Any] = field(default_factory=dict)


def tell(crash: Crash, coverage: Coverage | None) -> Story:
    """The story of a crash.

    Args:
        crash: what was recorded.
        coverage: what the training data covers, if it is known.
    """
    tellers: dict[str, Callable[[Crash, Coverage | None], Story]] = {
        "min_distance": _clash,
        "bond": _bond,
        "max_force": _force,
        "non_finite": _non_finite,
        "energy_jump": _jump,
        "temperature_mean": _heat,
        "temperature_instant": _heat,
    }
    return tellers.get(crash.limit, _plain)(crash, coverage)


def _clash(crash: Crash, coverage: Coverage | None) -> Story:
    i, j = _pair(crash)
    names = _names(crash, [i, j])
    distance = crash.distance(i, j)
    event = f"{names} came within {length(distance[-1])} of each other, the limit is {length(crash.threshold)}"
    change = evidence.development(distance, crash.time_fs)
    sentences = [came_about("Their distance", change, ".2f", "Å")] if change else []
    split = evidence.pair_split(crash, i, j)
    term, sentence = _pull_or_push(crash, split, together=True)
    sentences += sentence
    numbers = {"split": split, "development": _plain_change(change)}
    if coverage is not None:
        said, numbers["reference"] = _pair_in_reference(coverage, i, j, distance[-1])
        sentences.append(said)
    return Story(event, sentences, [i, j], term, ("distance", "Å", distance), numbers)


def _bond(crash: Crash, coverage: Coverage | None) -> Story:
    i, mean = _worst_bond(crash, coverage)
    j = i + 1
    distance = crash.distance(i, j)
    stretched = bool(distance[-1] > mean)
    event = (
        f"the bond between {_names(crash, [i, j])} was {length(distance[-1])} long, "
        f"{abs(distance[-1] / mean - 1):.0%} {'above' if stretched else 'below'} the {length(mean)} of the reference; "
        f"the limit is {crash.threshold:.0%}"
    )
    change = evidence.development(distance, crash.time_fs)
    sentences = [came_about("Its length", change, ".2f", "Å")] if change else []
    split = evidence.pair_split(crash, i, j)
    term, sentence = _pull_or_push(crash, split, together=not stretched)
    sentences += sentence
    numbers: dict[str, Any] = {"split": split, "development": _plain_change(change), "bond_mean_A": mean}
    if coverage is not None:
        said, numbers["reference"] = _pair_in_reference(coverage, i, j, distance[-1])
        sentences.append(said)
    return Story(event, sentences, [i, j], term, ("bond length", "Å", distance), numbers)


def _force(crash: Crash, coverage: Coverage | None) -> Story:
    bead = evidence.most_pushed(crash)
    norms = crash.force_norms[:, bead]
    event = (
        f"the force on {_names(crash, [bead])} was {number(norms[-1])} {FORCE_UNIT}, "
        f"the limit is {number(crash.threshold)}"
    )
    change = evidence.development(norms, crash.time_fs, logarithmic=True)
    sentences = [came_about("It", change, "number", FORCE_UNIT)] if change else []
    split = evidence.bead_split(crash, bead)
    term = None
    if split is not None:
        term, share = largest(split)
        total = sum(split.values())
        sentence = f"{capital(TERM_WORDS[term])} carries {number(share)} of it"
        against, counter = largest({name: -value for name, value in split.items()})
        # A term that works against the force is worth telling when it is of its size.
        if counter > 0.1 * total:
            sentence += f", against {number(counter)} of {TERM_WORDS[against]}"
        sentences.append(sentence + ".")
    numbers: dict[str, Any] = {"split": split, "development": _plain_change(change)}
    if coverage is not None:
        ratio = float(norms[-1] / coverage.force_rms) if coverage.force_rms > 0 else float("nan")
        numbers["reference"] = {"force_rms": coverage.force_rms, "ratio": ratio}
        sentences.append(
            f"That is {number(ratio)} times the RMS force on a bead in the {coverage.what} frames, "
            f"{number(coverage.force_rms)} {FORCE_UNIT}."
        )
    return Story(event, sentences, [bead], term, ("force on the bead", FORCE_UNIT, norms), numbers)


def _non_finite(crash: Crash, _coverage: Coverage | None) -> Story:
    state = {
        "position": crash.positions[-1],
        "velocity": crash.velocities[-1],
        "force": crash.forces[-1],
    }
    broken = {name: ~np.isfinite(values).all(axis=1) for name, values in state.items()}
    kinds = [name for name, beads in broken.items() if beads.any()]
    beads = [int(i) for i in crash.beads] or [int(i) for i in np.flatnonzero(np.any(list(broken.values()), axis=0))]
    whose = "every bead" if len(beads) == crash.n_beads else _names(crash, beads) if beads else "the replica"
    event = f"the {listing(kinds)} of {whose} was not a number" if kinds else "the energy was not a number"
    largest_force = crash.force_norms.max(axis=1)
    sentences = []
    change = evidence.development(largest_force, crash.time_fs, logarithmic=True)
    if change is not None and change.last > 2.0 * change.first:
        sentences.append(came_about("Before that the largest force on a bead", change, "number", FORCE_UNIT))
    elif np.isfinite(largest_force).any():
        last = largest_force[np.isfinite(largest_force)][-1]
        sentences.append(
            f"Nothing announced it: the largest force just before was {number(last)} {FORCE_UNIT}, as it had been."
        )
    terms = evidence.non_finite_terms(crash)
    if terms:
        sentences.append(f"The force of {listing([TERM_WORDS[name] for name in terms])} is not finite there.")
    elif crash.term_forces is not None:
        sentences.append("Each energy term alone has finite forces there.")
    numbers = {"non_finite": kinds, "non_finite_terms": terms, "development": _plain_change(change)}
    # With the prior's terms not finite too the positions are to blame, not one term.
    term = terms[0] if len(terms) == 1 else None
    return Story(event, sentences, beads, term, ("largest force", FORCE_UNIT, largest_force), numbers)


def _heat(crash: Crash, _coverage: Coverage | None) -> Story:
    mean = crash.limit == "temperature_mean"
    what = "the mean temperature over 1 ps" if mean else "the instantaneous temperature"
    event = (
        f"{what} was {number(crash.value)} K, the limit is {number(crash.threshold)} K "
        f"at a target of {number(crash.temperature_K)} K"
    )
    temperature = crash.temperature
    change = evidence.development(temperature, crash.time_fs)
    sentences = [came_about("The temperature", change, "number", "K")] if change else []
    changes = evidence.energy_changes(crash)
    heat = float(crash.kinetic_energy[-1] - crash.kinetic_energy[0])
    term, released = largest({name: -value for name, value in changes.items()})
    span = f"the {-crash.time_fs[0]:.0f} fs recorded"
    # A term whose energy fell by a good part of the heat is where the heat came from.
    if heat > 0 and released > 0.5 * heat:
        sentences.append(
            f"In {span} the kinetic energy rose by {number(heat)} kcal/mol, "
            f"and the energy of {TERM_WORDS[term]} fell by {number(released)}."
        )
        dominant: str | None = term
    else:
        gained = heat + sum(changes.values())
        sentences.append(
            f"In {span} the kinetic energy rose by {number(heat)} kcal/mol while no energy term gave it away: "
            f"the total energy grew by {number(gained)}."
        )
        dominant = None
    beads = [int(b) for b in crash.beads] or [evidence.most_pushed(crash)]
    numbers = {"energy_changes": changes, "heat": heat, "development": _plain_change(change)}
    return Story(event, sentences, beads, dominant, ("temperature", "K", temperature), numbers)


def _jump(crash: Crash, _coverage: Coverage | None) -> Story:
    event = (
        f"the energy changed in one step by {number(crash.value)} kcal/mol more than the work of the forces, "
        f"the limit is {number(crash.threshold)}"
    )
    changes = evidence.last_energy_changes(crash)
    term, _ = largest({name: abs(value) for name, value in changes.items()})
    sentences = [f"{capital(TERM_WORDS[term])} changed most in that step, by {number(changes[term])} kcal/mol."]
    forces = crash.force_norms.max(axis=1)
    change = evidence.development(forces, crash.time_fs, logarithmic=True)
    if change is not None:
        sentences.append(came_about("The largest force on a bead", change, "number", FORCE_UNIT))
    beads = [int(b) for b in crash.beads] or [evidence.most_pushed(crash)]
    potential = ("potential energy", "kcal/mol", crash.terms.sum(axis=1))
    numbers = {"energy_changes": changes, "development": _plain_change(change)}
    return Story(event, sentences, beads, term, potential, numbers)


def _plain(crash: Crash, _coverage: Coverage | None) -> Story:
    event = f"{crash.limit.replace('_', ' ')} ({number(crash.value)}, the limit is {number(crash.threshold)})"
    worst = ("largest force", FORCE_UNIT, crash.force_norms.max(axis=1))
    return Story(event, [], [int(b) for b in crash.beads], None, worst)


def _pull_or_push(crash: Crash, split: dict[str, float] | None, together: bool) -> tuple[str | None, list[str]]:
    """The term that moved two beads the wrong way, and a sentence about it.

    Args:
        crash: what was recorded.
        split: closing force of each term, see `evidence.pair_split`.
        together: the wrong way is towards each other.
    """
    if split is None:
        return None, []
    wrong = split if together else {name: -value for name, value in split.items()}
    away, back = ("pulls them together", "pushes them apart") if together else ("pulls them apart", "holds them")
    term, strength = largest(wrong)
    other, resistance = largest({name: -value for name, value in wrong.items()})
    if strength > 0.05 * max(resistance, 1e-9):
        sentence = f"{capital(TERM_WORDS[term])} {away} with {number(strength)} {FORCE_UNIT}"
        if resistance > 0:
            sentence += f"; {TERM_WORDS[other]} {back} with {number(resistance)}"
        return term, [sentence + "."]
    released, fall = largest({name: -value for name, value in evidence.energy_changes(crash).items()})
    sentence = f"By then every term worked against it ({TERM_WORDS[other]} with {number(resistance)} {FORCE_UNIT})"
    if fall > 0:
        return released, [
            f"{sentence}; the energy that drove it came from {TERM_WORDS[released]}, {number(fall)} kcal/mol."
        ]
    return None, [sentence + "."]


def _pair_in_reference(coverage: Coverage, i: int, j: int, distance: float) -> tuple[str, dict[str, float]]:
    seen = coverage.pair(i, j)
    z = (distance - seen["mean"]) / seen["sd"] if seen["sd"] > 0 else float("nan")
    if distance < seen["min"]:
        bound = f"never came closer than {length(seen['min'])}"
    elif distance > seen["max"]:
        bound = f"never were further apart than {length(seen['max'])}"
    else:
        bound = f"were between {length(seen['min'])} and {length(seen['max'])} apart"
    sentence = (
        f"In {coverage.n_frames:,} {coverage.what} frames they {bound} "
        f"(mean {seen['mean']:.2f} ± {seen['sd']:.2f} Å, this is {abs(z):.1f} standard deviations "
        f"{'below' if z < 0 else 'above'})."
    )
    return sentence, {**seen, "z_score": float(z), "frames": coverage.n_frames}


def _pair(crash: Crash) -> tuple[int, int]:
    if len(crash.beads) == 2:
        return int(crash.beads[0]), int(crash.beads[1])
    found = evidence.closest_pair(crash.positions[-1], crash.linked)
    return found[:2] if found else (0, min(1, crash.n_beads - 1))


def _worst_bond(crash: Crash, coverage: Coverage | None) -> tuple[int, float]:
    """First bead and reference length of the bond whose length is furthest from it, relatively."""
    bonded = np.flatnonzero(crash.linked)
    if coverage is not None:
        means = np.array([coverage.pair(int(i), int(i) + 1)["mean"] for i in bonded])
    else:
        means = np.linalg.norm(crash.native[bonded + 1] - crash.native[bonded], axis=-1)
    lengths = np.linalg.norm(crash.positions[-1, bonded + 1] - crash.positions[-1, bonded], axis=-1)
    worst = int(np.argmax(np.abs(lengths / means - 1.0)))
    return int(bonded[worst]), float(means[worst])


def _names(crash: Crash, beads: list[int]) -> str:
    return listing([crash.residues[b] for b in beads])


def _plain_change(change: evidence.Development | None) -> dict[str, float] | None:
    if change is None:
        return None
    return {"from": change.first, "to": change.last, "duration_fs": change.duration_fs}

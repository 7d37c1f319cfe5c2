"""From a crash file to a class, a few sentences, and the frames to look at."""

from pathlib import Path
from typing import Any

import numpy as np

from cgloop.checks import jsonable
from cgloop.feedback import evidence
from cgloop.feedback.crash import TERM_NAMES, Crash, read_crash
from cgloop.feedback.failures import STAGE_WORDS
from cgloop.feedback.reference import Coverage
from cgloop.feedback.story import Story, tell
from cgloop.feedback.taxonomy import Evidence, classify, meaning
from cgloop.feedback.words import duration, length, number
from cgloop.residues import RESIDUES
from cgloop.validate.geometry import kabsch_rmsd, radius_of_gyration

MAX_FRAMES = 200
MAX_BEAD_FRAMES = 40_000
"""Frames kept to look at: at most so many, and fewer for large proteins."""


def diagnose(crash_h5: Path, coverage: Coverage | None = None) -> dict[str, Any]:
    """Classify a crash and put it into words.

    Args:
        crash_h5: written by the recorder of `cgloop.md`.
        coverage: what the training data of this protein covers; without it nothing is said about that.

    Returns:
        `class`, `words` (2 to 4 sentences), `sentences` (the same as a list), `meaning` (of the class), `protein`,
        `stage`, `replica`, `step`, `time_ps`, `limit`, `beads` (from 0), `residues` (names of these), `dominant_term`
        (or None), `numbers` (what the words say), and `frames` (see `frames_block`).

    Raises:
        UserError: not a readable crash file.
    """
    crash = read_crash(crash_h5)
    if coverage is not None and coverage.n_beads != crash.n_beads:
        coverage = None
    story = tell(crash, coverage)
    outside = coverage.outside(crash.positions) if coverage is not None else None
    found = _evidence(crash, story, coverage)
    kind = classify(found)
    words = [_event(crash, story), *story.sentences]
    if outside is not None:
        words += _outside_words(crash, outside, coverage, len(words))
    return jsonable(
        {
            "class": kind.value,
            "words": " ".join(words),
            "sentences": words,
            "meaning": meaning(kind, found),
            "protein": crash.protein,
            "stage": crash.stage,
            "replica": crash.replica,
            "step": crash.step,
            "time_ps": crash.time_ps,
            "limit": crash.limit,
            "beads": story.beads,
            "residues": [crash.residues[b] for b in story.beads],
            "dominant_term": story.dominant_term,
            "numbers": _numbers(crash, story, coverage, outside),
            "frames": frames_block(crash, story, outside),
        }
    )


def _event(crash: Crash, story: Story) -> str:
    stage = STAGE_WORDS.get(crash.stage, crash.stage)
    if crash.phase == "equilibration":
        stage = f"the equilibration of {stage}"
    if crash.stage == "minimize":
        when = f"in {stage}, iteration {crash.step:,}"
    elif crash.step == 0:
        when = f"before the first step of {stage}"
    else:
        when = f"in {stage} at step {crash.step:,} ({number(crash.time_ps, 4)} ps)"
    return f"Replica {crash.replica} of {crash.protein} was stopped {when}: {story.event}."


def _outside_words(crash: Crash, outside: np.ndarray, coverage: Coverage | None, told: int) -> list[str]:
    """When the structure left what the training data covers; only while there is room for a sentence."""
    if coverage is None or told > 3:
        return []
    beyond = np.nan_to_num(outside, nan=0.0)
    if not (beyond > 0).any():
        return [f"All frames recorded lie within the distances of the {coverage.what} frames."]
    size = float(radius_of_gyration(evidence.last_finite(crash.positions)[None])[0])
    if size < coverage.rg_min_A:
        return [
            f"The chain has collapsed: its radius of gyration is {length(size)}, in the {coverage.what} frames it is "
            f"never below {length(coverage.rg_min_A)}."
        ]
    inside = np.flatnonzero(beyond == 0)
    depth = f"by {length(float(beyond.max()))} at most"
    if not len(inside):
        return [f"Even the first frame recorded lies outside the distances of the {coverage.what} frames, {depth}."]
    since = -crash.time_fs[inside[-1]]
    if not since > 0:
        return [f"The last frame lies within the distances of the {coverage.what} frames."]
    return [f"It left the distances of the {coverage.what} frames {duration(since)} before the end, {depth}."]


def _evidence(crash: Crash, story: Story, coverage: Coverage | None) -> Evidence:
    first = crash.positions[0]
    bonded = np.flatnonzero(crash.linked)
    lengths = np.linalg.norm(first[bonded + 1] - first[bonded], axis=-1)
    native = np.linalg.norm(crash.native[bonded + 1] - crash.native[bonded], axis=-1)
    usual = coverage.bond_mean_A if coverage is not None else float(native.mean()) if len(bonded) else 1.0
    scale = float(lengths.mean() / usual) if len(bonded) else 1.0
    types_match = None if coverage is None else bool(np.array_equal(coverage.residue_type, crash.residue_type))
    return Evidence(
        limit=crash.limit,
        stage=crash.stage,
        # Dynamics starts from a structure that the model minimised; only minimisation starts from the data.
        started_broken=crash.stage == "minimize" and crash.steps[0] == 0 and not bool(np.isfinite(first).all()),
        types_match=types_match,
        length_scale=scale if np.isfinite(scale) else 1.0,
        dominant_term=story.dominant_term,
        force_growth=evidence.force_growth(crash),
    )


def _numbers(crash: Crash, story: Story, coverage: Coverage | None, outside: np.ndarray | None) -> dict[str, Any]:
    last = evidence.last_finite(crash.positions)
    numbers = {
        "value": crash.value,
        "threshold": crash.threshold,
        "temperature_K": float(crash.temperature[-1]),
        "max_force": float(crash.force_norms[-1].max()),
        "force_growth": evidence.force_growth(crash),
        "rmsd_A": float(kabsch_rmsd(last[None], crash.native)[0][0]),
        "rg_A": float(radius_of_gyration(last[None])[0]),
        **story.numbers,
    }
    if coverage is not None:
        numbers["rmsd_max_reference_A"] = coverage.rmsd_max_A
        numbers["rg_range_reference_A"] = [coverage.rg_min_A, coverage.rg_max_A]
    if outside is not None and np.isfinite(outside).any():
        numbers["outside_A"] = float(outside[np.isfinite(outside)][-1])
    return numbers


def frames_block(crash: Crash, story: Story, outside: np.ndarray | None) -> dict[str, Any]:
    """The last frames for the viewer of the report.

    Args:
        crash, story: what was recorded and told.
        outside: [K], Å beyond the training data; None if that is not known.

    Returns:
        `letters` and `residues` of all beads; `bonds` [[i, j]]; `beads` that offend; `steps` [F] and `time_fs` [F]
        (≤ 0, the crash is at 0); `positions` [F][3N], Å, in the principal axes of the last finite frame (x longest),
        two decimals, None where not finite; `series`: [{name, unit, values [F]}], what broke the limit first.
    """
    kept = slice(-min(MAX_FRAMES, max(20, MAX_BEAD_FRAMES // crash.n_beads)), None)
    positions = in_principal_axes(crash.positions[kept], evidence.last_finite(crash.positions))
    series = [
        story.worst,
        ("largest force", "kcal/mol/Å", crash.force_norms.max(axis=1)),
        ("temperature", "K", crash.temperature),
        ("prior energy", "kcal/mol", crash.terms[:, :-1].sum(axis=1)),
        ("ML energy", "kcal/mol", crash.terms[:, TERM_NAMES.index("ml")]),
    ]
    if outside is not None:
        series.append(("beyond the training data", "Å", outside))
    named: dict[str, dict[str, Any]] = {}
    for name, unit, values in series:
        named.setdefault(name, {"name": name, "unit": unit, "values": [_short(v) for v in values[kept]]})
    return {
        "letters": "".join(RESIDUES[t].letter if 0 <= t < len(RESIDUES) else "?" for t in crash.residue_type),
        "residues": list(crash.residues),
        "bonds": [[int(i), int(i) + 1] for i in np.flatnonzero(crash.linked)],
        "beads": story.beads,
        "steps": crash.steps[kept],
        "time_fs": np.round(crash.time_fs[kept], 3),
        "positions": np.round(positions, 2).reshape(-1, 3 * crash.n_beads),
        "series": list(named.values()),
    }


def in_principal_axes(positions: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Frames [F, N, 3], moved and rotated as `frame` [N, 3] has to be to lie along its principal axes.

    The centre is the median, which a bead that flies away does not drag along. The rotation is proper: a mirror image
    would be another molecule.
    """
    centre = np.median(frame, axis=0)
    axes = np.linalg.svd(frame - frame.mean(axis=0), full_matrices=True)[2]
    axes[2] *= np.linalg.det(axes)
    return (positions - centre) @ axes.T


def _short(value: float) -> float:
    """Two decimals, or four significant digits where that is shorter."""
    return float(f"{value:.4g}") if abs(value) >= 100 else round(float(value), 2)

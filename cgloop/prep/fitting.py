"""The force maps of one protein, fitted to a sample of its training frames, or of all where whole proteins are divided.

The sample is read before the rest: runs of consecutive frames, spread over the training trajectories, because files
are compressed in chunks of frames. Frames that later turn out not to be for training make the caller start again with
what is then known (`prep/stream.py`).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cgloop.config.data import ForceMapConfig
from cgloop.errors import UserError
from cgloop.interrupt import check_stop
from cgloop.prep.aggforce_map import aggforce_map
from cgloop.prep.constraints import RigidGroups, guess_rigid_groups
from cgloop.prep.mapping import Beads
from cgloop.prep.optimal import OptimalFit, fit_optimal, force_products
from cgloop.prep.projection import ForceMap, MatrixMap, force_map
from cgloop.prep.quarantine import GOOD, Screen
from cgloop.prep.reference import Block, Frames, Trajectory

RUN = 25
"""Consecutive frames that are read together."""

FOLDS = 3
"""Parts of the sample that test each other; each costs the memory of one matrix of groups by groups."""

CONSTRAINT_FRAMES = 100
"""Frames that rigid bonds are looked for in."""

OVERFITTED = 0.5
"""Below this ratio of mean squared forces, on frames of the fit to others, the user is told that frames are few."""


@dataclass(eq=False)
class Sample:
    """Frames of the fit, in order of trajectory and time.

    Attributes:
        positions: a few frames [A, 3], Å, for rigid bonds.
        forces: [A, 3] float32, kcal/mol/Å, a frame each.
        frames: (temperature, replica) and source frame of each.
        bad: how many frames were passed over, by reason.
    """

    positions: list[np.ndarray] = field(default_factory=list)
    forces: list[np.ndarray] = field(default_factory=list)
    frames: list[tuple[tuple[float, int], int]] = field(default_factory=list)
    bad: Counter[str] = field(default_factory=Counter)

    def require_frames(self) -> None:
        """Raise `UserError` if there is no frame at all."""
        if not self.forces:
            reason = f", {self.bad.most_common(1)[0][0]} above all" if self.bad else ""
            raise UserError(f"no good frame to fit a force map to ({self.bad.total()} are bad{reason})")

    def without(self, bad: np.ndarray) -> "Sample":
        """The sample less some frames (bool, one entry a frame)."""
        good = np.flatnonzero(~bad)
        return Sample(self.positions, [self.forces[i] for i in good], [self.frames[i] for i in good], self.bad)


@dataclass(frozen=True, eq=False)
class Maps:
    """All force maps of one protein.

    Attributes:
        chosen: name of the one whose forces are stored.
        by_name: the maps, for comparison, too.
        folds: maps of the optimal fit without each fold.
        fold_of: (temperature, replica) → source frames of the fit, sorted, and their folds.
        facts: what the fit found, for the report.
        groups: rigid groups, None if they could not be found.
    """

    chosen: str
    by_name: Mapping[str, ForceMap]
    folds: tuple[MatrixMap, ...] = ()
    fold_of: Mapping[tuple[float, int], tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    groups: RigidGroups | None = None

    def project(self, trajectory: Trajectory, block: Block) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Forces to store, and forces under every map, each float32 [F, N, 3] in kcal/mol/Å.

        Frames that the optimal map was fitted to are mapped by the fit that left them out (`prep/optimal.py`).
        """
        assert block.forces is not None
        mapped = {name: one.project(block.forces) for name, one in self.by_name.items()}
        if trajectory.key in self.fold_of:
            frames, folds = self.fold_of[trajectory.key]
            fold = np.full(len(block.forces), -1)
            _, here, there = np.intersect1d(block.source_frame, frames, assume_unique=True, return_indices=True)
            fold[here] = folds[there]
            for index, one in enumerate(self.folds):
                rows = fold == index
                if rows.any():
                    mapped["optimal"][rows] = one.project(block.forces[rows])
        return mapped[self.chosen], mapped


def read_sample(
    trajectories: Sequence[Trajectory],
    frames: Frames,
    window: Callable[[Trajectory], int],
    bead_atoms: np.ndarray,
    screen: Screen,
    n_wanted: int,
) -> Sample:
    """Read about `n_wanted` good frames from the first `window(trajectory)` selected frames of each trajectory.

    Args:
        trajectories: those at the model's temperature.
        frames: which of their frames are wanted at all.
        window: the number of first frames that it may take.
        bead_atoms: int [N].
        screen: tells good frames from bad ones.
        n_wanted: frames.
    """
    windows = [window(trajectory) for trajectory in trajectories]
    total = sum(windows)
    share = min(1.0, n_wanted / max(total, 1))
    every = max(1, int(share * total) // CONSTRAINT_FRAMES)
    sample = Sample()
    for trajectory, size in zip(trajectories, windows, strict=True):
        for first, last in _runs(size, round(share * size)):
            for block in trajectory.blocks(frames.part(first, last)):
                check_stop()
                assert block.forces is not None
                reasons = screen.look(
                    block.positions, block.forces, block.positions[:, bead_atoms], block.forces[:, bead_atoms]
                )
                sample.bad.update(reason for reason in reasons if reason != GOOD)
                for row in np.flatnonzero(reasons == GOOD):
                    if len(sample.forces) % every == 0:
                        sample.positions.append(block.positions[row])
                    sample.forces.append(block.forces[row])
                    sample.frames.append((trajectory.key, int(block.source_frame[row])))
    keys = np.array([key[0] for key, _ in sample.frames])
    return sample.without(screen.unusual(keys))


def _runs(size: int, wanted: int) -> list[tuple[int, int]]:
    """Bounds of evenly spaced runs in `range(size)` with `wanted` frames together."""
    wanted = min(size, wanted)
    n_runs = -(-wanted // RUN)
    if n_runs == 0:
        return []
    lengths = np.diff(np.round(np.linspace(0, wanted, n_runs + 1)).astype(int))
    gaps = np.round(np.linspace(0, size - wanted, n_runs + 1)).astype(int)[:-1]
    starts = np.cumsum(lengths) - lengths + gaps
    return [(int(start), int(start + length)) for start, length in zip(starts, lengths, strict=True)]


def fit_maps(
    chosen: str, sample: Sample, beads: Beads, is_hydrogen: np.ndarray, structure: np.ndarray, config: ForceMapConfig
) -> Maps:
    """All maps of a protein; those that are only for comparison may be missing, with the reason in `facts`.

    Args:
        chosen: the projection of the config.
        sample: frames of the fit.
        beads: the mapping.
        is_hydrogen: bool [A].
        structure: [A, 3], Å, an intact structure.
        config: the section `data.force_map`.

    Raises:
        UserError: the chosen map cannot be had.
    """
    by_name: dict[str, ForceMap] = {
        name: force_map(name, beads.atom, is_hydrogen, structure) for name in ("slice", "basic")
    }
    facts: dict[str, Any] = {"frames": len(sample.forces)}
    groups = None
    try:
        sample.require_frames()
        groups = guess_rigid_groups(np.array(sample.positions), config.rigid_threshold_A)
        facts.update(
            rigid_pairs=len(groups.pairs), rigid_groups=groups.n_groups,
            rigid_threshold_A=groups.threshold_A, coordinate_rounding_A=groups.rounding_A,
        )  # fmt: skip
        parts = np.array_split(np.arange(len(sample.forces)), FOLDS)
        folds = [force_products(np.array([sample.forces[i] for i in part]), groups) for part in parts if len(part)]
        fit = fit_optimal(folds, groups, beads.atom, config.l2)
    except UserError as error:
        if chosen == "optimal":
            raise
        facts["unavailable"] = str(error)
        fit = None
    if chosen == "aggforce":
        if groups is None:
            raise UserError(f"`projection: aggforce` needs rigid bonds: {facts['unavailable']}")
        by_name["aggforce"] = aggforce_map(np.array(sample.forces), groups, beads.atom, config.l2)
    if fit is None:
        return Maps(chosen, by_name, facts=facts, groups=groups)
    by_name["optimal"] = MatrixMap(fit.weights)
    facts.update(_facts_of(fit))
    return Maps(
        chosen,
        by_name,
        folds=tuple(MatrixMap(weights) for weights in fit.fold_weights),
        fold_of=_fold_of(sample, parts),
        facts=facts,
        groups=groups,
    )


def _facts_of(fit: OptimalFit) -> dict[str, Any]:
    return {
        "free_coefficients": fit.n_free,
        "rows": fit.rows,
        "l2": fit.l2 if np.isfinite(fit.l2) else None,
        "mean_squared_force_cross_validated": fit.held_out,
        "mean_squared_force_fitted": fit.fitted,
    }


def _fold_of(sample: Sample, parts: Sequence[np.ndarray]) -> dict[tuple[float, int], tuple[np.ndarray, np.ndarray]]:
    folds = np.concatenate([np.full(len(part), index) for index, part in enumerate(parts)])
    rows: dict[tuple[float, int], list[tuple[int, int]]] = {}
    for (key, frame), fold in zip(sample.frames, folds, strict=True):
        rows.setdefault(key, []).append((frame, int(fold)))
    tables = {key: np.array(sorted(pairs)) for key, pairs in rows.items()}
    return {key: (table[:, 0], table[:, 1]) for key, table in tables.items()}


def fit_notes(maps: Maps) -> list[str]:
    """Warnings where the optimal map is in use and rests on too few frames."""
    facts = maps.facts
    if maps.chosen != "optimal" or "rows" not in facts:
        return []
    if facts["l2"] is None and facts["free_coefficients"]:
        return [f"{facts['frames']} frames are too few for an optimal force map: the sum over rigid groups is used"]
    ratio = facts["mean_squared_force_fitted"] / facts["mean_squared_force_cross_validated"]
    if ratio < OVERFITTED:
        return [
            f"the force map has {facts['free_coefficients']} coefficients a bead from {facts['frames']} frames; "
            "more (`data.force_map.frames`) would lower the noise"
        ]
    return []

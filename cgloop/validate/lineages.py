"""Lineages of a reference: which of its trajectories are independent of each other.

A lineage is a simulation together with what continues it. By default every trajectory is one. A trajectory that was
begun from a frame of another, with new velocities, is the parent's continuation at first, because velocities are
forgotten at once and the structure is not. It counts as a lineage of its own after `validate.branch_skip_ps`, and what
comes before is dropped. Lineages are what error bars, leave-one-out and effective samples are made from.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cgloop.data.protein import TEMPERATURE_TOLERANCE_K, ProteinData, TrajectoryFacts
from cgloop.errors import UserError

ANY_PROTEIN = "*"
"""Key of `validate.lineages` for proteins that have none of their own."""

FEWEST_FRAMES = 10
"""A trajectory that was begun from another is its continuation if fewer frames are left after the skip."""


@dataclass(frozen=True)
class Lineage:
    """Rows of the frames of one lineage, in order of time.

    Attributes:
        name: in words, as `replica 3` or `replicas 0, 4`.
        rows: int, of the data it was made from.
        replicas: numbers of its trajectories.
        skipped: frames at the start of the trajectory that are dropped: they relax from its start, or still belong to
            the parent's neighborhood.
    """

    name: str
    rows: np.ndarray
    replicas: tuple[int, ...]
    skipped: int = 0


def lineages_of(
    data: ProteinData, joined: Mapping[str, Sequence[Sequence[int]]], branch_skip_ps: float
) -> list[Lineage]:
    """Return the lineages of frames of one protein at one temperature.

    Args:
        data: the frames.
        joined: the setting `validate.lineages`: by protein, lists of replicas that are one lineage each, in order of
            time. It takes precedence over what the source says.
        branch_skip_ps: time after which a trajectory that was begun from another is a lineage of its own.

    Raises:
        UserError: a replica is in two lineages.
    """
    groups = joined.get(data.name, joined.get(ANY_PROTEIN, ()))
    place = _places(groups)
    rows = {int(number): np.flatnonzero(data.replica == number) for number in np.unique(data.replica)}
    skipped: dict[int, int] = {}
    parents: dict[int, int] = {}
    for number, facts in _facts(data).items():
        if number not in rows:
            continue
        if facts.started_from is None:
            own = rows[number][data.source_frame[rows[number]] >= facts.relaxation_frames]
            skipped[number], rows[number] = len(rows[number]) - len(own), own
            if not len(own):
                rows.pop(number)
            continue
        if number in place:
            continue
        own = _after(data, rows[number], facts.frame_ps, branch_skip_ps)
        if len(own) >= FEWEST_FRAMES:
            skipped[number], rows[number] = len(rows[number]) - len(own), own
        else:
            parents[number] = facts.started_from
    members: dict[tuple[str, int], list[int]] = {}
    for number in rows:
        root = _root(number, parents)
        key = ("group", place[root]) if root in place else ("replica", root)
        members.setdefault(key, []).append(number)
    return [_lineage(_in_order(numbers, groups, place), rows, skipped) for numbers in members.values()]


def require_replicas(data: ProteinData, joined: Mapping[str, Sequence[Sequence[int]]]) -> None:
    """Raise a `UserError` where `validate.lineages` joins replicas under the protein's name that it does not have.

    Args:
        data: all frames of the protein, at all temperatures.
        joined: the setting `validate.lineages`.
    """
    there = {int(number) for number in np.unique(data.replica)}
    absent = sorted({number for group in joined.get(data.name, ()) for number in group} - there)
    if absent:
        raise UserError(
            f"`{data.name}` has no replica {absent[0]}", where="validate.lineages",
            remedy=f"there are: {', '.join(map(str, sorted(there)))}",
        )  # fmt: skip


def require_proteins(names: Collection[str], joined: Mapping[str, Sequence[Sequence[int]]]) -> None:
    """Raise a `UserError` where `validate.lineages` names a protein that is not among `names`."""
    absent = sorted(set(joined) - set(names) - {ANY_PROTEIN})
    if absent:
        raise UserError(
            f"the prepared data have no protein `{absent[0]}`", where="validate.lineages",
            remedy=f"there are: {', '.join(sorted(names))}; `{ANY_PROTEIN}` stands for all others",
        )  # fmt: skip


def _places(groups: Sequence[Sequence[int]]) -> dict[int, int]:
    """Return which group each replica is in."""
    place: dict[int, int] = {}
    for index, group in enumerate(groups):
        for number in group:
            if number in place:
                raise UserError(
                    f"replica {number} is in two lineages", where="validate.lineages", remedy="name each replica once"
                )
            place[number] = index
    return place


def _facts(data: ProteinData) -> dict[int, TrajectoryFacts]:
    """Return what the source says about the trajectories at the temperature of the frames, by replica."""
    if not data.n_frames:
        return {}
    here = float(data.temperature_K[0])
    return {
        facts.replica: facts for facts in data.trajectories if abs(facts.temperature_K - here) < TEMPERATURE_TOLERANCE_K
    }


def _after(data: ProteinData, rows: np.ndarray, frame_ps: float | None, branch_skip_ps: float) -> np.ndarray:
    """Return those of the rows that are later than the skip; none where the time between frames is not known."""
    if frame_ps is None:
        return rows[:0]
    return rows[data.source_frame[rows] * frame_ps >= branch_skip_ps]


def _root(number: int, parents: Mapping[int, int]) -> int:
    """Return the first trajectory of a chain of continuations, whether or not its frames are there."""
    seen = {number}
    while (parent := parents.get(number)) is not None and parent not in seen:
        seen.add(number := parent)
    return number


def _in_order(numbers: list[int], groups: Sequence[Sequence[int]], place: Mapping[int, int]) -> list[int]:
    """Return the replicas of a lineage in order of time: as the config lists them, what continues them after."""
    listed = {number: index for group in groups for index, number in enumerate(group)}
    return sorted(numbers, key=lambda number: (number not in place, listed.get(number, 0), number))


def _lineage(numbers: list[int], rows: Mapping[int, np.ndarray], skipped: Mapping[int, int]) -> Lineage:
    name = f"replica{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
    return Lineage(
        name, np.concatenate([rows[number] for number in numbers]), tuple(numbers),
        sum(skipped.get(number, 0) for number in numbers),
    )  # fmt: skip

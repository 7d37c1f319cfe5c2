"""The part of a reference that a refinement did not use, and whether it suffices to judge the refined model.

A refined model reproduces the averages that it was refined to. What it is worth shows on lineages that neither the
refinement, nor its stopping, nor a start frame took anything from. Where these are too few, the model is compared with
the whole reference, and the verdict says that this was matched, not predicted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cgloop.data.refined import Refined
from cgloop.validate.lineages import Lineage
from cgloop.validate.structure import COMPARISONS, Target
from cgloop.wording import listing

MIN_EFFECTIVE = 30.0
"""Effective samples of RMSD, Q and Rg for which the unseen lineages are a reference of their own."""

FEWEST_LINEAGES = 2
"""Unseen lineages, at least; and as many as `validate.min_replicas`, without which the reference control is open."""

OBSERVABLES = ("structure.rmsd", "structure.q", "structure.rg")


@dataclass(frozen=True)
class Compared:
    """What a refined model is compared with.

    Attributes:
        unseen: whether it is the unseen lineages; else it is the whole reference.
        used: replicas of the reference that were used.
        lineages: names of the unseen lineages.
        effective: their effective samples, by observable.
        why: one clause.
        populations_determined: whether the refinement determined populations of basins.
    """

    unseen: bool
    used: tuple[int, ...]
    lineages: tuple[str, ...]
    effective: dict[str, float]
    why: str
    populations_determined: bool

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `metrics.json`."""
        return {
            "with": "unseen" if self.unseen else "all",
            "used_replicas": list(self.used),
            "unseen_lineages": list(self.lineages),
            "effective_samples": self.effective,
            "why": self.why,
            "populations_determined": self.populations_determined,
        }


def unseen_rows(lineages: Sequence[Lineage], refined: Refined) -> list[int]:
    """Return which lineages have no frame of a replica that the refinement used."""
    return [row for row, one in enumerate(lineages) if not refined.used & set(one.replicas)]


def unseen_target(
    target: Target, lineages: Sequence[Lineage], refined: Refined, one_start: bool
) -> tuple[Target | None, Compared]:
    """Return the unseen lineages as a target, or None where they do not suffice, and why.

    Args:
        target: the whole reference.
        lineages: its lineages, in the order of its frames.
        refined: what the refinement used.
        one_start: whether the unseen lineages were begun in one conformation.
    """
    rows = unseen_rows(lineages, refined)
    names = tuple(lineages[row].name for row in rows)
    needed = max(FEWEST_LINEAGES, target.settings.min_replicas)
    effective: dict[str, float] = {}
    if len(rows) >= needed:
        part = replace(
            target,
            frames=[target.frames[row] for row in rows],
            lineages=names,
            one_start=one_start,
            _views={},
            _samples={},
        )
        effective = {
            spec.check.title: part.sample(spec).n_effective
            for spec in COMPARISONS
            if spec.check.name in OBSERVABLES and not part.view(spec).missing
        }
        short = [f"{count:.1f} of the {title}" for title, count in effective.items() if not count >= MIN_EFFECTIVE]
        why = f"effective samples of {listing(list(names), 4)} are {listing(short)}, {MIN_EFFECTIVE:g} are needed"
    else:
        part, short = None, ["lineages"]
        why = f"the number of lineages that were not used is {len(rows)}, {needed} are needed"
    if not short:
        why = f"{listing(list(names), 4)} were not used"
    found = Compared(not short, tuple(sorted(refined.used)), names, effective, why, refined.populations_determined)
    return (None if short else part), found

"""All structural results of a protein and their controls: for the stage `validate` and for anybody's trajectories."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cgloop.checks import Check, CheckResult
from cgloop.validate.controls import power_control, reference_control
from cgloop.validate.family import COMPARISONS
from cgloop.validate.handedness import MIRROR, mirror_check
from cgloop.validate.observables import Frames
from cgloop.validate.reference import Reference
from cgloop.validate.structure import run_comparison

Absent = Callable[[Check], CheckResult | None]
"""The result of a check that cannot be made, because data are missing; None if they are there."""


@dataclass(frozen=True)
class Controls:
    """What the structural checks can tell: of the reference itself by check, and of another temperature by check."""

    reference: dict[str, dict[str, Any]]
    power: dict[str, dict[str, Any]]

    @classmethod
    def of(cls, reference: Reference) -> "Controls":
        if not reference.frames:
            return cls({}, {})
        power = {}
        if reference.other:
            power = power_control(reference.other, reference.other_temperature_K, reference.target)
        return cls(reference_control(reference.target, reference.name), power)


def note_whole(results: Sequence[CheckResult], model: list[Frames], reference: Reference) -> None:
    """Note in the results of a model that is judged by a part of the reference how it compares with all of it.

    Args:
        results: of `structural_results`; their `detail` gets `whole_reference`.
        model: observables per replica.
        reference: of the protein.
    """
    if reference.whole is None or not model:
        return
    by_name = {result.check: result for result in results}
    for spec in COMPARISONS:
        found = run_comparison(spec, model, reference.whole, reference.name)
        by_name[spec.check.name].detail["whole_reference"] = {
            "value": found.value, "error": found.error, "threshold": found.threshold, "verdict": found.verdict,
            "reason": found.reason, "unit": found.unit, "quantity": found.quantity,
        }  # fmt: skip


def structural_results(model: list[Frames], reference: Reference, absent: Absent) -> list[CheckResult]:
    """Every structural check of a protein.

    Args:
        model: observables per replica.
        reference: of the protein.
        absent: says which checks cannot be made.
    """
    results = [
        absent(spec.check) or run_comparison(spec, model, reference.target, reference.name) for spec in COMPARISONS
    ]
    target = reference.target
    return [*results, absent(MIRROR) or mirror_check(model, target.frames, target.settings, reference.name)]

"""Controls: can the structural checks judge at all? The reference must not fail its own checks, and a check must
tell the reference from the same protein at another temperature."""

from typing import Any

import numpy as np

from cgloop.checks import CheckResult
from cgloop.config.validate import ValidateConfig
from cgloop.validate.comparison import compare, in_words, leave_one_out, sampling_doubts
from cgloop.validate.structure import COMPARISONS, MIRROR, Frames, StructuralCheck, mirror_check, run_comparison

CONTROLLED = (*(spec.check.name for spec in COMPARISONS if spec.check.direction != "reported"), MIRROR.name)
"""Checks whose verdict counts only if their reference control does not object."""


def reference_control(reference: list[Frames], settings: ValidateConfig, subject: str) -> dict[str, dict[str, Any]]:
    """The reference's own replicas, put through the structural checks as if they were model output.

    Two things are asked: whether the very same function that judges a model passes the whole reference (enough
    replicas, stationary, enough effective samples, noise below the limits), and whether replicas that are compared
    with the others only are inside the limits on average. The second can only fail: comparing single replicas is
    noisier than comparing a model, and no reason for doubt.

    The mirror check refers to the native structure and not to the reference's ensemble. How well that is sampled
    does not matter there, only that the difference is significantly positive.

    Args:
        reference: observables of every reference replica.
        settings: the same as for the model.
        subject: the protein.

    Returns:
        By check: `verdict`, `reason`, and the figures of both tests.
    """
    outcome = {}
    for spec in COMPARISONS:
        if spec.check.name not in CONTROLLED:
            continue
        whole = run_comparison(spec, reference, reference, settings, subject)
        outcome[spec.check.name] = _both(whole, spec, reference, settings)
    whole = mirror_check(reference, reference, settings, subject)
    verdict = whole.detail.get("verdict_of_error_bar", whole.verdict)
    outcome[MIRROR.name] = {"verdict": verdict, "reason": whole.reason, "value": whole.value, "error": whole.error}
    return outcome


def _both(
    whole: CheckResult, spec: StructuralCheck, reference: list[Frames], settings: ValidateConfig
) -> dict[str, Any]:
    if whole.value is None:
        return {"verdict": whole.verdict, "reason": whole.reason, "value": None}
    measures = spec.measures(settings)
    sample = spec.sample(reference, settings)
    apart, means, errors = leave_one_out(sample, spec.metric, measures, settings)
    verdict = whole.verdict
    reason = in_words(sampling_doubts("reference", sample, settings)) or whole.reason
    if verdict == "pass" or apart == "fail":
        verdict = "fail" if apart == "fail" else "pass"
        shown = "; ".join(m.in_words(v, e) for m, v, e in zip(measures, means, errors, strict=True))
        reason = f"one reference replica against the others: {shown}"
    return {
        "verdict": verdict,
        "reason": reason,
        "value": whole.value,
        "error": whole.error,
        "threshold": whole.threshold,
        "n_effective": whole.n_effective,
        "needs": {"longer_reference": True} if verdict == "inconclusive" else {},
        "leave_one_out": {"verdict": apart, "values": means, "errors": errors},
    }


def power_control(
    other: list[Frames], other_temperature_K: float, reference: list[Frames], settings: ValidateConfig
) -> dict[str, dict[str, Any]]:
    """Which checks tell the reference at another temperature from the reference itself.

    Returns:
        By check: `able`, the distances `values`, and the `limits` that at least one of them has to exceed.
    """
    outcome = {}
    for spec in COMPARISONS:
        if spec.check.name not in CONTROLLED:
            continue
        sample, target = spec.sample(other, settings), spec.sample(reference, settings)
        result = compare(sample, target, spec.metric, spec.measures(settings), settings)
        outcome[spec.check.name] = {
            "able": bool(np.any(result.values > result.limits)),
            "other_temperature_K": other_temperature_K,
            "values": result.values,
            "limits": result.limits,
        }
    return outcome

"""Controls: can the structural checks judge at all? The reference must not fail its own checks, and a check must
tell the reference from the same protein at another temperature."""

from typing import Any

import numpy as np

from cgloop.checks import CheckResult
from cgloop.validate.comparison import compare, leave_one_out
from cgloop.validate.family import COMPARISONS, DECLARED
from cgloop.validate.handedness import MIRROR, mirror_check
from cgloop.validate.observables import Frames
from cgloop.validate.sample import in_words, sampling_doubts
from cgloop.validate.structure import NotComparable, StructuralCheck, Target, run_comparison, sample_of

CONTROLLED = tuple(check.name for check in DECLARED if check.direction != "reported")
"""Checks whose verdict counts only if their reference control does not object."""


def reference_control(target: Target, subject: str) -> dict[str, dict[str, Any]]:
    """The reference's own replicas, put through the structural checks as if they were model output.

    Two things are asked: whether the very same function that judges a model passes the whole reference (enough
    replicas, stationary, enough effective samples, noise below the limits), and whether replicas that are compared
    with the others only are inside the limits on average. The second can only fail: comparing single replicas is
    noisier than comparing a model, and no reason for doubt.

    The mirror check refers to the native structure and not to the reference's ensemble. How well that is sampled
    does not matter there, only that the difference is significantly positive.

    Args:
        target: the reference.
        subject: the protein.

    Returns:
        By check: `verdict`, `reason`, and the figures of both tests.
    """
    outcome = {}
    for spec in COMPARISONS:
        if spec.check.name in CONTROLLED:
            whole = run_comparison(spec, target.frames, target, subject)
            outcome[spec.check.name] = _both(whole, spec, target)
    whole = mirror_check(target.frames, target.frames, target.settings, subject)
    verdict = whole.detail.get("verdict_of_error_bar", whole.verdict)
    outcome[MIRROR.name] = {"verdict": verdict, "reason": whole.reason, "value": whole.value, "error": whole.error}
    return outcome


def _both(whole: CheckResult, spec: StructuralCheck, target: Target) -> dict[str, Any]:
    if whole.value is None:
        needs = {"longer_reference": True} if whole.detail.get("needs") else {}
        return {"verdict": whole.verdict, "reason": whole.reason, "value": None, "needs": needs}
    view, sample = target.view(spec), target.sample(spec)
    apart, means, errors = leave_one_out(sample, view.metric(sample, sample), view.measures, target.settings)
    shown_means = [measure.shown(mean) for measure, mean in zip(view.measures, means, strict=True)]
    verdict = whole.verdict
    reason = in_words(sampling_doubts("reference", sample, target.settings)) or whole.reason
    if verdict == "pass" or apart == "fail":
        verdict = "fail" if apart == "fail" else "pass"
        shown = "; ".join(m.in_words(v, e) for m, v, e in zip(view.measures, means, errors, strict=True) if m.judged)
        reason = f"one reference replica against the others: {shown}"
    return {
        "verdict": verdict,
        "reason": reason,
        "value": whole.value,
        "error": whole.error,
        "threshold": whole.threshold,
        "n_effective": whole.n_effective,
        "needs": {"longer_reference": True} if verdict == "inconclusive" and whole.detail["needs"] else {},
        "leave_one_out": {"verdict": apart, "values": shown_means, "errors": errors},
    }


def power_control(other: list[Frames], other_temperature_K: float, target: Target) -> dict[str, dict[str, Any]]:
    """Which checks tell the reference at another temperature from the reference itself.

    Returns:
        By check: `able`, the distances `values`, and the `limits` that at least one of them has to exceed. Checks that
        cannot compare the two at all are not able, and have neither.
    """
    outcome = {}
    for spec in COMPARISONS:
        view = target.view(spec)
        if spec.check.name not in CONTROLLED or view.missing:
            continue
        entry: dict[str, Any] = {
            "able": False,
            "other_temperature_K": other_temperature_K,
            "values": None,
            "limits": None,
        }
        outcome[spec.check.name] = entry
        sample, reference = sample_of(view, other, target.settings), target.sample(spec)
        try:
            metric = view.metric(sample, reference)
        except NotComparable as why:
            entry["reason"] = str(why)
            continue
        result = compare(sample, reference, metric, view.measures, target.settings)
        entry.update(values=result.values, limits=result.limits)
        # Limits of what is not judged are infinite.
        entry["able"] = bool(np.any(result.values > result.limits))
    return outcome

"""Did the training come to rest? From the losses in `history.json`."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from cgloop.checks import Check, CheckResult, Curve, Plot, Verdict, decide
from cgloop.config.validate import ValidateConfig
from cgloop.validate.artifact import SUBJECT, number
from cgloop.validate.comparison import worst as worst_verdict
from cgloop.validate.statistics import linear_slope, student_t
from cgloop.validate.trajectory import read_json

FILE = "history.json"

CONVERGED = Check(
    "training.converged",
    "convergence of the training",
    "",
    "at most",
    "Magnitude of what the loss changes by over the last fifth of the epochs, relative to its mean there, by a "
    "straight line with its 95 % error; the larger of training and validation. A change within its error of zero is "
    "none.",
)

LAST_PART = 0.2
FEWEST_EPOCHS = 4
"""A line with an error needs so many points."""


def read_converged(folder: Path, settings: ValidateConfig) -> list[CheckResult]:
    """The check from `history.json` of a folder; none if it is not there. Raises UserError if it is damaged."""
    path = folder / FILE
    return [converged_check(read_json(path, "run `cgloop train` again"), settings)] if path.exists() else []


def converged_check(history: dict[str, Any], settings: ValidateConfig) -> CheckResult:
    """See `CONVERGED`. The gap between the losses is noted, and judged by nobody.

    Args:
        history: contents of `history.json`.
        settings: limit.
    """
    columns = history.get("columns") or {}
    losses = {
        name: np.array([number(value) for value in columns.get(f"{name}_loss") or []])
        for name in ("train", "validation")
    }
    epochs = np.array([number(value) for value in columns.get("epoch") or []])
    length = max(FEWEST_EPOCHS, round(LAST_PART * len(epochs)))
    if len(epochs) < FEWEST_EPOCHS or not all(len(loss) == len(epochs) for loss in losses.values()):
        return _result(
            None, 0.0, settings, "inconclusive", f"{len(epochs)} epochs, {FEWEST_EPOCHS} are needed", {}, None
        )
    changes = {name: _change(epochs[-length:], loss[-length:]) for name, loss in losses.items()}
    worst = max(changes, key=lambda name: (not np.isfinite(changes[name][0]), abs(changes[name][0])))
    value, error = abs(changes[worst][0]), changes[worst][1]
    limit = settings.training_change
    verdicts: list[Verdict] = [
        "pass" if abs(change) <= noise else decide(abs(change), noise, limit, "at most")
        for change, noise in changes.values()
    ]
    gap = float(losses["validation"][-length:].mean() / losses["train"][-length:].mean() - 1.0)
    shown = ", ".join(f"{name} {change:+.2%} ± {noise:.2%}" for name, (change, noise) in changes.items())
    reason = f"over the last {length} epochs: {shown}; validation is {gap:+.1%} from training"
    detail = {
        "changes": {name: change for name, (change, _) in changes.items()},
        "errors": {name: noise for name, (_, noise) in changes.items()},
        "epochs": length, "gap": gap, "stopped": history.get("stopped"), "by_own_rule": True, "needs": {},
    }  # fmt: skip
    plot = Plot(
        "lines", "epoch", "loss ((kcal/mol/Å)²)",
        [
            Curve("validation", "model", epochs.tolist(), losses["validation"].tolist()),
            Curve("training", "control", epochs.tolist(), losses["train"].tolist()),
        ],
    )  # fmt: skip
    return _result(value, error, settings, worst_verdict(verdicts), reason, detail, plot)


def _change(epochs: np.ndarray, loss: np.ndarray) -> tuple[float, float]:
    """What a line through a loss changes by from the first to the last of the epochs, over the mean loss, and its 95 %
    half-width."""
    if not np.isfinite(loss).all():
        return math.nan, math.nan
    slope = linear_slope(epochs, loss)
    scale = float(epochs[-1] - epochs[0]) / float(loss.mean())
    return slope.value * scale, student_t(len(loss) - 2) * slope.standard_error * scale


def _result(
    value: float | None, error: float, settings: ValidateConfig, verdict: Verdict, reason: str, detail: dict[str, Any],
    plot: Plot | None,
) -> CheckResult:  # fmt: skip
    return CheckResult(
        check=CONVERGED.name, subject=SUBJECT, value=value, error=error, threshold=settings.training_change,
        verdict=verdict, reason=reason, detail=detail, inputs={"file": FILE}, plot=plot,
    )  # fmt: skip

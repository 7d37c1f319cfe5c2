"""Convergence of the training, from the losses in `history.json`."""

import math
from dataclasses import dataclass, replace
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
    "The larger of two relative differences of the validation loss, taken as the mean of three consecutive epochs: of "
    "the three around the kept epoch above the lowest three; and, where the lowest lies in the last fifth of the "
    "epochs, what the loss still falls by over that fifth, by a straight line with its 95 % error. A rise after the "
    "lowest loss is reported: the kept parameters are from before.",
)

LAST_PART = 0.2
FEWEST_EPOCHS = 4
"""Smallest number of points of a straight line with an error."""


def read_converged(folder: Path, settings: ValidateConfig) -> list[CheckResult]:
    """Return the check from `history.json` of a folder; none if it is not there. Raise `UserError` if it is damaged."""
    path = folder / FILE
    return [converged_check(read_json(path, "run `cgloop train` again"), settings)] if path.exists() else []


@dataclass(frozen=True)
class Losses:
    """Losses of a training, epoch by epoch.

    Attributes:
        epochs: numbers [E].
        train, validation: [E], (kcal/mol/Å)².
        start: validation loss before the first epoch; NaN if it is not known.
        kept: epoch whose parameters were kept; 0 is the start.
    """

    epochs: np.ndarray
    train: np.ndarray
    validation: np.ndarray
    start: float
    kept: int

    @classmethod
    def of(cls, history: dict[str, Any]) -> "Losses":
        """Read the contents of `history.json`; without a kept epoch that of the lowest validation loss."""
        columns = history.get("columns") or {}
        epochs, train, validation = (
            np.array([number(value) for value in columns.get(name) or []])
            for name in ("epoch", "train_loss", "validation_loss")
        )
        kept = number(history.get("best_epoch"))
        if math.isnan(kept) and len(epochs) and len(validation) == len(epochs):
            kept = float(epochs[np.argmin(validation)])
        start = number(history.get("initial_validation_loss"))
        return cls(epochs, train, validation, start, 0 if math.isnan(kept) else int(kept))

    @property
    def usable(self) -> bool:
        return len(self.epochs) >= FEWEST_EPOCHS and len(self.train) == len(self.validation) == len(self.epochs)

    @property
    def finite(self) -> bool:
        return bool(np.isfinite(self.train).all() and np.isfinite(self.validation).all())

    @property
    def last(self) -> int:
        """Number of epochs in the last fifth; at least `FEWEST_EPOCHS`."""
        return max(FEWEST_EPOCHS, round(LAST_PART * len(self.epochs)))


@dataclass(frozen=True)
class Course:
    """Where the validation loss is lowest, and what it does before and after.

    Attributes:
        lowest: epoch with the lowest mean of three.
        excess: of the lowest mean of three that the kept epoch is part of over the lowest of all, relative.
        rise: of the last epoch's mean of three over the lowest, relative.
        late: the lowest lies in the last fifth.
        fall, fall_error: decrease over the last fifth relative to its mean, by a straight line, with 95 % half-width.
    """

    lowest: int
    excess: float
    rise: float
    late: bool
    fall: float
    fall_error: float

    @classmethod
    def of(cls, losses: Losses) -> "Course":
        """Follow finite losses."""
        smooth, epochs = mean_of_three(losses.validation), losses.epochs
        if math.isfinite(losses.start):
            # Alone: a start far above the first epoch says nothing about that epoch's neighborhood.
            smooth, epochs = np.concatenate([[losses.start], smooth]), np.concatenate([[0.0], epochs])
        lowest = int(np.argmin(smooth))
        around = smooth[np.abs(epochs - losses.kept) <= (1 if losses.kept else 0)]
        at_kept = float(around.min()) if losses.kept in epochs else math.nan
        change, error = _change(losses.epochs[-losses.last :], losses.validation[-losses.last :])
        return cls(
            lowest=int(epochs[lowest]),
            excess=at_kept / float(smooth[lowest]) - 1.0,
            rise=float(smooth[-1] / smooth[lowest]) - 1.0,
            late=lowest >= len(smooth) - losses.last,
            fall=-change,
            fall_error=error,
        )


def mean_of_three(values: np.ndarray) -> np.ndarray:
    """Return the mean of each value and its neighbors, [E]; of two at the ends."""
    if len(values) < 2:
        return values
    padded = np.concatenate([[np.nan], values, [np.nan]])
    return np.nanmean(np.stack([padded[:-2], padded[1:-1], padded[2:]]), axis=0)


def converged_check(history: dict[str, Any], settings: ValidateConfig) -> CheckResult:
    """Return the check `CONVERGED`. The gap between the losses, and a rise after the minimum, are reported only.

    Args:
        history: contents of `history.json`.
        settings: limit.
    """
    losses, limit = Losses.of(history), settings.training_change
    if not losses.usable:
        reason = f"{len(losses.epochs)} epochs, {FEWEST_EPOCHS} are needed"
        return _result(None, 0.0, settings, "inconclusive", reason, {}, None)
    if not losses.finite:
        return _result(None, 0.0, settings, "fail", "a loss is not finite", {"by_own_rule": True}, _plot(losses))
    course = Course.of(losses)
    verdicts: list[Verdict] = [decide(course.excess, 0.0, limit, "at most")]
    value, error, quantity = course.excess, 0.0, "kept epoch above the lowest"
    if course.late:
        verdicts.append(
            "pass" if course.fall <= course.fall_error else decide(course.fall, course.fall_error, limit, "at most")
        )
        # A fall within its error of zero decides nothing.
        if verdicts[0] == "pass" and course.fall > max(course.excess, course.fall_error):
            value, error, quantity = course.fall, course.fall_error, "fall at the end"
    gap = float(losses.validation[-losses.last :].mean() / losses.train[-losses.last :].mean() - 1.0)
    detail: dict[str, Any] = {
        "lowest_epoch": course.lowest, "kept_epoch": losses.kept, "excess": course.excess, "rise": course.rise,
        "fall": course.fall, "fall_error": course.fall_error, "lowest_in_last_part": course.late,
        "epochs": losses.last, "gap": gap, "stopped": history.get("stopped"), "by_own_rule": True, "needs": {},
    }  # fmt: skip
    reason = _in_words(course, losses, limit, gap)
    result = _result(value, error, settings, worst_verdict(verdicts), reason, detail, _plot(losses))
    return replace(result, quantity=quantity)


def _in_words(course: Course, losses: Losses, limit: float, gap: float) -> str:
    parts = [
        f"the validation loss is lowest at epoch {course.lowest} of {len(losses.epochs)}, and at the kept epoch "
        f"{losses.kept} {course.excess:.2%} higher"
    ]
    if course.late:
        parts.append(f"it falls by {course.fall:.2%} ± {course.fall_error:.2%} over the last {losses.last} epochs")
    elif course.rise > limit:
        parts.append(f"it rises by {course.rise:.1%} afterwards")
    return "; ".join([*parts, f"validation is {gap:+.1%} from training"])


def _plot(losses: Losses) -> Plot:
    epochs = losses.epochs.tolist()
    return Plot(
        "lines", "epoch", "loss ((kcal/mol/Å)²)",
        [
            Curve("validation", "model", epochs, losses.validation.tolist()),
            Curve("training", "control", epochs, losses.train.tolist()),
        ],
    )  # fmt: skip


def _change(epochs: np.ndarray, loss: np.ndarray) -> tuple[float, float]:
    """What a line through a loss changes by from the first to the last of the epochs, over the mean loss, and its 95 %
    half-width."""
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

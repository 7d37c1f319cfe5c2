"""The gain of the network over the prior alone, from the force deviations of every held-out frame."""

import math
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from cgloop.checks import Check, CheckResult, Verdict
from cgloop.config.validate import ValidateConfig
from cgloop.errors import UserError
from cgloop.validate.artifact import SUBJECT, number
from cgloop.validate.equilibration import statistical_inefficiency
from cgloop.validate.statistics import student_t
from cgloop.validate.training import FILE as HISTORY
from cgloop.validate.training import Losses, mean_of_three
from cgloop.validate.trajectory import read_json

FILE = "force_errors.npz"

HELPS = Check(
    "training.network_helps",
    "gain of the network over the prior",
    "(kcal/mol/Å)²",
    "at least",
    "Squared deviation of the forces of the prior alone less that of the whole model, per component, mean over "
    "held-out frames: the difference of both mean squared errors. Its 95 % error is Student's t over blocks of at "
    "least two statistical inefficiencies of one trajectory, over trajectories where these are shorter, or over "
    "proteins where three or more whole proteins are held out. A gain of zero within its error is inconclusive.",
)

FEWEST_BLOCKS = 3
BLOCK_INEFFICIENCIES = 2.0
BLOCKS_ENOUGH = 20
"""Blocks are longer than they have to be as long as there are so many: the longer they are, the less neighbors
correlate, and with 19 degrees of freedom Student's factor is within 7 % of its limit."""


@dataclass(frozen=True)
class FrameGains:
    """Gain of the network in each held-out frame.

    Attributes:
        protein, replica: [F], which protein and which trajectory.
        components: [F], number of force components.
        gain: [F], squared deviation of the prior less that of the model, (kcal/mol/Å)².
    """

    protein: np.ndarray
    replica: np.ndarray
    components: np.ndarray
    gain: np.ndarray

    @classmethod
    def read(cls, path: Path) -> "FrameGains":
        """Read `force_errors.npz`. Raise `UserError` if it cannot be read."""
        try:
            with np.load(path, allow_pickle=False) as file:
                gain = file["prior"] - file["model"]
                found = cls(file["protein"], file["replica"], file["components"], gain)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise UserError(
                f"cannot be read: {' '.join(str(error).split())}", where=path, remedy="run `cgloop train` again"
            ) from None
        if len({len(column) for column in vars(found).values()}) != 1 or not len(gain):
            raise UserError("arrays of different lengths, or empty", where=path, remedy="run `cgloop train` again")
        return found

    def trajectories(self) -> Iterator[list[np.ndarray]]:
        """Iterate over proteins: the indices of the frames of each trajectory, in order."""
        for protein in np.unique(self.protein):
            own = np.flatnonzero(self.protein == protein)
            yield [own[self.replica[own] == replica] for replica in np.unique(self.replica[own])]

    def blocks(self) -> list[np.ndarray]:
        """Return indices of frames that count as independent: blocks of trajectories, or whole trajectories.

        The statistical inefficiency is that of a protein's gain per component, with the mean over its trajectories:
        where these differ by more than they fluctuate it is their length, and each becomes one block.
        """
        found = []
        for parts in self.trajectories():
            series = [self.gain[part] / self.components[part] for part in parts]
            shortest = BLOCK_INEFFICIENCIES * statistical_inefficiency(series)
            length = max(shortest, len(self.gain) / BLOCKS_ENOUGH)
            for part in parts:
                found += np.array_split(part, max(1, math.floor(len(part) / length)))
        return found


class Gain(NamedTuple):
    """Mean gain per component with its 95 % half-width, (kcal/mol/Å)², from so many blocks."""

    value: float
    error: float
    blocks: int

    @property
    def p_value(self) -> float | None:
        """One-sided chance of so low a gain if the true one were zero; None without an error."""
        if not 0 < self.error < math.inf:
            return None
        freedom = self.blocks - 1
        return float(stats.t.cdf(self.value * student_t(freedom) / self.error, freedom))

    @property
    def verdict(self) -> Verdict:
        """`pass` above zero with its error, `fail` below; a number that is not finite fails."""
        if not math.isfinite(self.value):
            return "fail"
        if self.value - self.error > 0:
            return "pass"
        return "fail" if self.value + self.error < 0 else "inconclusive"


def mean_gain(frames: FrameGains, whole_proteins: bool) -> Gain:
    """Return the gain over all frames, every force component of equal weight.

    The error is that of a ratio of sums over blocks (Cochran, Sampling Techniques, 3rd ed., eq. 2.46), because blocks
    of several proteins have different numbers of components. Differences between proteins count as scatter where
    `whole_proteins` are held out; of fewer than three there is no error of them, and blocks of frames are used.
    """
    if not np.isfinite(frames.gain).all():
        return Gain(math.nan, math.inf, 0)
    proteins = [np.concatenate(parts) for parts in frames.trajectories()]
    blocks = proteins if whole_proteins and len(proteins) >= FEWEST_BLOCKS else frames.blocks()
    gains, components = (
        np.array([float(column[block].sum()) for block in blocks]) for column in (frames.gain, frames.components)
    )
    value, count = float(gains.sum() / components.sum()), len(blocks)
    if count < FEWEST_BLOCKS:
        return Gain(value, math.inf, count)
    squares = float(((gains - value * components) ** 2).sum())
    standard_error = math.sqrt(count / (count - 1) * squares) / float(components.sum())
    return Gain(value, student_t(count - 1) * standard_error, count)


def read_network(folder: Path, forces: Mapping[str, Any], settings: ValidateConfig) -> list[CheckResult]:
    """Return the check from the files of a training.

    Raises:
        UserError: a file is missing or damaged.
    """
    frames = FrameGains.read(folder / FILE)
    history = read_json(folder / HISTORY, "run `cgloop train` again") if (folder / HISTORY).exists() else {}
    summary = (
        read_json(folder / "summary.json", "run `cgloop train` again") if (folder / "summary.json").exists() else {}
    )
    trained = (summary.get("frames") or {}).get("train")
    return [network_check(frames, forces, history, trained, settings)]


def network_check(
    frames: FrameGains,
    forces: Mapping[str, Any],
    history: Mapping[str, Any],
    trained: int | None,
    settings: ValidateConfig,
) -> CheckResult:
    """Return the check `HELPS`.

    Args:
        frames: gain of every held-out frame.
        forces: contents of `forces.json`.
        history: contents of `history.json`; {} if it is not known.
        trained: number of training frames; None if it is not known.
        settings: the smallest fall of the training loss that shows that something was learned.
    """
    gain = mean_gain(frames, bool(forces.get("whole_proteins")))
    full, prior = number(forces.get("rmse_full")), number(forces.get("rmse_prior"))
    split = str(forces.get("split") or "held-out")
    reason = (
        f"on {len(frames.gain)} {split} frames the RMSE is {full:.4g} kcal/mol/Å with the network and {prior:.4g} "
        f"without; gain {gain.value:+.3g} ± {gain.error:.2g} {HELPS.unit} from {gain.blocks} blocks"
    )
    if 0 < gain.blocks < FEWEST_BLOCKS:
        reason += f", {FEWEST_BLOCKS} are needed"
    learned = _fall_of_training_loss(Losses.of(dict(history)))
    verdict = gain.verdict
    too_little = verdict != "pass" and gain.blocks >= FEWEST_BLOCKS and learned > settings.training_change
    measured = ""
    if too_little:
        measured = reason
        many = "the training frames" if trained is None else f"{trained} training frames"
        reason += (
            f"; too little data for a network: its loss on {many} fell by {learned:.1%}, and here nothing is gained"
        )
    return CheckResult(
        check=HELPS.name, subject=SUBJECT, value=gain.value, error=gain.error, threshold=0.0, verdict=verdict,
        reason=reason, measured=measured, unit=HELPS.unit, n_effective=float(gain.blocks),
        detail={
            "rmse_full": full, "rmse_prior": prior, "frames": len(frames.gain), "training_frames": trained,
            "blocks": gain.blocks, "split": split, "too_little_data": too_little, "p_value": gain.p_value,
            "training_loss_fell_by": learned, "needs": _needs(gain, too_little),
        },
        inputs={"file": FILE, "split": split},
    )  # fmt: skip


def _fall_of_training_loss(losses: Losses) -> float:
    """Relative, from the first three epochs to the last three; NaN if it is not known."""
    if not losses.usable or not losses.finite:
        return math.nan
    smooth = mean_of_three(losses.train)
    return 1.0 - float(smooth[-1] / smooth[0])


def _needs(gain: Gain, too_little: bool) -> dict[str, Any]:
    """What would decide an inconclusive gain; see `comparison.Needs`."""
    if gain.verdict != "inconclusive":
        return {}
    if gain.blocks < FEWEST_BLOCKS:
        return {"data_factor": FEWEST_BLOCKS / gain.blocks}
    if too_little or not gain.value > 0:
        return {"training_data": True}
    return {"data_factor": (gain.error / gain.value) ** 2}

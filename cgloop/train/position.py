"""How far a training is: the arrays and the plain data of a checkpoint, and what is left at the end."""

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cgloop.train.loss import Sums
from cgloop.train.step import TrainState

HISTORY_UNITS = {
    "epoch": "",
    "phase": "",
    "train_loss": "(kcal/mol/Å)²",
    "train_rmse": "kcal/mol/Å",
    "validation_loss": "(kcal/mol/Å)²",
    "validation_rmse": "kcal/mol/Å",
    "learning_rate": "",
    "gradient_norm": "",
}


class Arrays(NamedTuple):
    """All arrays of a checkpoint: the state now, at the start of the epoch, and the best averaged parameters."""

    state: TrainState
    good: TrainState
    best: Any


@dataclass
class Position:
    """All plain data of a checkpoint; how far the training is.

    Attributes:
        fingerprint: of the inputs.
        serial: checkpoints written so far.
        epoch: epochs finished.
        step: steps done in this epoch.
        loss_total, loss_weight, squared_error, components, gradient_norm: sums over these steps.
        history: one list per column of `HISTORY_UNITS`.
        divergences: where a loss or gradient was not finite, and what was done.
        initial_loss: validation loss of the parameters at the start, (kcal/mol/Å)²; None until it is known.
        best_epoch, best_loss: lowest validation loss so far; epoch 0 is the start.
        kept: the best epochs as {"epoch", "loss", "file"}, best first, if more than one is kept.
        seconds: wall time of all attempts.
    """

    fingerprint: str
    serial: int = 0
    epoch: int = 0
    step: int = 0
    loss_total: float = 0.0
    loss_weight: float = 0.0
    squared_error: float = 0.0
    components: int = 0
    gradient_norm: float = 0.0
    history: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in HISTORY_UNITS})
    divergences: list[dict[str, Any]] = field(default_factory=list)
    initial_loss: float | None = None
    best_epoch: int = 0
    best_loss: float = math.inf
    kept: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, sums: Sums, gradient_norm: float) -> None:
        """Count a step."""
        self.step += 1
        self.loss_total += sums.total
        self.loss_weight += sums.weight
        self.squared_error += sums.squares
        self.components += sums.components
        self.gradient_norm += gradient_norm

    @property
    def train_loss(self) -> float:
        """Of the steps of this epoch so far."""
        return self.loss_total / self.loss_weight

    def restart_epoch(self) -> None:
        self.step, self.components = 0, 0
        self.loss_total, self.loss_weight, self.squared_error, self.gradient_norm = 0.0, 0.0, 0.0, 0.0


@dataclass
class Clock:
    """Wall time of steps.

    Attributes:
        steps: that were done.
        work_s: seconds of these.
        wait_s: seconds of `work_s` in which the device had nothing to do because a batch was not ready.
    """

    steps: int = 0
    work_s: float = 0.0
    wait_s: float = 0.0

    def add(self, work_s: float, wait_s: float) -> None:
        """Count a step."""
        self.steps += 1
        self.work_s += work_s
        self.wait_s += wait_s

    @property
    def wait_share(self) -> float:
        return self.wait_s / max(self.work_s, 1e-9)

    def speed(self, frames_per_step: float) -> float:
        """Frames per second."""
        return self.steps * frames_per_step / max(self.work_s, 1e-9)

    def row(self, frames_per_step: float) -> dict[str, float]:
        """What is told of an epoch besides what is reproducible."""
        return {"frames_per_s": self.speed(frames_per_step), "loader_wait_share": self.wait_share}


@dataclass
class TrainResult:
    """What a training leaves.

    Attributes:
        params: averaged parameters of the epoch with the lowest validation loss.
        position: with history and best epoch.
        stopped: why it ended, "all epochs" or "no improvement".
        timing: compile_s, epoch_s, frames_per_s, total_s, and loader_wait_share of the time of the steps.
        kept: parameters of the best epochs by epoch, if more than one is kept.
    """

    params: Any
    position: Position
    stopped: str
    timing: dict[str, float]
    kept: dict[int, Any] = field(default_factory=dict)

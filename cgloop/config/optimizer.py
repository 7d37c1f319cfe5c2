"""One phase of a training: optimizer, schedule, stopping."""

from typing import Literal

from pydantic import Field, model_validator

from cgloop.config.base import Section


class GroupConfig(Section):
    """Parameters with their own learning rate or weight decay."""

    match: str = Field(
        min_length=1, description="Pattern of parameter names, e.g. `ml/species` or `ml/layer_*/latent/*`."
    )
    learning_rate_factor: float = Field(
        1.0, ge=0, description="Factor on the learning rate of these parameters; 0 freezes them."
    )
    weight_decay: float | None = Field(
        None, ge=0, description="Weight decay of all these parameters. Default: that of the phase."
    )


class PhaseConfig(Section):
    """Optimizer, schedule and stopping of one phase of the training."""

    epochs: int = Field(100, ge=1, description="Largest number of passes over the training frames.")
    optimizer: Literal[
        "adam", "adamw", "adabelief", "yogi", "lion", "sgd", "polyak-sgd", "fromage", "muon", "schedule-free"
    ] = Field(
        "adamw",
        description="Optimizer, as in optax. `sgd` has Nesterov momentum; `schedule-free` wraps AdamW and needs "
        "`schedule: constant`.",
    )
    learning_rate: float = Field(
        1e-3, gt=0, description="Highest learning rate of the schedule; for `polyak-sgd` the longest step."
    )
    momentum: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Decay rate of the gradient's moving average. Default: 0.9, for `muon` 0.95, for `polyak-sgd` "
        "and `fromage` none.",
    )
    second_momentum: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Decay rate of the moving average of the squared gradient. Default: 0.999, for `lion` 0.99.",
    )
    weight_decay: float = Field(
        1e-4, ge=0, description="Decoupled weight decay; no effect with `fromage`, which has its own."
    )
    weight_decay_on: Literal["matrices", "all"] = Field(
        "matrices",
        description="`matrices`: weight matrices only; `all`: biases and scales of the network as well. Parameters "
        "of the prior never decay.",
    )
    groups: list[GroupConfig] = Field(
        [],
        description="Parameters with their own learning rate or weight decay; the first group that matches a name "
        "counts.",
    )
    polyak_floor: float = Field(
        0.0,
        ge=0,
        description="Loss in (kcal/mol/Å)² that `polyak-sgd` assumes cannot be undercut: the noise of the forces.",
    )
    schedule: Literal["cosine", "linear", "exponential", "polynomial", "constant", "onecycle"] = Field(
        "cosine", description="Course of the learning rate after the warm-up; `onecycle` has its own warm-up."
    )
    warmup_epochs: float = Field(1.0, ge=0, description="Epochs over which the learning rate rises linearly from zero.")
    final_learning_rate_factor: float = Field(
        0.02, ge=0, le=1, description="Learning rate at the end of the schedule over the highest one."
    )
    schedule_power: float = Field(2.0, gt=0, description="Exponent of `schedule: polynomial`.")
    clip_norm: float = Field(
        10.0, gt=0, description="Largest global norm of the gradient; longer gradients are scaled down to it."
    )
    ema_decay: float = Field(
        0.99,
        ge=0,
        lt=1,
        description="Decay rate of the moving average of the parameters that is evaluated and kept; `schedule-free` "
        "has its own.",
    )
    patience_epochs: int = Field(
        20, ge=1, description="Training stops if the validation loss does not improve for this many epochs."
    )

    @model_validator(mode="after")
    def _schedule_fits_the_optimizer(self):
        if self.optimizer == "schedule-free" and self.schedule != "constant":
            raise ValueError("`optimizer: schedule-free` needs `schedule: constant`")
        if self.optimizer == "schedule-free" and self.momentum == 0:
            raise ValueError("`optimizer: schedule-free` needs a `momentum` above 0")
        if self.schedule == "exponential" and self.final_learning_rate_factor == 0:
            raise ValueError("`schedule: exponential` needs a `final_learning_rate_factor` above 0")
        return self

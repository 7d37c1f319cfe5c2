"""One phase of a training: optimiser, schedule, stopping."""

from typing import Literal

from pydantic import Field, model_validator

from cgloop.config.base import Section


class GroupConfig(Section):
    """Parameters with a learning rate or decay of their own."""

    match: str = Field(min_length=1, description="pattern of names, e.g. ml/species or ml/layer_*/latent/*")
    learning_rate_factor: float = Field(1.0, ge=0, description="on the learning rate; 0 freezes them")
    weight_decay: float | None = Field(None, ge=0, description="instead of that of the phase, on all of them")


class PhaseConfig(Section):
    """How parameters are moved, and when to stop."""

    epochs: int = Field(100, ge=1)
    optimizer: Literal[
        "adam", "adamw", "adabelief", "yogi", "lion", "sgd", "polyak-sgd", "fromage", "muon", "schedule-free"
    ] = Field("adamw", description="sgd has Nesterov momentum; schedule-free wraps adamw and needs schedule: constant")
    learning_rate: float = Field(1e-3, gt=0, description="the highest; of polyak-sgd the longest step")
    momentum: float | None = Field(
        None, ge=0, lt=1, description="memory of the gradient; default 0.9, 0.95 for muon; polyak-sgd, fromage: none"
    )
    second_momentum: float | None = Field(
        None, ge=0, lt=1, description="memory of the squared gradient; default 0.999, 0.99 for lion"
    )
    weight_decay: float = Field(1e-4, ge=0, description="no effect with fromage, which has its own")
    weight_decay_on: Literal["matrices", "all"] = Field(
        "matrices", description="all: biases and scales of the network, too; never parameters of the prior"
    )
    groups: list[GroupConfig] = Field([], description="the first that matches a parameter's name counts")
    polyak_floor: float = Field(
        0.0, ge=0, description="polyak-sgd: loss that cannot be undercut (noise of the forces), (kcal/mol/Å)²"
    )
    schedule: Literal["cosine", "linear", "exponential", "polynomial", "constant", "onecycle"] = Field(
        "cosine", description="after the warm-up; onecycle has its own warm-up"
    )
    warmup_epochs: float = Field(1.0, ge=0)
    final_learning_rate_factor: float = Field(0.02, ge=0, le=1, description="where the schedule ends")
    schedule_power: float = Field(2.0, gt=0, description="of schedule: polynomial")
    clip_norm: float = Field(10.0, gt=0, description="global norm of the gradient")
    ema_decay: float = Field(
        0.99, ge=0, lt=1, description="average of parameters that is evaluated and kept; schedule-free has its own"
    )
    patience_epochs: int = Field(20, ge=1, description="stop if validation does not improve for so long")

    @model_validator(mode="after")
    def _schedule_fits_the_optimizer(self):
        if self.optimizer == "schedule-free" and self.schedule != "constant":
            raise ValueError("`optimizer: schedule-free` needs `schedule: constant`")
        if self.optimizer == "schedule-free" and self.momentum == 0:
            raise ValueError("`optimizer: schedule-free` needs a `momentum` above 0")
        if self.schedule == "exponential" and self.final_learning_rate_factor == 0:
            raise ValueError("`schedule: exponential` needs a `final_learning_rate_factor` above 0")
        return self

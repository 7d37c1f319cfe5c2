"""`refine:` relative-entropy refinement of a trained model, from what its own dynamics show."""

from typing import Literal

from pydantic import Field, PositiveFloat, model_validator

from cgloop.config.base import Section

Refined = Literal["network", "prior", "both"]
"""Groups of parameters that a refinement may move."""


class RefineStoppingConfig(Section):
    """When a refinement ends before its last round; it then returns to the best accepted parameters."""

    max_restart_share: float = Field(
        0.05,
        gt=0,
        le=1,
        description="Share of the chains that may break a limit and start again in one round; with more, the "
        "refinement ends as failed.",
    )
    max_force_rise: float = Field(
        0.005,
        ge=0,
        description="Largest relative rise of the force RMSE on the validation part, unless the 95 % error of the "
        "paired difference is larger.",
    )


class RefinementConfig(Section):
    """Rounds of dynamics and updates that minimize the relative entropy of the reference and the model."""

    when: Literal["always", "remedy", "never"] = Field(
        "remedy",
        description="`always`: after every training; `remedy`: only where `feedback.allow` names `refine` and the "
        "loop chooses it; `never`: not even as a remedy.",
    )
    parameters: Refined | None = Field(
        None,
        description="What is refined: the network, the terms of the prior inside their bounds, or both. Default: "
        "`network`; for `model.energy: prior-only` `prior`.",
    )
    rounds: int = Field(40, ge=1, description="Largest number of rounds; each is a piece of dynamics, then updates.")
    chains: int = Field(
        32, ge=4, description="Independent trajectories of each protein, which go on from round to round."
    )
    round_ps: float = Field(2.0, gt=0, description="Length of the dynamics of every chain in a round.")
    warmup_ps: float = Field(4.0, ge=0, description="Length of the dynamics of every chain before the first round.")
    frames_per_round: int = Field(
        4, ge=1, description="Frames of every chain and round that enter the model averages, evenly spaced."
    )
    timestep_fs: float = Field(10.0, gt=0, le=20, description="Time step of the chains' Langevin dynamics (BAOAB).")
    friction_per_ps: float = Field(5.0, gt=0, description="Friction of the chains' Langevin dynamics.")
    outside_share: float = Field(
        0.25,
        ge=0,
        le=1,
        description="Share of the chains that start outside the training frames of the model's temperature: from "
        "frames of the highest temperature in the data set, or else from an extended chain.",
    )
    pool_rounds: int = Field(
        2, ge=1, description="Latest rounds whose frames, reweighted to the current parameters, give model averages."
    )
    updates: int = Field(4, ge=1, description="Largest number of parameter updates in a round.")
    min_ess: float = Field(
        0.5,
        gt=0,
        le=1,
        description="The updates of a round end when the effective share of reweighted frames of the newest round "
        "falls below this.",
    )
    drop_ess: float = Field(
        0.3, ge=0, le=1, description="A round leaves the pool when the effective share of its frames falls below this."
    )
    reference_frames: int = Field(256, ge=1, description="Training frames whose average enters an update.")
    force_frames: int = Field(
        64, ge=0, description="Training frames whose forces enter an update; 0 leaves the force term out."
    )
    force_weight: float = Field(
        1.0,
        ge=0,
        description="Factor λ on the force term; at 1 it is the log likelihood of one frame's forces with the data "
        "set's force noise.",
    )
    network_learning_rate: float = Field(1e-3, gt=0, description="Highest learning rate of the network (Adam).")
    prior_learning_rate: float = Field(
        3e-2, gt=0, description="Highest learning rate of the prior's parameters, in units of their bounded space."
    )
    second_momentum: float = Field(
        0.99, ge=0, lt=1, description="Decay rate of the moving average of the squared gradient."
    )
    warmup_rounds: float = Field(2.0, ge=0, description="Rounds over which the learning rate rises linearly from zero.")
    final_learning_rate_factor: float = Field(
        0.1, gt=0, le=1, description="Learning rate of the last update over the highest one (cosine schedule)."
    )
    clip_norm: float = Field(
        1.0, gt=0, description="Largest global norm of the gradient; longer gradients are scaled down to it."
    )
    ema_decay: float = Field(
        0.95, ge=0, lt=1, description="Decay rate of the moving average of the parameters, which is the result."
    )
    protein_weights: dict[str, PositiveFloat] = Field(
        {}, description="Factor on the relative entropy of a protein, by name. Default: 1."
    )
    stopping: RefineStoppingConfig = RefineStoppingConfig.model_validate({})

    @model_validator(mode="after")
    def _shares_are_ordered(self):
        if self.drop_ess > self.min_ess:
            raise ValueError("`drop_ess` is at most `min_ess`: a round would leave the pool before its updates end")
        return self

    @model_validator(mode="after")
    def _rounds_hold_their_frames(self):
        steps = self.round_ps * 1000.0 / self.timestep_fs
        if steps < self.frames_per_round:
            raise ValueError(
                f"a round of {self.round_ps:g} ps has {int(steps)} steps of {self.timestep_fs:g} fs, too few for "
                f"{self.frames_per_round} frames"
            )
        return self

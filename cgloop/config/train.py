"""`train:` force matching."""

from typing import Literal

from pydantic import Field, PositiveFloat

from cgloop.config.base import Section


class TrainConfig(Section):
    """Optimiser, schedule and stopping."""

    epochs: int = Field(100, ge=1)
    batch_size: int = Field(16, ge=1, description="frames per step, over all devices")
    batch_beads: int | None = Field(
        None, ge=1, description="instead of batch_size: so many beads per step, as frames of the longest protein"
    )
    length_buckets: int = Field(1, ge=1, le=16, description="groups of similar length; a batch is of one group")
    protein_weights: dict[str, PositiveFloat] = Field(
        {}, description="weight of a protein's frames in the loss; default 1"
    )
    temperature_weights: dict[float, PositiveFloat] = Field(
        {}, description="by K, with priors.temperatures: mixed; default 1"
    )
    optimizer: Literal["adam", "adamw", "adabelief"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    warmup_epochs: float = Field(1.0, ge=0)
    final_learning_rate_factor: float = Field(0.02, ge=0, le=1, description="of the cosine decay")
    clip_norm: float = Field(10.0, gt=0, description="global norm of the gradient")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="average of parameters that is evaluated and kept")
    patience_epochs: int = Field(20, ge=1, description="stop if validation does not improve for so long")
    checkpoint_every_s: float = Field(30.0, ge=0)
    eval_batch_size: int = Field(64, ge=1)

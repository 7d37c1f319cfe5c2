"""`train:` force matching."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveFloat, model_validator

from cgloop.config.base import Section
from cgloop.config.optimizer import PhaseConfig


class GammasConfig(Section):
    """Weights of the terms of the loss. Data sets hold no energies, so there is no term that fits one."""

    force: float = Field(1.0, gt=0, description="deviation of the force from the reference")
    network: float = Field(
        0.0, ge=0, description="size of the network's own force: where data say little, the prior decides"
    )
    prior: float = Field(
        1e-3, ge=0, description="train_priors: pull to the fitted prior, of the mean squared force per squared kT"
    )


class TrackingConfig(Section):
    """Who else is told the course of the training; metrics.jsonl and TensorBoard files are always written."""

    service: Literal["none", "wandb", "mlflow"] = Field("none", description="its package must be installed")
    project: str | None = Field(None, description="of wandb, experiment of mlflow; default: cgloop")


class EnsembleConfig(Section):
    """Several trainings of the same model, whose disagreement tells where data decide little."""

    members: int = Field(1, ge=1, le=64, description="trainings; the first is the model")
    kind: Literal["seeds", "bootstrap"] = Field(
        "seeds", description="bootstrap: members also have frames of their own, drawn in blocks of each trajectory"
    )
    how: Literal["auto", "sequential", "vmapped", "devices"] = Field(
        "auto",
        description="vmapped: all members in one step of one device, equal to those alone up to rounding; devices: the "
        "same, spread over the devices of this process; auto: vmapped where a member would leave a GPU idle",
    )


class FineTuningConfig(PhaseConfig):
    """The second phase: what is not given is as in the first."""


class TrainConfig(PhaseConfig):
    """Data, loss, and the first phase of the training."""

    engine: Literal["cgloop", "chemtrain"] = Field(
        "cgloop", description="who computes the steps; chemtrain needs requirements/chemtrain.txt and one device"
    )
    batch_size: int = Field(16, ge=1, description="frames per step, over all devices")
    batch_beads: int | None = Field(
        None, ge=1, description="instead of batch_size: so many beads per step, as frames of the longest protein"
    )
    frames_at_once: int | None = Field(
        None,
        ge=1,
        description="of a device's share of a batch, the rest follows: memory for large batches; "
        "default: on processors what fits their caches, elsewhere all",
    )
    length_buckets: int = Field(1, ge=1, le=16, description="groups of similar length; a batch is of one group")
    normalize: Literal["bead", "protein"] = Field(
        "bead", description="what counts the same in the loss: every bead, or every frame of whatever length"
    )
    protein_weights: dict[str, PositiveFloat] = Field(
        {}, description="weight of a protein's frames in the loss; default 1"
    )
    temperature_weights: dict[float, PositiveFloat] = Field(
        {}, description="by K, with priors.temperatures: mixed; default 1"
    )
    gammas: GammasConfig = GammasConfig()
    huber_delta: float | None = Field(
        None,
        gt=0,
        description="kcal/mol/Å; larger deviations count linearly, and what is learned is no longer the mean",
    )
    position_noise_A: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="standard deviation of noise on every coordinate of training frames, new each epoch",
    )
    train_priors: bool = Field(
        False,
        description="train the prior with the network, inside its bounds; priors.refine does it before and alone",
    )
    fine_tuning: FineTuningConfig | None = Field(
        None, description="second phase, from the best parameters of the first; keys not given are those of the first"
    )
    start: Path | None = Field(
        None, description="a run, a bundle or a params.safetensors whose parameters the first cycle starts from"
    )
    keep_best: int = Field(1, ge=1, le=20, description="parameters of so many epochs are kept, by validation loss")
    ensemble: EnsembleConfig = EnsembleConfig.model_validate({})
    tracking: TrackingConfig = TrackingConfig.model_validate({})
    memory_MB: float = Field(
        4096.0,
        ge=0,
        description="of a process, for positions, forces and edges of all frames; more are read from files",
    )
    checkpoint_every_s: float = Field(30.0, ge=0)
    eval_batch_size: int = Field(64, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _fine_tuning_inherits(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("fine_tuning"), dict):
            given = {key: data[key] for key in PhaseConfig.model_fields if key in data}
            data = {**data, "fine_tuning": {**given, **data["fine_tuning"]}}
        return data

    @model_validator(mode="after")
    def _noise_leaves_bonds_alone(self):
        if self.train_priors and self.position_noise_A:
            raise ValueError("`position_noise_A` and `train_priors` exclude each other: noise would soften the bonds")
        return self

    @model_validator(mode="after")
    def _engine_can_do_it(self):
        if self.engine == "cgloop":
            return self
        asked = {
            "train_priors": self.train_priors,
            "huber_delta": self.huber_delta is not None,
            "frames_at_once": self.frames_at_once is not None,
            "gammas.network": self.gammas.network > 0,
            "ensemble.kind: bootstrap": self.ensemble.members > 1 and self.ensemble.kind == "bootstrap",
            "optimizer: polyak-sgd": any(phase.optimizer == "polyak-sgd" for phase in self.phases),
        }
        if names := [f"`{name}`" for name, wanted in asked.items() if wanted]:
            raise ValueError(f"`engine: {self.engine}` cannot do {' and '.join(names)}; `engine: cgloop` can")
        return self

    @property
    def phases(self) -> "list[TrainConfig]":
        """The settings of each phase."""
        first = self.model_copy(update={"fine_tuning": None})
        if self.fine_tuning is None:
            return [first]
        own = {name: getattr(self.fine_tuning, name) for name in PhaseConfig.model_fields}
        return [first, first.model_copy(update=own)]

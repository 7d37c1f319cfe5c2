"""`train:` force matching."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveFloat, model_validator

from cgloop.config.base import Section
from cgloop.config.optimizer import PhaseConfig


class GammasConfig(Section):
    """Weights of the terms of the loss. Data sets hold no energies, so there is no term that fits one."""

    force: float = Field(1.0, gt=0, description="Weight of the squared deviation of the force from the reference.")
    network: float = Field(
        0.0,
        ge=0,
        description="Weight of the squared force of the network itself: where data say little, the prior decides.",
    )
    prior: float = Field(
        1e-3,
        ge=0,
        description="Weight of the pull of trained prior parameters towards the fitted prior (`train_priors`), in "
        "units of the mean squared force per squared kT.",
    )


class TrackingConfig(Section):
    """Experiment trackers; metrics.jsonl and TensorBoard files are always written."""

    service: Literal["none", "wandb", "mlflow"] = Field(
        "none",
        description="Experiment tracker that receives the metrics; its package must be installed. `metrics.jsonl` "
        "and TensorBoard files are always written.",
    )
    project: str | None = Field(None, description="Project of W&B, or experiment of MLflow. Default: `cgloop`.")


class EnsembleConfig(Section):
    """Several trainings of the same model, whose disagreement shows where the data decide little."""

    members: int = Field(
        1,
        ge=1,
        le=64,
        description="Number of trainings; the first is the model, and the others measure how much the data decide.",
    )
    kind: Literal["seeds", "bootstrap"] = Field(
        "seeds",
        description="How members differ: by their seeds, or also by their frames, drawn in blocks of each trajectory"
        " (`bootstrap`).",
    )
    how: Literal["auto", "sequential", "vmapped", "devices"] = Field(
        "auto",
        description="How members are trained: one after the other; all in one step of one device (`vmapped`, equal "
        "to single trainings up to rounding); the same spread over the devices of this process "
        "(`devices`). `auto`: vmapped where one member would leave a GPU idle.",
    )


class FineTuningConfig(PhaseConfig):
    """Second phase: keys that are not given are those of the first."""


class TrainConfig(PhaseConfig):
    """Data, loss, and the first phase of the training."""

    engine: Literal["cgloop", "chemtrain"] = Field(
        "cgloop", description="Training backend; `chemtrain` needs requirements/chemtrain.txt and one device."
    )
    batch_size: int = Field(16, ge=1, description="Frames per step, over all devices.")
    batch_beads: int | None = Field(
        None,
        ge=1,
        description="Beads per step, instead of `batch_size`: as many frames of the longest protein as have this "
        "many beads.",
    )
    frames_at_once: int | None = Field(
        None,
        ge=1,
        description="Frames of a device's share of a batch that are computed together; the rest follows, which saves"
        " memory. Default: on CPUs what fits their caches, elsewhere all.",
    )
    length_buckets: int = Field(
        1,
        ge=1,
        le=16,
        description="Groups of proteins of similar length; every batch is of one group, which saves padding.",
    )
    normalize: Literal["bead", "protein"] = Field(
        "bead",
        description="What counts the same in the loss: every bead, or every frame whatever its length (`protein`).",
    )
    protein_weights: dict[str, PositiveFloat] = Field(
        {}, description="Factor on the frames of a protein in the loss, by name. Default: 1."
    )
    temperature_weights: dict[float, PositiveFloat] = Field(
        {}, description="Factor on the frames of a temperature in K, with `priors.temperatures: mixed`. Default: 1."
    )
    gammas: GammasConfig = GammasConfig()
    huber_delta: float | None = Field(
        None,
        gt=0,
        description="Deviation in kcal/mol/Å beyond which the loss grows linearly; what is learned is no longer the "
        "mean force. Default: squared loss everywhere.",
    )
    position_noise_A: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="Standard deviation of Gaussian noise on every coordinate of the training frames, drawn anew "
        "each epoch.",
    )
    train_priors: bool = Field(
        False,
        description="Whether the parameters of the prior are trained together with the network, inside their bounds."
        " `priors.refine` fits them before, and alone.",
    )
    fine_tuning: FineTuningConfig | None = Field(
        None,
        description="Second phase of the training, from the best parameters of the first; keys that are not given "
        "are those of the first phase.",
    )
    start: Path | None = Field(
        None, description="Run, bundle or `params.safetensors` whose parameters the first cycle starts from."
    )
    keep_best: int = Field(
        1, ge=1, le=20, description="Number of epochs whose parameters are kept, those with the lowest validation loss."
    )
    ensemble: EnsembleConfig = EnsembleConfig.model_validate({})
    tracking: TrackingConfig = TrackingConfig.model_validate({})
    memory_MB: float = Field(
        4096.0,
        ge=0,
        description="Memory of a process for positions, forces and edges of all frames; what does not fit is read "
        "from files.",
    )
    checkpoint_every_s: float = Field(30.0, ge=0, description="Wall time between two checkpoints of the training.")
    eval_batch_size: int = Field(64, ge=1, description="Frames that are evaluated together in validation and test.")

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

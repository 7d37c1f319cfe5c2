"""Root of the config."""

from pydantic import Field, model_validator

from cgloop.config.base import Section
from cgloop.config.control import ControlConfig
from cgloop.config.data import DataConfig
from cgloop.config.executor import SlurmConfig
from cgloop.config.feedback import FeedbackConfig
from cgloop.config.md import MDConfig
from cgloop.config.model import AllegroConfig, AnyModel
from cgloop.config.priors import PriorsConfig
from cgloop.config.refine import Refined, RefinementConfig
from cgloop.config.run import RunConfig
from cgloop.config.train import TrainConfig
from cgloop.config.validate import GateConfig, ParityConfig, ValidateConfig, required_by_default


class Config(Section):
    """Config of a run; `cgloop init` writes a commented one."""

    run: RunConfig
    cycles: int = Field(
        1,
        ge=1,
        description="Largest number of cycles of training, dynamics and verdict; the loop stops at the first pass.",
    )
    data: DataConfig
    priors: PriorsConfig = PriorsConfig()
    model: AnyModel = AllegroConfig.model_validate({})
    train: TrainConfig = TrainConfig()
    refine: RefinementConfig = RefinementConfig.model_validate({})
    parity: ParityConfig = ParityConfig()
    md: MDConfig = MDConfig()
    control: ControlConfig = ControlConfig()
    validate_: ValidateConfig = Field(ValidateConfig(), alias="validate")
    gate: GateConfig = GateConfig()
    feedback: FeedbackConfig = FeedbackConfig.model_validate({})
    slurm: SlurmConfig = SlurmConfig()

    @model_validator(mode="after")
    def _what_is_refined_exists(self):
        asked, energy = self.refine.parameters, self.model.energy
        possible = {"prior-only": ("prior",), "ml-only": ("network",)}.get(energy)
        if asked is not None and possible is not None and asked not in possible:
            raise ValueError(f"with `model.energy: {energy}` only `refine.parameters: {possible[0]}` is possible")
        return self

    @property
    def refined_parameters(self) -> Refined:
        """The parameters that a refinement of this kind of model moves."""
        if self.refine.parameters is not None:
            return self.refine.parameters
        return "prior" if self.model.energy == "prior-only" else "network"

    @property
    def required_checks(self) -> list[str]:
        """Names of the checks that decide: those of `gate.required`, or the default for this kind of model."""
        return self.gate.required or required_by_default(self.model.energy)

    @property
    def md_temperature_K(self) -> float:
        return self.md.temperature_K or self.data.temperature_K

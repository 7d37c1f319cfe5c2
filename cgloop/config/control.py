"""`control:` dynamics that run beside the model's, to see what these are worth."""

from pydantic import Field

from cgloop.config.base import Section


class ControlConfig(Section):
    """The prior without the network, and shorter time steps; from the same starts, with the same seeds."""

    replicas: int = Field(3, ge=1, description="of each protein, the first of those of `md`")
    prior_only_ps: float = Field(50.0, gt=0, description="of the prior alone under the thermostat, but not over md's")
    order_ps: float = Field(2.0, gt=0, description="at constant energy, with the time step, a half and a quarter of it")

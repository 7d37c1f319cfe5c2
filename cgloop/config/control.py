"""`control:` dynamics beside the model's, for comparison."""

from pydantic import Field

from cgloop.config.base import Section


class ControlConfig(Section):
    """Control runs from the same starts with the same seeds: the prior without the network, and shorter time steps."""

    replicas: int = Field(
        3, ge=1, description="Replicas of each protein that the controls run: the first ones of `md`."
    )
    prior_only_ps: float = Field(
        50.0,
        gt=0,
        description="Length of the dynamics of the prior alone under the thermostat; at most that of `md.nvt`.",
    )
    order_ps: float = Field(
        2.0,
        gt=0,
        description="Length of the runs at constant energy with the time step, a half and a quarter of it, for "
        "`nve.order`.",
    )

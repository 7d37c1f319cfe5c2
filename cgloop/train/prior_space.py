"""The prior as something that is trained with the network: inside its bounds, and confining where it was."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cgloop.config import Config
from cgloop.data.dataset import DatasetReader
from cgloop.model.terms import PriorForms, PriorParams
from cgloop.priors.bounded import Point, free_fields, params_at, point_at
from cgloop.priors.inversion import Fit
from cgloop.priors.refine import project
from cgloop.priors.stage import gather_samples
from cgloop.priors.tables import Origin
from cgloop.units import thermal_energy


@dataclass(frozen=True)
class PriorSpace:
    """Where the prior may go.

    Attributes:
        fit: the fitted prior with the distributions of the training frames.
        config: the whole config.
        start: the point where every offset is zero.
        frames: training frames of each protein at the model's temperature.
    """

    fit: Fit
    config: Config
    start: Point
    frames: dict[str, int]

    @classmethod
    def of(cls, reader: DatasetReader, config: Config, forms: PriorForms, prior: PriorParams) -> "PriorSpace":
        """Around a prior that was fitted to the training frames of a data set."""
        temperature_K = config.data.temperature_K
        samples, frames = gather_samples(reader, forms, temperature_K)
        fit = Fit(prior, samples, temperature_K, ("trained with the network",) * 3, None, forms)
        shapes = free_fields(prior, forms, samples.sizes)
        return cls(fit, config, {name: jnp.zeros(shape) for name, shape in shapes.items()}, frames)

    @property
    def kT(self) -> float:
        return thermal_energy(self.fit.temperature_K)

    def params(self, point: Point) -> PriorParams:
        """Parameters at a point; of JAX, for the energy function."""
        return params_at(point, self.fit.params, self.kT)

    def point(self, params: PriorParams) -> Point:
        """The point of parameters, or the nearest inside the bounds."""
        return point_at(params, self.fit.params, self.kT, self.start)

    def finish(self, point: Point) -> Point:
        """The nearest point where angles and dihedrals confine beyond the data, and beads cannot overlap."""
        found = PriorParams(*(np.asarray(value, np.float64) for value in self.params(point)))
        return self.point(project(found, self.fit, self.config.priors, self.kT))

    def restraint(self, params: dict[str, Any]) -> jax.Array:
        """Σ offset², in kT² and squared logits, of trained parameters {"prior": point, …}."""
        return sum((jnp.sum(offset**2) for offset in params["prior"].values()), jnp.zeros(()))

    def origin(self) -> Origin:
        """For the file of the trained prior."""
        return Origin(self.fit.temperature_K, self.frames, self.fit.samples.sizes, self.fit.r_min_from)

    def around(self, prior: PriorParams) -> "PriorSpace":
        """The same bounds, starting at the nearest point to another prior."""
        return replace(self, start=self.point(prior))

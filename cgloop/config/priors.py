"""`priors:` the physical terms below the network."""

from pydantic import Field

from cgloop.config.base import Section


class PriorWeights(Section):
    """Factors on the energy of each term. 1 is right; others reproduce older models and are flagged."""

    bond: float = Field(1.0, ge=0)
    angle: float = Field(1.0, ge=0)
    dihedral: float = Field(1.0, ge=0)
    repulsion: float = Field(1.0, ge=0)


class PriorsConfig(Section):
    """How the prior terms are fitted."""

    angle_order: int = Field(8, ge=1, le=10, description="highest multiple of θ in the cosine series")
    dihedral_order: int = Field(4, ge=1, le=10, description="highest multiple of φ in the periodic series")
    ridge: float = Field(1e-3, ge=0, description="weight of n⁴·coefficient² in the series fits")
    repulsion_epsilon_kT: float = Field(4.0, gt=0, description="strength of the excluded volume at contact")
    min_frames: int = Field(100, ge=1, description="an inversion from fewer frames is an error")
    weights: PriorWeights = PriorWeights()

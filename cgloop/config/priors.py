"""`priors:` the physical terms below the network."""

from typing import Literal

from pydantic import Field

from cgloop.config.base import Section


class PriorWeights(Section):
    """Factors on the energy of each term. 1 is right; others reproduce older models and are flagged."""

    bond: float = Field(1.0, ge=0)
    angle: float = Field(1.0, ge=0)
    dihedral: float = Field(1.0, ge=0)
    repulsion: float = Field(1.0, ge=0)
    electrostatics: float = Field(1.0, ge=0)
    contact: float = Field(1.0, ge=0)


class ElectrostaticsConfig(Section):
    """Debye–Hückel interaction of charged residues (ASP, GLU −1; LYS, ARG +1)."""

    enabled: bool = False
    salt_mol_per_l: float = Field(0.15, gt=0, description="of a 1:1 salt")
    dielectric: float | None = Field(None, ge=1, description="default: that of water at the model's temperature")
    min_separation: int = Field(4, ge=2, description="nearer along the chain the bonded terms contain it")


class ContactsConfig(Section):
    """One contact energy per pair of residue types, for separations of 6 and more."""

    enabled: bool = False
    pseudo_counts: float = Field(1000.0, gt=0, description="expected contacts that pull every energy to zero")


class RefineConfig(Section):
    """L-BFGS on the force error of the prior alone, from the inverted parameters."""

    enabled: bool = False
    frames: int = Field(1000, ge=10, description="training frames, at most, evenly chosen from all proteins")
    starts: int = Field(2, ge=1, le=20, description="the inversion, and so many less one disturbed ones")
    max_steps: int = Field(150, ge=1)
    patience: int = Field(10, ge=1, description="stop after so many steps without progress")
    tolerance: float = Field(1e-5, gt=0, description="progress: relative decrease of the loss")
    restraint: float = Field(
        1e-3, ge=0, description="pull to the inversion, in units of the mean squared force per squared kT"
    )


class PriorsConfig(Section):
    """How the prior terms are fitted."""

    angle_form: Literal["fourier", "harmonic", "spline"] = "fourier"
    dihedral_form: Literal["fourier", "spline"] = "fourier"
    repulsion_form: Literal["wca", "lj", "power4", "power6", "power12"] = Field(
        "wca", description="for separations of `repulsion_separation` and more; nearer ones are always wca"
    )
    repulsion_separation: int = Field(
        6, ge=4, le=20, description="along the chain, from which on a pair repels and touches as any other"
    )
    keyed: Literal["global", "class", "residue"] = Field(
        "global", description="bonded parameters for all, by class (GLY, PRO, other), or by residue type"
    )
    shrinkage: float = Field(1000.0, gt=0, description="samples of the global distribution added to every key's own")
    temperatures: Literal["single", "mixed"] = Field(
        "single", description="mixed: frames of every temperature are inverted with their own kT and averaged"
    )
    angle_order: int = Field(8, ge=1, le=10, description="highest multiple of θ in the cosine series")
    dihedral_order: int = Field(4, ge=1, le=10, description="highest multiple of φ in the periodic series")
    angle_intervals: int = Field(16, ge=4, le=100, description="of the spline, equal in cos θ")
    dihedral_intervals: int = Field(24, ge=4, le=100, description="of the periodic spline")
    ridge: float = Field(1e-3, ge=0, description="weight of n⁴·coefficient² in the series fits")
    repulsion_epsilon_kT: float = Field(4.0, gt=0, description="strength of the excluded volume at contact")
    electrostatics: ElectrostaticsConfig = ElectrostaticsConfig.model_validate({})
    contacts: ContactsConfig = ContactsConfig.model_validate({})
    refine: RefineConfig = RefineConfig.model_validate({})
    min_frames: int = Field(100, ge=1, description="an inversion from fewer frames is an error")
    weights: PriorWeights = PriorWeights()

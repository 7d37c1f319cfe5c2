"""`priors:` the physical terms below the network."""

from typing import Literal

from pydantic import Field

from cgloop.config.base import Section


class PriorWeights(Section):
    """Factors on the energy of each term. 1 is right; others reproduce older models and are flagged."""

    bond: float = Field(
        1.0,
        ge=0,
        description="Factor on the energy of the bond term. 1 is the fitted potential; any other value is listed as "
        "a caution of the model.",
    )
    angle: float = Field(
        1.0,
        ge=0,
        description="Factor on the energy of the angle term. 1 is the fitted potential; any other value is listed as"
        " a caution of the model.",
    )
    dihedral: float = Field(
        1.0,
        ge=0,
        description="Factor on the energy of the dihedral term. 1 is the fitted potential; any other value is listed"
        " as a caution of the model.",
    )
    repulsion: float = Field(
        1.0,
        ge=0,
        description="Factor on the energy of the repulsion term. 1 is the fitted potential; any other value is "
        "listed as a caution of the model.",
    )
    electrostatics: float = Field(
        1.0,
        ge=0,
        description="Factor on the energy of the electrostatic term. 1 is the fitted potential; any other value is "
        "listed as a caution of the model.",
    )
    contact: float = Field(
        1.0,
        ge=0,
        description="Factor on the energy of the contact term. 1 is the fitted potential; any other value is listed "
        "as a caution of the model.",
    )


class ElectrostaticsConfig(Section):
    """Debye–Hückel interaction of charged residues (ASP, GLU −1; LYS, ARG +1)."""

    enabled: bool = Field(False, description="Whether the prior has Debye–Hückel interactions of charged residues.")
    salt_mol_per_l: float = Field(
        0.15, gt=0, description="Concentration of a 1:1 salt in mol/l, which sets the screening length."
    )
    dielectric: float | None = Field(
        None, ge=1, description="Relative permittivity. Default: that of water at the model's temperature."
    )
    min_separation: int = Field(
        4,
        ge=2,
        description="Smallest separation along the chain at which two charges interact; the bonded terms contain "
        "what is closer.",
    )


class ContactsConfig(Section):
    """One contact energy per pair of residue types, for separations of 6 and more."""

    enabled: bool = Field(False, description="Whether the prior has a contact energy for every pair of residue types.")
    pseudo_counts: float = Field(
        1000.0,
        gt=0,
        description="Expected contacts added to the counts of every pair of types, which pull its energy towards zero.",
    )


class RefineConfig(Section):
    """L-BFGS on the force error of the prior alone, from the inverted parameters."""

    enabled: bool = Field(
        False, description="Whether the prior is refined by L-BFGS on the force error after the inversion."
    )
    frames: int = Field(
        1000, ge=10, description="Largest number of training frames used, evenly chosen from all proteins."
    )
    starts: int = Field(
        2,
        ge=1,
        le=20,
        description="Starting points of the optimization: the inverted parameters, and one less disturbed copies of "
        "them.",
    )
    max_steps: int = Field(150, ge=1, description="Largest number of L-BFGS steps from one starting point.")
    patience: int = Field(10, ge=1, description="The optimization stops after this many steps without progress.")
    tolerance: float = Field(1e-5, gt=0, description="Smallest relative decrease of the loss that counts as progress.")
    restraint: float = Field(
        1e-3,
        ge=0,
        description="Weight of the pull towards the inverted parameters, in units of the mean squared force per "
        "squared kT.",
    )


class PriorsConfig(Section):
    """How the prior terms are fitted."""

    angle_form: Literal["fourier", "harmonic", "spline"] = Field(
        "fourier",
        description="Functional form of the angle term: cosine series (`fourier`), harmonic, or cubic spline in cos θ.",
    )
    dihedral_form: Literal["fourier", "spline"] = Field(
        "fourier", description="Functional form of the dihedral term: periodic series (`fourier`) or periodic spline."
    )
    repulsion_form: Literal["wca", "lj", "power4", "power6", "power12"] = Field(
        "wca",
        description="Functional form of the excluded volume for separations of `repulsion_separation` and more; "
        "nearer pairs always have `wca`.",
    )
    repulsion_separation: int = Field(
        6,
        ge=4,
        le=20,
        description="Separation along the chain from which on a pair repels and may touch like any other.",
    )
    keyed: Literal["global", "class", "residue"] = Field(
        "global",
        description="What bonded parameters are fitted for: all beads together (`global`), classes (GLY, PRO, "
        "other), or residue types.",
    )
    shrinkage: float = Field(
        1000.0,
        gt=0,
        description="Samples of the global distribution that are added to the samples of every class or residue type.",
    )
    temperatures: Literal["single", "mixed"] = Field(
        "single",
        description="`single`: frames of the model's temperature; `mixed`: frames of every temperature are inverted "
        "with their own kT, and the potentials are averaged.",
    )
    angle_order: int = Field(
        8, ge=1, le=10, description="Highest multiple of θ in the cosine series of the angle term."
    )
    dihedral_order: int = Field(
        4, ge=1, le=10, description="Highest multiple of φ in the periodic series of the dihedral term."
    )
    angle_intervals: int = Field(
        16, ge=4, le=100, description="Intervals of the spline of the angle term, of equal width in cos θ."
    )
    dihedral_intervals: int = Field(
        24, ge=4, le=100, description="Intervals of the periodic spline of the dihedral term."
    )
    ridge: float = Field(
        1e-3,
        ge=0,
        description="Weight of n⁴ times the squared coefficient of order n in the fit of a series, which keeps it "
        "smooth.",
    )
    repulsion_epsilon_kT: float = Field(
        4.0, gt=0, description="Strength of the excluded volume at the contact distance."
    )
    electrostatics: ElectrostaticsConfig = ElectrostaticsConfig.model_validate({})
    contacts: ContactsConfig = ContactsConfig.model_validate({})
    refine: RefineConfig = RefineConfig.model_validate({})
    min_frames: int = Field(
        100, ge=1, description="Smallest number of frames that an inversion accepts; fewer are an error."
    )
    weights: PriorWeights = PriorWeights()

"""`model:` the energy function: prior terms plus a network, whose hyper-parameters are those of its class here.

A class names its fields as the hyper-parameters in `cgloop.model` are named (`AllegroSpec`, `PainnSpec`), and stands in
`AnyModel`; `cgloop.model.networks` has the rest of a network.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from cgloop.config.base import Section

PRESETS: dict[str, dict[str, Any]] = {
    "nano": dict(
        max_ell=2, n_layers=2, n_radial=8, embedding=[32], species_embedding=8, mlp=[32], hidden="8x0e+8x1o+8x2e"
    ),
    "lean": dict(
        max_ell=2, n_layers=3, n_radial=8, embedding=[32, 32], species_embedding=32, mlp=[32, 32],
        hidden="32x0e+32x1o+32x2e",
    ),
    "default": dict(
        max_ell=2, n_layers=2, n_radial=8, embedding=[64, 64], species_embedding=32, mlp=[64, 64],
        hidden="32x0e+32x1o+32x2e",
    ),
    "large": dict(
        max_ell=2, n_layers=3, n_radial=16, embedding=[64, 128], species_embedding=32, mlp=[128, 128],
        hidden="64x0e+64x1o+64x2e",
    ),
    # The numbers of an older pipeline, to compare with.
    "cameo": dict(
        max_ell=2, n_layers=3, n_radial=24, envelope_p=6, embedding=[64, 128], species_embedding=22, mlp=[96, 96, 96],
        hidden="128x0o+128x1o+128x1e+128x2e+128x2o+128x3o+128x3e",
    ),
}  # fmt: skip


class ModelConfig(Section):
    """Keys of the model whatever its network."""

    network: str = Field(description="Architecture of the network; the other keys of the section are its own.")
    energy: Literal["hybrid", "prior-only", "ml-only"] = Field(
        "hybrid",
        description="What the energy consists of: prior and network (`hybrid`), the prior alone, or the network alone.",
    )
    cutoff_A: float = Field(12.0, gt=2.0, description="Cutoff of the network and of the non-bonded terms of the prior.")
    symmetry: Literal["SO3", "O3"] = Field(
        "SO3", description="`SO3` distinguishes mirror images, which chiral proteins need; `O3` cannot."
    )
    ml_energy_bound_kcal_per_mol: float | None = Field(
        None,
        gt=0,
        description="Bound on the learned energy of every bead, which is approached smoothly. Default: none.",
    )


class AllegroConfig(ModelConfig):
    """Hyper-parameters of Allegro; a `preset` fills in whatever is not given."""

    network: Literal["allegro"] = Field(
        "allegro", description="Architecture of the network; the other keys of the section are its own."
    )
    preset: Literal["nano", "lean", "default", "large", "cameo"] = Field(
        "default", description="Set of hyper-parameters; keys that are given replace those of the preset."
    )
    max_ell: int = Field(
        ge=0,
        le=3,
        description="Highest degree ℓ of the spherical harmonics of bond directions. Default: of the preset.",
    )
    n_layers: int = Field(ge=1, le=6, description="Number of interaction layers. Default: of the preset.")
    n_radial: int = Field(ge=1, le=64, description="Number of radial basis functions. Default: of the preset.")
    envelope_p: int = Field(
        6,
        ge=2,
        le=12,
        description="Exponent p of the polynomial envelope that takes the network smoothly to zero at the cutoff.",
    )
    embedding: list[int] = Field(
        min_length=1,
        description="Widths of the perceptron that embeds an edge, one for each layer of it. Default: of the preset.",
    )
    species_embedding: int = Field(
        ge=1, description="Numbers that a residue type is embedded in. Default: of the preset."
    )
    mlp: list[int] = Field(
        min_length=1, description="Widths of the latent perceptron of every interaction layer. Default: of the preset."
    )
    hidden: str = Field(
        description="Irreps of the tensor track, e.g. `32x0e+32x1o+32x2e`, all of one multiplicity. Default: of the "
        "preset."
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, data: Any) -> Any:
        if isinstance(data, dict):
            return {**PRESETS.get(data.get("preset", "default"), {}), **data}
        return data

    @model_validator(mode="after")
    def _irreps_are_sound(self):
        parts = [re.fullmatch(r"([1-9]\d*)x([0-3])([eo])", part.strip()) for part in self.hidden.split("+")]
        if not all(parts):
            raise ValueError(f"hidden: `{self.hidden}` is not of the form 32x0e+32x1o+32x2e, with degrees up to 3")
        if len({part[1] for part in parts if part}) != 1:
            raise ValueError("hidden: all irreps need the same multiplicity")
        self._last_layer_has_something({(int(part[2]), part[3]) for part in parts if part})
        return self

    def _last_layer_has_something(self, hidden: set[tuple[int, str]]) -> None:
        """Scalars of the last layer are products of equal irreps: of what is kept, and of the harmonics."""
        harmonics = [(degree, "eo"[degree % 2]) for degree in range(self.max_ell + 1)]
        mirrored = self.symmetry == "SO3"
        useful = any(kept == one or (mirrored and kept[0] == one[0]) for kept in hidden for one in harmonics)
        if self.n_layers > 1 and not useful:
            names = ", ".join(f"{degree}{parity}" for degree, parity in harmonics)
            raise ValueError(
                f"hidden: `{self.hidden}` leaves nothing for the last layer, which multiplies it with the harmonics up "
                f"to max_ell {self.max_ell}; keep at least one of {names}"
            )


class PainnConfig(ModelConfig):
    """Hyper-parameters of PaiNN."""

    network: Literal["painn"] = Field(
        "painn", description="Architecture of the network; the other keys of the section are its own."
    )
    n_layers: int = Field(
        3, ge=1, le=6, description="Number of message-passing layers; each reaches one cutoff further."
    )
    features: int = Field(
        64, ge=1, le=1024, description="Number of scalar features, and of vector features, of a bead."
    )
    n_radial: int = Field(20, ge=1, le=64, description="Number of radial basis functions.")
    envelope_p: int = Field(
        6,
        ge=2,
        le=12,
        description="Exponent p of the polynomial envelope that takes the network smoothly to zero at the cutoff.",
    )


class ChemutilsMaceConfig(ModelConfig):
    """Hyper-parameters of MACE from the package chemutils, which has to be installed."""

    network: Literal["chemutils-mace"] = Field(
        "chemutils-mace", description="Architecture of the network; the other keys of the section are its own."
    )
    symmetry: Literal["O3"] = Field(
        "O3", description="MACE of chemutils is invariant under reflection and cannot distinguish mirror images."
    )
    n_layers: int = Field(
        2, ge=1, le=4, description="Number of message-passing layers; each reaches one cutoff further."
    )
    max_ell: int = Field(2, ge=0, le=3, description="Highest degree ℓ of the spherical harmonics of bond directions.")
    correlation: int = Field(3, ge=1, le=4, description="Highest number of neighbors whose product a message contains.")
    n_radial: int = Field(8, ge=1, le=64, description="Number of radial basis functions.")
    envelope_p: int = Field(
        6,
        ge=2,
        le=12,
        description="Exponent p of the polynomial envelope that takes the network smoothly to zero at the cutoff.",
    )
    species_embedding: int = Field(32, ge=1, description="Numbers that a residue type is embedded in.")
    hidden: str = Field("32x0e+32x1o", description="Irreps of the features of a bead, all of one multiplicity.")
    readout: str = Field("16x0e", description="Irreps of the hidden layer before the energy.")


def _named(data: Any) -> Any:
    """Configs from before there were several networks name none."""
    return {"network": "allegro", **data} if isinstance(data, dict) else data


AnyModel = Annotated[
    AllegroConfig | PainnConfig | ChemutilsMaceConfig, Field(discriminator="network"), BeforeValidator(_named)
]
"""The section, of the class of its `network`."""

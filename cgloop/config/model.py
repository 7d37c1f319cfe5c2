"""`model:` the energy function: prior terms plus an Allegro network."""

import re
from typing import Any, Literal

from pydantic import Field, model_validator

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
    """Hyper-parameters; a `preset` fills in whatever is not given."""

    preset: Literal["nano", "lean", "default", "large", "cameo"] = "default"
    energy: Literal["hybrid", "prior-only", "ml-only"] = "hybrid"
    cutoff_A: float = Field(12.0, gt=2.0, description="of the network and of non-bonded priors")
    symmetry: Literal["SO3", "O3"] = Field(
        "SO3", description="SO3 tells mirror images apart, as chiral proteins need; O3 cannot"
    )
    max_ell: int = Field(ge=0, le=3)
    n_layers: int = Field(ge=1, le=6)
    n_radial: int = Field(ge=1, le=64)
    envelope_p: int = Field(6, ge=2, le=12)
    embedding: list[int] = Field(min_length=1)
    species_embedding: int = Field(ge=1)
    mlp: list[int] = Field(min_length=1)
    hidden: str = Field(description="irreps of the tensor track, e.g. 32x0e+32x1o+32x2e; one multiplicity")

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, data: Any) -> Any:
        if isinstance(data, dict):
            return {**PRESETS.get(data.get("preset", "default"), {}), **data}
        return data

    @model_validator(mode="after")
    def _irreps_are_sound(self):
        parts = [re.fullmatch(r"(\d+)x(\d)([eo])", part.strip()) for part in self.hidden.split("+")]
        if not all(parts):
            raise ValueError(f"hidden: `{self.hidden}` is not of the form 32x0e+32x1o+32x2e")
        if len({part[1] for part in parts if part}) != 1:
            raise ValueError("hidden: all irreps need the same multiplicity")
        return self

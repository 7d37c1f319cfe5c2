"""`data:` which trajectories are read and how they become beads."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from cgloop.config.base import Section


class SourceConfig(Section):
    """One reference trajectory file."""

    path: Path = Field(description="relative to the config file")
    format: Literal["mdcath"] = "mdcath"
    temperatures_K: list[float] | None = Field(None, description="default: the model's temperature")
    replicas: list[int] | None = Field(None, description="default: all")
    stride: int = Field(1, ge=1, description="keep every n-th frame")


class SplitConfig(Section):
    """How frames are divided; never by shuffling, because neighbours in time are correlated.

    `replica` gives whole trajectories to each part. `time_block` cuts every trajectory into three
    consecutive blocks and drops `gap_frames` between them.
    """

    by: Literal["replica", "time_block"]
    train: list[int] | None = Field(None, description="replica ids (by: replica)")
    validation: list[int] | None = Field(None, description="replica ids (by: replica)")
    test: list[int] | None = Field(None, description="replica ids (by: replica)")
    fractions: tuple[float, float, float] = Field((0.7, 0.15, 0.15), description="by: time_block")
    gap_frames: int = Field(5, ge=0, description="dropped between blocks (by: time_block)")
    min_frames: int = Field(20, ge=1, description="every part needs at least so many frames")

    @model_validator(mode="after")
    def _parts_are_named(self):
        if self.by == "replica":
            named = [self.train, self.validation, self.test]
            if any(part is None for part in named):
                raise ValueError("`by: replica` needs the lists `train`, `validation` and `test`")
            ids = [i for part in named for i in part or ()]
            if len(ids) != len(set(ids)):
                raise ValueError("a replica is in more than one part")
            if not self.train or not self.validation:
                raise ValueError("`train` and `validation` must not be empty")
        elif not (all(f > 0 for f in self.fractions) and abs(sum(self.fractions) - 1) < 1e-6):
            raise ValueError("`fractions` must be positive and add up to 1")
        return self


class ForceMapConfig(Section):
    """How `projection: optimal` and `aggforce` find their map; for the others it is found for comparison only."""

    frames: int = Field(1000, ge=10, le=5000, description="training frames that the map is fitted to, at most")
    l2: float | None = Field(None, ge=0, description="penalty, (kcal/mol/Å)²; default: by cross-validation")
    rigid_threshold_A: float = Field(1e-3, gt=0, description="distances that vary less are rigid bonds")


class DataConfig(Section):
    """Reference data of the run."""

    sources: list[SourceConfig] = Field(min_length=1)
    temperature_K: float = Field(gt=0, description="the one temperature of the model")
    mapping: Literal["ca"] = "ca"
    projection: Literal["optimal", "basic", "slice", "aggforce"] = Field(
        "basic",
        description="optimal: least noise; basic: sum over CA and its rigid hydrogens; slice: force on CA alone; "
        "aggforce: optimal as that package finds it",
    )
    force_map: ForceMapConfig = ForceMapConfig.model_validate({})
    split: SplitConfig

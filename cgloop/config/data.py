"""`data:` which trajectories are read and how they become beads."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from cgloop.config.base import Section


class SourceConfig(Section):
    """Reference trajectories: one file, or many by a pattern.

    `mdcath`: HDF5 files that hold proteins, temperatures and replicas by themselves; files of the same protein are
    trajectories of one protein, and one with fewer atoms, such as CA alone, may add positions. `mdanalysis`: a
    trajectory that MDAnalysis reads, whose topology, temperature and replica are given here; several with the same name
    are trajectories of one protein. `npz`: coarse-grained frames of the older padded format.
    """

    path: Path = Field(
        description="File of reference trajectories relative to the config file, or a pattern such as `data/*.h5`."
    )
    format: Literal["mdcath", "mdanalysis", "npz"] = Field(
        "mdcath",
        description="Kind of file: `mdcath` (HDF5 with proteins, temperatures and replicas), `mdanalysis` "
        "(trajectory with positions and forces that MDAnalysis reads), `npz` (coarse-grained frames of "
        "the older padded format).",
    )
    temperatures_K: list[float] | None = Field(
        None, description="Temperatures that are read from an mdCATH file. Default: the model's temperature only."
    )
    replicas: list[int] | None = Field(None, description="Replicas that are read from an mdCATH file. Default: all.")
    topology: Path | None = Field(
        None, description="Topology of an `mdanalysis` trajectory: PDB, PSF, GRO, TPR, PRMTOP and others."
    )
    name: str | None = Field(
        None,
        description="Name of the protein in an `mdanalysis` source; sources of one name are trajectories of one "
        "protein. Default: the file name of the topology.",
    )
    selection: str = Field(
        "protein",
        description="Atoms of the protein in an `mdanalysis` source, in the selection language of MDAnalysis.",
    )
    temperature_K: float | None = Field(
        None, gt=0, description="Temperature of an `mdanalysis` or `npz` trajectory. Default: the model's temperature."
    )
    replica: int = Field(
        0,
        ge=0,
        description="Id of an `mdanalysis` or `npz` trajectory, by which `split.by: replica` assigns it to a part.",
    )
    start: int = Field(0, ge=0, description="First frame of every trajectory that is read.")
    stop: int | None = Field(
        None, ge=1, description="Frame before which reading stops. Default: the end of the trajectory."
    )
    stride: int = Field(1, ge=1, description="Every n-th frame is kept.")
    target: Literal["forces", "positions"] = Field(
        "forces",
        description="What the frames teach: `forces`: positions and, where the file has them, forces; `positions`: "
        "forces of the file are not read. Frames without forces serve reference, priors and refinement, not "
        "force matching.",
    )
    replica_offset: int = Field(
        0,
        ge=0,
        description="Added to the replica ids of an mdCATH file, so that several files of one protein do not share "
        "any; `replicas` names the ids in the file.",
    )
    relaxation_frames: int = Field(
        0,
        ge=0,
        description="Frames at the start of every trajectory with a start of its own that relax from it. Their forces "
        "are matched; ensemble averages and lineages leave them out.",
    )
    label: str | None = Field(
        None,
        description="What the frames are, as `misfolded` or `high-temperature`; force errors are listed for each "
        "label.",
    )
    weight: float = Field(1.0, gt=0, description="Factor on these frames in the loss.")

    @property
    def read_from(self) -> dict[str, Any]:
        """What decides which frames are read, as plain data."""
        return self.model_dump(mode="json", exclude={"label", "weight"})

    @model_validator(mode="after")
    def _keys_fit_the_format(self):
        own = {
            "mdcath": {"temperatures_K", "replicas", "replica_offset"},
            "mdanalysis": {"topology", "name", "selection", "temperature_K", "replica"},
            "npz": {"temperature_K", "replica"},
        }
        foreign = set().union(*own.values()) - own[self.format]
        given = sorted(name for name in foreign if getattr(self, name) != type(self).model_fields[name].default)
        if given:
            raise ValueError(f"`{given[0]}` has no meaning with `format: {self.format}`")
        if self.format == "mdanalysis" and self.topology is None:
            raise ValueError("`format: mdanalysis` needs `topology`")
        if self.stop is not None and self.stop <= self.start:
            raise ValueError("`stop` must be above `start`")
        return self


class SplitConfig(Section):
    """How frames are divided; never by shuffling, because neighbors in time are correlated.

    `protein` gives whole proteins to each part: those that the lists `validation` and `test` name, by name or shell
    pattern, and all others train; or, without lists, `fractions` of them by a hash of `seed` and the name, so that
    another protein in the data set moves none of the rest. `replica` gives whole trajectories of every protein to
    each part. `time_block` cuts every trajectory into three consecutive blocks and drops `gap_frames` between them.
    """

    by: Literal["protein", "replica", "time_block"] = Field(
        description="What goes to training, validation or test as a whole: proteins, trajectories (`replica`), or "
        "consecutive blocks of every trajectory (`time_block`). Frames are never shuffled, because "
        "neighbors in time are correlated."
    )
    train: list[int | str] | None = Field(None, description="Replica ids that train (`by: replica`).")
    validation: list[int | str] | None = Field(
        None,
        description="Replica ids (`by: replica`), or names or patterns of proteins such as `1abcA00` or `2*` (`by: "
        "protein`).",
    )
    test: list[int | str] | None = Field(None, description="As `validation`, for the test part; `[]` for none.")
    fractions: tuple[float, float, float] = Field(
        (0.7, 0.15, 0.15),
        description="Shares of training, validation and test (`by: time_block`, or `by: protein` without lists).",
    )
    seed: int = Field(
        0, ge=0, description="Seed of the hash that assigns proteins to the parts (`by: protein` with `fractions`)."
    )
    gap_frames: int = Field(
        5, ge=0, description="Frames dropped between two blocks, so that they are less correlated (`by: time_block`)."
    )
    min_frames: int = Field(20, ge=1, description="Smallest number of frames that every part of a protein must have.")

    @model_validator(mode="after")
    def _parts_are_named(self):
        if self.by == "replica":
            self._check_replicas()
        elif self.by == "protein":
            self._check_proteins()
        elif self._lists():
            raise ValueError(f"`{self._lists()[0]}` has no meaning with `by: time_block`, which has `fractions`")
        if not (all(f > 0 for f in self.fractions) and abs(sum(self.fractions) - 1) < 1e-6):
            raise ValueError("`fractions` must be positive and add up to 1")
        return self

    def _lists(self) -> list[str]:
        """Names of the lists that are given."""
        return [part for part in ("train", "validation", "test") if getattr(self, part) is not None]

    def _check_replicas(self) -> None:
        if len(self._lists()) < 3:
            raise ValueError("`by: replica` needs the lists `train`, `validation` and `test`")
        ids = [i for part in self._lists() for i in getattr(self, part)]
        if wrong := [i for i in ids if not isinstance(i, int)]:
            raise ValueError(f"`{wrong[0]}` is no replica id; names of proteins go with `by: protein`")
        if len(ids) != len(set(ids)):
            raise ValueError("a replica is in more than one part")
        if not self.train or not self.validation:
            raise ValueError("`train` and `validation` must not be empty")

    def _check_proteins(self) -> None:
        if self.train is not None:
            raise ValueError("with `by: protein` what `validation` and `test` do not name trains: leave out `train`")
        if not self._lists():
            return
        if not self.validation:
            raise ValueError("`by: protein` needs proteins for `validation`, or `fractions` without lists")
        if self.fractions != type(self).model_fields["fractions"].default:
            raise ValueError("`by: protein` takes either lists or `fractions`, not both")
        names = [*self.validation, *(self.test or ())]
        if wrong := [name for name in names if not isinstance(name, str)]:
            raise ValueError(f"`{wrong[0]}` is a number: write the names of proteins in quotes")
        if len(names) != len(set(names)):
            raise ValueError("a protein is in more than one part")


class ForceMapConfig(Section):
    """How `projection: optimal` and `aggforce` find their map; for the others it is found for comparison only."""

    frames: int = Field(
        1000, ge=10, le=5000, description="Largest number of training frames that the force map is fitted to."
    )
    l2: float | None = Field(
        None, ge=0, description="Ridge penalty of the fit in (kcal/mol/Å)². Default: chosen by cross-validation."
    )
    rigid_threshold_A: float = Field(
        1e-3, gt=0, description="Distances between atoms that vary by less than this are treated as rigid bonds."
    )


class DataConfig(Section):
    """Reference data of the run."""

    sources: list[SourceConfig] = Field(min_length=1)
    temperature_K: float = Field(
        gt=0,
        description="Temperature that the model belongs to; all reference comparisons and the verdict are made at it.",
    )
    mapping: Literal["ca"] = Field("ca", description="How atoms become beads: one bead at every CA atom.")
    projection: Literal["optimal", "basic", "slice", "aggforce"] = Field(
        "basic",
        description="How atomic forces become bead forces: `optimal` (linear map of least noise), `basic` (sum over "
        "CA and its rigid hydrogens), `slice` (force on CA alone), `aggforce` (optimal map as that "
        "package finds it).",
    )
    force_map: ForceMapConfig = ForceMapConfig.model_validate({})
    split: SplitConfig
    on_bad_file: Literal["exclude", "error"] = Field(
        "exclude",
        description="`exclude`: files that cannot be used are listed in the manifest and the others are used; "
        "`error`: all files are tried, then the stage stops.",
    )
    workers: int | None = Field(
        None, ge=1, description="Files that are read at the same time. Default: the number of usable cores."
    )

"""`run:` name, folder and limits of a run."""

from pathlib import Path

from pydantic import Field

from cgloop.config.base import Section


class RunConfig(Section):
    """Name, folder and limits of a run."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Name of the run and of its folder below `root`."
    )
    root: Path = Field(Path("runs"), description="Folder that holds the runs, relative to the current directory.")
    seed: int = Field(0, ge=0, lt=2**32, description="Seed from which every random number of the run is derived.")
    time_limit_minutes: float | None = Field(
        None,
        gt=0,
        description="Wall time after which the run stops cleanly with exit code 5; the same command continues it. "
        "Default: no limit.",
    )
    min_free_gb: float = Field(0.5, ge=0, description="Free disk space in GB below which a stage is not started.")

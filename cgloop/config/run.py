"""`run:` where a run lives and what it may use."""

from pathlib import Path

from pydantic import Field

from cgloop.config.base import Section


class RunConfig(Section):
    """Name, place and limits of a run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="folder below `root`")
    root: Path = Field(Path("runs"), description="relative to the current directory")
    seed: int = Field(0, ge=0, lt=2**32, description="every random number of the run derives from it")
    time_limit_minutes: float | None = Field(
        None, gt=0, description="stop cleanly after this time, exit code 5, resumable"
    )
    min_free_gb: float = Field(0.5, ge=0, description="refuse to start a stage with less free disk space")

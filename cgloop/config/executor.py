"""`slurm:` where `cgloop submit` lets the work run."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from cgloop.config.base import Section


class Resources(Section):
    """What a job asks SLURM for; what is not given is left to the cluster, or inherited."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    time_limit_hours: float | None = Field(None, gt=0, description="rounded up to minutes")
    nodes: int | None = Field(None, ge=1, description="only training uses more than one")
    tasks_per_node: int | None = Field(
        None, ge=1, description="processes of training on a node: 1 uses all its devices; or one for each GPU"
    )
    gpus_per_node: int | None = Field(None, ge=0)
    gpu_type: str | None = Field(None, description="as in `--gpus-per-node=TYPE:4`")
    cpus_per_task: int | None = Field(None, ge=1)
    memory_gb: float | None = Field(None, ge=0, description="per node; 0 is all of it")
    constraint: str | None = Field(None, description="features of the nodes")
    extra: list[str] | None = Field(None, description="more options of sbatch, e.g. `--mail-type=END`")


class StageResources(Section):
    """Resources of single stages, where they differ; used with `jobs: stages`."""

    prep: Resources = Resources()
    priors: Resources = Resources()
    train: Resources = Resources()
    export: Resources = Resources()
    parity: Resources = Resources()
    md: Resources = Resources()
    control: Resources = Resources()
    validate_: Resources = Field(Resources(), alias="validate")
    feedback: Resources = Resources()
    gate: Resources = Resources()

    def of(self, stage: str) -> Resources:
        """Those of the stage of this name."""
        return getattr(self, "validate_" if stage == "validate" else stage)


class SlurmConfig(Resources):
    """Jobs, resources, and what a job does before it starts cgloop."""

    jobs: Literal["cycle", "stages"] = Field(
        "cycle", description="the whole cycle as one job, or each stage as a job that waits for the one before"
    )
    stages: StageResources = StageResources()
    setup: list[str] = Field([], description="shell lines first, e.g. `module load cuda`, `source venv/bin/activate`")
    command: str | None = Field(None, description="how to start cgloop; default: the Python that submits")
    grace_s: int = Field(120, ge=10, description="ask the work to stop so long before the time limit")
    max_requeues: int = Field(20, ge=0, description="after an interruption the job goes on in a new one, so often")
    template: Path | None = Field(None, description="your own script; `cgloop submit --print-template` shows ours")

"""`slurm:` jobs that `cgloop submit` hands to SLURM."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from cgloop.config.base import Section


class Resources(Section):
    """Resources that a job asks SLURM for; keys that are not given are inherited, or left to the cluster's defaults."""

    partition: str | None = Field(None, description="Partition of the job (`--partition`).")
    account: str | None = Field(None, description="Account that the job is charged to (`--account`).")
    qos: str | None = Field(None, description="Quality of service of the job (`--qos`).")
    time_limit_hours: float | None = Field(None, gt=0, description="Time limit of the job, rounded up to minutes.")
    nodes: int | None = Field(None, ge=1, description="Number of nodes; only training uses more than one.")
    tasks_per_node: int | None = Field(
        None, ge=1, description="Processes of training on a node: 1 that uses all its devices, or one for each GPU."
    )
    gpus_per_node: int | None = Field(None, ge=0, description="GPUs of every node.")
    gpu_type: str | None = Field(None, description="Type of the GPUs, as in `--gpus-per-node=TYPE:4`.")
    cpus_per_task: int | None = Field(None, ge=1, description="Cores of every process (`--cpus-per-task`).")
    memory_gb: float | None = Field(None, ge=0, description="Memory of every node in GB; 0 is all of it.")
    constraint: str | None = Field(None, description="Features that the nodes must have (`--constraint`).")
    extra: list[str] | None = Field(None, description="Further options of sbatch, e.g. `--mail-type=END`.")


class StageResources(Section):
    """Resources of single stages where they differ, for `jobs: stages`."""

    prep: Resources = Resources()
    priors: Resources = Resources()
    train: Resources = Resources()
    refine: Resources = Resources()
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
        "cycle",
        description="`cycle`: the whole cycle is one job; `stages`: each stage is a job that waits for the one before.",
    )
    stages: StageResources = StageResources()
    setup: list[str] = Field(
        [], description="Shell lines that the job runs first, e.g. `module load cuda` or `source venv/bin/activate`."
    )
    command: str | None = Field(None, description="Command that starts cgloop. Default: the Python that submits.")
    grace_s: int = Field(120, ge=10, description="Time before the limit at which the work is asked to stop.")
    max_requeues: int = Field(20, ge=0, description="How often an interrupted job may continue in a new one.")
    template: Path | None = Field(
        None, description="Template of the job script; `cgloop submit --print-template` shows the shipped one."
    )

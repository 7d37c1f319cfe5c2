"""The scripts that SLURM runs: which jobs, with which resources, from which template."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined, TemplateError, TemplateSyntaxError

from cgloop.config.executor import Resources, SlurmConfig
from cgloop.errors import UserError


@dataclass(frozen=True)
class Job:
    """A job before it is submitted.

    Attributes:
        name: subcommand of cgloop that it runs: `cycle`, or a stage's name, or `gate`.
        script: what SLURM runs.
    """

    name: str
    script: str


def plan_jobs(
    slurm: SlurmConfig, run: Path, name: str, stages: Sequence[str], directory: Path, python: str
) -> list[Job]:
    """The jobs of a run, in the order in which they depend on each other.

    Args:
        slurm: the config's section, `nodes` already as wanted.
        run: the run directory, absolute.
        name: of the run.
        stages: all subcommands of one cycle, in order.
        directory: where the commands run.
        python: that runs cgloop if `slurm.command` does not say how.

    Raises:
        UserError: no such template, or it is wrong.
    """
    template = read_template(slurm.template)
    where = slurm.template or "job.sbatch"
    command = slurm.command or f"{shlex.quote(python)} -m cgloop.cli"
    jobs = []
    for stage in ["cycle"] if slurm.jobs == "cycle" else stages:
        wanted = slurm if slurm.jobs == "cycle" else resources_of(slurm, stage)
        values = {
            "name": f"{name}-{stage}",
            "stage": stage,
            "options": [f"--job-name={name}-{stage}", *options_of(wanted)],
            "log": run / "slurm" / f"{stage}-%j.log",
            "directory": directory,
            "setup": slurm.setup,
            "command": f"{command} {stage} {shlex.quote(str(run))}",
            "grace_s": slurm.grace_s,
            "max_requeues": slurm.max_requeues,
        }
        jobs.append(Job(stage, render(template, values, where)))
    return jobs


def resources_of(slurm: SlurmConfig, stage: str) -> Resources:
    """What a stage asks for as a job of its own: its own settings, then those of all.

    Only training uses several nodes or several tasks on a node; another stage gets one unless it says otherwise itself.
    """
    common = {key: getattr(slurm, key) for key in Resources.model_fields}
    if stage != "train":
        common.update(nodes=1, tasks_per_node=1)
    own = {key: value for key, value in slurm.stages.of(stage) if value is not None}
    return Resources(**{**common, **own})


def options_of(wanted: Resources) -> list[str]:
    """Options of sbatch."""
    gpus = f"{wanted.gpu_type}:{wanted.gpus_per_node}" if wanted.gpu_type else wanted.gpus_per_node
    options = {
        "partition": wanted.partition,
        "account": wanted.account,
        "qos": wanted.qos,
        "time": None if wanted.time_limit_hours is None else math.ceil(60.0 * wanted.time_limit_hours - 1e-9),
        "nodes": wanted.nodes or 1,
        "ntasks-per-node": wanted.tasks_per_node or 1,
        "gpus-per-node": gpus if wanted.gpus_per_node else None,
        "cpus-per-task": wanted.cpus_per_task,
        "mem": None if wanted.memory_gb is None else f"{round(1000.0 * wanted.memory_gb)}M",
        "constraint": wanted.constraint,
    }
    return [f"--{key}={value}" for key, value in options.items() if value is not None] + (wanted.extra or [])


def read_template(path: Path | None = None) -> str:
    """The user's template, or the one shipped with cgloop.

    Raises:
        UserError: it cannot be read.
    """
    if path is None:
        return (resources.files(__package__) / "templates" / "job.sbatch").read_text(encoding="utf-8")
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        remedy = "`cgloop submit --print-template` shows one to start from"
        raise UserError("no such template (`slurm.template`)", where=path, remedy=remedy) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"template cannot be read: {error}", where=path) from None


def render(template: str, values: dict[str, object], where: str | Path) -> str:
    """The template with its `{{ names }}` filled in.

    Raises:
        UserError: it is not valid, or uses a name that does not exist.
    """
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False
    )
    environment.filters["quote"] = lambda value: shlex.quote(str(value))
    try:
        return environment.from_string(template).render(values)
    except TemplateSyntaxError as error:
        raise UserError(f"not a valid template: {error.message}", where=f"{where}, line {error.lineno}") from None
    except TemplateError as error:
        raise UserError(f"template: {error}", where=where, remedy=f"known: {', '.join(sorted(values))}") from None

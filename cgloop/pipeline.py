"""The stages of one cycle: what each needs, which settings it depends on, and who does its work.

Work functions import their rooms when called, so that `cgloop status` and a login node's `cgloop prep`
start neither JAX nor LAMMPS.
"""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cgloop
from cgloop import stage_settings as settings
from cgloop.config import Config
from cgloop.config.neutral import without_neutral
from cgloop.errors import ExitCode, Interrupted, UserError
from cgloop.executors.launch import tasks_of_job
from cgloop.feedback.plan import Plan, read_plan
from cgloop.rundir import RunDirectory, find_params, trained_folder, write_config
from cgloop.stages import as_recorded, digest_file, read_record

if TYPE_CHECKING:
    from cgloop.md.run import Shorter

PARAMS = "params.safetensors"


@dataclass(frozen=True)
class Context:
    """What the work of a stage is given.

    Attributes:
        config: of this cycle, with the changes of its plan.
        run: the run directory.
        cycle: its number.
        plan: of this cycle.
        training: the context of the cycle whose training this one uses; None where it trains itself.
    """

    config: Config
    run: RunDirectory
    cycle: int
    plan: Plan
    training: "Context | None" = None

    def folder(self, stage: str) -> Path:
        return self.run.stage(self.cycle, stage)

    @property
    def trained(self) -> Path:
        """Folder of the parameters that are exported and judged: the refined ones where there is a refinement."""
        return self.folder("refine" if refines(self.config) else "train")

    @property
    def previous_params(self) -> Path | None:
        """Parameters to start from: of the cycle that the plan names; those of `train.start` in the first."""
        if self.cycle == 0:
            return None if self.config.train.start is None else find_params(self.config.train.start)
        return None if self.plan.start is None else trained_folder(self.run.cycle(self.plan.start)) / PARAMS

    @property
    def failed(self) -> int | None:
        """The cycle whose dynamics a refinement that is tried as a remedy starts from; None for any other."""
        return self.plan.training if self.plan.tried == "refine" else None

    @property
    def decoys(self) -> list[Path]:
        """Files of decoys that the training of this cycle uses."""
        return [self.run.stage(cycle, "feedback") / "decoys.h5" for cycle in self.plan.decoys]


@dataclass(frozen=True)
class Stage:
    """One step of the loop.

    Attributes:
        name: of its folder and its subcommand.
        needs: earlier stages whose results it reads.
        settings: the part of the config that it depends on, as plain data.
        work: does it, into the folder that it is given.
        resumable: `work` continues what an interrupted attempt left.
        lasting: names in its folder that serve the next attempt even if the inputs have changed.
        shared: the same in every cycle, so that a later cycle links to the earlier one's result.
        reads_too: further earlier stages whose results it reads with this config.
    """

    name: str
    needs: tuple[str, ...]
    settings: Callable[[Config], dict[str, Any]]
    work: Callable[[Context, Path], Any]
    resumable: bool = False
    lasting: tuple[str, ...] = ()
    shared: bool = False
    reads_too: Callable[[Config], tuple[str, ...]] = lambda config: ()

    def reads(self, config: Config) -> tuple[str, ...]:
        """Return all earlier stages whose results it reads: where a training is refined, what reads it reads both."""
        names = (*self.needs, *self.reads_too(config))
        return (*names, "refine") if refines(config) and self.name != "refine" and "train" in names else names


def refines(config: Config) -> bool:
    """Return whether the trained parameters of a cycle with this config are refined."""
    return config.refine.when == "always"


def _ensemble(config: Config) -> tuple[str, ...]:
    """The training beside what was exported of it: members are no part of a bundle."""
    return ("train",) if config.train.ensemble.members > 1 else ()


def _prep(context: Context, out: Path) -> None:
    from cgloop.prep.pipeline import prepare

    prepare(context.config.data, out)


def _priors(context: Context, out: Path) -> None:
    from cgloop.priors.stage import fit_stage

    fit_stage(context.folder("prep"), context.config, out)


def _train(context: Context, out: Path) -> None:
    """In this process with all its devices, or on all tasks of the SLURM job that it leads."""
    given = (context.config, context.folder("prep"), context.folder("priors") / "priors.yaml", out)
    if (tasks := tasks_of_job()) > 1:
        from cgloop.train.worker import train_on_tasks

        train_on_tasks(tasks, *given, context.previous_params, context.run.log, context.decoys)
    else:
        from cgloop.train.stage import train_stage

        train_stage(*given, init_params=context.previous_params, decoys=context.decoys)


def _refine(context: Context, out: Path) -> None:
    from cgloop.feedback.first_frames import read_first_frames
    from cgloop.refine.stage import refine_stage

    prep, train = context.folder("prep"), context.folder("train")
    first = None
    if (failed := context.failed) is not None:
        trim = context.config.validate_.max_trim
        first = read_first_frames(context.run.stage(failed, "md"), prep, trim)
    priors = context.folder("priors") / "priors.yaml"
    refine_stage(context.config, prep, train, priors, out, first_frames=first)


def _export(context: Context, out: Path) -> None:
    from cgloop.export.stage import export_stage

    priors = context.folder("priors") / "priors.yaml"
    export_stage(context.config, context.folder("prep"), context.trained, priors, out)


def _parity(context: Context, out: Path) -> None:
    from cgloop.md.parity import parity_stage
    from cgloop.md.static import static_stage

    train, prep = context.trained, context.folder("prep")
    static_stage(context.config, train, context.folder("priors"), prep, out)
    parity_stage(context.config, context.folder("export"), train, prep, out)


def _md(context: Context, out: Path) -> None:
    from cgloop.md.run import md_stage

    train_dir = context.trained if _ensemble(context.config) else None
    given = context.config, context.folder("export"), context.folder("prep"), out, train_dir, context.run.log
    md_stage(*given, _shorter(context))


def _shorter(context: Context) -> "Shorter | None":
    """Finished dynamics of this cycle of which those of the config are the continuation, if there are any."""
    from cgloop.md.run import Shorter

    record = read_record(context.folder("md")) if context.config.md.extend else None
    if record is None:
        return None
    old, new = as_recorded(record.inputs), as_recorded(stage_inputs(context, BY_NAME["md"]))
    pairs = [(old["md"][stage].pop("length_ps"), new["md"][stage].pop("length_ps")) for stage in ("nvt", "nve")]
    if old != new or any(before > after for before, after in pairs):
        return None
    return Shorter(context.folder("md"), nvt_longer=pairs[0][0] < pairs[0][1])


def _control(context: Context, out: Path) -> None:
    from cgloop.md.control import control_stage

    export, prep, md = (context.folder(name) for name in ("export", "prep", "md"))
    control_stage(context.config, export, prep, md, out, context.run.log)


def _validate(context: Context, out: Path) -> None:
    """In a process of its own: pymbar switches JAX to float64 for the whole process."""
    config_file = out / "config.yaml"
    write_config(context.config, config_file)
    folders = {
        "--md": context.folder("md"),
        "--control": context.folder("control"),
        "--dataset": context.folder("prep"),
        "--parity": context.folder("parity") / "parity.json",
        "--train": context.trained,
        "--out": out,
    }
    arguments = [str(part) for pair in folders.items() for part in pair]
    command = [sys.executable, "-m", "cgloop.validate", "--config", str(config_file), *arguments]
    finished = subprocess.run(command, capture_output=True, text=True)
    config_file.unlink()
    if finished.returncode == ExitCode.BAD_INPUT:
        raise UserError(finished.stderr.strip().splitlines()[-1])
    if finished.returncode == ExitCode.INTERRUPTED:
        raise Interrupted("validation was stopped")
    if finished.returncode != 0:
        raise RuntimeError(f"validation broke:\n{finished.stderr}")


def _feedback(context: Context, out: Path) -> None:
    from cgloop.feedback.stage import feedback_stage

    trained = context.trained
    own_prior = trained / "priors.yaml"
    feedback_stage(
        context.config,
        context.folder("md"),
        context.folder("prep"),
        out,
        priors_yaml=own_prior if own_prior.is_file() else context.folder("priors") / "priors.yaml",
        train_dir=trained if _ensemble(context.config) else None,
        cycle=context.cycle,
    )


PIPELINE: tuple[Stage, ...] = (
    Stage("prep", (), settings.prep_settings, _prep, resumable=True, lasting=(".jobs",), shared=True),
    Stage("priors", ("prep",), settings.prior_settings, _priors, shared=True),
    Stage("train", ("prep", "priors"), settings.train_settings, _train, resumable=True),
    Stage("refine", ("prep", "priors", "train"), settings.refine_settings, _refine, resumable=True),
    Stage("export", ("prep", "priors", "train"), settings.export_settings, _export),
    Stage("parity", ("prep", "priors", "train", "export"), settings.sections("parity"), _parity),
    Stage("md", ("prep", "export", "parity"), settings.md_settings, _md, resumable=True, reads_too=_ensemble),
    Stage("control", ("prep", "export", "md"), settings.control_settings, _control, resumable=True),
    Stage("validate", ("prep", "train", "parity", "md", "control"), settings.validate_settings, _validate),
    Stage("feedback", ("prep", "priors", "train", "md"), settings.feedback_settings, _feedback),
)
BY_NAME: dict[str, Stage] = {stage.name: stage for stage in PIPELINE}


def stages_of(config: Config) -> tuple[Stage, ...]:
    """Return the stages of a cycle with this config, in order."""
    return tuple(stage for stage in PIPELINE if stage.name != "refine" or refines(config))


def up_to(name: str, config: Config) -> tuple[Stage, ...]:
    """Return a stage of a cycle with this config and everything it needs, in order."""
    stages, wanted = stages_of(config), {name}
    for stage in reversed(stages):
        if stage.name in wanted:
            wanted.update(stage.reads(config))
    return tuple(stage for stage in stages if stage.name in wanted)


def context_of(config: Config, run: RunDirectory, cycle: int) -> Context:
    """The context of a cycle, with the changes of its plan. Each has a seed of its own: no training is done twice."""
    plan = read_plan(run.cycle(cycle), cycle)
    seeded = config.run.model_copy(update={"seed": (config.run.seed + cycle) % 2**32})
    training = None if plan.training is None else context_of(config, run, plan.training)
    if training is not None and training.training is not None:
        training = training.training
    return Context(plan.apply(config).model_copy(update={"run": seeded}), run, cycle, plan, training)


def stage_inputs(context: Context, stage: Stage) -> dict[str, Any]:
    """Everything that the outputs of a stage depend on, as plain data.

    Raises:
        UserError: an earlier stage that it needs is not done, or a source is missing.
    """
    if stage.name == "train" and context.training is not None:
        return stage_inputs(context.training, stage)
    inputs: dict[str, Any] = {**without_neutral(stage.settings(context.config)), "cgloop": cgloop.__version__}
    for name in stage.reads(context.config):
        record = read_record(context.folder(name))
        if record is None:
            raise UserError(f"stage {name} is not done", where=context.folder(name), remedy=f"run `cgloop {name}`")
        inputs[name] = {"digest": record.result_digest}
    if stage.name == "train" and (start := context.previous_params) is not None:
        if context.cycle == 0:
            inputs["start"] = {"digest": digest_file(start)}
        else:
            earlier = read_record(start.parent)
            inputs["previous_cycle"] = {"digest": earlier.result_digest if earlier else None}
    if stage.name == "refine" and context.failed is not None:
        shown = read_record(context.run.stage(context.failed, "md"))
        inputs["first_frames"] = {"digest": shown.result_digest if shown else None}
    if stage.name == "train" and context.decoys:
        inputs["decoys"] = {path.parent.parent.name: {"digest": _digest_of_decoys(path)} for path in context.decoys}
        settings = context.config.feedback.decoys.model_dump(mode="json")
        inputs["decoys"]["settings"] = without_neutral(settings, "feedback.decoys")
    return inputs


def _digest_of_decoys(path: Path) -> str:
    if not path.is_file():
        raise UserError("decoys that the plan of this cycle names are missing", where=path, remedy="run `cgloop cycle`")
    return digest_file(path)

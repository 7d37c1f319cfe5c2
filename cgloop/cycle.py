"""The loop: which stage runs, what is already done, what comes next, and what it all amounts to."""

import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cgloop.checks import worst_of
from cgloop.config import Config
from cgloop.config.validate import required_by_default
from cgloop.data.dataset import DatasetReader
from cgloop.errors import ExitCode, Interrupted, UserError
from cgloop.extension import extend, lengthened, significance, told
from cgloop.feedback.plan import PLAN, Plan, plan_next, read_plan, why_to_stop, write_plan
from cgloop.interrupt import check_stop
from cgloop.pipeline import PIPELINE, Context, Stage, context_of, stage_inputs, stages_of, up_to
from cgloop.rundir import RunDirectory, opened, write_config
from cgloop.stages import (
    RECORD,
    StageResult,
    as_recorded,
    digest_of,
    read_json,
    read_record,
    remove_folder,
    replace_folder,
    run_stage,
    write_json,
)
from cgloop.validate.gate import judge, parity_metrics, require_known
from cgloop.validate.gate_words import table

log = logging.getLogger("cgloop.cycle")

EXIT_CODES = {"pass": ExitCode.PASS, "fail": ExitCode.FAIL, "inconclusive": ExitCode.INCONCLUSIVE}


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit code, and lines for the person who waited; of a verdict the last three say it."""

    code: ExitCode
    lines: tuple[str, ...]


def run_cycles(config: Config, run: RunDirectory, *, take_over: bool = False) -> Outcome:
    """The whole loop: until a model passes, `cycles` are done, or nothing improves.

    What a cycle changes is decided from the files of those before it, so that it is the same however often the loop
    was killed.
    """
    from cgloop.feedback.history import row_of, write_history

    with opened(config, run, take_over=take_over):
        run.event("cycle-command", cycles=config.cycles)
        plans, ended = [Plan(0)], ""
        rows: list[dict[str, Any]] = []
        try:
            while not ended:
                _announce(run, plans[-1])
                context = context_of(config, run, plans[-1].cycle)
                verdict = _one_cycle(context)
                folder = run.cycle(context.cycle)
                rows.append(row_of(folder, plans, rows, config))
                ended = why_to_stop(config, rows)
                write_history(run.path, rows, ended)
                collect_outbox(run)
                if not ended:
                    plans.append(plan_next(config, plans, rows))
        except Interrupted as error:
            return _interrupted(run, error)
        page = report(run)
        run.event("verdict", verdict=verdict["verdict"])
        run.event("loop-end", reason=ended, cycles=len(rows))
        lines = _closing_lines(run, verdict, page)
        if config.cycles > 1:
            lines = (f"loop     ended because {ended}  (side by side: {run.path / 'cycles.json'})", *lines)
        return Outcome(EXIT_CODES[verdict["verdict"]], lines)


def run_to(config: Config, run: RunDirectory, stage: str, *, take_over: bool = False) -> Outcome:
    """One stage of the latest cycle, and whatever it needs that is not up to date; nothing after a failed parity."""
    with opened(config, run, take_over=take_over):
        context = context_of(config, run, max(run.cycles(), default=0))
        try:
            last, done = list(_stages(context, up_to(stage, context.config)))[-1]
        except Interrupted as error:
            return _interrupted(run, error)
        if last.name == "parity" and not _parity_holds(context):
            return Outcome(ExitCode.FAIL, (f"parity: fail, so that no MD is run with this model, see {done.folder}",))
        state = f"done in {done.record.seconds:.1f} s" if done.ran else "up to date"
        return Outcome(ExitCode.PASS, (f"{stage}: {state}, see {done.folder}",))


def run_gate(config: Config, run: RunDirectory, *, take_over: bool = False, required: Sequence[str] = ()) -> Outcome:
    """Bring the validation of the latest cycle up to date and judge it; the exit code is the verdict.

    With `required` these checks decide instead of those of the config. That is an answer and not the run's verdict:
    `verdict.json`, the page and `deploy/` stay as they are.
    """
    require_known(required, "--require")
    with opened(config, run, take_over=take_over):
        context = context_of(config, run, max(run.cycles(), default=0))
        try:
            if required:
                for _ in _stages(context, stages_of(context.config)):
                    pass
                verdict = _verdict_by(context, required)
                words = f"verdict  {verdict['verdict'].upper()} by {', '.join(required)}: {verdict['summary']}"
                return Outcome(EXIT_CODES[verdict["verdict"]], (*table(verdict), "", words))
            verdict = _one_cycle(context)
        except Interrupted as error:
            return _interrupted(run, error)
        page = report(run)
        return Outcome(EXIT_CODES[verdict["verdict"]], _closing_lines(run, verdict, page))


def report(run: RunDirectory) -> Path:
    """Write the page of a run from whatever is there."""
    from cgloop.report.page import write_report

    return write_report(run.path)


def _announce(run: RunDirectory, plan: Plan) -> None:
    """Write the plan of a cycle into its folder, and tell what it changes."""
    folder = run.cycle(plan.cycle)
    if plan.base is None:
        # The first cycle is as the config says; what an older run may have left there does not count.
        (folder / PLAN).unlink(missing_ok=True)
        return
    folder.mkdir(parents=True, exist_ok=True)
    known = (folder / PLAN).is_file() and read_plan(folder, plan.cycle) == plan
    write_plan(folder, plan)
    for entry in plan.undone:
        log.info("cycle %d: %s of cycle %d undone: %s", plan.cycle, entry["what"], entry["cycle"], entry["reason"])
    log.info("cycle %d: %s; %s", plan.cycle, plan.start_reason, plan.reason)
    if not known:
        run.event(
            "plan", cycle=plan.cycle, start=plan.start, tried=plan.tried, reason=plan.reason, changes=plan.changes,
            undone=plan.undone, decoys=plan.decoys,
        )  # fmt: skip


def collect_outbox(run: RunDirectory) -> None:
    """Candidates for relabelling of all cycles together, in `outbox/` of the run."""
    found = [(cycle, run.stage(cycle, "feedback") / "outbox") for cycle in run.cycles()]
    found = [(cycle, folder) for cycle, folder in found if folder.is_dir()]
    outbox = run.path / "outbox"
    if not found:
        shutil.rmtree(outbox, ignore_errors=True)
        return
    new = run.path / ".outbox.partial"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    entries = []
    for cycle, folder in found:
        name = f"cycle_{cycle:03d}"
        shutil.copytree(folder, new / name)
        (new / name / "README.txt").replace(new / "README.txt")
        own = read_json(new / name / "index.json").get("candidates") or []
        entries += [{"cycle": cycle, "folder": name, **entry} for entry in own]
    write_json(new / "index.json", {"schema_version": 1, "candidates": entries})
    replace_folder(new, outbox)


def _one_cycle(context: Context) -> dict[str, Any]:
    require_known(context.config.required_checks)
    require_known(context.config.gate.optional, "gate.optional")
    folder = context.run.cycle(context.cycle)
    folder.mkdir(parents=True, exist_ok=True)
    write_config(context.config, folder / "config.yaml")
    stages = stages_of(context.config)
    for stage, _ in _stages(context, stages):
        if stage.name == "prep":
            _require_proteins(context)
    verdict = _judge(context)
    while extend(context, verdict):
        for _ in _stages(context, stages):
            pass
        verdict = _judge(context)
    return verdict


def _stages(context: Context, stages: Sequence[Stage]) -> Iterator[tuple[Stage, StageResult]]:
    """Bring these stages up to date, one after the other; none after a failed parity."""
    _remove_others(context)
    for stage in stages:
        if stage.name == "md":
            context = lengthened(context)
        yield stage, _run(context, stage)
        if stage.name == "parity" and not _parity_holds(context):
            log.error("the exported artifact and the model differ: no MD is run with it")
            return


def _remove_others(context: Context) -> None:
    """Remove what an earlier config left of stages that this one does not have: a later cycle would start from it."""
    present = stages_of(context.config)
    for stage in PIPELINE:
        if stage in present:
            continue
        folder = context.folder(stage.name)
        if folder.exists():
            log.info("%s is not part of this config: its results are removed", stage.name)
        for left in (folder, folder.parent / f".{stage.name}.partial"):
            remove_folder(left)


def _require_proteins(context: Context) -> None:
    """Refuse proteins that the data set does not have now, and not after the training."""
    names = DatasetReader.open(context.folder("prep")).names
    for name in context.config.md.proteins or ():
        if name not in names:
            raise UserError(
                f"no protein `{name}` in the data set", where="md.proteins", remedy=f"known: {', '.join(names)}"
            )


def _run(context: Context, stage: Stage) -> StageResult:
    """Bring one stage up to date; a stage shared by all cycles is linked, not repeated."""
    check_stop()
    folder = context.folder(stage.name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    inputs = stage_inputs(context, stage)
    _link_earlier(context, stage, inputs)
    # The settings of a training that is used again are those of the cycle that made it.
    own = context.training if stage.name == "train" and context.training is not None else context

    def announce(reason: str) -> None:
        logging.getLogger(f"cgloop.{stage.name}").info("%s", reason)
        context.run.event("stage-start", cycle=context.cycle, stage=stage.name, reason=reason)

    result = run_stage(
        folder,
        inputs,
        lambda out: stage.work(own, out),
        seed=own.config.run.seed,
        resumable=stage.resumable,
        lasting=stage.lasting,
        min_free_gb=context.config.run.min_free_gb,
        on_start=announce,
    )
    if result.ran:
        logging.getLogger(f"cgloop.{stage.name}").info("done in %.1f s", result.record.seconds)
        context.run.event(
            "stage-done", cycle=context.cycle, stage=stage.name, seconds=result.record.seconds,
            result_digest=result.record.result_digest,
        )  # fmt: skip
    else:
        log.debug("%s is up to date", stage.name)
    return result


def _link_earlier(context: Context, stage: Stage, inputs: Mapping[str, Any]) -> None:
    """Link to the result of an earlier cycle where this one has none of its own, and it is the same."""
    folder = context.folder(stage.name)
    if stage.shared and context.cycle > 0:
        if not folder.exists():
            earlier = context.run.stage(context.cycle - 1, stage.name)
            folder.symlink_to(os.path.relpath(earlier, folder.parent))
    elif stage.name == "train" and context.training is not None:
        earlier, wanted = context.training.folder("train"), digest_of(as_recorded(inputs))
        here, there = read_record(folder), read_record(earlier)
        known = here is not None and here.inputs_digest == wanted
        if known or there is None or there.inputs_digest != wanted:
            return
        if folder.is_symlink():
            folder.unlink()
        remove_folder(folder)
        folder.symlink_to(os.path.relpath(earlier, folder.parent))


def _parity_holds(context: Context) -> bool:
    return read_json(context.folder("parity") / "parity.json").get("verdict") == "pass"


def _verdict_by(context: Context, required: Sequence[str]) -> dict[str, Any]:
    """What these checks say of a cycle whose stages are up to date; nothing is written."""
    if _parity_holds(context):
        metrics = read_json(context.folder("validate") / "metrics.json")
        metrics["engine"] = read_json(context.folder("md") / "md.json").get("engine")
    else:
        metrics = parity_metrics(context.folder("parity") / "parity.json")
    manifest = read_json(context.folder("export") / "manifest.json")
    verdict = judge(
        metrics, required, manifest.get("cautions") or [], optional=context.config.gate.optional,
        significance=significance(context.config), usual=required_by_default(context.config.model.energy),
    )  # fmt: skip
    return told(context, verdict)


def _judge(context: Context) -> dict[str, Any]:
    """The verdict of a cycle, written beside its stages and on top of the run; a pass is deployed."""
    verdict = _verdict_by(context, context.config.required_checks)
    verdict["run"] = context.config.run.name
    verdict["cycle"] = context.cycle
    verdict["results"] = {
        stage.name: record.result_digest
        for stage in stages_of(context.config)
        if (record := read_record(context.folder(stage.name))) is not None
    }
    write_json(context.run.cycle(context.cycle) / "verdict.json", verdict)
    write_json(context.run.verdict, verdict)
    if verdict["verdict"] == "pass":
        _deploy(context)
    else:
        # A model that passed in an earlier state of this run is not the one that was judged now.
        shutil.rmtree(context.run.deploy, ignore_errors=True)
    return verdict


def _deploy(context: Context) -> None:
    """Bundle, verdict, model card, config and inputs of a model that passed, in one folder.

    The bundle in it says parity and verdict, too; that of the stage stays as it was judged.
    """
    from cgloop.export.manifest import add_outcome
    from cgloop.md.inputs import find_template
    from cgloop.md.plain_deploy import write_deployed_plain
    from cgloop.report.card import write_card

    new = context.run.path / ".deploy.partial"
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(context.folder("export"), new / "bundle", ignore=shutil.ignore_patterns(RECORD))
    parity, verdict = read_json(context.folder("parity") / "parity.json"), read_json(context.run.verdict)
    add_outcome(new / "bundle", parity=parity, verdict=verdict)
    shutil.copy2(context.run.verdict, new / "verdict.json")
    write_config(context.config, new / "config.yaml")
    write_card(context.run, context.cycle, new)
    (new / "lammps_inputs").mkdir()
    for name in ("minimize.in", "nvt.in", "nve.in"):
        shutil.copy2(find_template(name), new / "lammps_inputs" / name)
    write_deployed_plain(context.config, new / "bundle", context.folder("prep"), new / "plain")
    replace_folder(new, context.run.deploy)
    context.run.event("deployed", cycle=context.cycle)


def _interrupted(run: RunDirectory, error: Interrupted) -> Outcome:
    run.event("interrupted", reason=str(error))
    lines = (f"interrupted: {error}", f"run the same command again to continue {run.path}")
    return Outcome(ExitCode.INTERRUPTED, lines)


def _closing_lines(run: RunDirectory, verdict: dict[str, Any], page: Path) -> tuple[str, ...]:
    cautions = "".join(f" Caution: {caution['text']}" for caution in verdict["cautions"])
    return (
        *table(verdict),
        "",
        f"verdict  {verdict['verdict'].upper()}: {verdict['summary']}{cautions}",
        f"figures  {_figures(verdict)}",
        f"look at  {page}  (numbers: {run.verdict}, log: {run.log})",
    )


def _figures(verdict: dict[str, Any]) -> str:
    """The few numbers that everybody asks for first; of several proteins the worst."""
    wanted = {
        "forces.error": "force RMSE {value:.3f} (prior only {reference:.3f}) kcal/mol/Å",
        "stability.survival": "survival {value:.0%}",
        "nve.drift": "NVE drift {value:.3g} ± {error:.2g} kcal/mol/ns",
        "structure.q": "Q differs by {value:.2f} ± {error:.2f}",
    }
    parts = []
    for name, form in wanted.items():
        found = [c for c in verdict["checks"] if c["check"] == name and None not in (c["value"], c["error"])]
        if not found:
            continue
        worst = worst_of(found, "at least" if name == "stability.survival" else "at most")
        reference = worst["reference"] if worst["reference"] is not None else float("nan")
        text = form.format(value=worst["value"], error=worst["error"], reference=reference)
        parts.append(f"{text} ({worst['subject']})" if len(found) > 1 else text)
    return ", ".join(parts) or "none were measured"

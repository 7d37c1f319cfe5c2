"""The stage `validate`: from the files of a run to `metrics.json` and `plots.json`."""

import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cgloop.checks import Check, CheckResult, jsonable
from cgloop.config import Config
from cgloop.config.validate import ValidateConfig
from cgloop.data.dataset import DatasetReader
from cgloop.data.refined import read_refined
from cgloop.errors import UserError
from cgloop.interrupt import check_stop
from cgloop.progress import progress
from cgloop.stages import write_json
from cgloop.validate import (
    artifact,
    network,
    nve,
    nvt,
    nvt_ensemble,
    order,
    stability,
    static,
    training,
    transfer,
    uncertainty,
)
from cgloop.validate.control_runs import ControlRuns, beside, read_controls
from cgloop.validate.family import FAMILIES
from cgloop.validate.figures import plots_of
from cgloop.validate.gate import SCHEMA_VERSION
from cgloop.validate.inputs import inputs_of
from cgloop.validate.known_bad import known_bad_control
from cgloop.validate.lineages import require_proteins
from cgloop.validate.observables import Frames, observe
from cgloop.validate.plots import ProteinPlots, plot_data
from cgloop.validate.reference import SAME_TEMPERATURE_K, Reference, read_reference
from cgloop.validate.rundata import StageRun
from cgloop.validate.structural import Controls, note_whole, structural_results
from cgloop.validate.trajectory import Asked, read_json, read_minimized, read_stage

log = logging.getLogger("cgloop.validate")


@dataclass(frozen=True)
class Measured:
    """Everything that is measured of one protein."""

    checks: list[CheckResult]
    controls: Controls
    known_bad: dict[str, dict[str, Any]]
    prior_only: dict[str, Any]
    statistics: dict[str, Any]
    trained_frames: int
    plots: ProteinPlots


def validate_run(
    config: Config,
    md_dir: Path,
    dataset_dir: Path,
    parity_json: Path,
    train_dir: Path,
    out: Path,
    control_dir: Path | None = None,
) -> dict[str, Any]:
    """Measure everything, and write `metrics.json` and `plots.json` into `out`.

    Args:
        config: limits, and the MD settings that the run was made with.
        md_dir: holds `md.json`, `<protein>/<stage>/…`, and `uncertainty.json` if there is an ensemble.
        dataset_dir: the reference.
        parity_json: what parity found; `static.json` lies beside it.
        train_dir: holds `forces.json`, `force_errors.npz`, `history.json` and `summary.json`, and `refine.json` if the
            training was refined.
        out: folder, made if it is not there.
        control_dir: holds `control.json`; None: there were no controls.

    Returns:
        Contents of `metrics.json`.

    Raises:
        UserError: one of the inputs is missing or cannot be understood.
    """
    settings = config.validate_
    md = read_json(md_dir / "md.json", "run `cgloop md` again")
    parity = read_json(parity_json, "run `cgloop parity` again")
    forces = read_json(train_dir / "forces.json", "run `cgloop train` again")
    refined = read_refined(train_dir)
    ensemble = uncertainty.read_uncertainty(md_dir)
    reader = DatasetReader.open(dataset_dir)
    require_proteins(reader.names, settings.lineages)
    temperature = _temperature(md, md_dir)
    checks = [
        *static.read_static(parity_json.parent, settings),
        *artifact.parity_checks(parity, config.parity),
        *training.read_converged(train_dir, settings),
        artifact.force_error_check(forces),
        *(network.read_network(train_dir, forces, settings) if config.model.energy == "hybrid" else []),
    ]
    names = sorted(md["proteins"])
    measured: dict[str, Measured] = {}
    with progress("validate", total=len(names), unit="protein") as bar:
        for name in names:
            check_stop()
            reference = read_reference(reader, name, temperature, settings, refined.get(name))
            controls = None
            if control_dir is not None:
                controls = read_controls(control_dir, name, reference.data.residue_type, config)
            measured[name] = measure_protein(config, md, md_dir / name, reference, temperature, controls)
            bar.advance(1)
    for name in names:
        untrained = md["proteins"][name].get("untrained_types") or []
        own = [*measured[name].checks, *uncertainty.disagreement_checks(ensemble, name)]
        own = _with_caveats(own, untrained, temperature)
        checks += [*own, *transfer.unseen_check(own, measured[name].trained_frames, untrained, name)]
    metrics = jsonable(
        {
            "schema_version": SCHEMA_VERSION,
            "temperature": temperature,
            "proteins": {
                name: {
                    "gated": temperature["gated"],
                    "replicas": int(md["replicas"]),
                    "untrained_types": md["proteins"][name].get("untrained_types") or [],
                    "reference": measured[name].statistics,
                    "minimization": _moved(measured[name].checks),
                }
                for name in names
            },
            "checks": [check.to_json() for check in checks],
            "controls": {
                "reference": {name: measured[name].controls.reference for name in names},
                "power": {name: measured[name].controls.power for name in names if measured[name].controls.power},
                "known_bad": {name: measured[name].known_bad for name in names},
                "prior_only": {name: measured[name].prior_only for name in names},
            },
            "settings": settings.model_dump(mode="json"),
        }
    )
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "metrics.json", metrics)
    plots = plot_data({name: measured[name].plots for name in names})
    plots["checks"] = plots_of(checks)
    # Without indentation: this file is for the page, and ten times smaller that way.
    (out / "plots.json").write_text(json.dumps(plots, sort_keys=True) + "\n", encoding="utf-8")
    return metrics


def _moved(checks: list[CheckResult]) -> dict[str, Any]:
    """Return how far minimization moved a protein, and the limit of the caution, from the results of its checks."""
    detail = next((one.detail for one in checks if one.check == artifact.MINIMIZED.name), {})
    return {name: detail[name] for name in ("max_rmsd_A", "rmsd_caution_A") if name in detail}


def _temperature(md: dict[str, Any], md_dir: Path) -> dict[str, Any]:
    try:
        at, of = float(md["temperature_K"]), float(md["model_temperature_K"])
        if not isinstance(md["proteins"], dict) or not md["proteins"]:
            raise ValueError
        int(md["replicas"]), float(md["timestep_fs"]), float(md["asked_ps"]["nvt"]), float(md["asked_ps"]["nve"])
    except (KeyError, TypeError, ValueError):
        raise UserError(
            "does not say what was asked", where=md_dir / "md.json", remedy="run `cgloop md` again"
        ) from None
    return {"md_K": at, "model_K": of, "gated": abs(at - of) < SAME_TEMPERATURE_K}


def measure_protein(
    config: Config,
    md: dict[str, Any],
    folder: Path,
    reference: Reference,
    temperature: dict[str, Any],
    controls: ControlRuns | None = None,
) -> Measured:
    """All checks, controls and plot data of one protein.

    Args:
        config: limits and record intervals.
        md: contents of `md.json`, which says what was asked.
        folder: `md/<protein>`.
        reference: of the protein.
        temperature: see `_temperature`.
        controls: runs beside those of the model.
    """
    settings, name = config.validate_, reference.name
    types, linked = reference.data.residue_type, reference.data.linked
    runs = {
        stage: read_stage(folder / stage, name, stage, types, _asked(config, md, stage)) for stage in ("nvt", "nve")
    }
    minimized, problems = read_minimized(folder / "minimize")
    checks = [
        artifact.minimize_check(
            minimized, int(md["replicas"]), problems, config.md.minimize.force_tolerance, settings, name
        ),
        stability.survival_check(list(runs.values()), reference.bonds_A, linked, config.md.monitors, settings),
        _incomplete(nvt.TEMPERATURE, runs["nvt"]) or nvt.temperature_check(runs["nvt"], settings),
        _incomplete(nvt_ensemble.DISTRIBUTION, runs["nvt"]) or nvt_ensemble.distribution_check(runs["nvt"], settings),
        _incomplete(nvt_ensemble.EQUIPARTITION, runs["nvt"]) or nvt_ensemble.equipartition_check(runs["nvt"], settings),
        _incomplete(nve.DRIFT, runs["nve"]) or nve.drift_check(runs["nve"], settings),
        _order(controls, settings, runs["nvt"]),
    ]
    model = _observed(runs["nvt"], reference, settings)
    structural = _structural(runs["nvt"], model, reference)
    note_whole(structural, [frames for _, frames in model], reference)
    checks += structural
    alone = _prior_only(controls, checks, reference, config)
    own, known_bad = Controls.of(reference), {}
    if reference.frames:
        known_bad = known_bad_control(reference, config, int(md["replicas"]), own.reference)
    checks = [replace(check, inputs=check.inputs or inputs_of(check, config, reference)) for check in checks]
    plots = ProteinPlots(runs["nvt"], runs["nve"], model, reference.frames, reference.protein)
    statistics = {**reference.description, "relaxing": reference.target.relaxing()}
    return Measured(checks, own, known_bad, alone, statistics, reference.trained_frames, plots)


def _structural(run: StageRun, model: list[tuple[int, Frames]], reference: Reference) -> list[CheckResult]:
    return structural_results(
        [frames for _, frames in model],
        reference,
        lambda check: _incomplete(check, run) or _without_reference(check, run, reference),
    )


def _observed(run: StageRun, reference: Reference, settings: ValidateConfig) -> list[tuple[int, Frames]]:
    """Observables of every replica whose frames are numbers, with its number."""
    return [
        (replica.number, observe(replica.positions, reference.protein, settings))
        for replica in run.replicas
        if len(replica.positions) and np.isfinite(replica.positions).all()
    ]


def _order(controls: ControlRuns | None, settings: ValidateConfig, nvt_run: StageRun) -> CheckResult:
    if controls is None:
        return CheckResult(
            check=order.ORDER.name, subject=nvt_run.protein, value=None, error=0.0, threshold=None,
            verdict="inconclusive", reason="not measured: no runs with shorter time steps were made (stage `control`)",
        )  # fmt: skip
    runs = list(controls.order.values())
    if not any(run.replicas_asked for run in runs):
        return order.without_starts(nvt_run)
    faults = [result for run in runs if (result := _incomplete(order.ORDER, run))]
    return faults[0] if faults else order.order_check(controls.order, settings)


def _prior_only(
    controls: ControlRuns | None, checks: list[CheckResult], reference: Reference, config: Config
) -> dict[str, Any]:
    """What the prior alone is worth in the checks of the model, noted in these, too."""
    if controls is None:
        return {}
    run = controls.prior_only
    if run is None:
        return {"reason": controls.why_not}
    frames = _observed(run, reference, config.validate_)
    survival = stability.survival_check(
        [run], reference.bonds_A, reference.data.linked, config.md.monitors, config.validate_
    )
    return {"checks": beside(checks, [survival, *_structural(run, frames, reference)])}


def _asked(config: Config, md: dict[str, Any], stage: str) -> Asked:
    timestep_fs = float(md["timestep_fs"])

    def steps(length_ps: float) -> int:
        return max(1, round(length_ps * 1000.0 / timestep_fs))

    return Asked(
        replicas=int(md["replicas"]),
        steps=steps(float(md["asked_ps"][stage])),
        timestep_fs=timestep_fs,
        temperature_K=float(md["temperature_K"]),
        dump_every_steps=steps(config.md.dump_every_ps),
        observe_every_steps=steps(config.md.observe_every_ps),
        at_rest=stage == "nve" or config.md.nvt.conserves_momentum,
    )


def _incomplete(check: Check, run: StageRun) -> CheckResult | None:
    """A failed result if data are missing or not finite: a shorter average would hide what broke."""
    faults = run.unfinished() + run.non_finite()
    if not faults:
        return None
    return CheckResult(
        check=check.name, subject=run.protein, value=None, error=0.0, threshold=None, verdict="fail",
        reason="; ".join(faults[:3]), unit=check.unit, detail={"incomplete": True},
    )  # fmt: skip


def _without_reference(check: Check, run: StageRun, reference: Reference) -> CheckResult | None:
    if reference.frames:
        return None
    return CheckResult(
        check=check.name, subject=run.protein, value=None, error=0.0, threshold=None, verdict="inconclusive",
        reason=f"there is no reference at {run.temperature_K:g} K", unit=check.unit,
    )  # fmt: skip


def _with_caveats(checks: list[CheckResult], untrained: list[str], temperature: dict[str, Any]) -> list[CheckResult]:
    """Verdicts that a wrong temperature or untrained residue types do not allow are taken back."""
    out = []
    for check in checks:
        if not temperature["gated"]:
            detail = {**check.detail, "ungated_verdict": check.verdict}
            reason = f"{check.reason}; not gated at a temperature other than the model's"
            check = replace(check, verdict="reported", reason=reason, detail=detail)
        elif untrained and check.verdict == "pass" and check.check.split(".")[0] in FAMILIES:
            reason = f"{check.reason}, but the model has learned nothing about {', '.join(untrained)}"
            check = replace(check, verdict="inconclusive", reason=reason, measured=check.reason)
        out.append(check)
    return out

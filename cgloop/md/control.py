"""The stage `control`: dynamics beside the model's, to see what these are worth.

The prior without the network, with the same starts and random numbers, says what is not the model's merit. The model
with half and a quarter of the time step says whether its integration is of second order.
"""

import logging
from pathlib import Path
from typing import Any

from cgloop.checks import jsonable
from cgloop.config import Config
from cgloop.data.dataset import DatasetReader
from cgloop.export.bundle import load_bundle
from cgloop.md.control_job import (
    ORDER,
    PRIOR_ONLY,
    STEP_FACTORS,
    control_config,
    order_folder,
    plan_order,
    why_no_prior_only,
)
from cgloop.md.merge import read_outcomes, read_timing
from cgloop.md.plan import Plan, plan_nvt
from cgloop.md.ranks import run_replicas
from cgloop.md.supervise import Workplace
from cgloop.md.system import simulated_proteins
from cgloop.rundir import write_config
from cgloop.stages import remove_folder, write_json
from cgloop.units import FS_PER_PS

log = logging.getLogger("cgloop.md")

PRIOR_STAGES = ("minimize", "nvt")


def control_stage(
    config: Config, bundle_dir: Path, dataset_dir: Path, md_dir: Path, out: Path, log_file: Path | None = None
) -> dict[str, Any]:
    """Run the controls of every protein that was simulated, and write `control.json` beside their folders.

    `<protein>/prior_only/` holds `minimize` and `nvt` as `md` writes them, `<protein>/order/dt_1`, `dt_2` and `dt_4`
    each a short run at constant energy. Processes are those of `md_stage`. A run that was stopped goes on where it was.

    Args:
        config: sections `control`, `md` and `run`.
        bundle_dir: the model, as exported.
        dataset_dir: start frames, reference bond lengths.
        md_dir: the dynamics.
        out: folder that exists; it may hold what an earlier attempt left.
        log_file: that the processes append to.

    Returns:
        Contents of `control.json`: what was asked, and what became of every replica.

    Raises:
        UserError: damaged bundle or data set.
        Interrupted: stopped on request.
    """
    own, reader = control_config(config), DatasetReader.open(dataset_dir)
    load_bundle(bundle_dir)  # what is damaged is said before anything is simulated
    names = simulated_proteins(reader, config.md, config.data.temperature_K)
    replicas = min(config.control.replicas, config.md.replicas)
    jobs_dir = out / ".jobs"
    jobs_dir.mkdir(exist_ok=True)
    write_config(own, jobs_dir / "config.yaml")
    place = Workplace(jobs_dir / "config.yaml", bundle_dir, dataset_dir, jobs_dir, log_file, controls_of=md_dir)
    left_out = why_no_prior_only(config.model.energy)
    if left_out:
        log.info("no dynamics of the prior alone: %s", left_out)
    folders = _folders(not left_out)
    run_replicas([name for name in names if not (out / name).is_dir()], replicas, own, place, out, folders)
    result = {
        "engine": own.md.engine,
        "temperature_K": config.md_temperature_K,
        "timestep_fs": config.md.timestep_fs,
        "replicas": replicas,
        "prior_only": {
            "run": not left_out,
            "reason": left_out,
            **_asked(plan_nvt(own.md, config.md_temperature_K, 1, 0)),
        },
        "order": {"factors": STEP_FACTORS, **_asked(plan_order(own, 1, 0, 1))},
        "proteins": {name: _describe(out / name, bool(left_out)) for name in names},
    }
    timing = {
        name: {
            PRIOR_ONLY: {} if left_out else read_timing(out / name / PRIOR_ONLY / "nvt"),
            ORDER: {order_folder(k): read_timing(out / name / ORDER / order_folder(k)) for k in STEP_FACTORS},
        }
        for name in names
    }
    write_json(out / "control.json", jsonable(result))
    write_json(out / "timing.json", jsonable(timing))
    remove_folder(jobs_dir)
    return result


def _folders(prior_only: bool) -> list[str]:
    """Folders of runs of a protein, relative to its own."""
    orders = [f"{ORDER}/{order_folder(k)}" for k in STEP_FACTORS]
    return [*(f"{PRIOR_ONLY}/{stage}" for stage in PRIOR_STAGES if prior_only), *orders]


def _asked(plan: Plan) -> dict[str, float]:
    clock = plan.clock
    return {
        "steps": clock.steps,
        "length_ps": clock.steps * clock.timestep_fs / FS_PER_PS,
        "equilibration_ps": clock.equilibration_steps * clock.timestep_fs / FS_PER_PS,
    }


def _describe(folder: Path, no_prior_only: bool) -> dict[str, Any]:
    """What became of the controls of one protein, by replica."""
    found: dict[str, Any] = {
        ORDER: {order_folder(k): read_outcomes(folder / ORDER / order_folder(k)) for k in STEP_FACTORS}
    }
    if not no_prior_only:
        found[PRIOR_ONLY] = {stage: read_outcomes(folder / PRIOR_ONLY / stage) for stage in PRIOR_STAGES}
        survived = [bool(one["survived"]) for one in found[PRIOR_ONLY]["nvt"].values()]
        log.info("%s with the prior alone: %d of %d replicas survived", folder.name, sum(survived), len(survived))
    return found

"""The stage `md`: every protein minimised, run under the thermostat and at constant energy."""

import logging
from pathlib import Path
from typing import Any, NamedTuple

from cgloop.checks import jsonable
from cgloop.config import Config
from cgloop.data.dataset import DatasetReader
from cgloop.export.bundle import Bundle, load_bundle
from cgloop.md.continuation import continue_jobs
from cgloop.md.external_stage import require_lmp
from cgloop.md.job import STAGES, read_system
from cgloop.md.merge import read_outcomes, read_timing
from cgloop.md.ranks import run_replicas
from cgloop.md.session import lammps_version
from cgloop.md.supervise import Workplace
from cgloop.md.system import System, simulated_proteins, start_frames
from cgloop.md.uncertainty import write_uncertainty
from cgloop.residues import RESIDUES
from cgloop.rundir import write_config
from cgloop.stages import remove_folder, write_json

log = logging.getLogger("cgloop.md")


class Shorter(NamedTuple):
    """Dynamics in a folder of the stage that differ from those to be run in their lengths alone."""

    folder: Path
    nvt_longer: bool


def md_stage(
    config: Config,
    bundle_dir: Path,
    dataset_dir: Path,
    out: Path,
    train_dir: Path | None = None,
    log_file: Path | None = None,
    shorter: Shorter | None = None,
) -> dict[str, Any]:
    """Run proteins through `minimize`, `nvt` and `nve`, and write `md.json` beside their folders.

    Proteins, and parts of their replicas, run in processes side by side, or in one on each MPI rank. A stage that was
    stopped goes on where it was. Beside `md.json` is `uncertainty.json` if an ensemble was trained.

    Args:
        config: section `md`, which proteins among others, the temperature, the seed.
        bundle_dir: the model, as exported.
        dataset_dir: start frames, reference bond lengths.
        out: folder that exists; it may hold what an earlier attempt left.
        train_dir: the training, whose ensemble is asked about the frames of `nvt`; None for none.
        log_file: that the processes append to.
        shorter: dynamics that these are longer than, to go on from; None for none.

    Returns:
        Contents of `md.json`: what was asked, and what became of every replica.

    Raises:
        UserError: damaged bundle or data set, unknown protein, no held-out frames of any, damaged ensemble.
        Interrupted: stopped on request.
    """
    bundle, reader = load_bundle(bundle_dir), DatasetReader.open(dataset_dir)
    names = simulated_proteins(reader, config.md, config.data.temperature_K)
    for name in names:  # what cannot be simulated is said before anything is
        start_frames(reader, name, config.data.temperature_K, config.md.replicas)
    jobs_dir = out / ".jobs"
    jobs_dir.mkdir(exist_ok=True)
    external = config.md.engine == "lmp"
    lammps = require_lmp(config.md, bundle, jobs_dir / ".probe") if external else lammps_version()
    write_config(config, jobs_dir / "config.yaml")
    place = Workplace(jobs_dir / "config.yaml", bundle_dir, dataset_dir, jobs_dir, log_file)
    missing = [name for name in names if not (out / name).is_dir()]
    if shorter is not None and not external:
        continue_jobs(shorter.folder, missing, shorter.nvt_longer, jobs_dir)
    run_replicas(missing, config.md.replicas, config, place, out)
    proteins, timing, systems = {}, {}, {}
    for name in names:
        systems[name] = read_system(config, reader, name)
        proteins[name] = _describe(config, bundle, reader, systems[name], out / name)
        timing[name] = {stage: read_timing(out / name / stage) for stage in STAGES[1:]}
    if train_dir is not None:
        write_uncertainty(train_dir, systems, out)
    result = {
        "engine": config.md.engine,
        "thermostat": "lammps-langevin" if external else config.md.nvt.thermostat,
        "temperature_K": config.md_temperature_K,
        "model_temperature_K": bundle.temperature_K,
        "timestep_fs": config.md.timestep_fs,
        "replicas": config.md.replicas,
        "seed": config.run.seed,
        "lammps": lammps,
        "asked_ps": {
            "nvt_equilibration": config.md.nvt.equilibration_ps,
            "nvt": config.md.nvt.length_ps,
            "nve": config.md.nve.length_ps,
        },
        "friction_per_ps": config.md.nvt.friction_per_ps,
        "limits": config.md.monitors.model_dump(),
        "proteins": proteins,
    }
    write_json(out / "md.json", jsonable(result))
    write_json(out / "timing.json", jsonable(timing))
    remove_folder(jobs_dir)
    return result


def _describe(config: Config, bundle: Bundle, reader: DatasetReader, system: System, folder: Path) -> dict[str, Any]:
    """What became of one protein."""
    starts = start_frames(reader, system.name, config.data.temperature_K, config.md.replicas)
    stages = {stage: {"replicas": list(read_outcomes(folder / stage).values())} for stage in STAGES}
    for stage in STAGES[1:]:
        survived = sum(outcome["survived"] for outcome in stages[stage]["replicas"])
        log.info("%s %s: %d of %d replicas survived", system.name, stage, survived, config.md.replicas)
    trained = {entry["id"] for entry in bundle.manifest["types"] if entry["trained"]}
    untrained = set(system.residue_type.tolist()) - trained if bundle.model.has_ml else set()
    return {
        "n_beads": system.n_beads,
        "starts": [starts.describe(replica) for replica in range(config.md.replicas)],
        "untrained_types": sorted(RESIDUES[kind].name for kind in untrained),
        "stages": stages,
    }

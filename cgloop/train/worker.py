"""Training on all tasks of a job: `train_on_tasks` is called by the process that leads, `main` is run by each task."""

import argparse
import logging
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from cgloop.config import Config, load_config
from cgloop.executors.launch import run_on_tasks, run_task
from cgloop.executors.world import World
from cgloop.rundir import write_config

log = logging.getLogger("cgloop.train")


def train_on_tasks(
    tasks: int,
    config: Config,
    dataset_dir: Path,
    priors_yaml: Path,
    out: Path,
    init_params: Path | None = None,
    log_file: Path | None = None,
    decoys: Sequence[Path] = (),
) -> None:
    """As `train_stage`, on so many tasks of this job. Raises what that raises, and RuntimeError if a task breaks."""
    config_file = out / ".config.yaml"
    write_config(config, config_file)
    paths = {"--config": config_file, "--dataset": dataset_dir, "--priors": priors_yaml, "--out": out}
    if init_params is not None:
        paths["--start"] = init_params
    arguments = [part for name, path in paths.items() for part in (name, str(path.resolve()))]
    arguments += [part for path in decoys for part in ("--decoys", str(path.resolve()))]
    try:
        run_on_tasks(tasks, "cgloop.train.worker", arguments, out, log_file)
    finally:
        config_file.unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> int:
    """Train as one of several processes; the exit code is for `run_on_tasks`."""
    parser = argparse.ArgumentParser(prog="python -m cgloop.train.worker", description=__doc__)
    for name in ("config", "dataset", "priors", "out", "start"):
        parser.add_argument(f"--{name}", type=Path, required=name != "start")
    parser.add_argument("--decoys", type=Path, action="append", default=[])
    return run_task(partial(_train, parser.parse_args(arguments)))


def _train(given: argparse.Namespace, world: World) -> None:
    from cgloop.train.stage import train_stage

    if not world.is_primary:
        logging.getLogger("cgloop").setLevel(logging.WARNING)
    places = (given.dataset, given.priors, given.out)
    train_stage(load_config(given.config), *places, init_params=given.start, decoys=given.decoys)


if __name__ == "__main__":
    sys.exit(main())

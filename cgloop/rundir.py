"""The run directory: where everything of a run lives, how it is opened for work, and the record of what happened."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from cgloop.config import Config, load_config
from cgloop.config.load import parse_config
from cgloop.console import log_to_file
from cgloop.errors import UserError
from cgloop.executors.world import refuse_copies
from cgloop.interrupt import stop_on_signals
from cgloop.jax_environment import environment_warnings
from cgloop.lock import locked
from cgloop.stages import explained, read_record, require_space

log = logging.getLogger("cgloop.cycle")

STAGES = ("prep", "priors", "train", "refine", "export", "parity", "md", "control", "validate", "feedback")
"""Folders of a cycle, in the order in which they are made; `refine` only where the training is refined."""


class RunDirectory:
    """Paths of a run, and its events."""

    def __init__(self, path: Path):
        self.path = Path(path)

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def verdict(self) -> Path:
        return self.path / "verdict.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def log(self) -> Path:
        return self.path / "cgloop.log"

    @property
    def deploy(self) -> Path:
        return self.path / "deploy"

    def cycle(self, index: int) -> Path:
        return self.path / f"cycle_{index:03d}"

    def stage(self, index: int, name: str) -> Path:
        return self.cycle(index) / name

    def cycles(self) -> list[int]:
        """Indices of the cycles that exist."""
        return sorted(int(p.name[6:]) for p in self.path.glob("cycle_[0-9][0-9][0-9]") if p.is_dir())

    def event(self, kind: str, **fields: Any) -> None:
        """Append one line to `events.jsonl`."""
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": kind, **fields}
        with open(self.path / "events.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(line, default=str, ensure_ascii=False) + "\n")


def read_run(target: Path, overrides: tuple[str, ...] = ()) -> tuple[Config, RunDirectory]:
    """Config and run directory that `target` (a config file, or a run directory) stands for.

    Args:
        target: a YAML config, or the directory of a run, whose `config.yaml` is then used.
        overrides: `key.subkey=value` texts that replace values of the config.

    Raises:
        UserError: there is no such config, or it is wrong.
    """
    target = Path(target)
    if target.is_dir():
        if not (target / "config.yaml").is_file():
            raise UserError("not a run directory: it has no config.yaml", where=target, remedy="give a config file")
        return _override(load_config(target / "config.yaml"), target / "config.yaml", overrides), RunDirectory(target)
    config = _override(load_config(target), target, overrides)
    return config, RunDirectory(config.run.root / config.run.name)


def trained_folder(cycle: Path) -> Path:
    """Return the folder of a cycle's parameters, which a later one starts from: the refined ones where there are any.

    Args:
        cycle: folder of the cycle.
    """
    refined = cycle / "refine"
    return refined if read_record(refined) is not None else cycle / "train"


def find_params(place: Path) -> Path:
    """The params.safetensors that `place` means: itself, or that of a bundle, a stage, a `deploy` folder, or the newest
    cycle of a run.

    Raises:
        UserError: there is none.
    """
    place = Path(place)
    if place.is_file():
        return place
    cycles = sorted(place.glob("cycle_[0-9][0-9][0-9]"), reverse=True)
    for folder in (place, place / "bundle", *map(trained_folder, cycles)):
        if (path := folder / "params.safetensors").is_file():
            return path
    raise UserError("no trained parameters here", where=place, remedy="give a run after `cgloop train`, or a bundle")


def _override(config: Config, path: Path, overrides: tuple[str, ...]) -> Config:
    if not overrides:
        return config
    # The file as it is, so that what a changed preset or network decides is decided anew.
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    for text in overrides:
        key, separator, value = text.partition("=")
        if not separator:
            raise UserError(f"--set {text}: not of the form key.subkey=value")
        *sections, last = key.strip().split(".")
        section = data
        for name in sections:
            if section.get(name) is None:
                section[name] = {}
            section = section[name]
            if not isinstance(section, dict):
                raise UserError(f"--set {text}: `{name}` holds no keys", where=path, remedy="write it into the config")
        section[last] = yaml.safe_load(value)
    return parse_config(yaml.safe_dump(data, sort_keys=False), Path(f"{path} with --set"))


def as_plain(config: Config) -> dict[str, Any]:
    """The config as plain data, with everything that was a default written out."""
    return config.model_dump(mode="json", by_alias=True)


def write_config(config: Config, path: Path) -> None:
    """Write the resolved config as YAML."""
    text = yaml.safe_dump(as_plain(config), sort_keys=False, allow_unicode=True)
    path.write_text(text, encoding="utf-8")


@contextmanager
def opened(config: Config, run: RunDirectory, *, take_over: bool = False) -> Iterator[None]:
    """Hold a run directory for work: created, locked, logged, with signals turned into stop requests.

    Raises:
        UserError: it cannot be written, the disk is full, another process works in it, or several copies of this
            command were started.
    """
    refuse_copies()
    with explained(run.path):
        require_space(run.path, config.run.min_free_gb)
        run.path.mkdir(parents=True, exist_ok=True)
        with locked(run.path, take_over=take_over), stop_on_signals(config.run.time_limit_minutes):
            handler = log_to_file(run.log)
            try:
                for warning in environment_warnings():
                    log.warning("%s", warning)
                write_config(config, run.config)
                yield
            finally:
                logging.getLogger("cgloop").removeHandler(handler)
                handler.close()

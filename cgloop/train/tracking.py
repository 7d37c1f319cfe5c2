"""The course of a training for those who watch: `metrics.jsonl` and TensorBoard always, a tracking service on request.

An epoch that is repeated after an interruption replaces what was said of it. TensorBoard's files are written by
tensorboardX, which needs neither TensorFlow nor PyTorch.
"""

import importlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from cgloop.config.train import TrackingConfig
from cgloop.errors import UserError
from cgloop.stages import write_text

log = logging.getLogger("cgloop.train")

METRICS, BOARD = "metrics.jsonl", "tensorboard"

Row = Mapping[str, float]


class Service(Protocol):
    """Where rows go."""

    def write(self, row: Row) -> None: ...

    def close(self) -> None: ...


class Tracker:
    """Hands the row of every epoch to all who want it; use as a context manager."""

    def __init__(self, folder: Path, config: TrackingConfig, name: str, settings: Mapping[str, Any]):
        """Open.

        Args:
            folder: of the training.
            config: which service, if any.
            name: of the run.
            settings: plain data, shown by a service beside the curves.

        Raises:
            UserError: the service's package is not installed.
        """
        self._services: list[Service] = [JsonLines(folder / METRICS), TensorBoard(folder / BOARD)]
        if config.service != "none":
            kind: Any = {"wandb": WeightsAndBiases, "mlflow": MLflow}[config.service]
            self._services.append(kind(folder, config.project or "cgloop", name, settings))

    def write(self, row: Row) -> None:
        """The row of an epoch that was finished; it has a key "epoch"."""
        for service in self._services:
            service.write(row)

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, *exception: Any) -> None:
        for service in self._services:
            service.close()


class JsonLines:
    """One line an epoch; the file is whole after every line."""

    def __init__(self, path: Path):
        self._path = path
        self._rows = _rows_of(path)

    def write(self, row: Row) -> None:
        kept = [one for one in self._rows if one["epoch"] < row["epoch"]]
        if len(kept) == len(self._rows):
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(_line(row))
        else:
            write_text(self._path, "".join(_line(one) for one in [*kept, row]))
        self._rows = [*kept, dict(row)]

    def close(self) -> None:
        pass


def _rows_of(path: Path) -> list[dict[str, float]]:
    """Rows that an earlier attempt left; a line that a kill cut off is dropped, in the file, too."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    path.write_text("".join(_line(row) for row in rows), encoding="utf-8")
    return rows


def _line(row: Row) -> str:
    return json.dumps(dict(row), sort_keys=True) + "\n"


class TensorBoard:
    """Scalars by epoch."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._writer: Any = None

    def write(self, row: Row) -> None:
        if self._writer is None:
            from tensorboardX import SummaryWriter

            # What an earlier attempt said of this epoch and later ones is struck out. Names have whole seconds only.
            epoch = int(row["epoch"])
            self._writer = SummaryWriter(str(self._folder), purge_step=epoch, filename_suffix=f".{epoch}.{os.getpid()}")
        for name, value in row.items():
            if name != "epoch":
                self._writer.add_scalar(_tag(name), value, int(row["epoch"]))
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _tag(name: str) -> str:
    """`loss/train` of `train_loss`, so that curves that belong together are drawn together."""
    part, _, quantity = name.partition("_")
    return f"{quantity}/{part}" if part in ("train", "validation") else name


class WeightsAndBiases:
    """wandb.ai, or its offline files with WANDB_MODE=offline."""

    def __init__(self, folder: Path, project: str, name: str, settings: Mapping[str, Any]):
        # Its files are no result of the stage: beside its folder.
        place = str(folder.resolve().parent)
        self._run = _package("wandb").init(project=project, name=name, dir=place, config=dict(settings))

    def write(self, row: Row) -> None:
        self._run.log({_tag(name): value for name, value in row.items()}, step=int(row["epoch"]))

    def close(self) -> None:
        self._run.finish()


class MLflow:
    """The server of MLFLOW_TRACKING_URI."""

    def __init__(self, folder: Path, project: str, name: str, settings: Mapping[str, Any]):
        self._package = _package("mlflow")
        self._package.set_experiment(project)
        self._package.start_run(run_name=name)
        self._package.log_params({key: str(value)[:500] for key, value in settings.items()})

    def write(self, row: Row) -> None:
        self._package.log_metrics({_tag(name): float(value) for name, value in row.items()}, step=int(row["epoch"]))

    def close(self) -> None:
        self._package.end_run()


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(
            f"`train.tracking.service: {name}`, but the package is not installed",
            remedy=f"`pip install {name}`, or `service: none`",
        ) from None

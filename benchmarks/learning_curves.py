"""Force errors over epochs and over the number of training frames: python -m benchmarks.learning_curves RUN OUT

RUN is the directory or config of a run whose `prep` is done. For each number of frames, evenly chosen from the training
frames, priors are fitted and two models are trained from them, prior and network (`hybrid`) and network alone
(`ml-only`), with as many steps whatever the number of frames. All are judged on the same test frames. OUT gets the
trainings, those that are there are not repeated, and `learning-curves.json`.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cgloop.allocator import share_memory
from cgloop.config import Config
from cgloop.data.dataset import SPLITS, DatasetReader, write_manifest, write_protein
from cgloop.priors.stage import fit_stage
from cgloop.rundir import read_run
from cgloop.train.stage import train_stage

FRAMES = (125, 250, 500, 1000)
ENERGIES = ("hybrid", "ml-only")


def main(config_file: Path, out: Path) -> None:
    config, run = read_run(config_file)
    reader = DatasetReader.open(run.stage(0, "prep"))
    rows = [row for n in FRAMES for row in _with_frames(reader, config_file, n, out)]
    result = {
        "config": config.run.name,
        "proteins": reader.names,
        "preset": config.model.preset,
        "seed": config.run.seed,
        "unit": "kcal/mol/Å",
        "rows": rows,
    }
    (out / "learning-curves.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _with_frames(reader: DatasetReader, config_file: Path, n: int, out: Path) -> list[dict[str, Any]]:
    dataset = out / f"data_{n}"
    dataset.mkdir(parents=True, exist_ok=True)
    for name in reader.names:
        write_protein(dataset / f"{name}.h5", _fewer(reader, name, n), {"mapping": "ca", "projection": "optimal"})
    write_manifest(dataset, reader.names, temperature_K=reader.temperature_K, mapping="ca", projection="optimal")
    return [_train(config_file, dataset, energy, n, out) for energy in ENERGIES]


def _fewer(reader: DatasetReader, name: str, n: int) -> Any:
    """A protein of which so many training frames are used, in proportion to its share of all."""
    whole = reader.load(name)
    total = sum(reader.count(one, "train") for one in reader.names)
    train = np.flatnonzero(whole.split == SPLITS["train"])
    own = max(1, round(n * len(train) / total))
    split = whole.split.copy()
    split[train] = SPLITS["unused"]
    split[train[(2 * np.arange(own) + 1) * len(train) // (2 * own)]] = SPLITS["train"]
    return replace(whole, split=split)


def _train(config_file: Path, dataset: Path, energy: str, n: int, out: Path) -> dict[str, Any]:
    plain: Config = read_run(config_file)[0]
    longer = max(FRAMES) / n
    config, _ = read_run(
        config_file,
        (
            f"model.energy={energy}",
            f"train.epochs={round(plain.train.epochs * longer)}",
            f"train.patience_epochs={round(plain.train.patience_epochs * longer)}",
        ),
    )
    priors, folder = out / f"priors_{n}", out / f"train_{energy}_{n}"
    if not (priors / "priors.yaml").exists():
        priors.mkdir(exist_ok=True)
        fit_stage(dataset, config, priors)
    if not (folder / "forces.json").exists():
        folder.mkdir(exist_ok=True)
        train_stage(config, dataset, priors / "priors.yaml", folder)
    forces = json.loads((folder / "forces.json").read_text())
    history = json.loads((folder / "history.json").read_text())
    return {
        "frames": n,
        "energy": energy,
        "rmse": {mode: forces["modes"][mode]["rmse"] for mode in ("full", "prior-only", "zero")},
        "full_minus_prior": forces["full_minus_prior"],
        "best_epoch": history["best_epoch"],
        "train_rmse": history["columns"]["train_rmse"],
        "validation_rmse": history["columns"]["validation_rmse"],
    }


if __name__ == "__main__":
    share_memory()
    main(Path(sys.argv[1]), Path(sys.argv[2]))

"""The stage `export`: from parameters to a bundle."""

import json
import logging
from pathlib import Path
from typing import Any

from cgloop.cautions import Caution, model_cautions
from cgloop.config import Config
from cgloop.data.dataset import DatasetReader
from cgloop.data.refined import Refined, read_refined
from cgloop.export.bundle import describe_energy, read_trained, write_bundle
from cgloop.model.hybrid import Model, Params
from cgloop.residues import RESIDUES

log = logging.getLogger("cgloop.export")


def export_stage(config: Config, dataset_dir: Path, train_dir: Path, priors_yaml: Path, out: Path) -> dict[str, Any]:
    """Write the bundle of a trained model into `out`; returns its manifest.

    Args:
        config: the temperature, the mapping, and whether temperatures are mixed are read.
        dataset_dir: what the model was trained on.
        train_dir: with model.json, params.safetensors, summary.json, and refine.json if the training was refined.
        priors_yaml: copied into the bundle, unless the training left a prior of its own.
        out: folder that exists.

    Raises:
        UserError: there is no trained model, or no data set.
    """
    model, params = read_trained(train_dir)
    summary, trained_prior = train_dir / "summary.json", train_dir / "priors.yaml"
    manifest = write_bundle(
        out,
        model,
        params,
        temperature_K=config.data.temperature_K,
        mapping=config.data.mapping,
        priors_yaml=trained_prior if trained_prior.is_file() else priors_yaml,
        training=json.loads(summary.read_text(encoding="utf-8")) if summary.is_file() else None,
        cautions=_cautions(config, DatasetReader.open(dataset_dir).manifest, model, params, read_refined(train_dir)),
    )
    size = sum(file.stat().st_size for file in out.iterdir() if file.is_file())
    log.info("bundle of %d files, %.2f MB", len(manifest["files"]) + 1, size / 1e6)
    return manifest


def _cautions(
    config: Config, dataset: dict[str, Any], model: Model, params: Params, refined: dict[str, Refined]
) -> list[Caution]:
    trained = model.spec.trained_types if model.has_ml and model.spec is not None else (True,) * len(RESIDUES)
    return model_cautions(
        dataset=dataset,
        mixed=config.priors.temperatures == "mixed",
        energy_weights=describe_energy(model, params)["prior_weights"],
        untrained=[residue.name for residue, known in zip(RESIDUES, trained, strict=True) if not known],
        refined={name: sorted(one.used) for name, one in refined.items()},
        undetermined=[name for name, one in refined.items() if not one.populations_determined],
    )

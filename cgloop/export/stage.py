"""The stage `export`: from parameters to a bundle."""

import json
import logging
from pathlib import Path
from typing import Any

from cgloop.config import Config
from cgloop.export.bundle import read_trained, write_bundle

log = logging.getLogger("cgloop.export")


def export_stage(config: Config, train_dir: Path, priors_yaml: Path, out: Path) -> dict[str, Any]:
    """Write the bundle of a trained model into `out`; returns its manifest.

    Args:
        config: the temperature and the mapping are read.
        train_dir: with model.json, params.safetensors, summary.json.
        priors_yaml: copied into the bundle.
        out: folder that exists.

    Raises:
        UserError: there is no trained model.
    """
    model, params = read_trained(train_dir)
    summary = train_dir / "summary.json"
    manifest = write_bundle(
        out,
        model,
        params,
        temperature_K=config.data.temperature_K,
        mapping=config.data.mapping,
        priors_yaml=priors_yaml,
        training=json.loads(summary.read_text(encoding="utf-8")) if summary.is_file() else None,
    )
    size = sum(file.stat().st_size for file in out.iterdir() if file.is_file())
    log.info("bundle of %d files, %.2f MB", len(manifest["files"]) + 1, size / 1e6)
    return manifest

"""The stage `priors`: from the data set to `priors.yaml`, `curves.json` and `summary.json`."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cgloop.config import Config
from cgloop.config.priors import PriorsConfig
from cgloop.data.dataset import DatasetReader
from cgloop.data.noise import explained_share, pooled_noise
from cgloop.interrupt import check_stop
from cgloop.model.compiler_check import require_right_sums
from cgloop.model.terms import PriorForms, PriorParams
from cgloop.priors.curves import curves
from cgloop.priors.forms import forms_of
from cgloop.priors.inversion import Fit, fit_samples, mixed_fit
from cgloop.priors.refine import Refined, gather, refine, refined_fit, rms_deviation
from cgloop.priors.samples import Samples
from cgloop.priors.tables import Origin, write_priors
from cgloop.progress import progress
from cgloop.stages import write_json

log = logging.getLogger("cgloop.priors")

HELD_OUT_FRAMES = 2000
"""Force errors are measured on at most so many frames of each split, evenly chosen."""


def fit_stage(dataset_dir: Path, config: Config, out: Path) -> PriorParams:
    """Fit the prior on the training frames, protein by protein, and refine it if the config says so.

    Args:
        dataset_dir: written by `prep`.
        config: `data.temperature_K`, `priors`, `model.cutoff_A` and `run.seed` are used.
        out: existing folder; gets `priors.yaml`, `curves.json` and `summary.json`.

    Raises:
        UserError: a damaged data set, too few frames, or sums that are wrong on this machine.
    """
    require_right_sums()
    reader = DatasetReader.open(dataset_dir)
    temperature_K, cutoff_A = config.data.temperature_K, config.model.cutoff_A
    temperatures = _temperatures(reader, config.priors, temperature_K)
    fits, frames = [], {}
    for one in temperatures:
        samples, frames[one] = gather_samples(reader, forms_of(config.priors), one)
        fits.append(fit_samples(samples, config.priors, one, cutoff_A))
    inverted = mixed_fit(fits, temperature_K)
    fit, refined = inverted, None
    if config.priors.refine.enabled:
        training = gather(reader.sample("train", temperature_K, config.priors.refine.frames), cutoff_A)
        refined = refine(inverted, config.priors, cutoff_A, training, config.run.seed)
        fit = refined_fit(inverted, refined)
    counts = {name: sum(one.samples.sizes[name] for one in fits) for name in fits[0].samples.sizes}
    total = {name: sum(part.get(name, 0) for part in frames.values()) for name in reader.names}
    write_priors(out / "priors.yaml", fit.params, Origin(temperature_K, total, counts, fit.r_min_from), fit.forms)
    write_json(out / "curves.json", curves(fit))
    summary = _summary(reader, inverted, fit, refined, cutoff_A)
    summary["temperatures_K"] = {f"{one:g}": sum(frames[one].values()) for one in temperatures}
    write_json(out / "summary.json", summary)
    log.info(
        "bond %.4g kcal/mol/Å² at %.4g Å; repulsion ends at %s Å",
        np.mean(fit.params.bond_k),
        np.mean(fit.params.bond_r0),
        ", ".join(f"{value:.2f}" for value in fit.params.repulsion_r_min),
    )
    return fit.params


def _temperatures(reader: DatasetReader, config: PriorsConfig, temperature_K: float) -> list[float]:
    """Temperatures that are inverted: that of the model, or all that have enough training frames for it."""
    if config.temperatures == "single":
        return [temperature_K]
    counts: dict[float, int] = {}
    for name in reader.names:
        found, number = np.unique(reader.temperatures(name, "train"), return_counts=True)
        for one, n in zip(found.tolist(), number.tolist(), strict=True):
            counts[one] = counts.get(one, 0) + n
    return sorted({temperature_K} | {one for one, n in counts.items() if n >= config.min_frames})


def gather_samples(reader: DatasetReader, forms: PriorForms, temperature_K: float) -> tuple[Samples, dict[str, int]]:
    """Distributions of the training frames at one temperature, and the number of frames of each protein."""
    samples, frames = Samples(forms=forms), {}
    with progress("priors", len(reader.names), "proteins") as bar:
        for name in reader.names:
            check_stop()
            before = samples.n_frames
            for block in reader.blocks(name, split="train", temperature_K=temperature_K):
                samples.add(block)
            frames[name] = samples.n_frames - before
            bar.advance(1, frames=frames[name])
    return samples, frames


def _summary(
    reader: DatasetReader, inverted: Fit, fit: Fit, refined: Refined | None, cutoff_A: float
) -> dict[str, Any]:
    """Force errors of the prior alone, and how much of what can be explained it explains.

    The scatter of mapped forces around their mean at given beads is noise that no model explains.
    """
    entries = [reader.manifest["proteins"][name] for name in reader.names]
    weights = [entry["beads"] * entry["frames"] for entry in entries]
    noise = pooled_noise([entry.get("force_noise") for entry in entries], weights)
    splits = {}
    for split in ("train", "validation"):
        sampled = [one.with_forces() for one in reader.sample(split, fit.temperature_K, HELD_OUT_FRAMES)]
        chosen = [one for one in sampled if one.n_frames]
        if not chosen:
            continue
        frames = gather(chosen, cutoff_A)
        zero = float(np.sqrt(np.mean(frames.forces**2)))
        row: dict[str, Any] = {"frames": int(frames.graph.replica_mask.sum()), "rms_force": zero}
        for name, one in (("inverted", inverted), ("refined", fit if refined else None)):
            if one is not None:
                rmse = rms_deviation(one.params, one.forms, cutoff_A, frames)
                row[name] = {
                    "rmse": rmse,
                    "explained": explained_share(rmse, zero, 0.0),
                    "explained_of_explainable": None if noise is None else explained_share(rmse, zero, noise),
                }
        splits[split] = row
    return {
        "unit": "kcal/mol/Å",
        "forms": asdict(fit.forms),
        "force_noise": noise,
        "splits": splits,
        "refine": None if refined is None else {"starts": refined.starts},
    }

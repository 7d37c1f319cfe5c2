"""The stage `priors`: from the data set to `priors.yaml` and `curves.json`."""

import logging
from pathlib import Path

import numpy as np

from cgloop.config import Config
from cgloop.data.dataset import DatasetReader
from cgloop.interrupt import check_stop
from cgloop.model.terms import PriorParams
from cgloop.priors.curves import curves
from cgloop.priors.inversion import fit_samples
from cgloop.priors.samples import Samples
from cgloop.priors.tables import Origin, write_priors
from cgloop.progress import progress
from cgloop.stages import write_json

log = logging.getLogger("cgloop.priors")


def fit_stage(dataset_dir: Path, config: Config, out: Path) -> PriorParams:
    """Fit the prior on the training frames at the model's temperature, protein by protein.

    Args:
        dataset_dir: written by `prep`.
        config: `data.temperature_K`, `priors` and `model.cutoff_A` are used.
        out: existing folder; gets `priors.yaml` and `curves.json`.

    Raises:
        UserError: a damaged data set, or too few frames.
    """
    reader = DatasetReader.open(dataset_dir)
    samples, frames = Samples(keyed=config.priors.keyed), {}
    with progress("priors", len(reader.names), "proteins") as bar:
        for name in reader.names:
            check_stop()
            protein = reader.load(name, split="train", temperature_K=config.data.temperature_K)
            samples.add(protein)
            frames[name] = protein.n_frames
            bar.advance(1, frames=protein.n_frames)
    fit = fit_samples(samples, config.priors, config.data.temperature_K, config.model.cutoff_A)
    counts = {
        "bonds": samples.n_bonds,
        "cis": samples.n_cis,
        "angles": samples.angles.total,
        "dihedrals": samples.dihedrals.total,
    }
    origin = Origin(fit.temperature_K, frames, counts, fit.r_min_from)
    write_priors(out / "priors.yaml", fit.params, origin, fit.forms)
    write_json(out / "curves.json", curves(fit))
    log.info(
        "bond %.4g kcal/mol/Å² at %.4g Å; repulsion ends at %s Å",
        np.mean(fit.params.bond_k),
        np.mean(fit.params.bond_r0),
        ", ".join(f"{value:.2f}" for value in fit.params.repulsion_r_min),
    )
    return fit.params

"""The model and the protein that are measured, as the stages have them; trained where there is a bundle."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import numpy as np

from cgloop.config import Config
from cgloop.data.dataset import DatasetReader
from cgloop.md.evaluate import Compiled, ModelFunction, compile_model
from cgloop.md.job import Job, make_subject, read_system
from cgloop.md.system import Subject, System, simulated_proteins, start_frames
from cgloop.model.graph import build_graph
from cgloop.model.hybrid import Model, Params, build_model, energy_and_forces, init_params
from cgloop.priors.tables import read_prior
from cgloop.units import thermal_energy


@dataclass(frozen=True, eq=False)
class MeasuredModel:
    """A model and its parameters, and its function for MD."""

    model: Model
    params: Params
    function: ModelFunction

    def compiled(self) -> Compiled:
        return compile_model(self.function, self.model.cutoff_A)


def measured_protein(config: Config, dataset: Path) -> tuple[DatasetReader, System]:
    """The data set, and the first protein that the stage `md` would simulate."""
    reader = DatasetReader.open(dataset)
    name = simulated_proteins(reader, config.md, config.data.temperature_K)[0]
    return reader, read_system(config, reader, name)


def measured_model(config: Config, dataset: Path, priors: Path, bundle: str) -> MeasuredModel:
    """The model of a bundle, or an untrained one of this config, whose speed is the same.

    Args:
        config: sections `model`, `data`, `run`.
        dataset, priors: folders of the stages.
        bundle: folder of the stage `export`; empty for none.
    """
    if bundle:
        from cgloop.export.bundle import load_bundle

        loaded = load_bundle(Path(bundle))
        return MeasuredModel(loaded.model, loaded.params, loaded.function)
    reader, system = measured_protein(config, dataset)
    forms, prior = read_prior(priors / "priors.yaml")
    start = start_frames(reader, system.name, config.data.temperature_K, 1).positions
    graph = build_graph(system.residue_type, system.linked, start, config.model.cutoff_A)
    model = build_model(
        config.model,
        avg_num_neighbors=float(graph.edge_mask.sum()) / system.n_beads,
        energy_scale=thermal_energy(config.data.temperature_K),
        forms=forms,
    )
    params = init_params(model, prior, jax.random.key(config.run.seed))
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params)
    return MeasuredModel(model, params, partial(energy_and_forces, model, params))


def measured_subject(config: Config, dataset: Path, measured: MeasuredModel, replicas: list[int]) -> Subject:
    """Replicas of that protein, as a job of the stage `md` has them."""
    reader, system = measured_protein(config, dataset)
    job = Job(system.name, tuple(replicas))
    return make_subject(config, measured, measured.compiled(), reader, job)

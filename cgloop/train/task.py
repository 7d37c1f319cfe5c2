"""What is trained on what: model, frames, targets, starting parameters, and the forces of the part that is trained.

With a frozen prior the network learns what the prior leaves of the forces, computed once per frame. With
`train_priors` network and prior learn the whole force together.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError

import cgloop
from cgloop.config.neutral import is_neutral, without_neutral
from cgloop.config.root import Config
from cgloop.data.dataset import DatasetReader
from cgloop.data.decoys import Decoys
from cgloop.errors import UserError
from cgloop.model.force import Energy
from cgloop.model.hybrid import (
    Model,
    Params,
    build_model,
    energy,
    energy_and_forces,
    ml_forces,
    model_to_json,
    prior_forces,
    unflatten_params,
    without_prior,
)
from cgloop.model.hybrid import init_params as random_params
from cgloop.model.terms import PriorForms, PriorParams
from cgloop.priors.tables import read_prior
from cgloop.residues import N_TYPES
from cgloop.stages import digest_file, digest_of
from cgloop.train.checkpoints import read_tensors
from cgloop.train.decoys import gather, with_decoys
from cgloop.train.evaluate import Predictor, predictions
from cgloop.train.files import Place
from cgloop.train.loader import FrameSet, Shape, common_shape
from cgloop.train.prior_space import PriorSpace
from cgloop.train.sets import Sets, force_noise, holds_out_proteins, load_sets, weigh
from cgloop.train.sources import labels_and_weights, tells_sources_apart, weigh_by_source
from cgloop.train.step import ForceFunction
from cgloop.train.trainer import Trainer
from cgloop.units import thermal_energy


@dataclass(frozen=True)
class Task:
    """Everything that a training needs, and how what it trains becomes parameters of the model.

    Attributes:
        config: the whole config.
        sets: frames, with targets and weights.
        shape: of batches of evaluation.
        fitted: forces of the fitted prior alone.
        model: what is trained.
        params: where the training starts.
        space: where the prior may go; None if it is frozen.
        forces: of the trained part, a jitted function of what `trained` gives.
        fingerprint: of all inputs.
        whole_proteins: whether no protein that is judged was trained on.
        noise: by protein, of a component of the mapped forces, kcal/mol/Å; None where it is not known.
        started: whether `params` are those of an earlier training.
        by_source: labels and weights of the training frames (less decoys) and of those that are judged, see
            `labels_and_weights`; None if the config does not tell sources apart.
        compiled: steps that are compiled already, for members of an ensemble.
        decoys: provenance of each decoy among the training frames, which come first.
    """

    config: Config
    sets: Sets
    shape: Shape
    fitted: Predictor
    model: Model
    params: Params
    space: PriorSpace | None
    forces: ForceFunction
    fingerprint: str
    noise: dict[str, float | None]
    whole_proteins: bool = False
    started: bool = False
    by_source: list[tuple[list[str], np.ndarray, np.ndarray]] | None = None
    compiled: dict[Any, Any] = field(default_factory=dict)
    decoys: list[dict[str, Any]] = field(default_factory=list)

    @property
    def trained(self) -> dict[str, Any]:
        """Trained parameters at the start: {"ml": …}, and with a trained prior {"prior": point}."""
        start = {"ml": self.params["ml"]}
        return start if self.space is None else {**start, "prior": self.space.start}

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to train."""
        return not jax.tree.leaves(self.trained)

    def whole(self, trained: dict[str, Any]) -> Params:
        """Parameters of the model from trained ones."""
        prior = self.params["prior"] if self.space is None else self.space.params(trained["prior"])
        return {"prior": prior, "ml": trained["ml"]}

    def make_trainer(self, **phase: Any) -> Trainer:
        """A Trainer of this; see `run_phases`."""
        space = self.space
        more: dict[str, Any] = {}
        if space is not None:
            more = {
                "network": _network_forces(self.model) if self.model.has_ml else None,
                "restraint": space.restraint,
                "finish": lambda params: {**params, "prior": space.finish(params["prior"])},
            }
        kind: Callable[..., Trainer] = Trainer
        if self.config.train.engine == "chemtrain":
            from cgloop.train.chemtrain_engine import ChemtrainTrainer

            kind, more["energy"] = ChemtrainTrainer, _network_energy(self.model)
        return kind(
            self.forces,
            training=self.sets.training,
            validation=self.sets.validation,
            evaluation_shape=self.shape,
            seed=self.config.run.seed,
            compiled=self.compiled,
            **more,
            **phase,
        )


def prepare_task(
    config: Config,
    dataset_dir: Path,
    priors_yaml: Path,
    start: Path | None = None,
    place: Place | None = None,
    decoys: Sequence[Path] = (),
) -> Task:
    """Load everything.

    Args:
        config: `model`, `train`, `priors`, the temperature of `data`, the seed of `run`.
        dataset_dir: from prep.
        priors_yaml: from priors.
        start: params.safetensors of an earlier training; its prior counts only if the prior is trained.
        place: where frames are kept that are too many for memory.
        decoys: decoys.h5 of earlier cycles, the oldest first; for a network beside a frozen prior only, because of
            what takes the network's place there nothing else is known.

    Raises:
        UserError: no frames to train on, or parameters to start from that do not fit.
    """
    if config.train.train_priors and config.model.energy == "ml-only":
        raise UserError("`train.train_priors` with `model.energy: ml-only`: there is no prior")
    reader = DatasetReader.open(dataset_dir)
    mixed = config.priors.temperatures == "mixed"
    noise_A = config.train.position_noise_A
    sets = load_sets(reader, config.data.temperature_K, config.model.cutoff_A, mixed, noise_A, place)
    weigh(sets, config.train)
    for frames in (sets.training, sets.validation):
        weigh_by_source(frames, config.data, reader.manifest)
    shape = common_shape(sets.all(), config.train.eval_batch_size)
    forms, prior = read_prior(priors_yaml)
    fitted = _prior_alone(forms, prior, config.model.cutoff_A)
    model = _describe_model(config, sets.training, forms)
    space = PriorSpace.of(reader, config, forms, prior) if config.train.train_priors else None
    if model.has_prior and space is None:
        _subtract(fitted, f"{digest_file(priors_yaml)}, {config.model.cutoff_A} Å", sets, shape, place)
    training, chosen = sets.training, list[Decoys]()
    if decoys and model.energy == "hybrid" and space is None:
        bounds = config.feedback.decoys
        chosen = gather(decoys, training.names, training.n_frames, bounds)
        together = with_decoys(training, chosen, bounds, config.model.cutoff_A, config.data.temperature_K)
        sets = replace(sets, training=together)
    params = random_params(model, prior, jax.random.key(config.run.seed))
    if start is not None:
        params, space = _earlier(model, params, space, start)
    inputs = {
        "model": model_to_json(model),
        "train": without_neutral(
            config.train.model_dump(exclude={"checkpoint_every_s", "start", "tracking", "memory_MB"}), "train"
        ),
        "seed": config.run.seed,
        "dataset": reader.manifest,
        "priors": digest_file(priors_yaml),
        "start": digest_file(start) if start else None,
        # Another version may compute other numbers: its checkpoints are not continued.
        "cgloop": cgloop.__version__,
    }
    if not all(is_neutral("data.sources.weight", source.weight) for source in config.data.sources):
        inputs["sources"] = [source.weight for source in config.data.sources]
    if chosen:
        inputs["decoys"] = [
            *map(digest_file, decoys),
            without_neutral(config.feedback.decoys.model_dump(), "feedback.decoys"),
        ]
    by_source = None
    if tells_sources_apart(config.data):
        by_source = [labels_and_weights(frames, config.data, reader.manifest) for frames in (training, sets.all()[-1])]
    forces = jax.jit(_trained_forces(model, space))
    return Task(
        config, sets, shape, fitted, model, params, space, forces, digest_of(inputs),
        noise=force_noise(reader), whole_proteins=holds_out_proteins(reader), started=start is not None,
        by_source=by_source,
        decoys=[entry for one in chosen for entry in one.describe()],
    )  # fmt: skip


def _prior_alone(forms: PriorForms, prior: PriorParams, cutoff_A: float) -> Predictor:
    """Forces of the fitted prior alone."""
    model = Model(spec=None, energy="prior-only", cutoff_A=cutoff_A, forms=forms)
    params = {"prior": jax.tree.map(lambda value: jnp.asarray(value, jnp.float32), prior), "ml": {}}
    return partial(jax.jit(partial(prior_forces, model)), params)


def _subtract(prior: Predictor, what: str, sets: Sets, shape: Shape, place: Place | None) -> None:
    """What is to be learned is what the prior leaves of the forces."""
    alone = place is None or place.world.size == 1
    for frames in sets.all():
        found = predictions([prior], frames, shape, frames.store.own, stops=alone)
        frames.subtract(((part, forces) for part, (forces,) in found), what)
    if place is not None:
        place.agree("what the prior leaves of the forces was computed")
    for frames in sets.all():
        frames.store.open_target()


def _describe_model(config: Config, training: FrameSet, forms: PriorForms) -> Model:
    """The network's hyper-parameters, those that come from the training frames included."""
    present = np.unique(training.chain_types)
    return build_model(
        config.model,
        avg_num_neighbors=training.mean_neighbors,
        trained_types=[kind in present for kind in range(N_TYPES)],
        energy_scale=_energy_scale(config, training),
        forms=forms,
    )


def _energy_scale(config: Config, training: FrameSet) -> float:
    """Unit of the network's output, kcal/mol.

    Beside a prior the network corrects a potential of mean force by energies of the order of kT. Alone it has to hold
    the bonds, too, whose forces are as large as those of the reference. What the prior leaves of the instantaneous
    forces would be a bad measure: it is mostly their scatter, which is no force of the model.
    """
    if config.model.energy == "hybrid":
        return thermal_energy(config.data.temperature_K)
    return math.sqrt(training.mean_square("reference")) or 1.0


def _network_forces(model: Model) -> ForceFunction:
    """Forces of the network as a function of {"ml": …}."""
    network = without_prior(model) if model.has_ml else model
    return lambda params, positions, graph: ml_forces(network, {"prior": None, "ml": params["ml"]}, positions, graph)


def _network_energy(model: Model) -> Energy:
    """Energy of the network as a function of {"ml": …}."""
    network = without_prior(model)
    return lambda params, positions, graph: energy(network, {"prior": None, "ml": params["ml"]}, positions, graph)


def _trained_forces(model: Model, space: PriorSpace | None) -> Callable[[Any, jax.Array, Any], jax.Array]:
    """Forces of everything that is trained."""
    if space is None:
        return _network_forces(model)

    def forces(params: dict[str, Any], positions: jax.Array, graph: Any) -> jax.Array:
        whole = {"prior": space.params(params["prior"]), "ml": params["ml"]}
        return energy_and_forces(model, whole, positions, graph)[1]

    return forces


def _earlier(model: Model, params: Params, space: PriorSpace | None, start: Path) -> tuple[Params, PriorSpace | None]:
    """Network and, if it is trained, prior of an earlier training instead of fresh ones."""
    remedy = "remove it, or train with the model it was made with"
    try:
        earlier = unflatten_params(read_tensors(start)[0])
    except (OSError, SafetensorError, TypeError) as error:
        raise UserError(f"parameters cannot be read: {error}", where=start, remedy=remedy) from None
    if model.has_ml:
        shapes = [jax.tree.map(np.shape, tree) for tree in (params["ml"], earlier["ml"])]
        if shapes[0] != shapes[1]:
            raise UserError("parameters to start from are those of another model", where=start, remedy=remedy)
        ml = jax.tree.map(lambda new, old: jnp.asarray(old, new.dtype), params["ml"], earlier["ml"])
        params = {**params, "ml": ml}
    if space is not None:
        old, new = earlier["prior"], params["prior"]
        if any(np.shape(getattr(old, name)) != np.shape(getattr(new, name)) for name in space.start):
            raise UserError("the prior to start from is one of other forms", where=start, remedy=remedy)
        space = space.around(old)
    return params, space

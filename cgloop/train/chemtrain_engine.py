"""Training steps done by chemtrain's `ForceMatching` (Fuchs et al., arXiv:2408.15852): its loss, its
gradient, its update, with the model, frames, optimiser and loop of this package around them.

chemtrain takes a batch as frames of one shape, side by side: every frame is padded to the longest, edges included.
Nothing else in this package imports it, and nothing imports this file unless `train.engine: chemtrain` asks for it.
"""

import collections
import contextlib
import importlib
import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cgloop.config.train import TrainConfig
from cgloop.errors import UserError
from cgloop.model.force import Energy
from cgloop.train.loader import Bucket, FrameSet
from cgloop.train.loss import Sums
from cgloop.train.optimizers import own_average
from cgloop.train.step import StepResult, TrainState, next_state
from cgloop.train.trainer import Trainer

INSTALL = "`pip install --no-deps -r requirements/chemtrain.txt`, or `engine: cgloop`"


@contextlib.contextmanager
def _removed_names() -> Iterator[None]:
    """Names that JAX no longer has and that chemtrain 0.2.0 imports; taken away again afterwards."""
    # jax.tree_map and jax.tree_unflatten live in jax.tree_util alone by now. chemtrain binds them when it is imported
    # and never looks them up in `jax` later.
    lent = [name for name in ("tree_map", "tree_unflatten") if not hasattr(jax, name)]
    for name in lent:
        setattr(jax, name, getattr(jax.tree_util, name))
    try:
        yield
    finally:
        for name in lent:
            delattr(jax, name)


def import_chemtrain() -> Any:
    """Its modules `trainers` and `learn.max_likelihood`, as attributes.

    Raises:
        UserError: it or something that it needs is not installed.
    """
    try:
        with _removed_names():
            trainers = importlib.import_module("chemtrain.trainers")
            likelihood = importlib.import_module("chemtrain.learn.max_likelihood")
    except ImportError as error:
        raise UserError(f"`train.engine: chemtrain`, which cannot be imported: {error}", remedy=INSTALL) from None
    return SimpleNamespace(trainers=trainers, likelihood=likelihood)


def require_chemtrain() -> None:
    """Raise UserError if chemtrain is not installed, or would have to share its work."""
    if (n := jax.device_count()) > 1:
        raise UserError(
            f"`train.engine: chemtrain` on {n} devices: its parallel gradient is too large by their number "
            "with a JAX as new as this",
            remedy="show it one device (CUDA_VISIBLE_DEVICES, one task), or `engine: cgloop`",
        )
    import_chemtrain()


class ChemtrainTrainer(Trainer):
    """A Trainer whose steps are chemtrain's."""

    def __init__(self, *arguments: Any, energy: Energy, **more: Any):
        """As a Trainer.

        Args:
            energy: of which `forces` are the negative gradient.
            arguments, more: see Trainer.
        """
        require_chemtrain()
        super().__init__(*arguments, **more)
        self._energy = energy

    def batch(self, bucket: Bucket, frames: np.ndarray, noise: tuple[int, int] | None = None) -> Any:
        return stacked_frames(self.training, frames, bucket, noise)

    def _compile_step(self, bucket: Bucket) -> Any:
        step = ChemtrainStep(self._energy, self.optimizer, self.config, self.scale, self.folder / "chemtrain")
        step(self.arrays.state, self.batch(bucket, bucket.frames[:1]))
        return step


def stacked_frames(
    frames: FrameSet, chosen: np.ndarray, bucket: Bucket, noise: tuple[int, int] | None = None
) -> dict[str, Any]:
    """A batch as chemtrain's data sets name things, always of as many frames side by side.

    Args:
        frames: a set with targets.
        chosen: indices; if they are fewer than fill a batch of the bucket, the first is repeated without weight.
        bucket: that they belong to.
        noise: see `FrameSet.batch`.

    Returns:
        R, F: float32 [B, N, 3], Å and kcal/mol/Å. neighbor: graphs with leaves [B, …], in the place of chemtrain's
        neighbour list. bead, weight: float32 [B, N], whether a bead counts and how much in the loss. squares: F again.
    """
    size = min(bucket.batch_size, len(bucket.frames))
    shape = frames.shape(1, bucket.frames)
    rows = [frames.batch(np.array([frame]), shape, noise) for frame in chosen]
    batch = jax.tree.map(lambda *leaves: np.stack(leaves), *rows, *rows[:1] * (size - len(rows)))
    bead = batch.graph.bead_mask.astype(np.float32)
    bead[len(rows) :] = 0.0
    weight = bead if batch.weight is None else bead * batch.weight
    force = batch.target
    return {
        "R": batch.positions,
        "F": force,
        "squares": force,
        "neighbor": batch.graph,
        "bead": bead,
        "weight": weight,
    }


class ChemtrainStep:
    """A training step as that of `make_train_step`, done by a ForceMatching of its own."""

    def __init__(
        self,
        energy: Energy,
        optimizer: optax.GradientTransformationExtraArgs,
        config: TrainConfig,
        scale: float,
        folder: Path,
    ):
        """Nothing is compiled before the first step.

        Args:
            energy: of the part that is trained.
            optimizer: from `make_optimizer`.
            config: of the phase.
            scale: (kcal/mol/Å)², by which the loss is divided.
            folder: where chemtrain may write; made if it is not there.
        """
        self._energy, self._folder = energy, folder
        self._optimizer = _with_rate_factor(optimizer)
        # `squares` is reported and not minimised: the error without weights.
        self._gammas = {"F": config.gammas.force / scale, "squares": 0.0}
        average = own_average(config)
        self._next = jax.jit(partial(next_state, ema_decay=config.ema_decay, own_average=average))
        self._loader = _OneBatch()
        self.trainer: Any = None

    def __call__(self, state: TrainState, batch: dict[str, Any]) -> tuple[TrainState, StepResult]:
        """One step with a batch of `stacked_frames`.

        Raises:
            RuntimeError: what chemtrain met and only printed.
        """
        self._loader.batch = batch
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            if self.trainer is None:
                self.trainer = self._make_trainer(state)
            trainer = self.trainer
            done = len(trainer.gradient_norm_history)
            trainer.state = trainer.state.replace(params=state.params, opt_state=(state.opt_state, state.rate_factor))
            trainer.train(1)
        if len(trainer.gradient_norm_history) == done:
            raise RuntimeError(f"chemtrain: {printed.getvalue().strip()}")
        loss, squares = (trainer.train_target_losses[name][-1] for name in ("F", "squares"))
        weight, components = 3 * batch["weight"].sum(), 3 * batch["bead"].sum()
        sums = Sums(loss * weight, weight, squares * components, components.astype(int))
        new = self._next(state, trainer.params, trainer.state.opt_state[0])
        # What 0.2.0 calls a norm is its square.
        return new, StepResult(sums, np.sqrt(trainer.gradient_norm_history[-1]))

    def _make_trainer(self, state: TrainState) -> Any:
        """A ForceMatching that trains one batch an epoch: which, and how many, is decided outside."""
        chemtrain = import_chemtrain()

        def energy_of(params: Any) -> Callable[..., jax.Array]:
            return lambda positions, neighbor, **_: self._energy(params, positions, neighbor)

        def error(predictions: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
            share = jnp.broadcast_to(weights[..., None], targets.shape)
            return chemtrain.likelihood.mse_loss(predictions, targets, mask=share)

        size = len(self._loader.batch["R"])
        trainer = chemtrain.trainers.ForceMatching(
            state.params,
            self._optimizer,
            energy_of,
            nbrs_init=None,
            gammas=self._gammas,
            error_fns={"F": error, "squares": error},
            weights_keys={"F": "weight", "squares": "bead"},
            additional_targets={"squares": lambda _, energy_and_force, **more: energy_and_force["force"]},
            batch_per_device=size,
            batch_cache=1,
            log_file=None,
            checkpoint_path=self._folder,
        )
        # Without a validation set, its report of an epoch survives an IndexError but not the KeyError of a plain dict.
        trainer.val_target_losses = collections.defaultdict(list)
        trainer.set_loader(self._loader, "training")
        return trainer


class _OneBatch:
    """What chemtrain asks of a data loader of jax-sgmc: an epoch is the batch that was put here."""

    def __init__(self) -> None:
        self.batch: dict[str, Any] = {}

    @property
    def static_information(self) -> dict[str, int]:
        return {"observation_count": len(self.batch["R"])}

    def batch_format(self, cache_size: int, mb_size: int) -> tuple[None, SimpleNamespace]:
        return None, SimpleNamespace(observation_count=mb_size, batch_size=mb_size)

    def register_random_pipeline(self, **_: Any) -> int:
        return 0

    def get_batches(self, chain_id: int) -> tuple[dict[str, Any], None]:
        return jax.tree.map(lambda leaf: jnp.asarray(leaf[None]), self.batch), None


def _with_rate_factor(optimizer: optax.GradientTransformationExtraArgs) -> optax.GradientTransformation:
    """chemtrain passes no keywords to an optimiser: the factor on the rate travels in its state."""

    def init(params: Any) -> Any:
        return optimizer.init(params), jnp.ones((), jnp.float32)

    def update(gradient: Any, state: Any, params: Any = None) -> Any:
        inner, factor = state
        updates, inner = optimizer.update(gradient, inner, params, rate_factor=factor)
        return updates, (inner, factor)

    return optax.GradientTransformation(init, update)

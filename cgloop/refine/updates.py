"""Updates of the refined parameters: the gradient over all proteins, Adam, and the moving average."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cgloop.config.refine import Refined, RefinementConfig
from cgloop.refine.chains import ProteinChains
from cgloop.refine.energy import Trained
from cgloop.refine.objective import norm, pool_weights
from cgloop.train.optimizers import ema_weight

FIRST_MOMENTUM = 0.9

GROUPS: Mapping[Refined, tuple[str, ...]] = {"network": ("ml",), "prior": ("prior",), "both": ("ml", "prior")}
"""Groups of trained parameters that move."""


class State(NamedTuple):
    """What updates change.

    Attributes:
        params: trained parameters; those that do not move are among them.
        average: moving average of them.
        optimizer: state of Adam.
        count: updates so far, int32.
    """

    params: Any
    average: Any
    optimizer: Any
    count: Any


@dataclass(frozen=True)
class Change:
    """What one round's updates did.

    Attributes:
        updates: number of them.
        gradient_norm: of the last, before clipping.
        force_rmse: of its batch, kcal/mol/Å; None without a force term.
        ess: effective share of every protein's newest block after the last update.
    """

    updates: int
    gradient_norm: float
    force_rmse: float | None
    ess: dict[str, float]


@dataclass(frozen=True, eq=False)
class ForceTerm:
    """Training frames of one protein with what the refined terms' forces should be on them.

    Attributes:
        positions, targets: float32 [G, N, 3] Å and kcal/mol/Å.
        scale: 3N/2σ², (kcal/mol/Å)⁻².
    """

    positions: np.ndarray
    targets: np.ndarray
    scale: float


class Updater:
    """Computes gradients and moves parameters."""

    def __init__(
        self,
        config: RefinementConfig,
        moving: Refined,
        proteins: Sequence[ProteinChains],
        force_terms: Mapping[str, ForceTerm],
        beta: float,
        seed: int,
    ):
        """Args:
        config: section `refine`.
        moving: what is refined.
        proteins: their chains and pools.
        force_terms: by protein; none where there are no forces or they do not count.
        beta: 1/kT in mol/kcal.
        seed: of the choice of frames.
        """
        self._config, self._proteins, self._force_terms = config, proteins, force_terms
        self._beta, self._seed, self._groups = beta, seed, GROUPS[moving]
        self._rates = {"ml": config.network_learning_rate, "prior": config.prior_learning_rate}
        weights = {one.name: config.protein_weights.get(one.name, 1.0) for one in proteins}
        self._weights = {name: weight / sum(weights.values()) for name, weight in weights.items()}
        self._adam = optax.chain(
            optax.clip_by_global_norm(config.clip_norm),
            optax.scale_by_adam(b1=FIRST_MOMENTUM, b2=config.second_momentum),
        )
        self._move = jax.jit(self._moved)

    def start(self, params: Trained) -> State:
        """Return the state before the first update."""
        params = jax.tree.map(jnp.asarray, params)
        return State(params, params, self._adam.init(self._part(params)), jnp.zeros((), jnp.int32))

    def rate(self, done: float) -> float:
        """Return the factor on learning rates after so many rounds: a linear warm-up, then a cosine.

        It is that of the middle of an update, so that the first is not zero.
        """
        config = self._config
        warm = min(1.0, done / config.warmup_rounds) if config.warmup_rounds else 1.0
        low = config.final_learning_rate_factor
        return warm * (low + (1.0 - low) * 0.5 * (1.0 + float(np.cos(np.pi * min(1.0, done / config.rounds)))))

    def round(self, state: State, number: int) -> tuple[State, Change]:
        """Make the updates of a round (from 1), until the newest blocks say too little about the new parameters."""
        config = self._config
        length, rmse, ess = 0.0, None, dict[str, float]()
        done = 0
        while True:
            weights = {one.name: self._weights_of(one, state.params) for one in self._proteins}
            ess = {name: found.ess[-1] for name, found in weights.items()}
            if done == config.updates or (done and min(ess.values()) < config.min_ess):
                return state, Change(done, length, rmse, ess)
            random = np.random.default_rng([self._seed, 3, number, done])
            gradient, rmse = self._gradient(state.params, {n: w.frames for n, w in weights.items()}, random)
            length = norm(gradient)
            factor = self.rate(number - 1 + (done + 0.5) / config.updates)
            state = self._move(state, gradient, np.float32(factor))
            done += 1

    def _weights_of(self, protein: ProteinChains, params: Trained) -> Any:
        sound = [kept.sound for kept in protein.pool]
        energies = protein.energies(params, np.concatenate([kept.positions for kept in protein.pool]))
        parts = np.split(energies, len(protein.pool))
        changes = [self._beta * (new - kept.energy) for new, kept in zip(parts, protein.pool, strict=True)]
        return pool_weights(changes, sound, self._config.drop_ess)

    def _gradient(
        self, params: Trained, weights: Mapping[str, list[np.ndarray]], random: np.random.Generator
    ) -> tuple[Trained, float | None]:
        """Return the gradient with respect to the groups that move, and the RMSE of the force term's batches."""
        config, total = self._config, None
        squares, counted = 0.0, 0
        for protein in self._proteins:
            own = self._weights[protein.name]
            reference = protein.subject.training.positions
            chosen = random.integers(len(reference), size=min(config.reference_frames, len(reference)))
            frames = [reference[chosen], *(kept.positions for kept in protein.pool)]
            signed = [np.full(len(chosen), 1.0 / len(chosen)), *(-part for part in weights[protein.name])]
            coefficients = (own * self._beta * np.concatenate(signed)).astype(np.float32)
            total = _plus(total, protein.gradient(params, np.concatenate(frames), coefficients))
            if (term := self._force_terms.get(protein.name)) is not None:
                size = min(config.force_frames, len(term.positions))
                chosen = random.integers(len(term.positions), size=size)
                batch = term.positions[chosen], term.targets[chosen], np.ones(size, np.float32)
                value, slope = protein.force_gradient(params, *batch)
                factor = np.float32(own * config.force_weight * term.scale / size)
                total = _plus(total, jax.tree.map(lambda leaf, factor=factor: factor * leaf, slope))
                squares, counted = squares + float(value), counted + size
        assert total is not None
        return self._part(total), float(np.sqrt(squares / counted)) if counted else None

    def _part(self, tree: Trained) -> Trained:
        return {name: tree[name] for name in self._groups}

    def _moved(self, state: State, gradient: Trained, factor: jax.Array) -> State:
        updates, optimizer = self._adam.update(gradient, state.optimizer, self._part(state.params))
        params, average = dict(state.params), dict(state.average)
        weight = ema_weight(self._config.ema_decay, state.count)
        for name in self._groups:
            rate = -factor * self._rates[name]
            params[name] = jax.tree.map(lambda p, u, rate=rate: p + rate * u, params[name], updates[name])
            average[name] = jax.tree.map(
                lambda old, new: weight * old + (1.0 - weight) * new, average[name], params[name]
            )
        return State(params, average, optimizer, state.count + 1)


def _plus(total: Trained | None, more: Trained) -> Trained:
    return more if total is None else jax.tree.map(np.add, total, more)


def is_finite(tree: Any) -> bool:
    """Return whether all leaves are finite."""
    return all(bool(np.isfinite(np.asarray(leaf)).all()) for leaf in jax.tree.leaves(tree))

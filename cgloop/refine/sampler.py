"""Langevin dynamics of many chains of one protein with given parameters, in compiled code.

Every chain is computed by itself, and its random numbers depend on seed, chain and step alone: what a chain does is the
same however chains are divided over devices. Integrator: BAOAB (B. Leimkuhler and C. Matthews, Appl. Math. Res. Express
2013, 34).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cgloop.refine.energy import FrameEnergy, Trained
from cgloop.refine.lanes import Part, in_lanes
from cgloop.units import ACCELERATION, FS_PER_PS

LIMITS = ("", "non-finite", "min_distance", "bond", "max_force", "temperature")
"""What a chain may break, by its code; those of MD that need no history."""


@dataclass(frozen=True)
class Dynamics:
    """Settings of the integrator.

    Attributes:
        kT: kcal/mol.
        timestep_fs, friction_per_ps: of BAOAB.
    """

    kT: float
    timestep_fs: float
    friction_per_ps: float


@dataclass(frozen=True)
class ChainLimits:
    """Limits that no chain may leave at any step.

    Attributes:
        min_distance_A: smallest distance of beads that are not bonded.
        bond: largest relative deviation of a bond from its mean in the reference.
        max_force: kcal/mol/Å on a bead.
        temperature_ratio: largest kinetic temperature of one step over the target.
    """

    min_distance_A: float
    bond: float
    max_force: float
    temperature_ratio: float


class Chains(NamedTuple):
    """Where the chains are: positions [R, N, 3] Å and velocities [R, N, 3] Å/fs, float32."""

    positions: Any
    velocities: Any


class Block(NamedTuple):
    """Frames of all chains.

    Attributes:
        positions: float32 [R, K, N, 3] Å, centered.
        sound: bool [R, K], whether the chain had not yet broken a limit.
        broke: int32 [R], index of the limit in `LIMITS` that a chain broke; 0 for none.
        crowded: bool, whether there were more pairs within the cutoff than room, so that the block is worthless.
        kinetic_kT: float32 [R, K], kinetic energy over kT.
    """

    positions: np.ndarray
    sound: np.ndarray
    broke: np.ndarray
    crowded: bool
    kinetic_kT: np.ndarray


class Sampler:
    """Runs the chains of one protein, divided over devices, or on one processor over its cores."""

    def __init__(
        self,
        energy: FrameEnergy,
        masses: np.ndarray,
        bond_mean_A: np.ndarray,
        dynamics: Dynamics,
        limits: ChainLimits,
        seed: int,
        lanes: int | None = None,
    ):
        """Args:
        energy: of one conformation.
        masses: [N], g/mol.
        bond_mean_A: [B], mean length of every bond in the reference.
        dynamics, limits: settings.
        seed: of the random numbers.
        lanes: in how many parts chains are computed side by side; default: devices, or cores of a processor.
        """
        self.energy, self._seed, self._lanes = energy, seed, lanes
        self._masses = np.asarray(masses, np.float32)
        self._dynamics = dynamics
        self._warm = False
        self._run = jax.jit(
            _chains(energy, self._masses, np.asarray(bond_mean_A, np.float32), dynamics, limits), static_argnums=(2, 3)
        )

    def velocities(self, chains: Sequence[int], moment: int) -> np.ndarray:
        """Return Maxwell velocities float32 [R, N, 3] Å/fs for chains; `moment` tells apart several draws for one."""
        width = np.sqrt(self._dynamics.kT * ACCELERATION / self._masses)[:, None]
        draws = [np.random.default_rng([self._seed, 1, moment, chain]) for chain in chains]
        shape = (self.energy.n_beads, 3)
        return np.stack([width * one.standard_normal(shape) for one in draws]).astype(np.float32)

    def run(self, trained: Trained, chains: Chains, number: int, frames: int, stride: int) -> tuple[Chains, Block]:
        """Run all chains for `frames` times `stride` steps.

        Args:
            trained: parameters.
            chains: where they are.
            number: of the block, which tells its random numbers apart from those of other blocks.
            frames: frames of every chain, each at the end of a stretch.
            stride: steps of a stretch.

        Returns:
            Where the chains are then (one that broke a limit stays where it broke it), and the frames.
        """
        n_chains = len(chains.positions)
        key = jax.random.fold_in(jax.random.key(self._seed), number)
        keys = jax.vmap(lambda chain: jax.random.fold_in(key, chain))(jnp.arange(n_chains))
        given = (np.asarray(chains.positions), np.asarray(chains.velocities), keys)

        def work(part: Part) -> Any:
            rows, device = part
            placed = jax.device_put((trained, *(one[rows] for one in given)), device)
            return jax.device_get(self._run(placed[0], placed[1:], frames, stride))

        found = in_lanes(work, n_chains, warm=self._warm, lanes=self._lanes)
        self._warm = True
        x, v, positions, sound, broke, crowded, kinetic = (
            np.concatenate(values) for values in zip(*found, strict=True)
        )
        return Chains(x, v), Block(positions, sound, broke, bool(crowded.any()), kinetic)


def _chains(
    energy: FrameEnergy, masses: np.ndarray, bond_mean_A: np.ndarray, dynamics: Dynamics, limits: ChainLimits
) -> Callable[..., Any]:
    """Return a function of parameters, (positions, velocities, keys) and static numbers of frames and steps."""
    dt, kT = dynamics.timestep_fs, dynamics.kT
    kept = float(np.exp(-dynamics.friction_per_ps * dt / FS_PER_PS))
    mass = masses[:, None]
    width = np.sqrt((1.0 - kept**2) * kT * ACCELERATION / mass).astype(np.float32)
    kick = np.float32(0.5 * dt * ACCELERATION) / mass
    judge = _judge(energy, mass, bond_mean_A, kT, limits)

    def chain(trained: Trained, stretches: tuple[int, int], state: tuple[Any, Any, Any]) -> Any:
        positions, velocities, key = state
        slope = jax.grad(energy.total, argnums=1)
        frames, stride = stretches

        def step(carry: Any, number: jax.Array) -> tuple[Any, None]:
            x, v, gradient, broke, crowded = carry
            noise = width * jax.random.normal(jax.random.fold_in(key, number), x.shape, x.dtype)
            v_new = v - kick * gradient
            x_new = x + 0.5 * dt * v_new
            v_new = kept * v_new + noise
            x_new = x_new + 0.5 * dt * v_new
            gradient_new = slope(trained, x_new)
            v_new = v_new - kick * gradient_new
            found = judge(x_new, v_new, gradient_new)
            sound = (broke == 0) & (found == 0)
            crowded |= sound & (energy.pairs(x_new) > energy.room) if not energy.all_pairs else False
            now = jnp.where(broke == 0, found, broke)
            old_or_new = lambda old, new: jnp.where(sound, new, old)  # noqa: E731
            return (old_or_new(x, x_new), old_or_new(v, v_new), old_or_new(gradient, gradient_new), now, crowded), None

        def stretch(carry: Any, number: jax.Array) -> Any:
            carry, _ = jax.lax.scan(step, carry, number * stride + jnp.arange(stride))
            x, v, gradient, broke, crowded = carry
            x = x - x.mean(axis=0)
            kinetic = 0.5 * jnp.sum(mass * v**2) / (ACCELERATION * kT)
            return (x, v, gradient, broke, crowded), (x, broke == 0, kinetic)

        # A start that is broken already breaks its limit in the first step.
        start = (positions, velocities, slope(trained, positions), jnp.int32(0), jnp.bool_(False))
        (x, v, _, broke, crowded), (xs, sound, kinetic) = jax.lax.scan(stretch, start, jnp.arange(frames))
        return x, v, xs, sound, broke, crowded, kinetic

    def run(trained: Trained, chains: tuple[Any, Any, Any], frames: int, stride: int) -> Any:
        return jax.lax.map(lambda state: chain(trained, (frames, stride), state), chains)

    return run


def _judge(
    energy: FrameEnergy, mass: np.ndarray, bond_mean_A: np.ndarray, kT: float, limits: ChainLimits
) -> Callable[[jax.Array, jax.Array, jax.Array], jax.Array]:
    """Return a function of positions, velocities and gradient that gives the code of a broken limit, or 0."""
    graph, separation = energy.graph, energy.separation
    apart = (separation > 1) & ~np.eye(len(separation), dtype=bool)
    first, second = (graph.bonds[graph.bond_mask][:, end] for end in (0, 1))
    half_degrees = 1.5 * len(mass)

    def judge(x: jax.Array, v: jax.Array, gradient: jax.Array) -> jax.Array:
        vectors = x[:, None] - x[None]
        squares = jnp.where(apart, jnp.sum(vectors**2, axis=-1), jnp.inf)
        length = jnp.sqrt(jnp.sum((x[first] - x[second]) ** 2, axis=-1))
        stretch = jnp.max(jnp.abs(length / bond_mean_A - 1.0), initial=0.0) if len(bond_mean_A) else jnp.float32(0.0)
        strongest = jnp.max(jnp.sum(gradient**2, axis=-1))
        heat = 0.5 * jnp.sum(mass * v**2) / (ACCELERATION * kT * half_degrees)
        finite = jnp.isfinite(x).all() & jnp.isfinite(v).all() & jnp.isfinite(gradient).all()
        # In the order of LIMITS; written so that what is no number breaks the limit.
        broken = jnp.stack(
            [
                ~finite,
                ~(jnp.min(squares) >= limits.min_distance_A**2),
                ~(stretch <= limits.bond),
                ~(strongest <= limits.max_force**2),
                ~(heat <= limits.temperature_ratio),
            ]
        )
        return jnp.where(broken.any(), 1 + jnp.argmax(broken), 0).astype(jnp.int32)

    return judge

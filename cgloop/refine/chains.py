"""The chains of one protein through a refinement: dynamics, restarts, the pool of frames, and what they show."""

import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from cgloop.errors import UserError
from cgloop.refine.energy import FrameEnergy, Trained, energies, forces
from cgloop.refine.first_frames import FirstFrames
from cgloop.refine.objective import force_gradient, weighted_gradient
from cgloop.refine.result import Observed
from cgloop.refine.sampler import LIMITS, Block, ChainLimits, Chains, Dynamics, Sampler
from cgloop.refine.statistics import Crossings, distances
from cgloop.refine.subject import Subject
from cgloop.validate.observables import Frames, observe

log = logging.getLogger("cgloop.refine")

UNFOLDED_Q = 0.5

WARM_UP, JUDGING = 1_000_000, 2_000_000
"""Numbers of blocks from which on random numbers of warm-up and judging are counted."""


@dataclass(frozen=True)
class Lengths:
    """Sizes of a round.

    Attributes:
        chains: number of them.
        frames: of every chain and round.
        stride: steps between them.
        warm_up: blocks before the first round.
        pool: rounds whose frames are used.
        outside_share: share of the chains that start outside the training frames.
    """

    chains: int
    frames: int
    stride: int
    warm_up: int
    pool: int
    outside_share: float

    @property
    def block(self) -> int:
        """Frames of a block."""
        return self.chains * self.frames


@dataclass(eq=False)
class Kept:
    """A block in the pool.

    Attributes:
        positions: float32 [R K, N, 3] Å.
        sound: bool [R K].
        energy: float64 [R K], of the refined terms at the parameters that the block was made with, kcal/mol.
    """

    positions: np.ndarray
    sound: np.ndarray
    energy: np.ndarray


@dataclass(eq=False)
class ProteinChains:
    """All that a refinement does with one protein.

    Attributes:
        subject: the protein.
        energy: of one conformation.
        lengths, dynamics, limits, seed: settings.
        chains: where they are.
        pool: blocks, the newest last.
        crossings: counted so far.
        outside: chains that started outside the training frames.
    """

    subject: Subject
    energy: FrameEnergy
    lengths: Lengths
    dynamics: Dynamics
    limits: ChainLimits
    seed: int
    chains: Chains = field(init=False)
    pool: list[Kept] = field(init=False, default_factory=list)
    crossings: Crossings = field(init=False)
    outside: int = field(init=False)

    def __post_init__(self):
        self.seed = int(np.random.SeedSequence([self.seed, zlib.crc32(self.name.encode())]).generate_state(1)[0])
        self._compile()
        positions, self.outside = self.subject.start(self.lengths.chains, self.lengths.outside_share)
        velocities = self._sampler.velocities(range(self.lengths.chains), 0)
        self.chains = Chains(positions.astype(np.float32), velocities)
        self.crossings = Crossings.of(self.lengths.chains)

    @property
    def name(self) -> str:
        """Name of the protein."""
        return self.subject.name

    def _compile(self) -> None:
        self._sampler = Sampler(
            self.energy, self.subject.masses, self.subject.bond_mean_A, self.dynamics, self.limits, self.seed
        )
        self._energies = energies(self.energy)
        self._forces, self._other_forces = forces(self.energy.part), forces(self.energy.rest)
        self.gradient = weighted_gradient(self.energy)
        self.force_gradient = force_gradient(self.energy)

    def make_room(self, room: int) -> None:
        """Let conformations have so many ordered pairs within the cutoff."""
        if room > self.energy.room:
            self.energy = self.energy.with_room(room)
            self._compile()

    def energies(self, trained: Trained, positions: np.ndarray) -> np.ndarray:
        """Return the energy of the refined terms on frames [F, N, 3], float64 [F] in kcal/mol."""
        return np.asarray(self._energies(trained, positions), np.float64)

    def moving_forces(self, trained: Trained, positions: np.ndarray) -> np.ndarray:
        """Return the forces of the refined terms on frames, float32 [F, N, 3] in kcal/mol/Å."""
        return np.asarray(self._forces(trained, positions))

    def frozen_forces(self, trained: Trained, positions: np.ndarray) -> np.ndarray:
        """Return the forces of all other terms on frames, float32 [F, N, 3] in kcal/mol/Å."""
        if self.energy.moving == "both":
            return np.zeros_like(positions)
        return np.asarray(self._other_forces(trained, positions))

    def sample(self, trained: Trained, number: int) -> tuple[Chains, Block]:
        """Return where a block of dynamics leads, and its frames; nothing of the chains changes but room for pairs."""
        while True:
            chains, block = self._sampler.run(trained, self.chains, number, self.lengths.frames, self.lengths.stride)
            if not block.crowded:
                return chains, block
            self.make_room(2 * self.energy.room)
            log.info("%s: conformations are denser than the reference: room for more pairs", self.name)

    def advance(self, trained: Trained, number: int) -> Block:
        """Let the chains go on by a block; those that broke a limit start again from a random training frame."""
        self.chains, block = self.sample(trained, number)
        self._restart(np.flatnonzero(block.broke), number)
        return block

    def _restart(self, broken: np.ndarray, number: int) -> None:
        if not len(broken):
            return
        chosen = np.random.default_rng([self.seed, 2, number]).integers(
            self.subject.training.n_frames, size=len(broken)
        )
        positions, velocities = (np.array(one) for one in self.chains)
        positions[broken] = self.subject.training.positions[chosen]
        velocities[broken] = self._sampler.velocities([int(chain) for chain in broken], number + 1)
        self.chains = Chains(positions, velocities)

    def warm_up(self, trained: Trained) -> None:
        """Let the chains leave their start.

        Raises:
            UserError: more than half of them break a limit in the last block.
        """
        for block_number in range(self.lengths.warm_up):
            block = self.advance(trained, WARM_UP + block_number)
        if self.lengths.warm_up and (block.broke > 0).sum() > self.lengths.chains / 2:
            kinds, counts = np.unique(block.broke[block.broke > 0], return_counts=True)
            limit = LIMITS[int(kinds[counts.argmax()])]
            raise UserError(
                f"{int((block.broke > 0).sum())} of {self.lengths.chains} chains of `{self.name}` break the limit "
                f"`{limit}` within {self._block_ps():g} ps: there is nothing to refine",
                remedy="train a stable model first (`model.energy: hybrid`), or use a smaller `refine.timestep_fs`",
            )

    def _block_ps(self) -> float:
        return self.lengths.frames * self.lengths.stride * self.dynamics.timestep_fs / 1000.0

    def remember(self, block: Block, trained: Trained) -> None:
        """Put a block into the pool that was made with these parameters, and count crossings."""
        positions = block.positions.reshape(-1, *block.positions.shape[2:])
        sound = block.sound.reshape(-1)
        positions = np.where(sound[:, None, None], positions, self.subject.training.positions[0])
        kept = Kept(positions, sound, self.energies(trained, positions))
        self.pool = [*self.pool, kept][-self.lengths.pool :]
        if len(self.subject.protein.contacts.pairs):
            q = self.observe(positions).q.reshape(block.sound.shape)
            self.crossings.add(q, block.sound)
        self.crossings.forget(np.flatnonzero(block.broke))

    def begin_with(self, first: FirstFrames, trained: Trained) -> int:
        """Put frames of other dynamics with these parameters into the pool; return how many are used."""
        everything = np.concatenate(first.replicas)
        chosen = np.unique(np.linspace(0, len(everything) - 1, min(self.lengths.block, len(everything))).astype(int))
        positions = np.repeat(self.subject.training.positions[:1], self.lengths.block, axis=0)
        frames = everything[chosen] - everything[chosen].mean(axis=1, keepdims=True)
        positions[: len(chosen)] = frames
        sound = np.arange(self.lengths.block) < len(chosen)
        self.pool = [Kept(positions, sound, self.energies(trained, positions))]
        return len(chosen)

    def observe(self, positions: np.ndarray) -> Frames:
        """Return the observables of frames [F, N, 3]."""
        return observe(positions.astype(float), self.subject.protein, self.subject.settings)

    def show(self, block: Block, ess: float | None = None) -> Observed:
        """Return what a block shows beside the reference."""
        positions = block.positions[block.sound]
        if not len(positions):
            positions = self.subject.training.positions[:1]
        frames = self.observe(positions)
        has_q = len(self.subject.protein.contacts.pairs) > 0
        validation = self.subject.validation.n_frames > 0
        return Observed(
            frames=int(block.sound.sum()),
            restarts=int((block.broke > 0).sum()),
            ess=ess,
            rmsd_A=float(frames.rmsd.mean()),
            q=float(frames.q.mean()) if has_q else None,
            rg_A=float(frames.rg.mean()),
            unfolded=float((frames.q < UNFOLDED_Q).mean()) if has_q else 0.0,
            training=distances(frames, self.subject.observed),
            validation=distances(frames, self.subject.observed_validation) if validation else None,
        )

    def state(self) -> dict[str, Any]:
        """Return everything that changes, as arrays of fixed shapes."""
        size, pool = self.lengths.block, self.lengths.pool
        shape = (pool, size, self.subject.n_beads, 3)
        positions, sound, energy = np.zeros(shape, np.float32), np.zeros((pool, size), bool), np.zeros((pool, size))
        for row, kept in enumerate(self.pool):
            positions[row], sound[row], energy[row] = kept.positions, kept.sound, kept.energy
        return {
            "positions": np.asarray(self.chains.positions),
            "velocities": np.asarray(self.chains.velocities),
            "pool": {"positions": positions, "sound": sound, "energy": energy.view(np.uint32)},
            "basin": self.crossings.basin,
            "counts": np.array(
                [len(self.pool), self.crossings.folded, self.crossings.unfolded, self.energy.room], np.int32
            ),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` returned."""
        plain = jax.tree.map(np.asarray, state)
        blocks, folded, unfolded, room = (int(one) for one in plain["counts"])
        self.chains = Chains(plain["positions"], plain["velocities"])
        pool = plain["pool"]
        energy = np.ascontiguousarray(pool["energy"]).view(np.float64)
        self.pool = [Kept(pool["positions"][row], pool["sound"][row], energy[row]) for row in range(blocks)]
        self.crossings = Crossings(plain["basin"].astype(np.int8), folded, unfolded)
        self.make_room(room)


def require_memory(proteins: Sequence[tuple[str, int]], lengths: Lengths, available: float) -> None:
    """Raise a `UserError` where the chains of all proteins need more memory than there is.

    Args:
        proteins: names and numbers of beads.
        lengths: of a round.
        available: bytes.
    """
    for name, beads in proteins:
        # Positions of the pool and of one more block, thrice while they are put together; matrices of pairs per chain.
        needed = 4.0 * 3 * beads * lengths.block * (lengths.pool + 1) * 3 + 16.0 * beads**2 * lengths.chains
        if needed > available:
            raise UserError(
                f"{lengths.chains} chains of `{name}` need about {needed / 1e9:.1f} GB of memory, and "
                f"{available / 1e9:.1f} GB are free",
                where="refine.chains",
                remedy="use fewer chains, or fewer `refine.frames_per_round`",
            )

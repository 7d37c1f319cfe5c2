"""Two beads and one harmonic bond: everything about them is known in closed form."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np

from cgloop.config.refine import RefinementConfig
from cgloop.config.validate import ValidateConfig
from cgloop.data.dataset import SPLITS, ProteinData
from cgloop.model.hybrid import Model
from cgloop.model.terms import zero_prior
from cgloop.refine.candidates import Judge
from cgloop.refine.chains import Lengths, ProteinChains
from cgloop.refine.energy import FrameEnergy
from cgloop.refine.rounds import Refinement
from cgloop.refine.sampler import ChainLimits, Dynamics
from cgloop.refine.subject import Subject, subject_of
from cgloop.refine.updates import Updater
from cgloop.units import thermal_energy

TEMPERATURE_K = 300.0
KT = thermal_energy(TEMPERATURE_K)
LENGTH = 4.0
TYPES, LINKED = np.array([0, 7]), np.ones(1, bool)

LOOSE = ChainLimits(min_distance_A=0.1, bond=0.9, max_force=1e4, temperature_ratio=50.0)


def whole(trained):
    """Parameters of a bond from {"prior": {"log_k", "r0"}}."""
    prior = trained["prior"]
    return {"prior": zero_prior()._replace(bond_k=jnp.exp(prior["log_k"]), bond_r0=prior["r0"]), "ml": {}}


def point(k: float, r0: float = LENGTH):
    return {"prior": {"log_k": jnp.float32(np.log(k)), "r0": jnp.float32(r0)}, "ml": {}}


def dimer_energy() -> FrameEnergy:
    model = Model(spec=None, energy="prior-only", cutoff_A=8.0)
    return FrameEnergy.of(model, whole, TYPES, LINKED, 2, "prior")


def lengths_at(k: float, r0: float = LENGTH) -> tuple[np.ndarray, np.ndarray]:
    """Bond lengths and their probabilities, ∝ r² exp(−k (r − r0)²/2kT)."""
    r = np.linspace(0.5, 8.0, 20001)
    weight = r**2 * np.exp(-0.5 * k * (r - r0) ** 2 / KT)
    return r, weight / weight.sum()


def frames_of(lengths: np.ndarray, seed: int = 0) -> np.ndarray:
    """Dimers [F, 2, 3] of these lengths in random directions."""
    directions = np.random.default_rng(seed).standard_normal((len(lengths), 3))
    half = 0.5 * lengths[:, None] * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    return np.stack([-half, half], axis=1)


def drawn(k: float, frames: int, seed: int = 0) -> np.ndarray:
    """Bond lengths drawn from the ensemble of a bond."""
    r, p = lengths_at(k)
    return np.random.default_rng([seed, 7]).choice(r, frames, p=p)


def reference(k: float, frames: int = 2000, seed: int = 0) -> ProteinData:
    """Frames of the ensemble of a bond in six trajectories: three for training, three for validation."""
    lengths = drawn(k, frames, seed)
    replica = (np.arange(frames) * 6 // frames).astype(np.int32)
    positions = frames_of(lengths, seed).astype(np.float32)
    return ProteinData(
        name="dimer",
        residue_type=TYPES.astype(np.int8),
        chain=np.zeros(2, np.int16),
        resid=np.arange(1, 3, dtype=np.int32),
        native=frames_of(np.array([LENGTH]))[0].astype(np.float32),
        linked=LINKED,
        positions=positions,
        forces=np.full_like(positions, np.nan),
        temperature_K=np.full(frames, TEMPERATURE_K, np.float32),
        replica=replica,
        source_frame=np.arange(frames, dtype=np.int32),
        split=np.where(replica < 3, SPLITS["train"], SPLITS["validation"]).astype(np.int8),
    )


def dimer(k: float, frames: int = 2000, seed: int = 0) -> Subject:
    return subject_of(reference(k, frames, seed), TEMPERATURE_K, ValidateConfig())


def refinement(
    subject: Subject, k_start: float, folder: Path, config: RefinementConfig, limits: ChainLimits = LOOSE, seed: int = 1
) -> Refinement:
    """A refinement of the bond, from a start that is wrong."""
    lengths = Lengths(config.chains, config.frames_per_round, 10, 2, config.pool_rounds, 0.0)
    dynamics = Dynamics(KT, config.timestep_fs, config.friction_per_ps)
    chains = ProteinChains(subject, dimer_energy(), lengths, dynamics, limits, seed)
    start = point(k_start)
    updater = Updater(config, "prior", [chains], {}, 1.0 / KT, seed)
    judge = Judge([chains], start, config.stopping, 1.0 / KT)
    return Refinement(
        config, [chains], updater, judge, start, finish=lambda params: params, folder=folder, fingerprint="dimer"
    )

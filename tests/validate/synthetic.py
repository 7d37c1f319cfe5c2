"""Exact samples of an analytic protein, written as runs: what a gate says of them can only be chance.

The protein is a chain of CA beads whose bonds, angles and dihedrals are independent Gaussians about those of a real
native structure. Each is a first-order autoregressive process: exactly stationary from the first frame on, with
a correlation time of its own. Kinetic energies are those of Langevin velocities, ½ kT Σ z² with z an
Ornstein–Uhlenbeck process. The total energy at constant energy is what the velocity Verlet integrator keeps of
harmonic modes: of frequency ω it conserves ½ v² + ½ ω² (1 − ω² dt²/4) x² exactly, so that the energy itself moves by
ω² dt²/4 times the mode's potential energy, and never away.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import lfilter
from scipy.spatial.transform import Rotation

from cgloop.config import Config
from cgloop.units import KB
from cgloop.validate.gate import judge
from cgloop.validate.run import validate_run
from tests.validate import builders
from tests.validate.builders import DUMP_PS, OBSERVE_PS, TEMPERATURE_K, TIMESTEP_FS, FakeRun

KT = KB * TEMPERATURE_K
SPREAD = {"bond": 0.055, "angle": 0.08, "dihedral": 0.15}
"""Å and rad; bonds as in the all-atom data, the others so that the CA-RMSD scatters as there."""
MEMORY_PS = {"bond": (0.5, 0.5), "angle": (0.5, 5.0), "dihedral": (2.0, 10.0)}
"""Shortest and longest correlation time; along the chain they are spread evenly between them."""
MASS = 110.0
KCAL_IN_AMU_A2_PER_PS2 = 418.4
BOND_A = 3.8
REFERENCE_SPACING_PS = 4.0


@dataclass(frozen=True)
class Lengths:
    """Replicas and lengths of model and reference; ps."""

    replicas: int = 8
    nvt_ps: float = 200.0
    nve_ps: float = 25.0
    friction_per_ps: float = 5.0
    reference_replicas: int = 4
    reference_ps: float = 2000.0


@dataclass(frozen=True)
class Chain:
    """Internal coordinates of a chain, and how much each scatters and how long it remembers.

    Attributes:
        mean: [3N − 6], bonds (Å), then angles, then dihedrals (rad).
        spread: standard deviations.
        memory_ps: correlation times.
    """

    mean: np.ndarray
    spread: np.ndarray
    memory_ps: np.ndarray

    @classmethod
    def of(cls, native: np.ndarray) -> "Chain":
        bonds = np.diff(native, axis=0)
        lengths = np.linalg.norm(bonds, axis=1)
        unit = bonds / lengths[:, None]
        angles = np.pi - np.arccos((unit[1:] * unit[:-1]).sum(axis=1))
        normals = np.cross(unit[:-1], unit[1:])
        dihedrals = np.arctan2(
            (np.cross(normals[:-1], normals[1:]) * unit[1:-1]).sum(axis=1), (normals[:-1] * normals[1:]).sum(axis=1)
        )
        parts = {"bond": lengths, "angle": angles, "dihedral": dihedrals}
        return cls(
            np.concatenate(list(parts.values())),
            np.concatenate([np.full(len(values), SPREAD[kind]) for kind, values in parts.items()]),
            np.concatenate([np.linspace(*MEMORY_PS[kind], len(values)) for kind, values in parts.items()]),
        )

    @property
    def n_beads(self) -> int:
        return len(self.mean) // 3 + 2

    def frames(self, rng: np.random.Generator, count: int, spacing_ps: float) -> np.ndarray:
        """Return a trajectory [count, N, 3]."""
        return self.build(self.mean + self.fluctuations(rng, count, spacing_ps))

    def fluctuations(self, rng: np.random.Generator, count: int, spacing_ps: float) -> np.ndarray:
        """Return a trajectory of the deviations from the mean, [count, 3N − 6]."""
        keep = np.exp(-spacing_ps / self.memory_ps)
        noise = rng.normal(size=(count, len(keep))) * np.sqrt(1 - keep**2)
        noise[0] = rng.normal(size=len(keep))
        walks = [lfilter([1.0], [1.0, -a], column) for a, column in zip(keep, noise.T, strict=True)]
        return np.asarray(self.spread * np.stack(walks, axis=1))

    def build(self, internal: np.ndarray) -> np.ndarray:
        """Positions [F, N, 3] from internal coordinates [F, 3N − 6], bead after bead."""
        n = self.n_beads
        bonds, angles, dihedrals = np.split(internal, [n - 1, 2 * n - 3], axis=1)
        x = np.zeros((len(internal), n, 3))
        x[:, 1, 0] = bonds[:, 0]
        x[:, 2, 0] = bonds[:, 0] - bonds[:, 1] * np.cos(angles[:, 0])
        x[:, 2, 1] = bonds[:, 1] * np.sin(angles[:, 0])
        for i in range(3, n):
            along = x[:, i - 1] - x[:, i - 2]
            along /= np.linalg.norm(along, axis=1, keepdims=True)
            normal = np.cross(x[:, i - 2] - x[:, i - 3], along)
            normal /= np.linalg.norm(normal, axis=1, keepdims=True)
            bond, angle, dihedral = bonds[:, i - 1, None], angles[:, i - 2, None], dihedrals[:, i - 3, None]
            inward = np.cross(normal, along)
            step = -np.cos(angle) * along + np.sin(angle) * (np.cos(dihedral) * inward + np.sin(dihedral) * normal)
            x[:, i] = x[:, i - 1] + bond * step
        return x

    def conserved(self, rng: np.random.Generator, points: int) -> np.ndarray:
        """Total energy [points] at constant energy, kcal/mol, as velocity Verlet keeps it."""
        amplitude_A = self.spread * np.where(np.arange(len(self.spread)) < self.n_beads - 1, 1.0, BOND_A)
        omega = np.sqrt(KT * KCAL_IN_AMU_A2_PER_PS2 / MASS) / amplitude_A
        time = OBSERVE_PS * np.arange(1, points + 1)
        energy, phase = rng.gamma(1.0, KT, len(omega)), rng.uniform(0, 2 * np.pi, len(omega))
        potential = energy * np.cos(omega * time[:, None] + phase) ** 2
        return (energy + (omega * TIMESTEP_FS / 1000) ** 2 / 4 * potential).sum(axis=1)


@dataclass(frozen=True)
class TwoStates(Chain):
    """A chain that jumps between two conformations, as a stationary Markov process.

    Attributes:
        other_mean: [3N − 6], internal coordinates of the second state.
        share: equilibrium probability of the second state.
        relaxation: relaxation time, in lengths of the trajectory.
    """

    other_mean: np.ndarray
    share: float
    relaxation: float = 3.0

    def frames(self, rng: np.random.Generator, count: int, spacing_ps: float) -> np.ndarray:
        """Return a trajectory [count, N, 3]."""
        second = two_states(rng, count, self.share, self.relaxation * count)
        mean = np.where(second[:, None], self.other_mean, self.mean)
        return self.build(mean + self.fluctuations(rng, count, spacing_ps))


def two_states(rng: np.random.Generator, count: int, share: float, relaxation: float) -> np.ndarray:
    """Return a stationary Markov chain of two states, bool [count], True with probability `share`.

    Args:
        relaxation: decay time of its correlation, frames.
    """
    change = 1.0 - np.exp(-1.0 / relaxation)
    states = np.empty(count, bool)
    state = rng.random() < share
    for frame, draw in enumerate(rng.random(count)):
        if frame and draw < change * (1.0 - share if state else share):
            state = not state
        states[frame] = state
    return states


def healthy_run(
    names: list[str],
    chain: Chain,
    seed: int,
    lengths: Lengths = Lengths(),
    model: Chain | None = None,
    reference: Chain | None = None,
) -> FakeRun:
    """Return a run of a healthy model, or of the given one.

    Args:
        names: residue names.
        chain: the protein; its mean is the native structure.
        seed: of the random numbers.
        lengths: of model and reference.
        model: what the model samples; None: `chain`.
        reference: what the reference samples; None: `chain`.
    """
    rng = np.random.default_rng([7, seed])
    dumps, ensemble = round(lengths.nvt_ps / DUMP_PS), round(lengths.reference_ps / REFERENCE_SPACING_PS)
    simulated = [(model or chain).frames(rng, dumps, DUMP_PS) for _ in range(lengths.replicas)]
    sampled = [
        (reference or chain).frames(rng, ensemble, REFERENCE_SPACING_PS) for _ in range(lengths.reference_replicas)
    ]
    native = chain.build(chain.mean[None])[0]
    run = builders.good_run(names, native, sampled, simulated, seed, lengths.nve_ps)
    memory = 1.0 / (lengths.friction_per_ps * OBSERVE_PS)
    for replica in run.nvt:
        by_bead = builders.kinetic_by_bead(rng, len(replica.kinetic), len(names), correlation_steps=memory)
        replica.kinetic = by_bead.sum(axis=1)
        replica.shares = by_bead / replica.kinetic[:, None]
        replica.total = replica.kinetic + rng.normal(size=len(replica.kinetic))
    for replica in run.nve:
        replica.total = chain.conserved(rng, len(replica.total))
    return run


def bent(run: FakeRun, degrees: list[float]) -> None:
    """Angles and dihedrals changed by so much, bonds kept; fluctuations as they were."""
    native = Chain.of(run.native)
    place = native.mean.copy()
    place[len(run.native) - 1 :] += np.radians(degrees)
    middle = run.native.mean(axis=0)
    new = native.build(place[None])[0]
    turn, _ = Rotation.align_vectors(run.native - middle, new - new.mean(axis=0))
    shift = turn.apply(new - new.mean(axis=0)) + middle - run.native
    for replica in run.nvt:
        replica.positions = (replica.positions + shift).astype(np.float32)


def hotter(run: FakeRun) -> None:
    """10 % above the temperature that was asked for."""
    for replica in run.nvt:
        replica.kinetic *= 1.1


def mirrored(run: FakeRun) -> None:
    """Every frame is its mirror image."""
    for replica in run.nvt:
        replica.positions = replica.positions * np.array([-1, 1, 1], np.float32)


def drifting(run: FakeRun) -> None:
    """Total energy rises by 5 kcal/mol/ns."""
    for replica in run.nve:
        replica.total = replica.total + 5.0 * run.nve_ps / 1000 * np.linspace(0, 1, len(replica.total))


DAMAGED: dict[str, Callable[[FakeRun], None]] = {
    "10 % too hot": hotter,
    "mirror image": mirrored,
    "drift of 5 kcal/mol/ns": drifting,
}
"""What is done to the records of a healthy run."""


def looser(chain: Chain) -> Chain:
    """Every coordinate scatters by 20 % more."""
    return replace(chain, spread=1.2 * chain.spread)


def misfolded(chain: Chain) -> Chain:
    """Another compact structure, with the same bonds and angles: dihedrals in reverse order."""
    n = chain.n_beads
    bonds, angles, dihedrals = np.split(chain.mean, [n - 1, 2 * n - 3])
    return replace(chain, mean=np.concatenate([bonds, angles, dihedrals[::-1]]))


OTHER_MODELS: dict[str, Callable[[Chain], Chain]] = {"20 % too loose": looser, "misfolded": misfolded}
"""What a model samples instead of the reference."""


def coiled(chain: Chain, angle_deg: float, dihedral_deg: float) -> Chain:
    """Return the chain with the same mean for all angles and for all dihedrals; bonds and fluctuations are kept."""
    n = chain.n_beads
    bonds, angles, dihedrals = np.split(chain.mean, [n - 1, 2 * n - 3])
    parts = [bonds, np.full_like(angles, np.radians(angle_deg)), np.full_like(dihedrals, np.radians(dihedral_deg))]
    return replace(chain, mean=np.concatenate(parts))


HOPELESS: dict[str, Callable[[Chain], Chain]] = {
    "collapsed coil": lambda chain: coiled(chain, 60.0, 40.0),
    "open left-handed helix": lambda chain: coiled(chain, 130.0, -60.0),
    "extended chain": lambda chain: coiled(chain, 130.0, 180.0),
}
"""What a hopeless model samples. Histograms of RMSD and radius of gyration are disjoint from those of the native chain,
whose means are 0.8 and 5.0 Å; the means here are 4.5 and 3.0, 7.6 and 8.4, 9.1 and 10.1 Å."""


def slower(chain: Chain, factor: float) -> Chain:
    """Return the chain with every correlation time multiplied by a factor, and the same distribution."""
    return replace(chain, memory_ps=factor * chain.memory_ps)


def unfolding(chain: Chain, share: float) -> TwoStates:
    """Return the chain with a second, unfolded state; transitions are slower than its trajectories are long."""
    unfolded = HOPELESS["open left-handed helix"](chain)
    return TwoStates(chain.mean, chain.spread, chain.memory_ps, unfolded.mean, share)


def real_chain(example_h5: Path) -> tuple[list[str], Chain]:
    """Residue names of CLN025, and a chain about its native structure."""
    names, native, _ = builders.real_chain(example_h5)
    return names, Chain.of(native)


def config_of(run: FakeRun, lengths: Lengths) -> Config:
    """The run's config; beads of this chain do not repel each other, so that no distance is too small."""
    config = run.config()
    monitors = config.md.monitors.model_copy(update={"min_distance_A": 1e-6})
    nvt = config.md.nvt.model_copy(update={"friction_per_ps": lengths.friction_per_ps})
    return config.model_copy(update={"md": config.md.model_copy(update={"monitors": monitors, "nvt": nvt})})


def gate_of(run: FakeRun, lengths: Lengths, folder: Path, required: Sequence[str]) -> dict[str, Any]:
    """Write a run, measure it, and judge it."""
    paths = builders.write_run(run, folder)
    return judge(validate_run(config_of(run, lengths), out=folder / "validate", **paths), required)

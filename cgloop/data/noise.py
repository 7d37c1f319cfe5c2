"""How much of a mapped force is noise: what no model of the beads can predict.

The force mapped from one all-atom frame is the mean force of the beads' configuration plus the fluctuation of
everything that was integrated out. The variance of that fluctuation at given bead positions is the floor under the
mean squared error of any model, and the mean squared force less the floor is all there is to learn.

Method: half the mean squared difference of forces at nearest neighbours. Two frames in which a bead's surroundings
(its stretch of five beads) are nearly alike have nearly the same mean force and independent fluctuations, so that
E ½|F − F'|² is the noise plus half the squared difference of the two mean forces (Rice, Ann. Stat. 12, 1215 (1984);
Devroye, Györfi, Lugosi, Walk, Electron. J. Stat. 12, 1752 (2018)). That rest is made small by subtracting first what a
regression on the two bonds of the bead predicts, the stiffest part of the mean force: subtracting any function of bead
positions changes the mean force and not the noise. The rest can only add, so the estimate lies above the floor rather
than below it. Neighbours are taken from other trajectories or other stretches of time: frames close in time share
side-chain states, and would make the noise look small.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

METHOD = "half the mean squared difference at nearest neighbours of five-bead windows, bond regression subtracted"

MIN_FRAMES = 100
MAX_FRAMES = 1000
MAX_BEADS = 32
"""Evenly chosen frames and beads are enough: the estimate's error is then about 1 %."""

HALF_WINDOW = 2
BLOCKS = 4
"""Trajectories are cut in time until there are so many blocks."""


@dataclass(frozen=True)
class NoiseEstimate:
    """Root mean square of the noise of one component of a bead's force.

    Attributes:
        rms: kcal/mol/Å.
        error: standard error of `rms` from the scatter over blocks.
        rms_force: of the same frames and beads, so that 1 − (rms / rms_force)² is what a perfect model explains.
        frames: used.
    """

    rms: float
    error: float
    rms_force: float
    frames: int


def pooled_noise(noise: Sequence[float | None], weights: Sequence[float] | np.ndarray) -> float | None:
    """Root mean square noise of a force component over several proteins; None if it is not known of every one.

    Args:
        noise: of each protein, kcal/mol/Å.
        weights: of each protein, such as its beads times its frames.
    """
    known = [value for value in noise if value is not None]
    if not known or len(known) < len(noise):
        return None
    return float(np.sqrt(np.average(np.square(known), weights=weights)))


def explained_share(rmse: float | None, zero: float | None, noise: float) -> float | None:
    """How much of what can be explained a model explains, 1 − (rmse² − noise²)/(zero² − noise²).

    0 for no model, 1 for a perfect one.

    Args:
        rmse: root mean square error of the model's forces.
        zero: that of no forces at all, which is the root mean square force.
        noise: what no model explains, 0 for the share of everything.

    Returns:
        None if something is not known, or there is nothing but noise.
    """
    if rmse is None or zero is None or not zero > noise:
        return None
    return 1.0 - (rmse**2 - noise**2) / (zero**2 - noise**2)


def choose_frames(n_frames: int) -> np.ndarray:
    """Evenly spaced indices of at most `MAX_FRAMES` frames."""
    return np.unique(np.linspace(0, n_frames - 1, min(n_frames, MAX_FRAMES)).astype(int)) if n_frames else np.arange(0)


def estimate_noise(
    positions: np.ndarray, forces: np.ndarray, linked: np.ndarray, trajectory: np.ndarray
) -> NoiseEstimate | None:
    """The noise of mapped forces at one temperature.

    Args:
        positions: [F, N, 3], Å. forces: [F, N, 3], kcal/mol/Å.
        linked: bool [N-1], bonds.
        trajectory: int [F], which trajectory each frame is from; frames in order of time.

    Returns:
        The estimate, or None with fewer than `MIN_FRAMES` frames.
    """
    if len(positions) < MIN_FRAMES:
        return None
    positions, forces = np.asarray(positions, np.float64), np.asarray(forces, np.float64)
    block = _blocks(trajectory)
    n_beads = positions.shape[1]
    beads = np.unique(np.linspace(0, n_beads - 1, min(n_beads, MAX_BEADS)).astype(int))
    squares = np.zeros((len(beads), len(positions)))
    for row, bead in enumerate(beads):
        window = _window(bead, linked)
        residual = forces[:, bead] - _bond_trend(positions, forces[:, bead], bead, linked, block)
        squares[row] = _neighbour_differences(positions[:, window], residual, block)
    per_block = np.array([squares[:, block == b].mean() for b in np.unique(block)])
    rms = float(np.sqrt(squares.mean()))
    scatter = float(per_block.std(ddof=1) / np.sqrt(len(per_block)))
    return NoiseEstimate(
        rms=rms,
        error=scatter / (2.0 * rms) if rms > 0 else 0.0,
        rms_force=float(np.sqrt((forces[:, beads] ** 2).mean())),
        frames=len(positions),
    )


def _blocks(trajectory: np.ndarray) -> np.ndarray:
    """A block of time for each frame: whole trajectories, or equal pieces of them if there are few."""
    names, whole = np.unique(trajectory, return_inverse=True)
    pieces = -(-BLOCKS // len(names))
    block = np.zeros(len(whole), int)
    for one in range(len(names)):
        rows = np.flatnonzero(whole == one)
        block[rows] = one * pieces + np.arange(len(rows)) * pieces // len(rows)
    return block


def _window(bead: int, linked: np.ndarray) -> np.ndarray:
    """The bead and up to `HALF_WINDOW` linked neighbours on each side."""
    first = last = bead
    while first > max(0, bead - HALF_WINDOW) and linked[first - 1]:
        first -= 1
    while last < min(len(linked), bead + HALF_WINDOW) and linked[last]:
        last += 1
    return np.arange(first, last + 1)


def _bond_trend(
    positions: np.ndarray, force: np.ndarray, bead: int, linked: np.ndarray, block: np.ndarray
) -> np.ndarray:
    """Force [F, 3] along the bead's bonds, linear in their lengths; each block is predicted by a fit to the others."""
    columns = list(_bond_columns(positions, bead, linked))
    trend = np.zeros_like(force)
    if not columns:
        return trend
    features = np.stack(columns, axis=2)
    for one in np.unique(block):
        others = features[block != one].reshape(-1, len(columns))
        coefficients, *_ = np.linalg.lstsq(others, force[block != one].ravel(), rcond=1e-8)
        trend[block == one] = features[block == one] @ coefficients
    return trend


def _bond_columns(positions: np.ndarray, bead: int, linked: np.ndarray) -> Iterator[np.ndarray]:
    for other in (bead - 1, bead + 1):
        if 0 <= min(bead, other) < len(linked) and linked[min(bead, other)]:
            bond = positions[:, other] - positions[:, bead]
            length = np.linalg.norm(bond, axis=1, keepdims=True)
            yield bond / length
            yield bond / length * (length - length.mean()) / (length.std() + 1e-12)


def _neighbour_differences(windows: np.ndarray, force: np.ndarray, block: np.ndarray) -> np.ndarray:
    """½ |F − R F'|² / 3 of each frame and its nearest neighbour in another block; R superposes the neighbour."""
    neighbour = _nearest(windows, block)
    centred = windows - windows.mean(axis=1, keepdims=True)
    turned = np.einsum("fa,fab->fb", force[neighbour], _superposition(centred, centred[neighbour]))
    return 0.5 * ((force - turned) ** 2).mean(axis=1)


def _nearest(windows: np.ndarray, block: np.ndarray) -> np.ndarray:
    """For each frame, the frame of another block whose distances between the window's beads are most alike.

    Distances are measured in units of their standard deviation, so that stiff ones count as much as soft ones.
    """
    if windows.shape[1] == 1:
        # A lone bead has no surroundings: any other frame is as near as any.
        return np.roll(np.arange(len(windows)), len(windows) // 2)
    first, second = np.triu_indices(windows.shape[1], 1)
    features = np.linalg.norm(windows[:, first] - windows[:, second], axis=2)
    features = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-12)
    norms = (features**2).sum(axis=1)
    distance = norms[:, None] + norms[None] - 2.0 * features @ features.T
    distance[block[:, None] == block[None]] = np.inf
    return distance.argmin(axis=1)


def _superposition(target: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Rotations [F, 3, 3] that turn rows `moving` @ R onto `target`, both [F, n, 3] (Kabsch, Acta Cryst. A 32, 922)."""
    left, _, right = np.linalg.svd(np.einsum("fia,fib->fab", moving, target))
    handed = np.sign(np.linalg.det(left @ right))
    left[:, :, 2] *= handed[:, None]
    return left @ right

"""How well forces on held-out frames are predicted: by the full model, by the prior alone, by nothing at all.

Everything here is NumPy in float64 on arrays of forces; who predicted them does not matter.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cgloop.data.noise import explained_share, pooled_noise
from cgloop.interrupt import check_stop
from cgloop.residues import RESIDUES
from cgloop.train.loader import FrameSet, Shape
from cgloop.train.step import ForceFunction

BLOCKS_PER_TRAJECTORY = 20
RESAMPLES = 2000


def predict(
    forces: ForceFunction,
    params: Any,
    frames: FrameSet,
    shape: Shape,
    chosen: np.ndarray | None = None,
    stops: bool = True,
) -> np.ndarray:
    """Forces on frames of a set, in its flat bead order: float32 [B, 3]; 0 on frames that are not chosen.

    Args:
        forces: compiled function (params, positions, graph) -> forces.
        params: handed to it.
        frames: any set.
        shape: of the batches, at least what the set needs for `shape.replicas` frames.
        chosen: indices of frames; None for all.
        stops: whether a request to stop is obeyed here.
    """
    chosen = np.arange(frames.n_frames) if chosen is None else chosen
    out = np.zeros_like(frames.reference)
    for start in range(0, len(chosen), shape.replicas):
        if stops:
            check_stop()
        part = chosen[start : start + shape.replicas]
        batch = frames.batch(part, shape)
        bead, _ = frames.beads.take(part)
        out[bead] = np.asarray(forces(params, batch.positions, batch.graph))[: len(bead)]
    return out


def force_metrics(predicted: np.ndarray, reference: np.ndarray) -> dict[str, float | None]:
    """Deviations of forces [B, 3] from the reference, kcal/mol/Å.

    Returns:
        `rmse` and `mae` per component; `cosine`, the mean over beads of the cosine between predicted and reference
        force, None if nothing is predicted; `r2` = 1 − Σ(F_pred − F_ref)² / Σ(F_ref − mean component)², None if the
        reference does not vary.
    """
    predicted, reference = predicted.astype(np.float64), reference.astype(np.float64)
    deviation = predicted - reference
    lengths = np.linalg.norm(predicted, axis=1) * np.linalg.norm(reference, axis=1)
    defined = lengths > 0
    cosines = np.sum(predicted * reference, axis=1)[defined] / lengths[defined]
    spread = np.sum((reference - reference.mean()) ** 2)
    return {
        "rmse": float(np.sqrt(np.mean(deviation**2))),
        "mae": float(np.mean(np.abs(deviation))),
        "cosine": float(cosines.mean()) if len(cosines) else None,
        "r2": float(1.0 - np.sum(deviation**2) / spread) if spread > 0 else None,
    }


def trajectory_blocks(frames: FrameSet, per_trajectory: int = BLOCKS_PER_TRAJECTORY) -> np.ndarray:
    """Block of each frame: every trajectory in at most so many runs of consecutive frames. int64 [F]."""
    blocks, first = np.empty(frames.n_frames, np.int64), 0
    trajectories = np.stack([frames.protein, frames.replica], axis=1)
    for trajectory in np.unique(trajectories, axis=0):
        members = np.flatnonzero((trajectories == trajectory).all(axis=1))
        n = min(per_trajectory, len(members))
        blocks[members] = first + np.arange(len(members)) * n // len(members)
        first += n
    return blocks


def rmse_difference(
    a: np.ndarray, b: np.ndarray, reference: np.ndarray, block: np.ndarray, seed: int, resamples: int = RESAMPLES
) -> dict[str, float | int]:
    """RMSE of `a` less RMSE of `b`, with the error of a block bootstrap (Künsch 1989, doi:10.1214/aos/1176347265).

    Both are measured on the same frames, so that the scatter of the reference largely cancels in the difference.

    Args:
        a, b, reference: forces [B, 3].
        block: int [B], block of each bead's frame; frames of one block stay together.
        seed: of the resampling.

    Returns:
        `value` and `error` (half of the central 95 % of the resampled differences), kcal/mol/Å, and `blocks`.
    """
    blocks = int(block.max()) + 1
    squares = np.stack([_block_sums(x, reference, block, blocks) for x in (a, b)])
    components = 3.0 * np.bincount(block, minlength=blocks)
    draws = np.random.Generator(np.random.Philox(key=seed)).integers(blocks, size=(resamples, blocks))
    root = np.sqrt(squares[:, draws].sum(axis=-1) / components[draws].sum(axis=-1))
    low, high = np.percentile(root[0] - root[1], [2.5, 97.5])
    full, prior = np.sqrt(squares.sum(axis=-1) / components.sum())
    return {"value": float(full - prior), "error": float(0.5 * (high - low)), "blocks": blocks}


def _block_sums(predicted: np.ndarray, reference: np.ndarray, block: np.ndarray, blocks: int) -> np.ndarray:
    deviation = predicted.astype(np.float64) - reference
    return np.bincount(block, weights=np.sum(deviation**2, axis=1), minlength=blocks)


def evaluate_forces(
    frames: FrameSet,
    full: np.ndarray,
    prior: np.ndarray,
    *,
    split: str,
    seed: int,
    more: Mapping[str, np.ndarray] | None = None,
    noise: Mapping[str, float | None] | None = None,
) -> dict[str, Any]:
    """The contents of `forces.json`.

    Args:
        frames: held-out frames.
        full, prior: forces [B, 3] of the model and of the prior alone on them, kcal/mol/Å.
        split: which frames these are.
        seed: of the bootstrap.
        more: forces of further modes, by name.
        noise: by protein, scatter of the mapped forces around their mean at given beads, kcal/mol/Å per component:
            what no model of the beads explains.

    Returns:
        Metrics of each mode over all beads, per residue type, per protein and per bead of each protein, each with its
        count; the RMSE of the full model less that of the prior alone with its 95 % error; and the noise with the
        share of what can be explained that each mode explains (`explained_share`).
    """
    modes = {"full": full, "prior-only": prior, "zero": np.zeros_like(prior), **(more or {})}
    overall = {mode: force_metrics(forces, frames.reference) for mode, forces in modes.items()}
    frame_of_bead = np.repeat(np.arange(frames.n_frames), frames.beads.counts)
    block = trajectory_blocks(frames)[frame_of_bead]
    protein = frames.protein[frame_of_bead]
    beads = np.bincount(protein, minlength=len(frames.names))
    floor = pooled_noise([(noise or {}).get(name) for name in frames.names], beads)
    return {
        "split": split,
        "n_frames": frames.n_frames,
        "n_beads": len(frames.types),
        "frames_per_protein": {name: int(np.sum(frames.protein == i)) for i, name in enumerate(frames.names)},
        "unit": "kcal/mol/Å",
        "modes": overall,
        "rmse_full": overall["full"]["rmse"],
        "rmse_prior": overall["prior-only"]["rmse"],
        "rmse_zero": overall["zero"]["rmse"],
        "full_minus_prior": rmse_difference(full, prior, frames.reference, block, seed),
        "per_residue_type": {
            RESIDUES[kind].name: _metrics_of(modes, frames.reference, frames.types == kind)
            for kind in np.unique(frames.types)
        },
        "noise": floor,
        "explained": {
            mode: None if floor is None else explained_share(one["rmse"], overall["zero"]["rmse"], floor)
            for mode, one in overall.items()
        },
        "per_protein": {
            name: {**_metrics_of(modes, frames.reference, protein == i), "noise": (noise or {}).get(name)}
            for i, name in enumerate(frames.names)
        },
        "per_bead": {name: _per_bead(modes, frames, i) for i, name in enumerate(frames.names)},
    }


def _metrics_of(modes: Mapping[str, np.ndarray], reference: np.ndarray, chosen: np.ndarray) -> dict[str, Any]:
    metrics = {mode: force_metrics(forces[chosen], reference[chosen]) for mode, forces in modes.items()}
    return {"count": int(chosen.sum()), **metrics}


def _per_bead(modes: Mapping[str, np.ndarray], frames: FrameSet, protein: int) -> dict[str, Any]:
    """RMSE along the chain of one protein."""
    chosen = np.repeat(frames.protein == protein, frames.beads.counts)
    n_beads = int(frames.beads.counts[frames.protein == protein][0])
    table = {}
    for mode, forces in modes.items():
        deviation = (forces[chosen].astype(np.float64) - frames.reference[chosen]).reshape(-1, n_beads, 3)
        table[mode] = np.sqrt(np.mean(deviation**2, axis=(0, 2))).tolist()
    return {"residues": [RESIDUES[kind].name for kind in frames.types[chosen][:n_beads]], "rmse": table}

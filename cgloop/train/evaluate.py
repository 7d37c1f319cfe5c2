"""How well forces on held-out frames are predicted: by the full model, by the prior alone, by nothing at all.

Forces come batch by batch and are added up per bead of each protein, in float64: no set of frames has to fit into
memory. Who predicted them does not matter.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cgloop.data.noise import explained_share, pooled_noise
from cgloop.interrupt import check_stop
from cgloop.residues import RESIDUES
from cgloop.train.loader import FrameSet, Shape
from cgloop.train.prefetch import ahead

BLOCKS_PER_TRAJECTORY = 20
RESAMPLES = 2000
DRAWS_AT_ONCE = 2**22
COLUMNS = ("count", "squares", "absolute", "cosine", "directed", "reference", "reference_squares")

Predictor = Callable[[np.ndarray, Any], Any]
"""(positions [N, 3], graph) -> forces [N, 3]."""


def predictions(
    predictors: Sequence[Predictor],
    frames: FrameSet,
    shape: Shape,
    chosen: np.ndarray | None = None,
    stops: bool = True,
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Goes through frames in batches: their indices, and forces of each predictor, float32 [B, 3] on their beads.

    Args:
        predictors: compiled functions.
        frames: any set.
        shape: of the batches, at least what the set needs for `shape.replicas` frames.
        chosen: indices of frames; None for all.
        stops: whether a request to stop is obeyed here.
    """
    chosen = np.arange(frames.n_frames) if chosen is None else chosen
    parts = [chosen[start : start + shape.replicas] for start in range(0, len(chosen), shape.replicas)]
    with closing(ahead(lambda part: frames.batch(part, shape), parts)) as batches:
        for part, batch in zip(parts, batches, strict=True):
            if stops:
                check_stop()
            n_beads = int(frames.beads.counts[part].sum())
            yield part, [np.asarray(one(batch.positions, batch.graph))[:n_beads] for one in predictors]


def metric_sums(predicted: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The terms of `COLUMNS` of each bead, [B, 7], of forces [B, 3] in kcal/mol/Å; their sums give `metrics_of`."""
    predicted, reference = predicted.astype(np.float64), reference.astype(np.float64)
    deviation = predicted - reference
    lengths = np.linalg.norm(predicted, axis=1) * np.linalg.norm(reference, axis=1)
    directed = lengths > 0
    cosine = np.divide(np.sum(predicted * reference, axis=1), lengths, out=np.zeros(len(lengths)), where=directed)
    columns = (np.ones(len(lengths)), np.sum(deviation**2, axis=1), np.sum(np.abs(deviation), axis=1), cosine, directed,
               np.sum(reference, axis=1), np.sum(reference**2, axis=1))  # fmt: skip
    return np.stack(columns, axis=1)


def metrics_of(sums: np.ndarray) -> dict[str, float | None]:
    """Deviations of forces from the reference, kcal/mol/Å, from sums of `metric_sums` over beads.

    Returns:
        `rmse` and `mae` per component; `cosine`, the mean over beads of the cosine between predicted and reference
        force, None if nothing is predicted; `r2` = 1 − Σ(F_pred − F_ref)² / Σ(F_ref − mean component)², None if the
        reference does not vary.
    """
    count, squares, absolute, cosine, directed, reference, reference_squares = sums.tolist()
    spread = reference_squares - reference**2 / (3 * count)
    return {
        "rmse": float(np.sqrt(squares / (3 * count))),
        "mae": absolute / (3 * count),
        "cosine": cosine / directed if directed else None,
        "r2": 1.0 - squares / spread if spread > 0 else None,
    }


@dataclass(frozen=True)
class FrameErrors:
    """Squared deviations of forces frame by frame, in the order of the frames, for statistics that need their order.

    Attributes:
        names: of the proteins.
        protein: int64 [F], index into `names`.
        replica: int32 [F], trajectory of each frame in its source.
        components: int64 [F], number of force components.
        model, prior: [F], sums over these of the squared deviation, (kcal/mol/Å)²; `prior` is the fitted prior alone.
    """

    names: list[str]
    protein: np.ndarray
    replica: np.ndarray
    components: np.ndarray
    model: np.ndarray
    prior: np.ndarray

    def write(self, path: Path) -> None:
        """Write an NPZ file; the same numbers give the same bytes."""
        arrays = {name: np.asarray(value) for name, value in vars(self).items()}
        np.savez_compressed(path, allow_pickle=False, **arrays)


class ForceTally:
    """Sums of force deviations over frames.

    Attributes:
        frames: any set.
        modes: names of the predictions, "full" and "prior-only" among them.
        sums: of each mode, [beads of all proteins, `COLUMNS`].
        block: int64 [F], what is resampled together.
        whole_proteins: whether these are proteins.
    """

    def __init__(self, frames: FrameSet, modes: Sequence[str], whole_proteins: bool = False):
        """With `whole_proteins` the error of a difference is that of other proteins, if there are at least two."""
        self.frames, self.modes = frames, list(modes)
        self.whole_proteins = whole_proteins and len(frames.names) > 1
        self.block = frames.protein if self.whole_proteins else trajectory_blocks(frames)
        n_blocks = int(self.block.max()) + 1
        self.sums = {mode: np.zeros((len(frames.chain_types), len(COLUMNS))) for mode in self.modes}
        self._block_squares = {mode: np.zeros(n_blocks) for mode in ("full", "prior-only")}
        self._frame_squares = {mode: np.zeros(frames.n_frames) for mode in ("full", "prior-only")}
        self._labels: list[str] = []
        self._components = 3.0 * np.bincount(self.block, weights=frames.beads.counts, minlength=n_blocks)

    def tell_apart(self, labels: Sequence[str], which: np.ndarray) -> None:
        """Add up frames of each label by themselves, too; `which` int [F] is the label of each frame."""
        self._labels, self._which = list(labels), which
        self._label_sums = {mode: np.zeros((len(labels), len(COLUMNS))) for mode in self.modes}

    def per_source(self) -> dict[str, dict[str, Any]]:
        """Number of frames, and metrics of each mode, by label; none where no frame of it was judged."""
        n_frames = np.bincount(self._which, minlength=len(self._labels)) if self._labels else ()
        return {
            label: {
                "frames": int(n_frames[k]),
                "modes": {mode: metrics_of(sums[k]) for mode, sums in self._label_sums.items()} if n_frames[k] else {},
            }
            for k, label in enumerate(self._labels)
        }

    def add(self, chosen: np.ndarray, forces: Mapping[str, np.ndarray]) -> None:
        """Count forces [B, 3] of every mode on the beads of frames."""
        frames, reference = self.frames, self.frames.store.reference(chosen)
        bead, _ = frames.chain_beads.take(frames.protein[chosen])
        own, where = np.unique(bead, return_inverse=True)
        block = np.repeat(self.block[chosen], frames.beads.counts[chosen])
        place = np.repeat(np.arange(len(chosen)), frames.beads.counts[chosen])
        for mode in self.modes:
            terms = metric_sums(forces[mode], reference)
            self.sums[mode][own] += np.stack([np.bincount(where, weights=column) for column in terms.T], axis=1)
            if self._labels:
                label = np.repeat(self._which[chosen], frames.beads.counts[chosen])
                np.add.at(self._label_sums[mode], label, terms)
            if mode in self._block_squares:
                squares = terms[:, COLUMNS.index("squares")]
                np.add.at(self._block_squares[mode], block, squares)
                self._frame_squares[mode][chosen] = np.bincount(place, weights=squares, minlength=len(chosen))

    def blocks(self) -> dict[str, list[float]]:
        """Sums of what is resampled together: `squares` of the full model and `components`, to compare trainings."""
        return {"squares": self._block_squares["full"].tolist(), "components": self._components.tolist()}

    def frame_errors(self) -> FrameErrors:
        """Return the squared deviations of every frame."""
        frames = self.frames
        return FrameErrors(
            list(frames.names), frames.protein, frames.replica, 3 * frames.beads.counts,
            self._frame_squares["full"], self._frame_squares["prior-only"],
        )  # fmt: skip

    def difference(self, seed: int) -> dict[str, float | int | str]:
        """See `rmse_difference`: of the full model less that of the prior alone."""
        squares = np.stack([self._block_squares[mode] for mode in ("full", "prior-only")])
        resampled = "proteins" if self.whole_proteins else "blocks of trajectories"
        return {**rmse_difference(squares, self._components, seed), "resampled": resampled}


def trajectory_blocks(frames: FrameSet, per_trajectory: int = BLOCKS_PER_TRAJECTORY) -> np.ndarray:
    """Block of each frame: every trajectory in at most so many runs of consecutive frames. int64 [F]."""
    blocks, first = np.empty(frames.n_frames, np.int64), 0
    order = np.lexsort((frames.replica, frames.protein))
    trajectory = np.stack([frames.protein, frames.replica], axis=1)[order]
    starts = np.flatnonzero((np.diff(trajectory, axis=0) != 0).any(axis=1)) + 1
    for members in np.split(order, starts):
        n = min(per_trajectory, len(members))
        blocks[members] = first + np.arange(len(members)) * n // len(members)
        first += n
    return blocks


def rmse_difference(
    squares: np.ndarray, components: np.ndarray, seed: int, resamples: int = RESAMPLES
) -> dict[str, float | int]:
    """RMSE of one prediction less that of another, with the error of a bootstrap over blocks of frames.

    Both are measured on the same frames, so that the scatter of the reference largely cancels in the difference.
    Blocks are runs of trajectories (Künsch 1989, doi:10.1214/aos/1176347265), or whole proteins: what a model does on
    a protein that it has not seen differs more between proteins than between the frames of one.

    Args:
        squares: [2, blocks], sums of squared deviations of both predictions, (kcal/mol/Å)².
        components: [blocks], force components in these sums.
        seed: of the resampling.

    Returns:
        `value` and `error` (half of the central 95 % of the resampled differences), kcal/mol/Å, and `blocks`.
    """
    blocks = len(components)
    generator = np.random.Generator(np.random.Philox(key=seed))
    found = []
    for size in np.diff(np.unique([*range(0, resamples, max(1, DRAWS_AT_ONCE // blocks)), resamples])):
        draws = generator.integers(blocks, size=(size, blocks))
        root = np.sqrt(squares[:, draws].sum(axis=-1) / components[draws].sum(axis=-1))
        found.append(root[0] - root[1])
    low, high = np.percentile(np.concatenate(found), [2.5, 97.5])
    one, other = np.sqrt(squares.sum(axis=-1) / components.sum())
    return {"value": float(one - other), "error": float(0.5 * (high - low)), "blocks": blocks}


def evaluate_forces(
    tally: ForceTally, *, split: str, seed: int, noise: Mapping[str, float | None] | None = None
) -> dict[str, Any]:
    """The contents of `forces.json`.

    Args:
        tally: of the forces on all frames, with a mode "zero" of no forces at all.
        split: which frames these are.
        seed: of the bootstrap.
        noise: by protein, scatter of the mapped forces around their mean at given beads, kcal/mol/Å per component:
            what no model of the beads explains.

    Returns:
        Metrics of each mode over all beads, per residue type, per protein and per bead of each protein, each with its
        count; the RMSE of the full model less that of the prior alone with its 95 % error; and the noise with the
        share of what can be explained that each mode explains (`explained_share`).
    """
    frames = tally.frames
    overall = {mode: metrics_of(sums.sum(axis=0)) for mode, sums in tally.sums.items()}
    n_frames = np.bincount(frames.protein, minlength=len(frames.names))
    floor = pooled_noise([(noise or {}).get(name) for name in frames.names], n_frames * frames.chain_beads.counts)
    own = [
        slice(start, start + n) for start, n in zip(frames.chain_beads.starts, frames.chain_beads.counts, strict=True)
    ]
    return {
        "split": split,
        "whole_proteins": tally.whole_proteins,
        "n_frames": frames.n_frames,
        "n_beads": frames.n_beads,
        "frames_per_protein": dict(zip(frames.names, n_frames.tolist(), strict=True)),
        "unit": "kcal/mol/Å",
        "modes": overall,
        "rmse_full": overall["full"]["rmse"],
        "rmse_prior": overall["prior-only"]["rmse"],
        "rmse_zero": overall["zero"]["rmse"],
        "full_minus_prior": tally.difference(seed),
        "blocks": tally.blocks(),
        "per_residue_type": {
            RESIDUES[kind].name: _of_beads(tally, frames.chain_types == kind) for kind in np.unique(frames.chain_types)
        },
        "noise": floor,
        "explained": {
            mode: None if floor is None else explained_share(one["rmse"], overall["zero"]["rmse"], floor)
            for mode, one in overall.items()
        },
        "per_protein": {
            name: {**_of_beads(tally, beads), "noise": (noise or {}).get(name)}
            for name, beads in zip(frames.names, own, strict=True)
        },
        "per_source": tally.per_source(),
        "per_bead": {name: _per_bead(tally, beads) for name, beads in zip(frames.names, own, strict=True)},
    }


def _of_beads(tally: ForceTally, beads: np.ndarray | slice) -> dict[str, Any]:
    sums = {mode: one[beads].sum(axis=0) for mode, one in tally.sums.items()}
    return {"count": int(sums["full"][0]), **{mode: metrics_of(one) for mode, one in sums.items()}}


def _per_bead(tally: ForceTally, beads: slice) -> dict[str, Any]:
    """RMSE along the chain of one protein."""
    table = {}
    for mode, sums in tally.sums.items():
        count, squares = sums[beads, :2].T
        table[mode] = np.sqrt(squares / (3 * count)).tolist()
    return {"residues": [RESIDUES[kind].name for kind in tally.frames.chain_types[beads]], "rmse": table}

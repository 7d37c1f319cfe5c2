"""Frames in memory, and batches of them as one flat graph of fixed shape.

Everything of different length (beads of a frame, its edges, the bonds of its protein) lies in one flat array with
start and length per row, so that a batch is put together by a few `take`s, whatever proteins it mixes. The capacity
of a batch is the sum of the largest rows that could ever meet in it: it cannot overflow, and every batch of a set,
the last partial one included, has the same shape, hence one compilation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cgloop.data.dataset import ProteinData
from cgloop.model.graph import Graph, find_edges
from cgloop.model.topology import UNLINKED, build_topology, pair_separation, piece_of_bead
from cgloop.train.noise import displacements, skin


class Batch(NamedTuple):
    """Frames as a disjoint union.

    Attributes:
        positions: [N, 3], Å.
        target: [N, 3], kcal/mol/Å, what the learned part should give; 0 on padding.
        graph: replica r of it is the r-th frame of the batch.
        weight: [N], of each bead in the loss; None if all count the same.
    """

    positions: np.ndarray
    target: np.ndarray
    graph: Graph
    weight: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of different length that lie one after the other in a flat array.

    Attributes:
        starts, counts: int64 [rows].
    """

    starts: np.ndarray
    counts: np.ndarray

    @classmethod
    def of_lengths(cls, counts: Sequence[int] | np.ndarray) -> "Rows":
        lengths = np.asarray(counts, np.int64)
        return cls(np.cumsum(lengths) - lengths, lengths)

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Flat indices of the items of the given rows, in order, and for each the place of its row in `rows`."""
        counts = self.counts[rows]
        owner = np.repeat(np.arange(len(rows)), counts)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        return self.starts[rows][owner] + within, owner


class Shape(NamedTuple):
    """Sizes of the arrays of a batch."""

    replicas: int
    beads: int
    edges: int
    bonds: int
    angles: int
    dihedrals: int


@dataclass(frozen=True, eq=False)
class Bucket:
    """Frames of similar length, which are put into batches together.

    Attributes:
        frames: int64, indices.
        batch_size: frames per batch.
        shape: of every batch, or of every part of it.
        parts: into how many a device divides its share of a batch, to compute one after the other.
    """

    frames: np.ndarray
    batch_size: int
    shape: Shape
    parts: int = 1

    @property
    def n_batches(self) -> int:
        return -(-len(self.frames) // self.batch_size)


@dataclass(frozen=True)
class AtOnce:
    """How much of a batch is computed at once: small parts stay in a processor's cache and need less memory.

    Attributes:
        frames: so many frames, or
        pairs: as many frames as have about so many ordered pairs, at least one.
    """

    frames: int | None = None
    pairs: int = 256

    def frames_of(self, pairs_per_frame: float) -> int:
        """Number of frames, at least one."""
        return self.frames or max(1, round(self.pairs / max(pairs_per_frame, 1.0)))


class _Terms(NamedTuple):
    """One kind of bonded term over all proteins: flat indices within the protein, [T, k], and one row per protein."""

    indices: np.ndarray
    rows: Rows


class FrameSet:
    """Frames of one or several proteins, with edges and reference forces.

    Attributes:
        names: the proteins.
        protein: int64 [F], index into `names` of each frame.
        replica: int32 [F], trajectory of each frame in its source.
        beads: rows of the flat bead arrays, one per frame.
        types: int32 [B], residue type of every bead of every frame.
        positions, reference: float32 [B, 3], Å and kcal/mol/Å.
        target: float32 [B, 3], what the learned part should give; `reference` until `set_target`.
        temperature_K: float32 [F].
        weight: float32 [F], of a bead of each frame in the loss; None if all count the same.
        noise_A: standard deviation of the noise on positions for which there are edges enough.
    """

    def __init__(self, proteins: Sequence[ProteinData], cutoff_A: float, noise_A: float = 0.0):
        """Find all edges within the cutoff, once, and with noise also those that it may bring within the cutoff."""
        proteins = [p for p in proteins if p.n_frames]
        if not proteins:
            raise ValueError("a set needs at least one frame")
        frames = [p.n_frames for p in proteins]
        self.names = [p.name for p in proteins]
        self.protein = np.repeat(np.arange(len(proteins)), frames)
        self.replica = np.concatenate([p.replica for p in proteins])
        self.temperature_K = np.concatenate([p.temperature_K for p in proteins])
        self.weight: np.ndarray | None = None
        self.beads = Rows.of_lengths(np.repeat([p.n_beads for p in proteins], frames))
        self.types = np.concatenate([np.tile(p.residue_type.astype(np.int32), p.n_frames) for p in proteins])
        self.positions = np.concatenate([p.positions.reshape(-1, 3) for p in proteins]).astype(np.float32)
        self.reference = np.concatenate([p.forces.reshape(-1, 3) for p in proteins]).astype(np.float32)
        self.target = self.reference
        topologies = [build_topology(p.linked) for p in proteins]
        self._bonds = _flat_terms([t.bonds for t in topologies])
        self._angles = _flat_terms([t.angles for t in topologies])
        self._dihedrals = _flat_terms([t.dihedrals for t in topologies])
        self.noise_A = noise_A
        self._find_edges(proteins, cutoff_A)

    def _find_edges(self, proteins: Sequence[ProteinData], cutoff_A: float) -> None:
        senders, receivers, separations, counts, near = [], [], [], [], 0
        reach_A = cutoff_A + skin(self.noise_A)
        for protein in proteins:
            piece = piece_of_bead(protein.linked)
            # 16 bits are enough for indices within most proteins and halve what large sets need.
            small = np.int16 if protein.n_beads < 2**15 else np.int32
            for positions in protein.positions:
                sender, receiver = find_edges(positions, reach_A)
                near += len(sender) if not self.noise_A else _n_within(positions, sender, receiver, cutoff_A)
                senders.append(sender.astype(small))
                receivers.append(receiver.astype(small))
                separations.append(pair_separation(piece, receiver, sender).astype(small))
                counts.append(len(sender))
        self._edges = Rows.of_lengths(counts)
        self._senders, self._receivers = np.concatenate(senders), np.concatenate(receivers)
        self._separations = np.concatenate(separations)
        self._n_near = near

    @property
    def n_frames(self) -> int:
        return len(self.protein)

    @property
    def mean_neighbors(self) -> float:
        """Mean number of neighbours of a bead within the cutoff; 1 if no bead has any."""
        return float(self._n_near / len(self.types)) or 1.0

    def set_target(self, target: np.ndarray) -> None:
        """Replace the target: [B, 3], kcal/mol/Å."""
        if target.shape != self.reference.shape:
            raise ValueError(f"target has shape {target.shape}, not {self.reference.shape}")
        self.target = target.astype(np.float32)

    def set_weights(
        self, by_protein: Mapping[str, float], by_temperature: Mapping[float, float], normalize: str = "bead"
    ) -> None:
        """Weigh frames in the loss by protein and temperature (K, to half a degree); what is not named has 1.

        Args:
            by_protein, by_temperature: weights.
            normalize: "bead": every bead counts the same; "protein": every frame does, so that a bead of a long
                protein counts less. Weights are then those of frames; they have the mean 1 over all beads.

        Raises:
            ValueError: a weight is not positive and finite.
        """
        weight = np.array([by_protein.get(name, 1.0) for name in self.names])[self.protein]
        for temperature, factor in by_temperature.items():
            weight = np.where(np.abs(self.temperature_K - temperature) < 0.5, weight * factor, weight)
        if not (np.isfinite(weight).all() and (weight > 0).all()):
            raise ValueError("weights must be positive and finite")
        if normalize == "protein" and len(np.unique(self.beads.counts)) > 1:
            weight = weight * self.beads.counts.mean() / self.beads.counts
        self.weight = None if (weight == 1.0).all() else weight.astype(np.float32)

    @property
    def bead_weight(self) -> np.ndarray | None:
        """float32 [B], of each bead in the loss; None if all count the same."""
        return None if self.weight is None else np.repeat(self.weight, self.beads.counts)

    def n_batches(self, batch_size: int) -> int:
        """Batches in one pass without buckets."""
        return -(-self.n_frames // batch_size)

    def shape(self, batch_size: int, frames: np.ndarray | None = None) -> Shape:
        """The shape into which any `batch_size` different frames fit: each size is the largest sum there can be.

        Args:
            batch_size: frames in a batch.
            frames: indices of the frames to choose from; default: all.
        """
        chosen = np.arange(self.n_frames) if frames is None else frames
        n = min(batch_size, len(chosen))
        terms = (self._bonds, self._angles, self._dihedrals)
        counts_of = [self.beads.counts, self._edges.counts, *(t.rows.counts[self.protein] for t in terms)]
        return Shape(n, *(max(1, int(np.sort(counts[chosen])[::-1][:n].sum())) for counts in counts_of))

    def buckets(
        self,
        batch_size: int,
        batch_beads: int | None = None,
        length_buckets: int = 1,
        *,
        devices: int = 1,
        at_once: AtOnce | None = None,
    ) -> list[Bucket]:
        """Divide the frames into groups of similar length, each with one shape of its batches.

        Args:
            batch_size: frames per batch.
            batch_beads: if given, a batch of a group has as many frames as so many beads are of its longest protein.
            length_buckets: number of groups; fewer if there are fewer different lengths.
            devices: that share a batch.
            at_once: how much of its share a device computes at once; default: all. Shapes are those of what is
                computed at once.
        """
        lengths = np.unique(self.beads.counts)
        found = []
        for group in np.array_split(lengths, min(length_buckets, len(lengths))):
            frames = np.flatnonzero(np.isin(self.beads.counts, group))
            size = batch_size if batch_beads is None else max(1, batch_beads // int(group[-1]))
            share = -(-min(size, len(frames)) // devices)
            few = share if at_once is None else at_once.frames_of(float(self._edges.counts[frames].mean()))
            parts = -(-share // min(few, share))
            found.append(Bucket(frames, size, self.shape(-(-share // parts), frames), parts))
        return found

    def batch(self, frames: np.ndarray, shape: Shape, noise: tuple[int, int] | None = None) -> Batch:
        """Put different frames together.

        Args:
            frames: indices, all different, at most `shape.replicas`.
            shape: from `shape` of this set, or larger.
            noise: seed and epoch of noise on the positions; None for none.
        """
        protein, offset = self.protein[frames], Rows.of_lengths(self.beads.counts[frames]).starts
        bead, owner = self.beads.take(frames)
        bonds, bond_mask = self._term_arrays(self._bonds, protein, offset, shape.bonds)
        angles, angle_mask = self._term_arrays(self._angles, protein, offset, shape.angles)
        dihedrals, dihedral_mask = self._term_arrays(self._dihedrals, protein, offset, shape.dihedrals)
        graph = Graph(
            types=_padded(self.types[bead], shape.beads),
            bead_mask=_mask(len(bead), shape.beads),
            replica=_padded(owner.astype(np.int32), shape.beads, fill=shape.replicas - 1),
            replica_mask=_mask(len(frames), shape.replicas),
            **self._edge_arrays(frames, offset, shape),
            bonds=bonds,
            bond_mask=bond_mask,
            angles=angles,
            angle_mask=angle_mask,
            dihedrals=dihedrals,
            dihedral_mask=dihedral_mask,
        )
        positions = self.positions[bead]
        if noise is not None and self.noise_A:
            moves = [np.zeros((0, 3), np.float32)]
            moves += [displacements(int(f), int(self.beads.counts[f]), self.noise_A, *noise) for f in frames]
            positions = positions + np.concatenate(moves)
        positions, target = (_padded(values, shape.beads) for values in (positions, self.target[bead]))
        weight = None if self.weight is None else _padded(self.weight[frames][owner], shape.beads)
        return Batch(positions, target, graph, weight)

    def _edge_arrays(self, frames: np.ndarray, offset: np.ndarray, shape: Shape) -> dict[str, np.ndarray]:
        edge, owner = self._edges.take(frames)
        shift, last = offset[owner], shape.beads - 1
        # Padding points at the last bead, so that receivers stay sorted.
        return {
            "senders": _padded((self._senders[edge] + shift).astype(np.int32), shape.edges, fill=last),
            "receivers": _padded((self._receivers[edge] + shift).astype(np.int32), shape.edges, fill=last),
            "edge_mask": _mask(len(edge), shape.edges),
            "separation": _padded(self._separations[edge].astype(np.int32), shape.edges, fill=UNLINKED),
        }

    def _term_arrays(
        self, terms: _Terms, protein: np.ndarray, offset: np.ndarray, capacity: int
    ) -> tuple[np.ndarray, np.ndarray]:
        item, owner = terms.rows.take(protein)
        indices = (terms.indices[item] + offset[owner][:, None]).astype(np.int32)
        return _padded(indices, capacity), _mask(len(item), capacity)


def common_shape(sets: Sequence[FrameSet], batch_size: int) -> Shape:
    """A shape into which batches of all these sets fit, so that one compilation serves them all."""
    return Shape(*(max(sizes) for sizes in zip(*(frames.shape(batch_size) for frames in sets), strict=True)))


def epoch_order(n_frames: int, seed: int, epoch: int) -> np.ndarray:
    """Order of the frames in an epoch, from the counter-based generator Philox alone.

    It uses raw words, whose meaning NumPy guarantees for ever, not `permutation`, whose algorithm may change.
    """
    words = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(n_frames)
    return np.argsort(words, kind="stable")


BATCH_STREAM = 2**40
"""Added to the epoch for the order of batches, so that it is independent of the order of frames."""


def epoch_plan(buckets: Sequence[Bucket], n_frames: int, seed: int, epoch: int) -> list[tuple[int, np.ndarray]]:
    """All batches of an epoch in order: index of the bucket, and frames; from seed and epoch alone."""
    order = epoch_order(n_frames, seed, epoch)
    batches: list[tuple[int, np.ndarray]] = []
    for number, bucket in enumerate(buckets):
        own = order if len(buckets) == 1 else order[np.isin(order, bucket.frames)]
        batches += [(number, own[i : i + bucket.batch_size]) for i in range(0, len(own), bucket.batch_size)]
    if len(buckets) == 1:
        return batches
    return [batches[i] for i in epoch_order(len(batches), seed, BATCH_STREAM + epoch)]


def _flat_terms(per_protein: Sequence[np.ndarray]) -> _Terms:
    return _Terms(np.concatenate(per_protein), Rows.of_lengths([len(t) for t in per_protein]))


def _n_within(positions: np.ndarray, senders: np.ndarray, receivers: np.ndarray, cutoff_A: float) -> int:
    return int(np.sum(np.sum((positions[senders] - positions[receivers]) ** 2, axis=1) <= cutoff_A**2))


def _padded(values: np.ndarray, capacity: int, fill: int = 0) -> np.ndarray:
    if len(values) > capacity:
        raise AssertionError(f"{len(values)} items in a batch of capacity {capacity}")
    out = np.full((capacity, *values.shape[1:]), fill, values.dtype)
    out[: len(values)] = values
    return out


def _mask(n: int, capacity: int) -> np.ndarray:
    return np.arange(capacity) < n

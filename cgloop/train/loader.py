"""Frames, and batches of them as one flat graph of fixed shape.

Everything of different length (beads of a frame, its edges, the bonds of its protein) lies in one flat array with
start and length per row, so that a batch is put together by a few `take`s, whatever proteins it mixes. The capacity
of a batch is the sum of the largest rows that could ever meet in it: it cannot overflow, and every batch of a set,
the last partial one included, has the same shape, hence one compilation.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from cgloop.data.dataset import ProteinData
from cgloop.model.graph import Graph
from cgloop.model.topology import UNLINKED, build_topology, pair_separation, piece_of_bead
from cgloop.train.noise import displacements
from cgloop.train.rows import Rows
from cgloop.train.store import Forces, Geometry, Index, Store, held_in_memory

BLOCK_BEADS = 2**18
"""So many beads at once where a whole set is gone through."""


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


class Chain(NamedTuple):
    """A protein without its frames.

    Attributes:
        name: of the protein.
        residue_type: int [N], 0..19.
        linked: bool [N-1], True where bead i and i+1 are bonded.
    """

    name: str
    residue_type: np.ndarray
    linked: np.ndarray


class FrameSet:
    """Frames of one or several proteins, with edges and reference forces.

    Attributes:
        names: the proteins.
        protein: int64 [F], index into `names` of each frame.
        replica: int32 [F], trajectory of each frame in its source.
        temperature_K: float32 [F].
        beads, edges: rows of flat bead and edge arrays, one per frame.
        chain_types: int32, residue types of the beads of all proteins, one after the other.
        chain_beads: rows of `chain_types`, one per protein.
        weight: float32 [F], of a bead of each frame in the loss; None if all count the same.
        bead_mask: float32 of all beads, a further factor on their weights; None if there is none.
        noise_A: standard deviation of the noise on positions for which there are edges enough.
        store: holds positions, forces and edges.
    """

    def __init__(self, proteins: Sequence[ProteinData], cutoff_A: float, noise_A: float = 0.0):
        """In memory. Finds all edges within the cutoff, once, and with noise those that it may bring there."""
        proteins = [p for p in proteins if p.n_frames]
        if not proteins:
            raise ValueError("a set needs at least one frame")
        index, store = held_in_memory(proteins, cutoff_A, noise_A)
        self._describe([Chain(p.name, p.residue_type, p.linked) for p in proteins], index, store, noise_A)

    @classmethod
    def stored(cls, chains: Sequence[Chain], index: Index, store: Store, noise_A: float) -> "FrameSet":
        """Of frames that are held elsewhere; every chain has some."""
        frames = cls.__new__(cls)
        frames._describe(chains, index, store, noise_A)
        return frames

    def _describe(self, chains: Sequence[Chain], index: Index, store: Store, noise_A: float) -> None:
        self.names = [chain.name for chain in chains]
        self.protein, self.replica, self.temperature_K = index.protein, index.replica, index.temperature_K
        self.weight: np.ndarray | None = None
        self.bead_mask: np.ndarray | None = None
        self.noise_A, self.store = noise_A, store
        lengths = np.array([len(chain.residue_type) for chain in chains])
        self.chain_beads = Rows.of_lengths(lengths)
        self.chain_types = np.concatenate([chain.residue_type for chain in chains]).astype(np.int32)
        self._pieces = np.concatenate([piece_of_bead(chain.linked) for chain in chains])
        self.beads = Rows.of_lengths(lengths[index.protein])
        self.edges, self._n_near = Rows.of_lengths(index.n_edges), index.n_near
        topologies = [build_topology(chain.linked) for chain in chains]
        self._bonds = _flat_terms([t.bonds for t in topologies])
        self._angles = _flat_terms([t.angles for t in topologies])
        self._dihedrals = _flat_terms([t.dihedrals for t in topologies])

    @property
    def n_frames(self) -> int:
        return len(self.protein)

    @property
    def n_beads(self) -> int:
        """Of all frames."""
        return self.beads.total

    @property
    def mean_neighbors(self) -> float:
        """Mean number of neighbours of a bead within the cutoff; 1 if no bead has any."""
        return float(self._n_near / self.n_beads) or 1.0

    @property
    def reference(self) -> np.ndarray:
        """float32 [B, 3], forces of the data on all frames at once, kcal/mol/Å."""
        return self.store.reference(np.arange(self.n_frames))

    @property
    def target(self) -> np.ndarray:
        """float32 [B, 3], what the learned part should give on all frames at once; `reference` until `subtract`."""
        return self.store.target(np.arange(self.n_frames))

    def subtract(self, forces: Forces, what: str = "") -> None:
        """What is to be learned is the reference less these forces [B, 3] on all frames of `store.own`, kcal/mol/Å.

        Args:
            forces: consecutive frames and forces on them, again and again; read only if an earlier attempt did not.
            what: tells where they come from.
        """
        self.store.subtract(forces, what)

    def mean_square(self, kind: Literal["reference", "target"]) -> float:
        """Of a component, (kcal/mol/Å)²; added up frame by frame, so that it does not depend on the store."""
        sums = np.empty(self.n_frames)
        for frames in self.beads.blocks(BLOCK_BEADS):
            squares = np.sum(getattr(self.store, kind)(frames).astype(np.float64) ** 2, axis=1)
            sums[frames] = np.add.reduceat(squares, self.beads.starts[frames] - self.beads.starts[frames[0]])
        return float(sums.sum() / (3 * self.n_beads))

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

    def bead_weight(self, frames: np.ndarray) -> np.ndarray | None:
        """float32 [B], of each bead of frames in the loss; None if all count the same."""
        if self.weight is None:
            return None
        weight = np.repeat(self.weight[frames], self.beads.counts[frames])
        return weight if self.bead_mask is None else weight * self.beads.gather(self.bead_mask, frames)

    def extended(self, index: Index, store: Store, weight: np.ndarray, bead_mask: np.ndarray) -> "FrameSet":
        """With further frames of the same proteins in `index`; store, weight and mask are of all, these first."""
        more = copy.copy(self)
        more.protein = np.concatenate([self.protein, index.protein])
        more.replica = np.concatenate([self.replica, index.replica])
        more.temperature_K = np.concatenate([self.temperature_K, index.temperature_K])
        more.beads = Rows.of_lengths(self.chain_beads.counts[more.protein])
        more.edges = Rows.of_lengths(np.concatenate([self.edges.counts, index.n_edges]))
        more.weight, more.bead_mask, more.store = weight, bead_mask, store
        return more

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
        counts_of = [self.beads.counts, self.edges.counts, *(t.rows.counts[self.protein] for t in terms)]
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
            few = share if at_once is None else at_once.frames_of(float(self.edges.counts[frames].mean()))
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
        geometry, target = self.store.geometry(frames), self.store.target(frames)
        owner = np.repeat(np.arange(len(frames)), self.beads.counts[frames])
        bonds, bond_mask = self._term_arrays(self._bonds, protein, offset, shape.bonds)
        angles, angle_mask = self._term_arrays(self._angles, protein, offset, shape.angles)
        dihedrals, dihedral_mask = self._term_arrays(self._dihedrals, protein, offset, shape.dihedrals)
        graph = Graph(
            types=_padded(self.types(frames), shape.beads),
            bead_mask=_mask(len(owner), shape.beads),
            replica=_padded(owner.astype(np.int32), shape.beads, fill=shape.replicas - 1),
            replica_mask=_mask(len(frames), shape.replicas),
            **self._edge_arrays(geometry, offset[owner], self.chain_beads.gather(self._pieces, protein), shape),
            bonds=bonds,
            bond_mask=bond_mask,
            angles=angles,
            angle_mask=angle_mask,
            dihedrals=dihedrals,
            dihedral_mask=dihedral_mask,
        )
        positions = geometry.positions
        if noise is not None and self.noise_A:
            moves = [np.zeros((0, 3), np.float32)]
            moves += [displacements(int(f), int(self.beads.counts[f]), self.noise_A, *noise) for f in frames]
            positions = positions + np.concatenate(moves)
        positions, target = (_padded(values, shape.beads) for values in (positions, target))
        weight = self.bead_weight(frames)
        return Batch(positions, target, graph, None if weight is None else _padded(weight, shape.beads))

    def types(self, frames: np.ndarray) -> np.ndarray:
        """int32 [B], residue types of the beads of frames."""
        return self.chain_beads.gather(self.chain_types, self.protein[frames])

    def _edge_arrays(
        self, geometry: Geometry, first: np.ndarray, piece: np.ndarray, shape: Shape
    ) -> dict[str, np.ndarray]:
        """Edges of a batch; `first` is the first bead of each bead's frame, `piece` its piece of chain."""
        receivers = np.repeat(np.arange(len(first), dtype=np.int32), geometry.degrees)
        senders = geometry.senders + np.repeat(first.astype(np.int32), geometry.degrees)
        # Padding points at the last bead, so that receivers stay sorted.
        last = shape.beads - 1
        return {
            "senders": _padded(senders.astype(np.int32), shape.edges, fill=last),
            "receivers": _padded(receivers, shape.edges, fill=last),
            "edge_mask": _mask(len(senders), shape.edges),
            "separation": _padded(pair_separation(piece, receivers, senders), shape.edges, fill=UNLINKED),
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


def _padded(values: np.ndarray, capacity: int, fill: int = 0) -> np.ndarray:
    if len(values) > capacity:
        raise AssertionError(f"{len(values)} items in a batch of capacity {capacity}")
    out = np.full((capacity, *values.shape[1:]), fill, values.dtype)
    out[: len(values)] = values
    return out


def _mask(n: int, capacity: int) -> np.ndarray:
    return np.arange(capacity) < n

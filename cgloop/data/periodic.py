"""Periodic images: making molecules whole and keeping chains together.

This is the only module that moves atoms by cell vectors, for every file format. Positions are NumPy arrays, and a cell
is a matrix whose rows are its vectors. `cgloop/data/universes.py` supplies both for MDAnalysis. SciPy and MDAnalysis
are imported only where frames have to be changed.
"""

from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

BOND_A = 2.5
"""Atoms of one or of neighboring residues up to this distance count as bonded where the topology lists no bonds."""

LONGEST_LINK_A = 8.0
"""Distance up to which neighboring residues of a chain count as connected. A longer step is a gap, and the parts on
either side of it are placed as separate chains are."""

GAP_A = 12.0
"""Upper bound of the distance between consecutive atoms of a file in a chain without gaps."""

LITTLE_A = 1.0
"""Change of shape (RMSD) between frames below which no other image of a chain is tried."""

BETTER = 0.7
"""Largest ratio of the changes of shape, with another image and as read, at which a chain is moved."""

FARTHEST_A = 1e6
"""Largest coordinate of an undamaged frame."""

LANDMARKS = 100
"""Largest number of atoms of a part that are used to place it."""

_NEIGHBORS = np.array(sorted(product((-1, 0, 1), repeat=3), key=lambda step: sum(map(abs, step))))


@dataclass(frozen=True, eq=False)
class Molecules:
    """Chains, residues, bonds and a reference structure of A atoms.

    Attributes:
        chain: int, a number for each chain.
        residue: int, a number for each residue, in order of the file.
        positions: float64 [A, 3], Å, of a structure with the right arrangement of chains.
        cell: vectors of that structure's cell, [3, 3] Å; zeros where it has none.
        bonds: int [B, 2], bonds of the topology; may be empty.
    """

    chain: np.ndarray
    residue: np.ndarray
    positions: np.ndarray
    cell: np.ndarray = field(default_factory=lambda: np.zeros((3, 3)))
    bonds: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), int))

    @cached_property
    def parts(self) -> "Parts":
        """Connected parts."""
        return join_atoms(self)

    @cached_property
    def structure(self) -> np.ndarray:
        """Reference structure [A, 3] with whole molecules; unchanged where they were not cut."""
        return joined_structure(self)


@dataclass(frozen=True, eq=False)
class Parts:
    """Spanning trees of the connected parts, one tree a part.

    Attributes:
        part: int [A], number of the part that each atom belongs to.
        order: int [A], atoms in depth-first order, so that a subtree is a contiguous range.
        parent: int [A], parent of each atom of `order`; a root is its own parent.
        end: int [A], for each atom of `order` the end of the range of its subtree.
    """

    part: np.ndarray
    order: np.ndarray
    parent: np.ndarray
    end: np.ndarray

    @property
    def n_parts(self) -> int:
        return int(self.part.max(initial=-1)) + 1

    def steps(self, positions: np.ndarray) -> np.ndarray:
        """Return the vectors [A, 3] from the parent of each atom of `order` to the atom."""
        return positions.take(self.order, axis=0) - positions.take(self.parent, axis=0)

    def shifts(self, positions: np.ndarray, cell: np.ndarray) -> np.ndarray:
        """Return the numbers of cell vectors, int [A, 3], to add to each atom so that it lies next to its parent."""
        steps = self.steps(positions)
        shifts = np.zeros((len(steps), 3), int)
        far = np.flatnonzero(np.einsum("ad,ad->a", steps, steps) >= inner_radius(cell) ** 2)
        if not len(far):
            return shifts
        # The subtree of an atom moves with it: its turns begin at the atom and end behind the subtree.
        images = nearest_image(steps[far], cell)
        turns = np.stack([-np.bincount(self.end[far], column, len(steps) + 1) for column in images.T], axis=1)
        turns[far] += images
        shifts[self.order] = np.cumsum(turns, axis=0)[:-1].astype(int)
        return shifts


def has_cell(cells: np.ndarray) -> np.ndarray:
    """Return whether vectors [..., 3, 3] are finite and span a volume, bool [...]."""
    finite = np.isfinite(cells).all(axis=(-2, -1))
    return finite & (np.linalg.det(np.where(finite[..., None, None], cells, 0.0)) > 1e-6)


def widths(cells: np.ndarray) -> np.ndarray:
    """Return the distances between opposite faces of cells, [..., 3] Å."""
    return 1.0 / np.linalg.norm(np.linalg.inv(cells), axis=-2)


def inner_radius(cells: np.ndarray) -> np.ndarray:
    """Return the length [...] in Å below which a vector is its own nearest image: half the smallest width."""
    return 0.5 * widths(cells).min(axis=-1)


def nearest_image(vectors: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Return the numbers of cell vectors, int [M, 3], that make vectors [M, 3] as short as possible."""
    from MDAnalysis.lib.distances import minimize_vectors

    vectors = np.ascontiguousarray(vectors, float)
    least = minimize_vectors(vectors, _dimensions(cell))
    return np.rint((least - vectors) @ np.linalg.inv(cell)).astype(int)


def _dimensions(cell: np.ndarray) -> np.ndarray:
    from MDAnalysis.lib.mdamath import triclinic_box

    return triclinic_box(*cell)


class Unwrapper:
    """Repair of periodic images in the consecutive frames of one trajectory.

    Bonded atoms of a chain are placed next to each other. Chains, and the parts of a chain on either side of a gap, are
    then placed such that the shape of the whole changes least relative to the frame before, or in the first frame
    relative to the reference structure. Atoms that need no repair keep bit-identical coordinates.

    Args:
        atoms: the molecules and their reference structure.
    """

    def __init__(self, atoms: Molecules):
        self._atoms = atoms
        self._same_chain = np.diff(atoms.chain) == 0
        self._n_chains = len(np.unique(atoms.chain))
        self._in_blocks = int((~self._same_chain).sum()) + 1 == self._n_chains
        steps = np.linalg.norm(np.diff(atoms.positions, axis=0), axis=1)[self._same_chain]
        self._has_parts = self._n_chains > 1 or steps.max(initial=0.0) > GAP_A
        self._before: np.ndarray | None = None
        self._last_shifts = np.zeros((0, 3), int)

    def __call__(self, positions: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """Make the molecules of consecutive frames whole, in place.

        Args:
            positions: [F, A, 3], Å; changed.
            cells: [F, 3, 3], Å, or [3, 3] for all frames; zeros for a frame without a cell.

        Returns:
            bool [F], whether atoms of the frame were moved.
        """
        cells = np.broadcast_to(cells, (len(positions), 3, 3))
        moved = np.zeros(len(positions), bool)
        usable = has_cell(cells)
        if usable.any():
            usable &= _sound(positions)
        if not usable.any():
            return moved
        suspects = (
            self._suspects(positions, cells) if usable.all() else self._suspects(positions[usable], cells[usable])
        )
        for row in np.flatnonzero(usable)[suspects]:
            shifts = self._atoms.parts.shifts(positions[row].astype(float), cells[row])
            moved[row] = _move(positions[row], shifts, cells[row])
        # Finding the parts is expensive, and not needed for a single chain that was never cut.
        if (self._has_parts or moved.any() or "parts" in vars(self._atoms)) and self._atoms.parts.n_parts > 1:
            for row in np.flatnonzero(usable):
                moved[row] |= self._place(positions[row], cells[row])
        self._before = positions[np.flatnonzero(usable)[-1]].copy()
        return moved

    def _suspects(self, positions: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """Return the rows of frames that may be cut: consecutive atoms of a chain lie far apart.

        A cut separates at least two consecutive atoms, so that bonds of other frames need not be checked.
        """
        if not self._in_blocks:
            return np.arange(len(positions))
        steps = np.diff(positions, axis=1)
        squares = np.einsum("fad,fad->fa", steps, steps)
        squares[:, ~self._same_chain] = 0.0
        return np.flatnonzero(squares.max(axis=1, initial=0.0) >= inner_radius(cells) ** 2)

    @cached_property
    def _landmarks(self) -> tuple[np.ndarray, np.ndarray]:
        """Some atoms of every part, and the rank of their part by size; the largest part has rank 0."""
        parts = self._atoms.parts
        members = [np.flatnonzero(parts.part == number) for number in range(parts.n_parts)]
        members.sort(key=len, reverse=True)
        chosen = [rows[:: -(-len(rows) // LANDMARKS)] for rows in members]
        return np.concatenate(chosen), np.repeat(np.arange(len(chosen)), [len(rows) for rows in chosen])

    @cached_property
    def _by_size(self) -> np.ndarray:
        """Rank by size of the part of every atom, int [A]."""
        rows, numbers = self._landmarks
        part = self._atoms.parts.part
        table = np.empty(self._atoms.parts.n_parts, int)
        table[part[rows]] = numbers
        return table[part]

    def _place(self, positions: np.ndarray, cell: np.ndarray) -> bool:
        """Move the parts of one frame to their images; return whether any was moved."""
        rows, part = self._landmarks
        before = self._atoms.structure if self._before is None else self._before
        shifts = place_parts(positions[rows].astype(float), before[rows].astype(float), part, cell, self._last_shifts)
        moved = _move(positions, shifts[self._by_size], cell)
        self._before, self._last_shifts = positions, shifts
        return moved


def _sound(positions: np.ndarray) -> np.ndarray:
    """Return whether the positions of each frame are finite, below `FARTHEST_A` and not all equal, bool [F]."""
    highest, lowest = positions.max(axis=(1, 2)), positions.min(axis=(1, 2))
    return (highest < FARTHEST_A) & (lowest > -FARTHEST_A) & (highest > lowest)


def _move(positions: np.ndarray, shifts: np.ndarray, cell: np.ndarray) -> bool:
    """Move atoms by cell vectors, in place; return whether any was moved."""
    if not shifts.any():
        return False
    # Where a shift is zero the sum is the very number that was there.
    positions += shifts.astype(float) @ cell
    return True


def place_parts(
    found: np.ndarray, before: np.ndarray, part: np.ndarray, cell: np.ndarray, hint: np.ndarray
) -> np.ndarray:
    """Return the numbers of cell vectors to add to each part, int [P, 3], for the least change of shape.

    The first part stays. The change is the RMSD after superposition, so that the complex may rotate and translate; the
    part to be placed and all parts placed before have equal weights. A part stays where no image is clearly better.

    Args:
        found: atoms of one frame, [M, 3] Å.
        before: the same in the frame before.
        part: int [M], ascending.
        cell: vectors of the cell, [3, 3] Å.
        hint: result for the frame before; may be empty.
    """
    n_parts = int(part[-1]) + 1
    weights = 1.0 / np.bincount(part)[part]
    trials = [np.zeros((n_parts, 3), int), *([hint] if len(hint) == n_parts and hint.any() else [])]
    for shifts in trials:
        if change(found + shifts[part] @ cell, before, weights) < LITTLE_A:
            return shifts
    shifts = trials[0].copy()
    for number in range(1, n_parts):
        placed, here = part < number, part == number
        both = placed | here
        weights = np.where(placed, 1.0 / placed.sum(), 1.0 / here.sum())[both]
        x = found + shifts[part] @ cell
        turn, origin, target = superposition(before[placed], x[placed])
        expected = (before[here].mean(axis=0) - origin) @ turn + target
        guess = np.rint((expected - x[here].mean(axis=0)) @ np.linalg.inv(cell)).astype(int)
        candidates = np.concatenate([[[0, 0, 0]], guess + _NEIGHBORS])
        moved = np.where(here[both, None], (candidates @ cell)[:, None], 0.0) + x[both]
        changes = change(moved, before[both], weights)
        best = int(np.argmin(changes))
        shifts[number] = candidates[best if changes[best] < BETTER * changes[0] else 0]
    return shifts


def superposition(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rotation [3, 3] that superposes a − center of a on b − center of b, and the two centers."""
    centers = a.mean(axis=0), b.mean(axis=0)
    u, _, v = np.linalg.svd((a - centers[0]).T @ (b - centers[1]))
    flip = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ v))])
    return (u * flip) @ v, *centers


def change(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted RMSD [...] in Å of a [..., M, 3] from b [M, 3] after superposition (Kabsch 1976)."""
    w = (weights / weights.sum())[:, None]
    a, b = a - (w * a).sum(axis=-2, keepdims=True), b - (w * b).sum(axis=-2, keepdims=True)
    covariance = np.swapaxes(w * a, -1, -2) @ b
    values = np.linalg.svd(covariance, compute_uv=False)
    values[..., 2] *= np.sign(np.linalg.det(covariance))
    squares = (w * a**2).sum(axis=(-2, -1)) + (w * b**2).sum() - 2.0 * values.sum(axis=-1)
    return np.sqrt(np.maximum(squares, 0.0))


def join_atoms(atoms: Molecules) -> Parts:
    """Find the connected parts of molecules, from bonds of the topology or, where it has none, from distances.

    Bonds are found as the minimum spanning tree of distances, because no contact is as short as a bond. Only distances
    to the nearest image between atoms of one residue or of neighboring residues of a chain are considered.
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import depth_first_order, minimum_spanning_tree

    n = len(atoms.chain)
    tree = minimum_spanning_tree(_links(atoms))
    part = _components(tree)
    firsts = np.unique(part, return_index=True)[1]
    # One additional node connects all parts, so that a single traversal visits them all.
    trunk = csr_matrix((np.ones(len(firsts)), (np.full(len(firsts), n), firsts)), shape=(n + 1, n + 1))
    tree.resize(n + 1, n + 1)
    order, parent = depth_first_order(tree + trunk, n, directed=False)
    order, parent = order[1:], np.where(parent == n, np.arange(n + 1), parent)[:n]
    size, place = np.ones(n, int), np.empty(n, int)
    place[order] = np.arange(n)
    for atom in order[::-1]:
        if parent[atom] != atom:
            size[parent[atom]] += size[atom]
    return Parts(part, order, parent[order], np.arange(n) + size[order])


def _components(graph: Any) -> np.ndarray:
    from scipy.sparse.csgraph import connected_components

    return np.asarray(connected_components(graph, directed=False)[1])


def _links(atoms: Molecules) -> Any:
    """Return the graph of bonds, with short distances added where bonds leave a chain disconnected."""
    from scipy.sparse import csr_matrix

    n, n_chains = len(atoms.chain), len(np.unique(atoms.chain))
    pairs = np.asarray(atoms.bonds, int).reshape(-1, 2)
    pairs = pairs[atoms.chain[pairs[:, 0]] == atoms.chain[pairs[:, 1]]]
    lengths = np.full(len(pairs), 1e-3)
    for reach in (0.0, BOND_A, LONGEST_LINK_A):
        if reach:
            near, distances = _near(atoms, reach)
            pairs, lengths = np.concatenate([pairs, near]), np.concatenate([lengths, distances])
        # Keep the first of duplicate pairs: a sparse matrix would add their lengths.
        keys, first = np.unique(pairs.min(axis=1) * n + pairs.max(axis=1), return_index=True)
        graph = csr_matrix((lengths[first], (keys // n, keys % n)), shape=(n, n))
        if len(np.unique(_components(graph))) == n_chains:
            break
    return graph


def _near(atoms: Molecules, reach_A: float) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs [M, 2] of atoms in one residue or in neighboring residues, and their distances [M], Å."""
    from MDAnalysis.lib.distances import self_capped_distance

    if not np.isfinite(atoms.positions).all():
        return np.zeros((0, 2), int), np.zeros(0)
    periodic = bool(has_cell(atoms.cell)) and 2.0 * inner_radius(atoms.cell) > 2.0 * reach_A
    pairs, distances = self_capped_distance(
        atoms.positions.astype(np.float32), reach_A, box=_dimensions(atoms.cell) if periodic else None
    )
    pairs = np.asarray(pairs, int).reshape(-1, 2)
    chain, residue = atoms.chain[pairs], atoms.residue[pairs]
    near = (chain[:, 0] == chain[:, 1]) & (np.abs(residue[:, 0] - residue[:, 1]) <= 1)
    return pairs[near], np.maximum(distances[near], 1e-2)


def joined_structure(atoms: Molecules) -> np.ndarray:
    """Return the positions of a structure with whole molecules, [A, 3]; unchanged where nothing was cut.

    In a structure whose chains were cut their arrangement is arbitrary: each is placed in contact with those before.
    """
    positions, parts = np.array(atoms.positions, float), atoms.parts
    if not has_cell(atoms.cell) or not np.isfinite(positions).all():
        return positions
    if _move(positions, parts.shifts(positions, atoms.cell), atoms.cell):
        _bring_together(positions, parts.part, atoms.cell)
    return positions


def _bring_together(positions: np.ndarray, part: np.ndarray, cell: np.ndarray) -> None:
    from MDAnalysis.lib.distances import distance_array

    placed = np.flatnonzero(part == part[0])
    for number in dict.fromkeys(part.tolist()):
        here = np.flatnonzero(part == number)
        if number == part[0]:
            continue
        some, those = here[:: -(-len(here) // 500)], placed[:: -(-len(placed) // 2000)]
        distances = distance_array(positions[some], positions[those], box=_dimensions(cell))
        one, other = np.unravel_index(np.argmin(distances), distances.shape)
        vector = positions[some[one]] - positions[those[other]]
        positions[here] += nearest_image(vector[None], cell)[0] @ cell
        placed = np.concatenate([placed, here])

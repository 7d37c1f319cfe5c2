"""Rows of different length, one after the other in a flat array."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np


@dataclass(frozen=True, eq=False)
class Rows:
    """Where each row lies in the flat array.

    Attributes:
        starts, counts: int64 [rows].
    """

    starts: np.ndarray
    counts: np.ndarray

    @classmethod
    def of_lengths(cls, counts: Sequence[int] | np.ndarray) -> "Rows":
        lengths = np.asarray(counts, np.int64)
        return cls(np.cumsum(lengths) - lengths, lengths)

    @property
    def total(self) -> int:
        """Length of the flat array."""
        return int(self.starts[-1] + self.counts[-1]) if len(self.starts) else 0

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Flat indices of the items of the given rows, in order, and for each the place of its row in `rows`."""
        counts = self.counts[rows]
        owner = np.repeat(np.arange(len(rows)), counts)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        return self.starts[rows][owner] + within, owner

    def gather(self, flat: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Items of the given rows of a flat array, in order."""
        starts = self.starts[rows]
        ends = starts + self.counts[rows]
        pieces = [flat[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
        return np.concatenate([flat[:0], *pieces])

    def blocks(self, most: int) -> list[np.ndarray]:
        """Consecutive rows in blocks of about so many items, at least one row each."""
        ends = np.searchsorted(self.starts + self.counts, np.arange(most, self.total + most, most), side="right")
        bounds = np.unique([0, *ends, len(self.starts)])
        return [np.arange(first, last) for first, last in pairwise(bounds)]

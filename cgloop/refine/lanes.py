"""Work on equal parts, side by side: on all devices, or on the cores of one processor.

A program for a few beads uses one core. Parts are always added up in the same order, so that results do not depend on
how many there are.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

PIECE = 32
"""Frames that one call of a program computes; of other numbers the last piece is filled up."""

Part = tuple[slice, jax.Device]


def in_lanes(work: Callable[[Part], Any], n: int, *, warm: bool = True, lanes: int | None = None) -> list[Any]:
    """Do work on equal parts of n things.

    Args:
        work: of a slice and a device.
        n: number of things.
        warm: False where a program has not been compiled yet: the first part is then done before all others, because
            several threads would all compile it.
        lanes: number of parts; default: devices, or cores of a processor. The largest number not above it that divides
            n is used, so that all parts are computed by the same program.

    Returns:
        The results in order.
    """
    devices = jax.local_devices()
    most = lanes or (len(devices) if len(devices) > 1 or devices[0].platform != "cpu" else cores())
    number = next(count for count in range(max(1, min(most, n)), 0, -1) if n % count == 0)
    size = n // number
    parts = [(slice(i * size, (i + 1) * size), devices[i % len(devices)]) for i in range(number)]
    done = [work(part) for part in (parts if number == 1 else parts[: 0 if warm else 1])]
    if len(done) == number:
        return done
    with ThreadPoolExecutor(number) as pool:
        return done + list(pool.map(work, parts[len(done) :]))


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Pieces:
    """A compiled function of parameters and arrays, applied to `PIECE` rows of the arrays at a time."""

    def __init__(self, function: Callable[..., Any]):
        """Args:
        function: of parameters and arrays [PIECE, …]; it is compiled here.
        """
        self._function = jax.jit(function)
        self._warm = False

    def __call__(self, trained: Any, *arrays: np.ndarray) -> list[Any]:
        """Return what the function gives for each piece, as NumPy arrays.

        The last piece is filled up with copies of the last row of the first array and zeros in the others.
        """
        missing = padded(len(arrays[0])) - len(arrays[0])
        if missing:
            filled = [np.concatenate([arrays[0], np.repeat(arrays[0][-1:], missing, axis=0)])]
            filled += [np.concatenate([one, np.zeros((missing, *one.shape[1:]), one.dtype)]) for one in arrays[1:]]
            arrays = tuple(filled)

        def work(part: Part) -> list[Any]:
            rows, device = part
            placed = jax.device_put(trained, device)
            found = []
            for number in range(rows.start, rows.stop):
                chosen = slice(number * PIECE, (number + 1) * PIECE)
                own = (jax.device_put(one[chosen], device) for one in arrays)
                found.append(jax.device_get(self._function(placed, *own)))
            return found

        parts = in_lanes(work, len(arrays[0]) // PIECE, warm=self._warm)
        self._warm = True
        return [one for part in parts for one in part]

    def rows(self, trained: Any, *arrays: np.ndarray) -> np.ndarray:
        """Return rows for rows, of a function that gives an array [PIECE, …]."""
        return np.concatenate(self(trained, *arrays))[: len(arrays[0])]

    def total(self, trained: Any, *arrays: np.ndarray) -> Any:
        """Return the sum over pieces, of a function that gives a tree of sums."""
        return jax.tree.map(lambda *leaves: np.sum(leaves, axis=0, dtype=leaves[0].dtype), *self(trained, *arrays))


def padded(rows: int) -> int:
    """Return the number of rows with those that fill up the last piece."""
    return -(-rows // PIECE) * PIECE

"""Random numbers that depend on (seed, replica, bead, step) and on nothing else.

A counter-based generator (Philox 4x64, Salmon et al., SC11, doi:10.1145/2063384.2063405) is keyed by
(seed, replica) and started at a counter made of (stream, block of steps). So a replica's noise is the same
whichever other replicas run, and a run that starts at a later step continues the same sequence.
"""

from collections.abc import Sequence

import numpy as np

STREAMS = {"velocities": 0, "thermostat": 1}
_BLOCK_NUMBERS = 4096


def block_steps(n_beads: int) -> int:
    """Steps drawn at once: enough to spread the cost, and a function of the protein's size alone."""
    return max(1, min(64, _BLOCK_NUMBERS // (3 * n_beads)))


class Noise:
    """Standard normal numbers [R, N, 3] for every step."""

    def __init__(self, seed: int, replicas: Sequence[int], n_beads: int, stream: str):
        """Args:
        seed: of the run and protein, below 2**64.
        replicas: ids of the replicas, in the order in which rows are returned.
        n_beads: beads of each replica.
        stream: a name of `STREAMS`; different streams are independent.
        """
        self._seed, self._replicas, self._n_beads = seed, list(replicas), n_beads
        self._stream = STREAMS[stream]
        self._steps = block_steps(n_beads)
        self._block = -1
        self._values = np.empty(0)

    def at(self, step: int) -> np.ndarray:
        """The numbers [R, N, 3] of one step (≥ 0); a view, not to be changed."""
        block, row = divmod(step, self._steps)
        if block != self._block:
            self._values = np.stack([self._draw(replica, block) for replica in self._replicas], axis=1)
            self._block = block
        return self._values[row]

    def _draw(self, replica: int, block: int) -> np.ndarray:
        # The lowest 64-bit word of the counter counts the numbers inside a block; it never reaches the next.
        counter = np.array([0, block, self._stream, 0], np.uint64)
        generator = np.random.Generator(
            np.random.Philox(key=np.array([self._seed, replica], np.uint64), counter=counter)
        )
        return generator.standard_normal((self._steps, self._n_beads, 3))

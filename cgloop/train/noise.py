"""Noise on the positions of training frames.

A frame whose beads are moved by Gaussian noise and that keeps its forces is a fair sample of the mean force of the
noised ensemble, p convolved with the Gaussian: the gradient of a convolution can act on either factor. So noise does
not teach wrong forces, it smooths what is learned over its width. The prior is not smoothed: its share of the forces is
taken where the beads were.

Noise is drawn from (seed, epoch, frame) alone, so that it does not depend on batches, devices or interruptions.
"""

import numpy as np

LONGEST = 4.0
"""Longest displacement of a bead in standard deviations of a coordinate; one in 900 is longer, and shortened."""


def skin(noise_A: float) -> float:
    """How much farther than the cutoff edges are looked for, Å: no two beads come closer to each other by more."""
    return 2.0 * LONGEST * noise_A


def displacements(frame: int, n_beads: int, noise_A: float, seed: int, epoch: int) -> np.ndarray:
    """float32 [n_beads, 3], Å, none longer than `LONGEST · noise_A`."""
    generator = np.random.Philox(key=np.array([seed, epoch], np.uint64), counter=np.array([0, 0, frame, 1], np.uint64))
    moves = np.random.Generator(generator).standard_normal((n_beads, 3))
    lengths = np.linalg.norm(moves, axis=1, keepdims=True)
    # A little less than the skin allows, for the rounding of positions to float32.
    moves *= np.minimum(1.0, 0.9999 * LONGEST / np.maximum(lengths, 1e-12))
    return (noise_A * moves).astype(np.float32)

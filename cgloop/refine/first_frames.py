"""Frames of dynamics that were run with the parameters a refinement starts from: its first samples."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class FirstFrames:
    """Equilibrated frames of one protein at the model's temperature, made with the start parameters.

    Attributes:
        protein: name in the data set.
        replicas: positions float32 [F_r, N, 3] in Å of every trajectory, in order of time; none is empty.
        started_from: replicas of the reference from whose frames the trajectories started, which count as used.
    """

    protein: str
    replicas: tuple[np.ndarray, ...]
    started_from: tuple[int, ...]

    @property
    def n_frames(self) -> int:
        """Number of frames of all trajectories."""
        return sum(len(positions) for positions in self.replicas)

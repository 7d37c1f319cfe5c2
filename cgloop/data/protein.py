"""Frames of one protein in memory, and the names under which a file holds them."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from cgloop.residues import sequence

SPLITS = {"train": 0, "validation": 1, "test": 2, "unused": 3}
SPLIT_NAMES = {code: name for name, code in SPLITS.items()}

# Field of ProteinData -> (dataset in the file, type, unit); one row per frame, or one per bead.
FRAME_FIELDS = {
    "positions": ("positions", np.float32, "angstrom"),
    "forces": ("forces", np.float32, "kcal/mol/angstrom"),
    "temperature_K": ("temperature", np.float32, "K"),
    "replica": ("replica", np.int32, ""),
    "source_frame": ("source_frame", np.int32, ""),
    "split": ("split", np.int8, ""),
}
BEAD_FIELDS = {
    "residue_type": ("residue_type", np.int8, ""),
    "chain": ("chain", np.int16, ""),
    "resid": ("resid", np.int32, ""),
    "native": ("native", np.float32, "angstrom"),
    "linked": ("linked", np.bool_, ""),
}
TEMPERATURE_TOLERANCE_K = 0.01


class TrajectoryFacts(NamedTuple):
    """What a source says about one of its trajectories beside the frames.

    Attributes:
        temperature_K, replica: which trajectory.
        frame_ps: time between frames of the source; None if it does not say.
        started_from: replica at this temperature from one of whose frames it was begun; None for an own start.
        relaxation_frames: frames of the source at its start that relax from an own start.
    """

    temperature_K: float
    replica: int
    frame_ps: float | None = None
    started_from: int | None = None
    relaxation_frames: int = 0


@dataclass(frozen=True, eq=False)
class ProteinData:
    """Frames of one protein; F frames, N beads.

    Attributes:
        name: id of the protein, also the stem of its file.
        residue_type: int8 [N], ids of `cgloop.residues`.
        chain: int16 [N], 0, 1, … in order of appearance.
        resid: int32 [N], residue number in the source's PDB text (may repeat: insertion codes).
        native: float32 [N, 3], Å, the structure that RMSD and native contacts refer to.
        linked: bool [N-1], True where beads i and i+1 are bonded (same chain, no break).
        positions: float32 [F, N, 3], Å.
        forces: float32 [F, N, 3], kcal/mol/Å, projected on the beads; not a number in frames without forces.
        temperature_K: float32 [F].
        replica: int32 [F], trajectory in the source.
        source_frame: int32 [F], index of the frame in that trajectory.
        split: int8 [F], a value of `SPLITS`.
        trajectories: what the source says about trajectories; those that it says nothing about are left out.
    """

    name: str
    residue_type: np.ndarray
    chain: np.ndarray
    resid: np.ndarray
    native: np.ndarray
    linked: np.ndarray
    positions: np.ndarray
    forces: np.ndarray
    temperature_K: np.ndarray
    replica: np.ndarray
    source_frame: np.ndarray
    split: np.ndarray
    trajectories: tuple[TrajectoryFacts, ...] = ()

    def __post_init__(self):
        n, f = len(self.residue_type), len(self.positions)
        expected = {
            "residue_type": (n,), "chain": (n,), "resid": (n,), "native": (n, 3), "linked": (max(n - 1, 0),),
            "positions": (f, n, 3), "forces": (f, n, 3),
            "temperature_K": (f,), "replica": (f,), "source_frame": (f,), "split": (f,),
        }  # fmt: skip
        for field, shape in expected.items():
            if getattr(self, field).shape != shape:
                raise ValueError(f"{self.name}.{field} has shape {getattr(self, field).shape}, not {shape}")

    @property
    def n_beads(self) -> int:
        return len(self.residue_type)

    @property
    def n_frames(self) -> int:
        return len(self.positions)

    @property
    def sequence(self) -> str:
        """One-letter sequence over all chains."""
        return sequence(self.residue_type)

    @property
    def has_forces(self) -> np.ndarray:
        """bool [F], False where the source had positions alone."""
        return ~np.isnan(self.forces).all(axis=(1, 2))

    def with_forces(self) -> "ProteinData":
        """The frames that have forces, in their order."""
        known = self.has_forces
        if known.all():
            return self
        return replace(self, **{name: getattr(self, name)[known] for name in (*FRAME_FIELDS, "split")})

    def select(
        self, split: str | None = None, temperature_K: float | None = None, replica: int | None = None
    ) -> "ProteinData":
        """The frames that fulfil every condition given, in their order.

        Args:
            split: a name of `SPLITS`.
            temperature_K: K.
            replica: trajectory id in the source.
        """
        code = None if split is None else SPLITS[split]
        chosen = choose_frames(self.split, self.temperature_K, code, temperature_K)
        if replica is not None:
            chosen &= self.replica == replica
        return replace(self, **{field: getattr(self, field)[chosen] for field in FRAME_FIELDS})


def choose_frames(
    codes: np.ndarray, temperatures: np.ndarray, code: int | None, temperature_K: float | None
) -> np.ndarray:
    """bool [F], the frames with this split code at this temperature; None means any."""
    chosen = np.ones(len(codes), bool)
    if code is not None:
        chosen &= codes == code
    if temperature_K is not None:
        chosen &= np.abs(temperatures - temperature_K) < TEMPERATURE_TOLERANCE_K
    return chosen

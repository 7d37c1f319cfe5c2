"""Decoys: frames that a model reached and should not have, for which there is no reference force.

They say one thing only: on beads with a pair outside the training distribution the learned force should be zero, so
that there the prior alone decides. All other beads of such a frame are masked: their neighbourhoods are ordinary, and
nothing is known about the forces on them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cgloop.errors import UserError

SCHEMA_VERSION = 1
WHERE_FROM: dict[str, Any] = {"cycle": np.int32, "stage": str, "replica": np.int32, "step": np.int64, "reason": str}
"""Columns of the provenance."""


@dataclass(frozen=True, eq=False)
class Decoys:
    """Decoys of one protein; D frames, N beads.

    Attributes:
        protein: its name in the data set.
        residue_type: int8 [N]; linked: bool [N-1].
        positions: float32 [D, N, 3], Å.
        mask: bool [D, N], beads whose learned force should be zero; the others count nothing.
        origin: columns of `WHERE_FROM`, [D] each.
    """

    protein: str
    residue_type: np.ndarray
    linked: np.ndarray
    positions: np.ndarray
    mask: np.ndarray
    origin: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.positions)

    def select(self, rows: np.ndarray) -> "Decoys":
        """These frames, in this order."""
        origin = {name: values[rows] for name, values in self.origin.items()}
        return replace(self, positions=self.positions[rows], mask=self.mask[rows], origin=origin)

    def describe(self) -> list[dict[str, Any]]:
        """Provenance of each frame, and how many of its beads count, as plain data."""
        columns = {name: values.tolist() for name, values in self.origin.items()}
        return [
            {"protein": self.protein, "beads": int(self.mask[k].sum()), **{n: v[k] for n, v in columns.items()}}
            for k in range(len(self))
        ]


def write_decoys(path: Path, decoys: Sequence[Decoys]) -> None:
    """Write decoys of several proteins into one HDF5 file."""
    with h5py.File(path, "w") as file:
        file.attrs.update(schema_version=SCHEMA_VERSION, content="decoys: frames without reference forces")
        for one in decoys:
            group = file.create_group(one.protein)
            group["residue_type"], group["linked"] = one.residue_type.astype(np.int8), one.linked.astype(bool)
            group["positions"], group["mask"] = one.positions.astype(np.float32), one.mask.astype(bool)
            for name, kind in WHERE_FROM.items():
                values = one.origin[name]
                text = kind is str
                data = np.asarray(values, object) if text else np.asarray(values, kind)
                group.create_dataset(f"origin/{name}", data=data, dtype=h5py.string_dtype() if text else kind)


def read_decoys(path: Path) -> list[Decoys]:
    """The decoys in a file.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        with h5py.File(path) as file:
            if int(file.attrs["schema_version"]) != SCHEMA_VERSION:
                raise ValueError(f"schema version {file.attrs['schema_version']}")
            return [_read(name, group) for name, group in sorted(file.items())]
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"decoys cannot be read: {error}", where=path, remedy="run `cgloop feedback` again") from None


def _read(name: str, group: h5py.Group) -> Decoys:
    origin = {
        column: group[f"origin/{column}"].asstr()[:] if kind is str else group[f"origin/{column}"][:]
        for column, kind in WHERE_FROM.items()
    }
    fields = {field: group[field][:] for field in ("residue_type", "linked", "positions", "mask")}
    found = Decoys(name, origin=origin, **fields)
    n, d = len(found.residue_type), len(found)
    if found.positions.shape != (d, n, 3) or found.mask.shape != (d, n) or len(found.linked) != max(n - 1, 0):
        raise ValueError(f"arrays of {name} do not fit each other")
    if not np.isfinite(found.positions).all():
        raise ValueError(f"a position of {name} is not finite")
    return found

"""The state of a stage of dynamics between two steps, on disk: from it a killed stage goes on, to the bit."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from cgloop.errors import UserError
from cgloop.md.session import Moment

NAME = "restart.npz"

KEPT, KEPT_SERIES = "continue.npz", "continue.spool"
"""Of a stage that has ended and may become longer: its last checkpoint, and its series as they lay on disk."""

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Checkpoint:
    """Everything that the next step depends on, and how far the output files had come.

    Attributes:
        moment: LAMMPS's own arrays.
        parts: arrays of each part of the coupling (`coupling`, `monitor`, `recorder`, `model`), as its `state()` gives
            them.
        facts: plain data: rows of observables, frames of trajectories, limits that were broken, seconds.
    """

    moment: Moment
    parts: dict[str, Arrays]
    facts: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write `restart.npz` into a folder, atomically: a reader sees the old file or the new one."""
        arrays: Arrays = {f"moment/{name}": np.asarray(value) for name, value in self.moment._asdict().items()}
        for part, values in self.parts.items():
            arrays |= {f"{part}/{name}": np.asarray(value) for name, value in values.items()}
        draft = folder / f".{NAME}.tmp"
        with open(draft, "wb") as file:
            np.savez(file, allow_pickle=False, facts=np.array(json.dumps(self.facts)), **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, folder / NAME)

    @classmethod
    def read(cls, folder: Path) -> "Checkpoint | None":
        """The state that an earlier attempt left in a folder; None if it left none.

        Raises:
            UserError: the file is damaged.
        """
        path = folder / NAME
        if not path.is_file():
            return None
        try:
            with np.load(path) as file:
                facts = json.loads(str(file["facts"]))
                parts: dict[str, Arrays] = {}
                for name in file.files:
                    part, slash, rest = name.partition("/")
                    if slash:
                        parts.setdefault(part, {})[rest] = file[name]
            moment = parts.pop("moment")
            return cls(Moment(step=int(moment.pop("step")), **moment), parts, facts)
        except (OSError, ValueError, KeyError, TypeError, BadZipFile, json.JSONDecodeError) as error:
            raise UserError(
                f"cannot be read: {error}", where=path, remedy="remove it, the stage then begins anew"
            ) from None

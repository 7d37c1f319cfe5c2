"""Replicas that survived, but only just."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cgloop.errors import UserError

# Series of observables.h5, the limit in md.json that belongs to it, its unit, and whether small values are dangerous.
WATCHED = (
    ("min_distance_A", "min_distance_A", "Å", True),
    ("max_bond_deviation", "max_bond_deviation", "", False),
    ("max_force", "max_force", "kcal/mol/Å", False),
)


def near_misses(observables_h5: Path, limits: Mapping[str, float], share: float) -> list[dict[str, Any]]:
    """Where survivors of a stage came close to a limit.

    Temperature is left out: its limit on single values is a quantile, which a healthy replica comes close to.

    Args:
        observables_h5: of one stage of dynamics.
        limits: `limits` of `md.json`.
        share: a limit of which a replica used this part was nearly broken.

    Returns:
        `{protein, stage, replica, quantity, value, limit, unit, time_ps}`, in order of replica.

    Raises:
        UserError: the file is damaged.
    """
    found = []
    try:
        with h5py.File(observables_h5) as file:
            place = {"protein": str(file.attrs["protein"]), "stage": str(file.attrs["stage"])}
            for name, group in sorted(file.items()):
                if not group.attrs.get("survived", False):
                    continue
                for series, limit, unit, small in WATCHED:
                    values = group[series][:]
                    if not len(values):
                        continue
                    worst = int(np.argmin(values) if small else np.argmax(values))
                    value, threshold = float(values[worst]), float(limits[limit])
                    if (threshold / value if small else value / threshold) >= share:
                        found.append(
                            {
                                **place,
                                "replica": int(name.removeprefix("replica_")),
                                "quantity": series,
                                "value": value,
                                "limit": threshold,
                                "unit": unit,
                                "time_ps": float(group["time_ps"][worst]),
                            }
                        )
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"damaged: {error}", where=observables_h5, remedy="run `cgloop md` again") from None
    return found

"""What data preparation found out about each protein, from its three files."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cgloop.report.gather import CycleFiles

SAME_K = 0.01


@dataclass(frozen=True)
class Measured:
    """A value with its standard error; None where it is not known."""

    value: float | None = None
    error: float | None = None


@dataclass(frozen=True)
class ProteinFacts:
    """One protein.

    Attributes:
        name, beads: of the protein.
        parts: frames of each part of the split.
        read, kept: frames, of all temperatures; `reasons` counts those that were set aside.
        method: the force map in use.
        squares: mean squared force component on held-out frames by force map, (kcal/mol/Å)².
        virial: ratio to its exact value by force map, at the model's temperature.
        noise: of the map in use, root mean square of a component, kcal/mol/Å; an upper estimate.
        explainable: part of the mean squared force that is not noise.
        remarks: sentences that preparation left.
        moved: frames in which preparation moved atoms to other periodic images.
    """

    name: str
    beads: int
    parts: dict[str, int]
    read: int
    kept: int
    reasons: dict[str, int] = field(default_factory=dict)
    method: str = ""
    squares: dict[str, Measured] = field(default_factory=dict)
    virial: dict[str, Measured] = field(default_factory=dict)
    noise: Measured = Measured()
    explainable: float | None = None
    remarks: tuple[str, ...] = ()
    moved: int = 0

    @property
    def set_aside(self) -> float:
        """Part of the frames that is not used."""
        return 1.0 - self.kept / self.read if self.read else 0.0

    @property
    def gain(self) -> float | None:
        """Mean squared force of the map in use over that of the plain sum on CA and its hydrogens."""
        used, plain = (self.squares.get(name, Measured()).value for name in (self.method, "basic"))
        return used / plain if used is not None and plain else None

    @property
    def virial_deviation(self) -> float | None:
        """How many standard errors the virial of the map in use lies off its exact value."""
        found = self.virial.get(self.method, Measured())
        return (found.value - 1.0) / found.error if found.value is not None and found.error else None


@dataclass(frozen=True)
class DataFacts:
    """The whole data set.

    Attributes:
        proteins: in the order of their names.
        excluded: source files that could not be used, with `source` and `reason`.
        temperature_K, projection: of the model, and the force map in use.
    """

    proteins: list[ProteinFacts]
    excluded: list[dict[str, str]]
    temperature_K: float | None
    projection: str

    def reasons(self) -> Counter[str]:
        """Frames that were set aside, by reason, most first."""
        total: Counter[str] = Counter()
        for protein in self.proteins:
            total.update(protein.reasons)
        return Counter(dict(total.most_common()))

    def maps(self) -> list[str]:
        """Force maps that were tried."""
        order = ("slice", "basic", "aggforce", "optimal")
        found = {name for protein in self.proteins for name in protein.squares}
        return [name for name in order if name in found] + sorted(found - set(order))


def read_facts(cycle: CycleFiles) -> DataFacts:
    """What is in `prep/manifest.json`, `quarantine.json` and `projection.json`; missing files leave gaps."""
    manifest = cycle.read("prep/manifest.json")
    quarantine = cycle.read("prep/quarantine.json").get("proteins") or {}
    projection = cycle.read("prep/projection.json").get("proteins") or {}
    model_K = manifest.get("temperature_K")
    proteins = [
        _facts(name, entry, quarantine.get(name) or {}, projection.get(name) or {}, model_K)
        for name, entry in (manifest.get("proteins") or {}).items()
    ]
    return DataFacts(proteins, manifest.get("excluded_files") or [], model_K, str(manifest.get("projection", "?")))


def _facts(
    name: str, entry: dict[str, Any], bad: dict[str, Any], forces: dict[str, Any], model_K: float | None
) -> ProteinFacts:
    frames, method = int(entry.get("frames", 0)), str(forces.get("method", ""))
    noise = forces.get("noise") or {}
    rms, whole = noise.get("rms"), noise.get("rms_force")
    virial = [one for one in forces.get("virial") or [] if abs(one["temperature_K"] - (model_K or 0.0)) < SAME_K]
    maps = virial[0]["maps"] if virial else {}
    remarks = [str(note) for note in bad.get("notes") or []]
    if (forces.get("keeps_rigid_bonds") or {}).get(method) is False:
        remarks.append(f"the map `{method}` splits rigid bonds, so that the mean of its forces is wrong")
    if reason := (forces.get("fit") or {}).get("unavailable"):
        remarks.append(f"there is no optimal force map to compare with: {reason}")
    return ProteinFacts(
        name=name,
        beads=int(entry.get("beads", 0)),
        parts={part: int(n) for part, n in (entry.get("frames_per_split") or {}).items() if n},
        read=int(bad.get("frames_read", frames)),
        kept=int(bad.get("frames_kept", frames)),
        reasons=dict(bad.get("reasons") or {}),
        method=method,
        squares={
            key: Measured(one.get("value"), one.get("error"))
            for key, one in (forces.get("mean_squared_force") or {}).items()
        },
        virial={key: Measured(one.get("ratio"), one.get("ratio_error")) for key, one in maps.items()},
        noise=Measured(rms, noise.get("error")),
        explainable=1.0 - (rms / whole) ** 2 if rms is not None and whole else None,
        remarks=tuple(remarks),
        moved=int(bad.get("frames_moved") or 0),
    )


def spread(values: list[float | None]) -> list[float]:
    """Smallest, 5 %, median, 95 % and largest of the known values; [] if there are none."""
    known = [value for value in values if value is not None]
    return [float(one) for one in np.quantile(known, (0.0, 0.05, 0.5, 0.95, 1.0))] if known else []

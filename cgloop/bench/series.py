"""Measurements of scaling put in order: which belong together, what they amount to, and what they predict."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from cgloop.bench.fits import AMDAHL, GUSTAFSON, POWER, Fit, KarpFlatt, fit, karp_flatt
from cgloop.bench.record import Measurement, Record

SCALING = "scaling/"
"""What names of such measurements begin with; what follows is `train` or `md`."""


@dataclass(frozen=True)
class Point:
    """Repeats of one number of devices.

    Attributes:
        devices, nodes: that worked together.
        rates: things per time of each repeat, of all devices; for a fixed amount of work its inverse time.
        speedup, low, high: of the medians over the smallest number of devices, and over the slowest and the fastest.
        efficiency: speedup over the ratio of devices.
        facts: told beside it.
    """

    devices: int
    nodes: int
    rates: tuple[float, ...]
    speedup: float
    low: float
    high: float
    efficiency: float
    facts: dict[str, bool | int | float | str]

    @property
    def median(self) -> float:
        return float(np.median(self.rates))


@dataclass(frozen=True)
class Series:
    """Strong or weak scaling of one thing.

    Attributes:
        title: what it is.
        what, mode: `train` or `md`; `strong` or `weak`.
        unit: of rates.
        points: by number of devices.
        fits: of the laws that apply; empty with one number of devices.
        serial: Karp–Flatt metric, of strong scaling.
        shared_cores: whether the devices are virtual ones that share the same cores.
        record: where it is from.
    """

    title: str
    what: str
    mode: str
    unit: str
    points: tuple[Point, ...]
    fits: tuple[Fit, ...]
    serial: tuple[KarpFlatt, ...]
    shared_cores: bool
    record: Record

    @property
    def shown_unit(self) -> str:
        """Of what tables show: times where the rates are inverse times."""
        return self.unit.removeprefix("1/")

    def shown(self, rate: float) -> float:
        """A rate as tables show it."""
        return 1 / rate if self.unit.startswith("1/") else rate

    def fit_of(self, name: str) -> Fit | None:
        return next((one for one in self.fits if one.law.name == name), None)


def series_of(records: Iterable[Record]) -> list[Series]:
    """All series of scaling in some files."""
    found = []
    for record in records:
        groups: dict[tuple[tuple[str, object], ...], list[Measurement]] = {}
        for one in record.measurements:
            if one.name.startswith(SCALING):
                same = {name: value for name, value in one.settings.items() if name not in ("devices", "nodes")}
                key = (("name", one.name), ("unit", one.unit), *sorted(same.items()))
                groups.setdefault(key, []).append(one)
        found += [_series(record, group) for group in groups.values()]
    return found


def _series(record: Record, group: Sequence[Measurement]) -> Series:
    group = sorted(group, key=lambda one: (one.settings["devices"], one.settings.get("nodes", 1)))
    first = group[0]
    what, mode = first.name.removeprefix(SCALING), str(first.settings["mode"])
    timed = first.better == "lower"
    rates = [tuple(1 / value if timed else value for value in one.values) for one in group]
    base = float(np.median(rates[0]))
    points = []
    for one, own in zip(group, rates, strict=True):
        devices = int(one.settings["devices"])
        speedup = float(np.median(own)) / base
        ratio = devices / int(first.settings["devices"])
        points.append(
            Point(
                devices, int(one.settings.get("nodes", 1)), own, speedup, min(own) / base, max(own) / base,
                speedup / ratio, dict(one.facts),
            )
        )  # fmt: skip
    n = [point.devices for point in points for _ in point.rates]
    flat = [rate for point in points for rate in point.rates]
    several = len(set(n)) > 1
    laws = (AMDAHL, POWER) if mode == "strong" else (GUSTAFSON, POWER)
    told = ", ".join(f"{value}" if name == "size" else f"{name} {value}" for name, value in first.settings.items()
                     if name not in ("devices", "nodes", "mode"))  # fmt: skip
    return Series(
        title=f"{ {'train': 'Training', 'md': 'MD'}.get(what, what)}, {mode} scaling" + (f" ({told})" if told else ""),
        what=what, mode=mode, unit=f"1/{first.unit}" if timed else first.unit, points=tuple(points),
        fits=tuple(fit(law, n, flat) for law in laws) if several else (),
        serial=tuple(karp_flatt(n, flat)) if several and mode == "strong" else (),
        shared_cores=any(bool(one.facts.get("shared cores")) for one in group), record=record,
    )  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """What is to be predicted.

    Attributes:
        frames, epochs: of the training.
        devices: numbers of them.
        price_per_gpu_hour: in any currency; None for none.
        watts: of a device under load; None for none.
        frames_per_time: frames that the time of a table stands for, where rates are inverse times.
    """

    frames: int
    epochs: int
    devices: tuple[int, ...]
    price_per_gpu_hour: float | None = None
    watts: float | None = None
    frames_per_time: float | None = None


@dataclass(frozen=True)
class Prediction:
    """A training that was not done.

    Attributes:
        devices: that share it.
        hours: wall time, [expected, least, most] over the interval of the serial fraction.
        gpu_hours: devices × expected hours.
        cost, energy_kWh: None where price or power are not given.
        measured: whether this number of devices was measured; otherwise Amdahl's law says it.
        beyond: whether it is more devices than were measured.
    """

    devices: int
    hours: tuple[float, float, float]
    gpu_hours: float
    cost: float | None
    energy_kWh: float | None
    measured: bool
    beyond: bool


def predict(series: Series, wanted: Wanted) -> list[Prediction]:
    """Time, money and energy of a training from strong scaling; empty where the rate of frames is not known.

    Virtual devices, which share cores, say nothing about more of them: of these only what was measured.
    """
    per_rate = 1.0 if series.unit == "frames/s" else wanted.frames_per_time
    if series.what != "train" or series.mode != "strong" or per_rate is None:
        return []
    measured = {point.devices: point for point in series.points}
    law = series.fit_of("Amdahl")
    found = []
    for devices in wanted.devices:
        point = measured.get(devices)
        if point is not None:
            rates = point.median, min(point.rates), max(point.rates)
        elif law is not None and not series.shared_cores:
            expected, least, most = law.at([devices])[0]
            rates = float(expected), float(least), float(most)
        else:
            continue
        work = wanted.frames * wanted.epochs / 3600.0
        hours = tuple(work / (rate * per_rate) for rate in (rates[0], rates[2], rates[1]))
        gpu_hours = devices * hours[0]
        found.append(
            Prediction(
                devices, (hours[0], hours[1], hours[2]), gpu_hours,
                None if wanted.price_per_gpu_hour is None else gpu_hours * wanted.price_per_gpu_hour,
                None if wanted.watts is None else gpu_hours * wanted.watts / 1000.0,
                point is not None, devices > max(measured),
            )
        )  # fmt: skip
    return found

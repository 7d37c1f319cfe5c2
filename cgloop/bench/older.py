"""Files of measurements from before there was one form, and tables of scaling of the older pipeline."""

import csv
import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cgloop.bench.record import Load, Machine, Measurement, Record
from cgloop.errors import UserError

HARDWARE = re.compile(r"(\d+) cores(?: of an|,) ([^,;]+?)(?:, (\d+) GB)?(?:[,;].*)?$")


def from_json(data: dict[str, Any], path: Path) -> Record:
    """A dated record without a schema, told apart by what its rows hold.

    Raises:
        UserError: it holds no times, or is something else.
    """
    rows = data.get("rows")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise UserError("is no record of measurements", where=path)
    for suite, column, convert in (
        ("training", "speedup", _scaling),
        ("model", "matmuls", _model),
        ("md", "bead_steps_per_s", md_measurements),
    ):
        if any(column in row for row in rows):
            try:
                measurements = tuple(convert(rows))
                return Record(
                    suite=suite, date=str(data["date"]), made_by=str(data.get("made by", "")), machine=_machine(data),
                    note=str(data.get("hardware", "")), versions=data.get("versions", {}), measurements=measurements,
                )  # fmt: skip
            except (KeyError, TypeError, ValidationError) as error:
                raise UserError(f"is an incomplete older record: {error}", where=path) from None
    raise UserError("is a record, but not of times", where=path)


def _machine(data: dict[str, Any]) -> Machine:
    text = str(data.get("hardware", ""))
    if found := HARDWARE.match(text):
        return Machine(processor=found[2], cores=int(found[1]), memory_GB=float(found[3] or 0))
    return Machine(processor=text or "not recorded", cores=0, memory_GB=0)


def _scaling(rows: list[dict[str, Any]]) -> Iterable[Measurement]:
    for row in rows:
        for devices, column in ((1, "one"), (2, "two")):
            yield Measurement(
                name="scaling/train",
                settings={"mode": "strong", "devices": devices, "nodes": 1, "size": 16, "model": row["preset"],
                          "beads": row["beads"]},
                unit="frames/s", values=tuple(row[column]), better="higher", independent=True,
                facts={"shared cores": True},
            )  # fmt: skip


def _model(rows: list[dict[str, Any]]) -> Iterable[Measurement]:
    by_name: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_name.setdefault(row["name"], []).append(row)
    for name, same in by_name.items():
        test, _, parameters = name.removesuffix("]").partition("[")
        settings: dict[str, Any] = {"case": parameters, "edges": same[0]["edges"]}
        facts = {key: same[-1][key] for key in ("compile_s", "temporary_MB", "share_of_matmul_rate") if key in same[-1]}
        told = test.removeprefix("test_").replace("_", " ")
        yield Measurement(
            name=f"model/{told}", settings=settings, unit="ms", values=tuple(row["ms"] for row in same),
            independent=True, facts=facts,
        )  # fmt: skip


def md_measurements(rows: Iterable[dict[str, Any]]) -> Iterable[Measurement]:
    """Rows of `benchmarks/md.py`: a step of the loop, of the model alone and of jax-md, at sizes."""
    for row in rows:
        if "skipped" in row:
            continue
        average = row.get("load_average")
        loads = () if average is None else (Load(average=(average, average), others_cores=None, seconds=0),)
        settings = {"beads": row["beads"], "replicas": row["replicas"]}
        for leg, value in row["ms_per_step"].items():
            name = {"bare": "md/model alone", "loop": "md/LAMMPS loop"}.get(leg, f"md/{leg}")
            yield Measurement(name=name, settings=settings, unit="ms/step", values=(value,), load=loads)
        yield Measurement(
            name="md/share outside the model", settings=settings, unit="%",
            values=(100 * row["outside_model_share"],), load=loads,
        )  # fmt: skip
        if "loop_over_bare" in row:
            yield Measurement(
                name="md/LAMMPS loop over model alone", settings=settings, unit="ratio",
                values=(row["loop_over_bare"],), load=loads,
            )  # fmt: skip


STEADY = re.compile(r"steady[- ]state time\s+b\s*=\s*(\d+)\s*\((min|s|h)\)", re.IGNORECASE)
SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}


def from_csv(text: str, path: Path) -> Record:
    """A `scaling_data.csv`: a row per run, with `GPUs` and one or more columns `Steady-State Time B=<n> (min)`.

    Other columns it may have: `Nodes`; `Total Time …`, which is told beside the result. B is the batch of a GPU. What
    was done in these minutes is the same for all rows, and not said: speedups and fits need no more, predictions do.
    Rows with the same numbers of GPUs and nodes are repeats.

    Raises:
        UserError: no such columns, or a cell that is no positive number.
    """
    rows = list(csv.reader(io.StringIO(text)))
    head = [cell.strip().lstrip("\ufeff") for cell in rows[0]] if rows else []
    lower = [name.lower() for name in head]
    steady = {i: (int(found[1]), found[2].lower()) for i, name in enumerate(head) if (found := STEADY.search(name))}
    gpus = next((i for i, name in enumerate(lower) if name in ("gpus", "devices", "n_gpus", "num gpus")), None)
    if gpus is None or not steady:
        raise UserError(
            "has no column `GPUs`, or none like `Steady-State Time B=1 (min)`", where=path,
            remedy=f"its columns: {', '.join(head) or 'none'}",
        )  # fmt: skip
    nodes = next((i for i, name in enumerate(lower) if name in ("nodes", "n_nodes", "num nodes")), None)
    total = next((i for i, name in enumerate(lower) if name.startswith("total time")), None)
    found_rows: dict[tuple[int, int, int], list[float]] = {}
    facts: dict[tuple[int, int, int], dict[str, float]] = {}
    for number, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        place = f"{path}, line {number}"
        devices = _count(row, gpus, place)
        on = 0 if nodes is None else _count(row, nodes, place)
        for column, (batch, unit) in steady.items():
            if column < len(row) and row[column].strip():
                key = devices, on, batch
                found_rows.setdefault(key, []).append(_number(row[column], place) * SECONDS[unit])
                if total is not None and total < len(row) and row[total].strip():
                    facts.setdefault(key, {})[head[total]] = _number(row[total], place)
    if not found_rows:
        raise UserError("holds no times", where=path)
    measurements = [
        Measurement(
            name="scaling/train",
            settings={"mode": "strong", "devices": devices, **({"nodes": on} if on else {}), "size": f"B={batch}"},
            unit="s", values=tuple(values), independent=True, facts=facts.get((devices, on, batch), {}),
        )
        for (devices, on, batch), values in sorted(found_rows.items(), key=lambda item: (item[0][2], *item[0]))
    ]  # fmt: skip
    return Record(
        suite="scaling", date="", made_by=Path(path).name, measurements=tuple(measurements),
        note="from a table of the older pipeline: times of a fixed amount of work, machine and versions not recorded",
        machine=Machine(processor="not recorded", cores=0, memory_GB=0),
    )  # fmt: skip


def _number(text: str, place: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise UserError(f"`{text.strip()}` is no positive number", where=place)
    return value


def _count(row: list[str], column: int, place: str) -> int:
    value = _number(row[column] if column < len(row) else "", place)
    if value != int(value):
        raise UserError(f"`{row[column].strip()}` is no whole number", where=place)
    return int(value)

"""The stage `parity`: the exported artifact, inside LAMMPS, against the model in JAX on the same frames.

What is compared is what LAMMPS would integrate: its force array and its potential energy. The reference is the
energy function of `cgloop.model` with the parameters of the training, in float32, on a graph without skin or padding.
The prior terms of the artifact are compared with LAMMPS's own styles, too, and `model.ptb` is run by emulation. For a
few frames of the smallest protein the reference is evaluated in float64 by NumPy, without compilation.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cgloop.checks import jsonable
from cgloop.config import Config
from cgloop.data.dataset import DatasetReader
from cgloop.export.bundle import load_bundle, read_trained
from cgloop.interrupt import check_stop
from cgloop.md.evaluate import Compiled, compile_model
from cgloop.md.parity_cases import CASES, Difference, Reference, compare, make_setup
from cgloop.md.parity_causes import explain
from cgloop.md.parity_emulation import emulate_ptb
from cgloop.md.parity_native import NATIVE_CASES, NativePrior, compare_native
from cgloop.md.parity_uncompiled import UNCOMPILED_CASES, UncompiledReference, compare_uncompiled
from cgloop.md.system import System, least_seen, spread
from cgloop.model.hybrid import Model, Params, flatten_params
from cgloop.progress import progress
from cgloop.stages import write_json
from cgloop.units import thermal_energy

log = logging.getLogger("cgloop.md")

EXPLAINED = ("held-out", "perturbed", *NATIVE_CASES)
"""Cases whose forces are compared with those of a model that is changed on purpose, to name the cause."""

MAX_PROTEINS = 3
"""Proteins whose frames are used, from the smallest to the largest: each size is compiled several times."""


@dataclass(frozen=True, eq=False)
class Frames:
    """Held-out frames of one protein: positions [F, N, 3] in Å, and where each comes from."""

    system: System
    positions: np.ndarray
    origins: list[str]


@dataclass(frozen=True)
class Row:
    """One comparison, with its case and its protein."""

    case: str
    frames: Frames
    difference: Difference

    @property
    def largest(self) -> float:
        """Largest difference of a force component, kcal/mol/Å; infinite where one is no number."""
        value = float(np.abs(self.difference.forces).max())
        return value if np.isfinite(value) else np.inf

    @property
    def energy(self) -> float:
        """Difference of the energy, relative; infinite where it is no number."""
        value = abs(self.difference.energy) / self.difference.energy_scale
        return value if np.isfinite(value) else np.inf


def parity_stage(config: Config, bundle_dir: Path, train_dir: Path, dataset_dir: Path, out: Path) -> dict[str, Any]:
    """Compare, and write `parity.json`; returns its contents, of which `verdict` is `pass` or `fail`.

    Args:
        config: section `parity`, the temperature, the skin, the seed.
        bundle_dir: the artifact.
        train_dir: parameters that the reference is computed with.
        dataset_dir: held-out frames.
        out: folder that exists.

    Raises:
        UserError: damaged bundle or data set, no trained model, or no held-out frames.
        Interrupted: stopped on request.
    """
    began = time.perf_counter()
    bundle, reader = load_bundle(bundle_dir), DatasetReader.open(dataset_dir)
    model, params = read_trained(train_dir)
    compiled = compile_model(bundle.function, bundle.cutoff_A)
    proteins = load_frames(config, reader)
    rows: list[Row] = []
    precision: list[float] = []
    native = NATIVE_CASES if bundle.model.has_prior else {}
    with progress("md parity", len(proteins) * (len(CASES) + len(native)) + 2, "cases") as bar:
        for frames in proteins:
            reference = Reference(model, params, frames.system)
            precision.append(single_precision_error(reference, frames.positions[0]))
            for case in CASES:
                check_stop()
                setup = make_setup(case, compiled, frames.system, frames.positions, config.md.skin_A, config.run.seed)
                found = compare(setup, reference.of(setup.system), thermal_energy(bundle.temperature_K))
                rows += [Row(case, frames, difference) for difference in found]
                bar.advance(1, case=case)
            prior = None
            if native:
                near = make_setup(
                    "held-out", compiled, frames.system, frames.positions, config.md.skin_A, config.run.seed
                )
                prior = NativePrior(bundle.model, bundle.params, near.evaluate, frames.system)
            for case in native:
                check_stop()
                assert prior is not None
                kT = thermal_energy(bundle.temperature_K)
                rows += [
                    Row(case, frames, difference)
                    for difference in compare_native(case, prior, frames.positions, config.run.seed, kT)
                ]
                bar.advance(1, case=case)
        first = proteins[0]
        check_stop()
        rows += uncompiled_rows(config, Reference(model, params, first.system), compiled, model, params, first)
        bar.advance(1, case="uncompiled")
        emulation = emulate_ptb(bundle, model, params, first.system, first.positions[0], config.parity.emulation_limit)
        bar.advance(1, case="emulation")
    same = same_parameters(params, bundle.params)
    result = {
        **judge(
            rows,
            config.parity.force_limit,
            config.parity.energy_limit,
            same,
            {**CASES, **native, **UNCOMPILED_CASES},
            lambda row: (
                explain_row(row, bundle.model, bundle.params)
                if row.case in NATIVE_CASES
                else explain_row(row, model, params)
            ),
        ),
        "emulation": emulation,
        "skipped": {} if native else dict.fromkeys(NATIVE_CASES, "there is no prior"),
        "frames": sum(len(frames.positions) for frames in proteins),
        "proteins": [frames.system.name for frames in proteins],
        "same_parameters": same,
        "single_precision_force_error": max(precision),
    }
    if emulation["verdict"] == "fail":
        result["verdict"] = "fail"
    write_json(out / "parity.json", jsonable(result))
    write_json(out / "timing.json", {"seconds": time.perf_counter() - began})
    _tell(result)
    return result


def uncompiled_rows(
    config: Config, reference: Reference, compiled: Compiled, model: Model, params: Params, frames: Frames
) -> list[Row]:
    """Return the comparisons with the model as NumPy evaluates it, of one protein."""
    setup = make_setup("held-out", compiled, frames.system, frames.positions, config.md.skin_A, config.run.seed)
    uncompiled = UncompiledReference(model, params, frames.system)
    kT = thermal_energy(config.data.temperature_K)
    return [Row(case, frames, found) for case, found in compare_uncompiled(setup, reference, uncompiled, kT)]


def load_frames(config: Config, reader: DatasetReader) -> list[Frames]:
    """Frames, held-out ones if there are, spread evenly over the smallest to the largest protein and over time."""
    by_size = sorted(reader.names, key=lambda name: (reader.manifest["proteins"][name]["beads"], name))
    chosen = np.linspace(0, len(by_size) - 1, min(MAX_PROTEINS, len(by_size))).round().astype(int)
    quota = -(-config.parity.frames // len(chosen))
    loaded = []
    for name in (by_size[i] for i in chosen):
        data, split = least_seen(reader, name, config.data.temperature_K)
        rows = np.unique(spread(data.n_frames, min(quota, data.n_frames)))
        origins = [f"{split}, replica {data.replica[i]}, frame {data.source_frame[i]}" for i in rows]
        loaded.append(Frames(System.of(data), data.positions[rows].astype(float), origins))
    return loaded


def single_precision_error(reference: Reference, frame: np.ndarray) -> float:
    """Largest difference of a force component between float32 and float64 in JAX, over the RMS force.

    What single precision costs by itself, to compare the artifact's differences with.
    """
    single, _ = reference(frame)
    with jax.enable_x64(True):
        double, _ = reference(frame, np.float64)
    return float(np.abs(single - double).max() / np.sqrt(np.mean(double**2)))


def same_parameters(first: Params, second: Params) -> bool:
    """Whether two sets of parameters are equal to the bit in float32."""
    flat = [{k: np.asarray(v, np.float32) for k, v in flatten_params(params).items()} for params in (first, second)]
    return flat[0].keys() == flat[1].keys() and all(np.array_equal(flat[0][k], flat[1][k]) for k in flat[0])


def judge(
    rows: list[Row],
    force_limit: float,
    energy_limit: float,
    same: bool,
    asked: Mapping[str, str] = CASES,
    explained: Callable[[Row], str | None] = lambda _row: None,
) -> dict[str, Any]:
    """Contents of `parity.json`: the largest differences, case by case, and the verdict.

    Args:
        rows: all comparisons; a case without any fails.
        force_limit: for the largest difference of a force component over the RMS force of the case.
        energy_limit: for the energy difference over max(|energy|, N kT).
        same: whether the bundle's parameters are those of the training.
        asked: the cases, and what each most likely means.
        explained: what the numbers of a row say about the cause; None: nothing.
    """
    cases, shown = [], {}
    for name in asked:
        case, shown[name] = _judge_case(name, [row for row in rows if row.case == name], force_limit, energy_limit)
        cases.append(case)
    failed = [case for case in cases if case["verdict"] == "fail"]
    for number, case in enumerate(failed):
        name, row = case["name"], shown[case["name"]]
        if not same and name in CASES:
            case["likely_cause"] = "the bundle holds other parameters than the training"
        elif number and name in CASES:
            case["likely_cause"] = f"as in case `{failed[0]['name']}`, or: {asked[name]}"
        else:
            case["likely_cause"] = (row and explained(row)) or asked[name]
    return {
        "force": {"value": max(c["max_force_difference_over_rms"] for c in cases), "limit": force_limit},
        "energy": {"value": max(c["energy_difference_relative"] for c in cases), "limit": energy_limit},
        "cases": cases,
        "verdict": "fail" if failed else "pass",
    }


def explain_row(row: Row, model: Model, params: Params) -> str | None:
    """What the forces of one comparison say about the cause of their difference; None: nothing."""
    difference = row.difference
    return (
        explain(
            model,
            params,
            row.frames.system,
            difference.positions,
            difference.expected + difference.forces,
            difference.term,
        )
        if row.case in EXPLAINED
        else None
    )


def _judge_case(
    name: str, rows: list[Row], force_limit: float, energy_limit: float
) -> tuple[dict[str, Any], Row | None]:
    """The numbers of a case, and the row that is shown."""
    if not rows:
        nothing = {"max_force_difference_over_rms": np.inf, "energy_difference_relative": np.inf}
        return {"name": name, **nothing, "verdict": "fail"}, None
    rms = float(np.sqrt(np.mean([row.difference.force_square for row in rows])))
    worst_force, worst_energy = max(rows, key=lambda row: row.largest), max(rows, key=lambda row: row.energy)
    force = worst_force.largest / rms if rms > 0 else worst_force.largest
    energy = worst_energy.energy
    passed = force <= force_limit and energy <= energy_limit
    # The frame that is shown is the one that breaks a limit, if one does.
    shown = worst_force if not force <= force_limit or passed else worst_energy
    size = np.nan_to_num(np.abs(shown.difference.forces).max(axis=1), nan=np.inf)
    bead = int(np.argmax(size))
    return {
        "name": name,
        "max_force_difference_over_rms": force,
        "energy_difference_relative": energy,
        "rms_force": rms,
        "protein": shown.frames.system.name,
        "frame": shown.frames.origins[shown.difference.frame],
        "bead": bead,
        "residue": shown.frames.system.residue_label(bead),
        "term": shown.difference.term,
        "verdict": "pass" if passed else "fail",
    }, shown


def _tell(result: dict[str, Any]) -> None:
    force, energy, emulation = result["force"]["value"], result["energy"]["value"], result["emulation"]
    if emulation["verdict"] == "fail":
        log.error(
            "model.ptb, run as chemtrain's plugin would: forces differ by %.1e of their RMS, energies by %.1e: %s",
            emulation["force"], emulation["energy"], emulation["likely_cause"],
        )  # fmt: skip
    if result["verdict"] == "pass":
        log.info("pass: forces differ by %.1e of their RMS, energies by %.1e", force, energy)
        return
    for case in result["cases"]:
        if case["verdict"] == "fail":
            log.error(
                "case %s: forces differ by %.1e of their RMS, energies by %.1e (%s of %s, %s, term %s): %s",
                case["name"], case["max_force_difference_over_rms"], case["energy_difference_relative"],
                case.get("frame"), case.get("protein"), case.get("residue"), case.get("term"), case["likely_cause"],
            )  # fmt: skip

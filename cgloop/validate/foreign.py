"""Judges trajectories of any engine by a reference: `python -m cgloop.validate.foreign`.

Without our record of a run there are no energies, temperatures or forces. What is left is everything that structure
tells, with the same definitions, limits and controls as for our own models.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from cgloop.checks import Check, CheckResult, jsonable
from cgloop.config import Config
from cgloop.config.validate import ValidateConfig
from cgloop.console import setup_logging
from cgloop.data.dataset import DatasetReader, ProteinData
from cgloop.errors import ExitCode, Interrupted, UserError
from cgloop.interrupt import stop_on_signals
from cgloop.residues import RESIDUES, sequence
from cgloop.stages import write_json
from cgloop.validate.family import DECLARED
from cgloop.validate.figures import plots_of
from cgloop.validate.gate import SCHEMA_VERSION, judge
from cgloop.validate.gate_words import table
from cgloop.validate.inputs import structural_settings
from cgloop.validate.known_bad import known_bad_control
from cgloop.validate.landscape import SURFACE
from cgloop.validate.observables import observe
from cgloop.validate.reference import Reference, reference_of
from cgloop.validate.registry import CHECKS
from cgloop.validate.structural import Controls, structural_results
from cgloop.validate.universe import Trace, read_trace
from cgloop.wording import listing

REQUIRED = tuple(check.name for check in DECLARED if check.name != SURFACE.name)
"""What decides if nothing else is asked for, less what says nothing about the protein or its temperature."""

EXIT_CODES = {"pass": ExitCode.PASS, "fail": ExitCode.FAIL, "inconclusive": ExitCode.INCONCLUSIVE}


def validate_trajectories(
    trace: Trace, reference: Reference, settings: ValidateConfig, out: Path, required: Sequence[str] = ()
) -> dict[str, Any]:
    """Judge trajectories, and write `metrics.json`, `plots.json` and `verdict.json` into `out`.

    Args:
        trace: the trajectories.
        reference: of the same protein.
        settings: definitions and limits.
        out: folder, made if it is not there.
        required: names of the checks that decide; none for `REQUIRED`.

    Returns:
        The verdict.
    """
    temperature_K = reference.target.temperature_K
    broken = [number for number, positions in enumerate(trace.replicas) if not np.isfinite(positions).all()]
    model = [
        observe(positions, reference.protein, settings)
        for number, positions in enumerate(trace.replicas)
        if number not in broken
    ]

    def absent(check: Check) -> CheckResult | None:
        if not broken:
            return None
        return CheckResult(
            check.name, reference.name, None, 0.0, None, "fail", unit=check.unit, detail={"incomplete": True},
            reason=f"trajectory {listing([str(number + 1) for number in broken])} has non-finite positions",
        )  # fmt: skip

    source = {"trajectories": len(trace.replicas), "frames": [len(positions) for positions in trace.replicas]}
    checks = [
        replace(
            check,
            inputs={**source, "reference": reference.description, "settings": structural_settings(check, settings)},
        )
        for check in structural_results(model, reference, absent)
    ]
    controls = Controls.of(reference)
    about = {**reference.description, "relaxing": reference.target.relaxing()}
    metrics = jsonable(
        {
            "schema_version": SCHEMA_VERSION,
            "temperature": {"md_K": temperature_K, "model_K": temperature_K, "gated": True},
            "proteins": {
                reference.name: {
                    "gated": True,
                    "replicas": len(trace.replicas),
                    "reference": about,
                    "periodic_images": [asdict(record) for record in trace.images],
                }
            },
            "checks": [check.to_json() for check in checks],
            "controls": {
                "reference": {reference.name: controls.reference},
                "power": {reference.name: controls.power} if controls.power else {},
                "known_bad": {reference.name: _known_bad(reference, len(trace.replicas), controls)},
            },
            "settings": settings.model_dump(mode="json"),
        }
    )
    verdict = judge(metrics, list(required) or _able(metrics["checks"], controls))
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "metrics.json", metrics)
    write_json(out / "verdict.json", verdict)
    plots = {"schema_version": 1, "checks": plots_of(checks)}
    (out / "plots.json").write_text(json.dumps(plots, sort_keys=True) + "\n", encoding="utf-8")
    return verdict


def _known_bad(reference: Reference, replicas: int, controls: Controls) -> dict[str, dict[str, Any]]:
    """The known-bad trajectories that positions tell."""
    target = reference.target
    # Lengths and limits of a run of ours do not matter here, and are those of a new config.
    config = Config.model_validate(
        {
            "run": {"name": "trajectories"},
            "data": {
                "sources": [{"path": "trajectories"}],
                "temperature_K": target.temperature_K,
                "split": {"by": "time_block"},
            },
            "validate": target.settings,
        }
    )
    return known_bad_control(reference, config, replicas, controls.reference, [check.name for check in DECLARED])


def _able(checks: Sequence[dict[str, Any]], controls: Controls) -> list[str]:
    """Those of `REQUIRED` that can decide: applicable to the protein, and able to tell temperatures apart."""
    applicable = {check["check"] for check in checks if not check["detail"].get("not_applicable")}
    blind = {name for name, entry in controls.power.items() if entry["values"] is not None and not entry["able"]}
    return [name for name in REQUIRED if name in applicable and name not in blind]


def reference_from_dataset(
    folder: Path,
    trace: Trace,
    protein: str | None,
    temperature_K: float | None,
    settings: ValidateConfig,
    where: Path | None = None,
) -> Reference:
    """The protein of a data set that has the residues of a trajectory.

    Args:
        folder: of the data set.
        trace: the trajectories.
        protein: name in the data set; None for the one that fits.
        temperature_K: None for that of the data set.
        settings: definitions and limits.
        where: what messages call the data set; None for its folder.

    Raises:
        UserError: there is none, there are several, or the one that is named has other residues; no frames at the
            temperature.
    """
    reader, where = DatasetReader.open(folder), where or folder
    structures = {name: reader.structure(name) for name in ([protein] if protein else reader.names)}
    same = [name for name, one in structures.items() if np.array_equal(one.residue_type, trace.residue_type)]
    if len(same) > 1:
        raise UserError(
            f"{listing(same)} have the residues of the trajectory", where=where, remedy="choose one with `--protein`"
        )
    if not same:
        raise UserError(
            f"no protein has the residues of the trajectory, {sequence(trace.residue_type)}"
            f"{_nearest(structures, trace)}",
            where=where,
            remedy="the bead order and the ends must be the same",
        )
    wanted = reader.temperature_K if temperature_K is None else temperature_K
    return reference_of(reader.load(same[0]), wanted, wanted, settings, where)


def _nearest(structures: dict[str, ProteinData], trace: Trace) -> str:
    """Where the protein of the same length differs, if there is one."""
    for name, one in structures.items():
        if one.n_beads == len(trace.residue_type):
            first = int(np.flatnonzero(one.residue_type != trace.residue_type)[0])
            pair = (RESIDUES[int(kinds[first])].name for kinds in (trace.residue_type, one.residue_type))
            return f"; bead {first + 1} is {' in it and '.join(pair)} in `{name}`"
    return f"; the data set has {listing([f'{name} ({one.n_beads})' for name, one in structures.items()])}"


def reference_from_trajectories(
    reference: Trace, trace: Trace, temperature_K: float, settings: ValidateConfig, where: Path
) -> Reference:
    """A reference that is itself trajectories. Raises UserError if its residues are others."""
    if not np.array_equal(reference.residue_type, trace.residue_type):
        raise UserError(
            f"the reference is {sequence(reference.residue_type)}, the trajectory {sequence(trace.residue_type)}",
            where=where,
        )
    positions = np.concatenate(reference.replicas)
    numbers = np.repeat(np.arange(len(reference.replicas)), [len(one) for one in reference.replicas])
    data = ProteinData(
        name=where.stem, residue_type=reference.residue_type, chain=reference.chain, resid=reference.resid,
        native=reference.native, linked=reference.linked, positions=positions, forces=np.zeros_like(positions),
        temperature_K=np.full(len(positions), temperature_K, np.float32), replica=numbers.astype(np.int32),
        source_frame=np.concatenate([np.arange(len(one)) for one in reference.replicas]).astype(np.int32),
        split=np.full(len(positions), 3, np.int8),
    )  # fmt: skip
    return reference_of(data, temperature_K, temperature_K, settings, where)


def settings_from(pairs: Sequence[str]) -> ValidateConfig:
    """Settings from words such as `validate.contact_cutoff_A=9`. Raises UserError at one that does not fit."""
    values: dict[str, str] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        name = key.removeprefix("validate.")
        if not sign or name == key or name not in ValidateConfig.model_fields:
            raise UserError(
                f"`{pair}` is no setting of trajectories", where="--set", remedy="as validate.contact_cutoff_A=9"
            )
        values[name] = value
    try:
        return ValidateConfig.model_validate({name: json.loads(value) for name, value in values.items()})
    except (ValidationError, ValueError) as error:
        text = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "is no number"
        raise UserError(f"{', '.join(pairs)}: {text}", where="--set") from None


def not_judged() -> str:
    """One line about the checks that need more than positions."""
    families = dict.fromkeys(check.family for check in CHECKS.values() if check not in DECLARED)
    return f"Not judged, because it takes energies, forces or the model: {listing(list(families), len(families))}."


def main(arguments: list[str] | None = None) -> int:
    """Judge trajectories; the exit code is the verdict's, a mistake of the user one line on stderr and 2."""
    parser = argparse.ArgumentParser(prog="python -m cgloop.validate.foreign", description=__doc__)
    parser.add_argument("--traj", type=Path, nargs="+", required=True, help="a replica each")
    parser.add_argument("--top", type=Path, required=True, help="topology of the trajectories")
    parser.add_argument("--reference", type=Path, nargs="+", required=True, help="data set, or trajectories")
    parser.add_argument("--reference-top", type=Path, help="topology of reference trajectories; default: --top")
    parser.add_argument("--called", type=Path, help="what messages call the reference")
    parser.add_argument("--protein", help="name in the data set")
    parser.add_argument("--temperature", type=float, help="K")
    parser.add_argument("--selection", help="which atoms are the beads")
    parser.add_argument("--require", nargs="*", default=[], help="checks that decide")
    parser.add_argument("--set", nargs="*", default=[], dest="settings", help="validate.KEY=V")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is written")
    chosen = parser.parse_args(arguments)
    setup_logging(-1)
    try:
        with stop_on_signals():
            verdict, images = _judge(chosen)
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return ExitCode.BAD_INPUT
    except Interrupted as error:
        print(f"interrupted: {error}", file=sys.stderr)
        return ExitCode.INTERRUPTED
    lines = [*table(verdict), *(f"- {line}" for line in [*verdict["reasons"], *images]), not_judged()]
    print("\n".join([*lines, f"{verdict['verdict']}: {verdict['summary']}"]))
    return EXIT_CODES[verdict["verdict"]]


def _judge(chosen: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """Return the verdict, and a line for every trajectory whose periodic images were changed or are in doubt."""
    settings = settings_from(chosen.settings)
    trace = read_trace(chosen.top, chosen.traj, chosen.selection)
    images = trace.images
    first = chosen.reference[0]
    if first.is_dir():
        reference = reference_from_dataset(first, trace, chosen.protein, chosen.temperature, settings, chosen.called)
    else:
        if chosen.temperature is None:
            raise UserError("a trajectory does not say its temperature", where=first, remedy="add `--temperature K`")
        frames = read_trace(chosen.reference_top or chosen.top, chosen.reference, chosen.selection)
        images = [*images, *frames.images]
        reference = reference_from_trajectories(frames, trace, chosen.temperature, settings, first)
    verdict = validate_trajectories(trace, reference, settings, chosen.out, chosen.require)
    return verdict, [record.text for record in images if record.text]


if __name__ == "__main__":
    sys.exit(main())

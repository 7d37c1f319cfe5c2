"""`cgloop validate`: a run of ours, or trajectories of any engine. Parses, calls, prints."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from cgloop.cli_options import Overrides, Quiet, TakeOver, Verbose, work_in_run
from cgloop.errors import UserError

EITHER = "either CONFIG or RUN alone, or --traj, --top and --reference"


def validate(
    target: Annotated[
        list[Path] | None,
        typer.Argument(help="config file, or the directory of a run; after --traj: more trajectories",
                       metavar="[CONFIG|RUN]"),
    ] = None,
    traj: Annotated[list[Path] | None, typer.Option(help="a trajectory of any engine, a replica each")] = None,
    top: Annotated[Path | None, typer.Option(help="its topology, with names of residues: PDB, PSF, GRO …")] = None,
    reference: Annotated[
        list[Path] | None, typer.Option(help="data set or run of cgloop, mdCATH file, or trajectories")
    ] = None,
    reference_top: Annotated[Path | None, typer.Option(help="of reference trajectories; default: --top")] = None,
    temperature: Annotated[float | None, typer.Option(help="K; default: the data set's", min=0.0)] = None,
    protein: Annotated[str | None, typer.Option(help="name in the data set; default: the one that fits")] = None,
    selection: Annotated[
        str | None, typer.Option(help="the beads, in MDAnalysis's words; default: atoms named CA")
    ] = None,
    require: Annotated[list[str] | None, typer.Option(help="a check that decides; default: all but one")] = None,
    out: Annotated[Path | None, typer.Option(help="folder for metrics.json, plots.json, verdict.json")] = None,
    overrides: Overrides = None,
    take_over: TakeOver = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Measure stability, drift, temperature and structure, with error bars.

    With --traj, --top and --reference: judge trajectories that any engine made by the structure of a reference; the
    exit code is the verdict (0 pass, 3 fail, 4 inconclusive).
    """
    own = {
        "--top": top, "--reference": reference, "--reference-top": reference_top, "--temperature": temperature,
        "--protein": protein, "--selection": selection, "--require": require, "--out": out,
    }  # fmt: skip
    if traj:
        if top is None or not reference:
            lacking = "--top" if top is None else "--reference"
            raise UserError(f"--traj needs {lacking}", where="validate", remedy=EITHER)
        if wrong := next((one for one in target or () if one.is_dir() or one.suffix in (".yaml", ".yml")), None):
            raise UserError(f"{wrong} is no trajectory", where="validate", remedy=EITHER)
        if take_over:
            raise UserError("--take-over is for a run", where="validate", remedy=EITHER)
        raise typer.Exit(_judge([*traj, *(target or ())], own, overrides, quiet=quiet))
    if given := [name for name, value in own.items() if value]:
        raise UserError(f"{given[0]} needs --traj", where="validate", remedy=EITHER)
    if not target or len(target) > 1:
        raise UserError(
            "one config or run is needed" if target else "nothing to validate", where="validate", remedy=EITHER
        )
    work_in_run(_up_to_validate, target[0], overrides, verbose=verbose, quiet=quiet, take_over=take_over)


def _up_to_validate(config, run, **options):
    from cgloop.cycle import run_to

    return run_to(config, run, "validate", **options)


def _judge(trajectories: list[Path], own: dict, overrides: Overrides, *, quiet: bool) -> int:
    """In a process of its own, because pymbar may switch JAX to float64."""
    with tempfile.TemporaryDirectory(prefix="cgloop-validate-") as scratch:
        out = own["--out"] or Path(scratch) / "out"
        references = called = own["--reference"]
        if len(references) == 1:
            references = [_data_set(references[0], own["--temperature"], Path(scratch))]
        command = [sys.executable, "-m", "cgloop.validate.foreign", "--out", str(out)]
        arguments = {
            **own,
            "--traj": trajectories,
            "--reference": references,
            "--set": overrides,
            "--out": None,
            "--called": called[0],
        }
        for name, value in arguments.items():
            if value:
                command += [name, *map(str, value if isinstance(value, list) else [value])]
        done = subprocess.run(command, stdout=subprocess.DEVNULL if quiet else None)
        if own["--out"] and not quiet and (out / "verdict.json").is_file():
            typer.echo(f"written: {out}/metrics.json, plots.json, verdict.json")
        return done.returncode


def _data_set(reference: Path, temperature: float | None, scratch: Path) -> Path:
    """The folder of the data set that a run has, or that is made from an mdCATH file; anything else as it is."""
    if reference.is_dir() and not (reference / "manifest.json").is_file():
        found = sorted(reference.glob("cycle_*/prep/manifest.json"))
        return found[-1].parent if found else reference
    if reference.suffix not in (".h5", ".hdf5"):
        return reference
    if temperature is None:
        raise UserError("an mdCATH file has several temperatures", where=reference, remedy="add `--temperature K`")
    return _prepared(reference, temperature, scratch / "dataset")


def _prepared(file: Path, temperature: float, folder: Path) -> Path:
    """A data set made from an mdCATH file as `cgloop prep` does, with the temperature farthest from the one given."""
    from cgloop.config.data import DataConfig
    from cgloop.prep.mdcath import MdcathFile
    from cgloop.prep.pipeline import prepare

    with MdcathFile(file) as opened:
        known = sorted({trajectory.temperature_K for trajectory in opened.trajectories})
    farthest = max(known, key=lambda one: abs(one - temperature), default=temperature)
    source = {"path": str(file.resolve()), "temperatures_K": sorted({temperature, farthest})}
    folder.mkdir(parents=True)
    prepare(
        DataConfig.model_validate(
            {"sources": [source], "temperature_K": temperature, "split": {"by": "time_block"}, "workers": 1}
        ),
        folder,
    )
    return folder

"""`cgloop data`: look at a data set, check it, convert it, plot it. Parses, calls, prints."""

import json
from pathlib import Path
from typing import Annotated

import typer

from cgloop.errors import ExitCode, UserError

app = typer.Typer(no_args_is_help=True, help="Look at a data set: its numbers, its soundness, its plots.")

Dataset = Annotated[
    Path, typer.Argument(help="folder of a data set, or of a run after `cgloop prep`", metavar="DATASET|RUN")
]


@app.command()
def info(
    dataset: Dataset, as_json: Annotated[bool, typer.Option("--json", help="everything, for machines")] = False
) -> None:
    """Proteins, frames, splits, sizes, forces and their noise, residue types, frames set aside."""
    from cgloop.data.inspect import describe, find_dataset
    from cgloop.data.show import info_text

    facts = describe(find_dataset(dataset))
    typer.echo(json.dumps(facts, indent=1, sort_keys=True, ensure_ascii=False) if as_json else info_text(facts))


@app.command()
def check(dataset: Dataset) -> None:
    """Digests, finite numbers, bonds, parts that overlap; exit code 2 if something is wrong."""
    from cgloop.data.inspect import check as look
    from cgloop.data.inspect import find_dataset
    from cgloop.data.show import check_text

    findings = look(find_dataset(dataset))
    typer.echo(check_text(findings))
    if any(one.level == "error" for one in findings):
        raise typer.Exit(int(ExitCode.BAD_INPUT))


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="a data set, a run, or an .npz archive")],
    target: Annotated[Path, typer.Argument(help="an .npz archive, or a new folder")],
    temperature_K: Annotated[
        float | None, typer.Option("--temperature", help="of the frames of an .npz archive, K")
    ] = None,
    split: Annotated[str | None, typer.Option(help="only this part, when an archive is written")] = None,
) -> None:
    """To and from the older padded NPZ."""
    if target.suffix == ".npz":
        _to_npz(source, target, split)
        return
    if source.suffix != ".npz":
        raise UserError("nothing to convert: one of the two must be an .npz archive", where=source)
    if temperature_K is None:
        raise UserError("an archive does not say its temperature", where=source, remedy="give `--temperature`")
    from cgloop.prep.convert import npz_to_dataset

    manifest = npz_to_dataset(source, target, temperature_K)
    typer.echo(f"wrote {target}: {', '.join(sorted(manifest['proteins']))}")


def _to_npz(source: Path, target: Path, split: str | None) -> None:
    from cgloop.data.dataset import SPLITS, DatasetReader
    from cgloop.data.inspect import find_dataset
    from cgloop.data.npz import write_npz

    if split is not None and split not in SPLITS:
        raise UserError(f"--split {split}: no such part", remedy=f"one of {', '.join(SPLITS)}")
    reader = DatasetReader.open(find_dataset(source))
    typer.echo(f"wrote {target}: {write_npz(target, reader, reader.names, split)} frames")


@app.command()
def plot(
    dataset: Dataset,
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML file to write")] = Path("dataset.html"),
) -> None:
    """Lengths, bonds, angles, dihedrals, sizes and forces in one HTML file."""
    from cgloop.data.inspect import find_dataset
    from cgloop.data.plots import write_plots

    write_plots(find_dataset(dataset), out)
    typer.echo(f"wrote {out}")

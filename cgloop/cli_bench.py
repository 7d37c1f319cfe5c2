"""`cgloop bench`: scaling, profile, report, comparison of files of measurements. Parses, calls, prints."""

from pathlib import Path
from typing import Annotated

import typer

from cgloop.cli_options import Overrides, Target, Verbose
from cgloop.errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    help="""How fast it is, how it scales, where the time goes.

`scaling` and `profile` measure a run on this machine and write a file; `report` makes tables and a page of files.""",
)


def _numbers(text: str, option: str) -> tuple[int, ...]:
    try:
        found = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        found = ()
    if not found or min(found) < 1:
        raise UserError(f"`{text}`: numbers from 1 on are wanted, as 1,2,4", where=option)
    return found


def _choices(text: str, known: tuple[str, ...], option: str) -> tuple[str, ...]:
    found = tuple(text.split(","))
    for one in found:
        if one not in known:
            raise UserError(f"`{one}` is unknown", where=option, remedy=f"known: {', '.join(known)}")
    return found


@app.command()
def scaling(
    target: Target,
    devices: Annotated[str, typer.Option(help="numbers of devices, as 1,2,4,8")] = "1,2",
    nodes: Annotated[
        str | None, typer.Option(help="instead: numbers of nodes, tasks of the SLURM job this is started in")
    ] = None,
    mode: Annotated[str, typer.Option(help="strong, weak or both")] = "strong,weak",
    what: Annotated[str, typer.Option(help="train, md or both")] = "train,md",
    repeats: Annotated[int, typer.Option(min=1, help="processes for each point")] = 3,
    epochs: Annotated[int, typer.Option(min=2, help="of a training; the first is not counted")] = 4,
    seconds: Annotated[float, typer.Option(min=0.1, help="of an MD")] = 5.0,
    out: Annotated[Path, typer.Option("--out", "-o", help="file to write, or to go on with")] = Path("scaling.json"),
    overrides: Overrides = None,
    verbose: Verbose = False,
) -> None:
    """Strong and weak scaling of training and MD over devices or nodes.

    Every point is a process of its own. Stop it at any moment: the same command goes on.
    """
    from cgloop.bench.scaling import Asked, measure_scaling
    from cgloop.bench.tables import scaling_text
    from cgloop.console import setup_logging
    from cgloop.rundir import read_run

    setup_logging(1 if verbose else 0)
    asked = Asked(
        devices=_numbers(nodes or devices, "--nodes" if nodes else "--devices"),
        over_nodes=nodes is not None,
        modes=_choices(mode, ("strong", "weak"), "--mode"),
        what=_choices(what, ("train", "md"), "--what"),
        repeats=repeats,
        epochs=epochs,
        seconds=seconds,
    )
    config, run = read_run(target, tuple(overrides or ()))
    record = measure_scaling(config, run, asked, out)
    typer.echo(scaling_text([record]))
    typer.echo(f"wrote {out}; `cgloop bench report {out}` makes a page of it")


@app.command()
def profile(
    target: Target,
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for traces, tables and profile.json")] = Path(
        "profile"
    ),
    steps: Annotated[int, typer.Option(min=2, help="steps that are traced")] = 20,
    overrides: Overrides = None,
    verbose: Verbose = False,
) -> None:
    """Trace the training step and the MD step: their ten most expensive operations, and the roofline.

    The traces can be opened with Perfetto or XProf.
    """
    from cgloop.bench.profile import profile_run
    from cgloop.console import setup_logging
    from cgloop.rundir import read_run

    setup_logging(1 if verbose else 0)
    config, run = read_run(target, tuple(overrides or ()))
    for line in profile_run(config, run, out, steps):
        typer.echo(line)


@app.command()
def report(
    files: Annotated[list[Path] | None, typer.Argument(help="files of measurements", metavar="FILES")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for bench.html and the CSV files")] = Path("bench"),
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option(help="two files: what became slower from the first to the second")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="compare files of different hardware")] = False,
    threshold: Annotated[float, typer.Option(min=0.0, help="smallest relative change that is a regression")] = 0.05,
    frames: Annotated[int | None, typer.Option("--dataset-frames", min=1, help="predict a training on so many")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="of the predicted training")] = 100,
    devices: Annotated[str, typer.Option(help="numbers of devices of the predicted training")] = "1,2,4,8",
    price: Annotated[float | None, typer.Option("--price-per-gpu-hour", min=0.0, help="in any currency")] = None,
    watts: Annotated[float | None, typer.Option(min=0.0, help="of a device under load")] = None,
    frames_per_time: Annotated[
        float | None,
        typer.Option("--table-frames", min=1.0, help="frames that the times of a scaling_data.csv stand for"),
    ] = None,
) -> None:
    """Tables, CSV files and one page of files of measurements; also of an older `scaling_data.csv`.

    Leaves with exit code 3 if `--compare` finds a regression.
    """
    from cgloop.bench.report import write_report
    from cgloop.bench.series import Wanted
    from cgloop.errors import ExitCode

    if not files and compare is None:
        raise UserError("no files", remedy="give files of measurements, or --compare with two")
    wanted = None
    if frames is not None:
        wanted = Wanted(frames, epochs, _numbers(devices, "--devices"), price, watts, frames_per_time)
    written = write_report(files or [], out, wanted=wanted, compared=compare, force=force, threshold=threshold)
    typer.echo(written.text)
    typer.echo(f"\nwrote {written.page}" + "".join(f", {one}" for one in written.tables))
    if written.regressions:
        raise typer.Exit(int(ExitCode.FAIL))


@app.command()
def cycle(
    run: Annotated[Path, typer.Argument(help="directory of a run", metavar="RUN")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="file of measurements to write")] = None,
) -> None:
    """Which share of a cycle each stage took, and how much of it was neither training nor MD."""
    from cgloop.bench.cycle_shares import cycle_record, read_shares, shares_text
    from cgloop.bench.record import write_record

    shares = read_shares(run)
    typer.echo(shares_text(shares))
    if out is not None:
        write_record(out, cycle_record(run, shares))
        typer.echo(f"wrote {out}")


@app.command()
def document(
    results: Annotated[Path, typer.Argument(help="folder of dated files", metavar="RESULTS")],
    out: Annotated[Path, typer.Option("--out", "-o", help="page to write")] = Path("docs/performance.md"),
) -> None:
    """Write the page on performance from the dated files of a folder."""
    from cgloop.bench.document import write_document

    write_document(results, out)
    typer.echo(f"wrote {out}")

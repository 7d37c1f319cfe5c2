"""The command line: parses, calls, prints, and turns every ending into an exit code."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

import cgloop
from cgloop import cli_ablate, cli_bench, cli_bundle, cli_data, cli_md, cli_train, cli_validate
from cgloop.allocator import share_memory
from cgloop.cli_options import Overrides, Quiet, TakeOver, Target, Verbose, Work, work_in_run, work_on_ranks
from cgloop.errors import ExitCode, Interrupted, UserError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Train a coarse-grained protein force field, and let LAMMPS decide whether it may be deployed.

Start with `cgloop init config.yaml`, point it at your mdCATH files, and run `cgloop cycle config.yaml`.
Kill it at any moment and run the same command: it continues.

Exit codes: 0 pass, 3 fail, 4 inconclusive, 5 interrupted and resumable, 2 bad input, 1 a defect of cgloop.""",
)


STAGES = "One stage; earlier ones that are not up to date run first"
LOOP = "The loop"
MODELS = "Trainings and trained models"
RUNS = "Runs and this machine"
"""Headings of the commands in `--help`."""


def _loop_command(name: str, text: str, work: Work, panel: str, do: Callable[..., None] = work_in_run) -> None:
    """A command that works in a run directory, and whose exit code says how it ended."""

    def command(
        target: Target,
        overrides: Overrides = None,
        take_over: TakeOver = False,
        verbose: Verbose = False,
        quiet: Quiet = False,
    ) -> None:
        do(work, target, overrides, verbose=verbose, quiet=quiet, take_over=take_over)

    app.command(name, help=text, rich_help_panel=panel)(command)


def _whole_loop(config, run, **options):
    from cgloop.cycle import run_cycles

    return run_cycles(config, run, **options)


def _up_to(stage: str, config, run, **options):
    from cgloop.cycle import run_to

    return run_to(config, run, stage, **options)


_loop_command(
    "cycle",
    "Run the whole loop: prep, priors, train, export, parity, md, control, validate, gate, report.",
    _whole_loop,
    LOOP,
)


@app.command(rich_help_panel=LOOP)
def gate(
    target: Target,
    require: Annotated[
        str | None,
        typer.Option(help="checks that decide, instead of the config's; the run keeps its verdict", metavar="CHECK,…"),
    ] = None,
    overrides: Overrides = None,
    take_over: TakeOver = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Judge the latest cycle; the exit code is the verdict.

    With `--require parity.forces,stability.survival` only these checks decide: a step for continuous integration.
    """

    def work(config, run, **options):
        from cgloop.cycle import run_gate

        return run_gate(config, run, **options)

    required = [name.strip() for name in (require or "").split(",") if name.strip()]
    if require is not None and not required:
        raise UserError("names no check", where="--require", remedy="as in --require parity.forces,nve.drift")
    work_in_run(work, target, overrides, verbose=verbose, quiet=quiet, take_over=take_over, required=required)


_STAGES = {
    "prep": "All-atom trajectories to CA beads with forces and splits.",
    "priors": "Fit bond, angle, dihedral and repulsion terms by Boltzmann inversion.",
    "train": "Train the network by force matching on what the priors leave.",
    "export": "Write the model as a StableHLO bundle.",
    "parity": "Compare the exported artifact inside LAMMPS with the model in JAX.",
    "control": "Run the prior alone, and the model with shorter time steps, beside the model's dynamics. "
    "`mpiexec -n 4` spreads the replicas over four ranks.",
    "feedback": "Classify and describe every crash.",
}
for _stage, _text in _STAGES.items():
    if _stage == "export":
        app.command(rich_help_panel=STAGES)(cli_train.refine)
    _do = work_on_ranks if _stage == "control" else work_in_run
    _loop_command(_stage, _text, partial(_up_to, _stage), STAGES, _do)


def _print_template(wanted: bool) -> None:
    if wanted:
        from cgloop.executors.script import read_template

        typer.echo(read_template(), nl=False)
        raise typer.Exit


@app.command(rich_help_panel=LOOP)
def submit(
    target: Target,
    nodes: Annotated[int | None, typer.Option(min=1, help="instead of `slurm.nodes`")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="write the scripts, submit nothing")] = False,
    overrides: Overrides = None,
    take_over: TakeOver = False,
    print_template: Annotated[
        bool,
        typer.Option("--print-template", callback=_print_template, is_eager=True, help="show the script's template"),
    ] = False,
) -> None:
    """Let SLURM run the loop, as one job or each stage as a job (section `slurm` of the config).

    A job stops in time before its limit and goes on in a new one. `cgloop status` shows the jobs.
    """
    from cgloop.rundir import read_run
    from cgloop.submit import submit_run

    config, run = read_run(target, tuple(overrides or ()))
    for line in submit_run(config, run, nodes=nodes, dry_run=dry_run, take_over=take_over):
        typer.echo(line)


@app.command(rich_help_panel=RUNS)
def report(
    target: Target, pdf: Annotated[bool, typer.Option("--pdf", help="print it to a PDF, too; needs Chromium")] = False
) -> None:
    """Write the HTML page of a run from whatever is there."""
    from cgloop.cycle import report as write
    from cgloop.rundir import read_run

    _, run = read_run(target)
    if not run.path.is_dir():
        raise UserError("this run has not been started", where=run.path, remedy=f"run `cgloop cycle {target}`")
    page = write(run)
    typer.echo(page)
    if pdf:
        from cgloop.report.pdf import write_pdf

        typer.echo(write_pdf(page))


@app.command(rich_help_panel=RUNS)
def status(target: Target) -> None:
    """Which stages are done, stale, begun or missing, and what was judged."""
    from cgloop.rundir import read_run
    from cgloop.status import format_status

    config, run = read_run(target)
    if not run.path.is_dir():
        raise UserError("this run has not been started", where=run.path, remedy=f"run `cgloop cycle {target}`")
    typer.echo(format_status(config, run))


@app.command(rich_help_panel=RUNS)
def init(
    path: Annotated[Path, typer.Argument(help="where to write the config")] = Path("config.yaml"),
    template: Annotated[str, typer.Option(help="quickstart, prior-only or ml-only")] = "quickstart",
) -> None:
    """Write a commented config to start from."""
    from cgloop.templates import write_template

    write_template(template, path)
    typer.echo(f"wrote {path}: set `data.sources`, then run `cgloop cycle {path}`")


@app.command(rich_help_panel=RUNS)
def doctor() -> None:
    """What this machine has: JAX devices, LAMMPS and its packages, MPI, memory, disk."""
    from cgloop.doctor import examine

    typer.echo(examine())


@app.command(rich_help_panel=RUNS)
def manual(
    folder: Annotated[Path, typer.Argument(help="where to write the pages")] = Path("docs"),
) -> None:
    """Write the reference of all config keys and the table of all limits, as Markdown."""
    from cgloop.manual.write import write_pages

    for path in write_pages(folder):
        typer.echo(f"wrote {path}")


app.command(rich_help_panel=STAGES)(cli_validate.validate)
app.add_typer(cli_md.app, name="md", rich_help_panel=STAGES)
app.add_typer(cli_data.app, name="data", rich_help_panel=RUNS)
cli_train.add_commands(app, MODELS)
cli_ablate.add_commands(app, LOOP)
app.add_typer(cli_bundle.app, name="bundle", rich_help_panel=MODELS)
app.add_typer(cli_bench.app, name="bench", rich_help_panel=RUNS)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(cgloop.__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="show it")] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of the `cgloop` command."""
    share_memory()
    try:
        app()
    except UserError as error:
        _say(f"error: {error}")
        sys.exit(ExitCode.BAD_INPUT)
    except (Interrupted, KeyboardInterrupt) as error:
        _say(f"interrupted: {error or 'by the keyboard'}; run the same command again to continue")
        sys.exit(ExitCode.INTERRUPTED)


def _say(text: str) -> None:
    # One line, whatever the message was made from.
    print(" ".join(text.split()), file=sys.stderr)


if __name__ == "__main__":
    main()

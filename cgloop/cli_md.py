"""`cgloop md`: the stage, alone or on several MPI ranks, and what belongs to it. Parses, calls, prints."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cgloop.cli_options import Overrides, Quiet, TakeOver, Target, Verbose, work_on_ranks
from cgloop.errors import UserError


class _RunByDefault(TyperGroup):
    """A group whose first word need not be a command: `cgloop md CONFIG` is `cgloop md run CONFIG`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_RunByDefault,
    no_args_is_help=True,
    help="""Minimise, NVT and NVE in LAMMPS, several replicas; earlier stages that are not up to date run first.

`cgloop md CONFIG` is `cgloop md run CONFIG`. `mpiexec -n 4 cgloop md CONFIG` spreads the replicas over four ranks.""",
)


@app.command()
def run(
    target: Target,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="write what would run, with scripts for a plain `lmp`, and run nothing")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="with --dry-run: a new folder for it; default: `dry_run` in the run directory")
    ] = None,
    take_over: TakeOver = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Run the stage `md` of the latest cycle."""
    if dry_run:
        _show_dry_run(target, overrides, out)
        return
    work_on_ranks(_md, target, overrides, verbose=verbose, quiet=quiet, take_over=take_over)


def _md(config: Any, run: Any, **options: Any) -> Any:
    from cgloop.cycle import run_to

    return run_to(config, run, "md", **options)


def _show_dry_run(target: Path, overrides: Overrides, out: Path | None) -> None:
    from cgloop.md.dry_run import write_dry_run
    from cgloop.pipeline import context_of
    from cgloop.rundir import read_run

    config, run = read_run(target, tuple(overrides or ()))
    context = context_of(config, run, max(run.cycles(), default=0))
    folder = run.path / "dry_run" if out is None else out
    for line in write_dry_run(context.config, context.folder("export"), context.folder("prep"), folder):
        typer.echo(line)


@app.command()
def replay(
    crash: Annotated[Path, typer.Argument(help="a `crash_<replica>.h5` of a run", metavar="CRASH")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="folder for replay.h5, a PDB and a DCD; default: no files")
    ] = None,
    frames: Annotated[int | None, typer.Option(min=2, help="only so many of the last steps")] = None,
    timestep: Annotated[float | None, typer.Option(min=0.0, help="another time step, fs")] = None,
    prior_only: Annotated[bool, typer.Option("--prior-only", help="without the network")] = False,
    term: Annotated[list[str] | None, typer.Option("--term", help="only this energy term; may be repeated")] = None,
    bundle: Annotated[Path | None, typer.Option(help="folder of the model; default: where it was")] = None,
) -> None:
    """Run the last steps before a crash again, and say whether the numbers are the same.

    With another time step or fewer energy terms it says whether a limit would have been broken there, too.
    """
    from cgloop.console import setup_logging
    from cgloop.md.replay import PRIOR_ONLY, replay_crash, replay_lines

    setup_logging(-1)
    if prior_only and term:
        raise UserError("`--prior-only` and `--term` are two ways to say which terms count", remedy="give one of them")
    if timestep == 0:
        raise UserError("a time step is longer than 0 fs", where="--timestep")
    terms = PRIOR_ONLY if prior_only else tuple(term or ())
    result = replay_crash(crash, frames=frames, timestep_fs=timestep, terms=terms, bundle=bundle, out=out)
    for line in replay_lines(result):
        typer.echo(line)

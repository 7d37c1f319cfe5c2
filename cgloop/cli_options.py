"""What several commands share: their options, and how one that works in a run directory ends."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

Target = Annotated[Path, typer.Argument(help="config file, or the directory of a run", metavar="CONFIG|RUN")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="replace a value of the config, e.g. train.epochs=20", metavar="KEY=V")
]
TakeOver = Annotated[bool, typer.Option("--take-over", help="take the lock of a process on another host that is gone")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="show details")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="show warnings only")]

Work = Callable[..., Any]
"""Of config, run directory and options; gives the `Outcome` of cgloop.cycle."""


def work_in_run(
    work: Work, target: Path, overrides: Overrides, *, verbose: bool = False, quiet: bool = False, **options: Any
) -> None:
    """Do something in a run, say how it ended, and leave with its exit code.

    Raises:
        typer.Exit: always, unless there is an error.
    """
    from cgloop.console import setup_logging
    from cgloop.rundir import read_run

    setup_logging(1 if verbose else -1 if quiet else 0)
    outcome = work(*read_run(target, tuple(overrides or ())), **options)
    for line in outcome.lines:
        typer.echo(line)
    raise typer.Exit(int(outcome.code))


def work_on_ranks(work: Work, target: Path, overrides: Overrides, **options: Any) -> None:
    """The same; where `mpiexec` started several processes, the first leads, and the others run replicas for it.

    Raises:
        typer.Exit: always, unless there is an error.
    """
    from cgloop.executors.world import launched

    if launched().by != "mpiexec":
        work_in_run(work, target, overrides, **options)
        return
    from cgloop.console import setup_logging
    from cgloop.errors import ExitCode
    from cgloop.interrupt import stop_on_signals
    from cgloop.md.ranks import join

    ranks = join()
    assert ranks is not None, "mpiexec started this process"
    if ranks.rank > 0:
        setup_logging()
        with stop_on_signals():
            ranks.serve()
        raise typer.Exit(int(ExitCode.PASS))
    try:
        work_in_run(work, target, overrides, **options)
    finally:
        ranks.dismiss()

"""`cgloop ablate`. Parses, calls, prints."""

import typer

from cgloop.cli_options import Overrides, Quiet, TakeOver, Target, Verbose, work_in_run


def add_commands(app: typer.Typer, panel: str) -> None:
    """Add the command to the program, in a panel of its help."""
    app.command(rich_help_panel=panel)(ablate)


def ablate(
    target: Target,
    overrides: Overrides = None,
    take_over: TakeOver = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """What the prior, the network and both together are worth: three runs on equal terms, side by side.

    With `refine.when: always` the refined prior and the refined model come beside them.

    The runs lie below `<run>-ablation/`; kill it at any moment and run the same command: it continues.
    """
    work_in_run(_ablate, target, overrides, verbose=verbose, quiet=quiet, take_over=take_over)


def _ablate(config, run, **options):
    from cgloop.ablate import ablate as work

    return work(config, run, **options)

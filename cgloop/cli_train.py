"""`cgloop refine`, `finetune`, `resume`, `evaluate`, `infer`. Parses, calls, prints."""

from pathlib import Path
from typing import Annotated

import typer

from cgloop.cli_options import Overrides, Quiet, TakeOver, Target, Verbose, work_in_run
from cgloop.errors import UserError

Place = Annotated[Path, typer.Argument(help="run, folder of a training, or bundle", metavar="MODEL")]


def add_commands(app: typer.Typer, panel: str) -> None:
    """Add these commands to the program, in a panel of its help."""
    for command in (finetune, resume, evaluate, infer):
        app.command(rich_help_panel=panel)(command)


def refine(
    target: Target,
    overrides: Overrides = None,
    take_over: TakeOver = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Refine the trained parameters by what the model's own dynamics show (relative entropy).

    Force matching fixes slopes of the energy where the reference frames are. Refinement runs short dynamics of the
    model, compares them with the reference, and moves parameters until both sample the same conformations.

    - `cgloop refine config.yaml` prepares, trains and refines
    - `cgloop refine runs/my-protein` refines the newest training of a run; interrupted, it continues to the bit
    - `cgloop refine runs/my-protein --set refine.parameters=prior` refines the prior's terms, not the network
    - `cgloop refine runs/my-protein --set refine.rounds=80` makes more rounds; `cgloop cycle runs/my-protein` then
      judges the refined model

    The run remembers `refine.when: always`. To refine only where structure fails, set `feedback.allow: [refine]`.
    """
    from cgloop.rundir import read_run

    config, _ = read_run(target, tuple(overrides or ()))
    if config.refine.when == "never":
        raise UserError("`refine.when: never` forbids it", where=target, remedy="add `--set refine.when=always`")
    work_in_run(
        _refine, target, [*(overrides or ()), "refine.when=always"], verbose=verbose, quiet=quiet, take_over=take_over
    )


def _refine(config, run, **options):
    from cgloop.cycle import run_to

    return run_to(config, run, "refine", **options)


def finetune(
    target: Target,
    start: Annotated[Path, typer.Argument(help="run, bundle or params.safetensors to start from", metavar="START")],
    overrides: Overrides = None,
    verbose: Verbose = False,
) -> None:
    """Train from the parameters of an earlier model: prep, priors, then train.

    The model's hyper-parameters must be the same. The run remembers where it started (`train.start`), so that the other
    commands work in it as ever.
    """
    from cgloop.rundir import find_params

    found = find_params(start).resolve()
    work_in_run(_train, target, [*(overrides or ()), f"train.start={found}"], verbose=verbose)


def resume(
    run: Annotated[Path, typer.Argument(help="directory of a run", metavar="RUN")], verbose: Verbose = False
) -> None:
    """Go on with a training that was interrupted, to the bit; the same as `cgloop train RUN`."""
    if not (run / "config.yaml").is_file():
        raise UserError("not a run directory", where=run, remedy="`cgloop train CONFIG` starts one")
    if not list(run.glob("cycle_*/.train.partial/checkpoints")):
        raise UserError("no training here was interrupted", where=run, remedy="`cgloop status` tells what is done")
    work_in_run(_train, run, None, verbose=verbose)


def _train(config, run):
    from cgloop.cycle import run_to

    return run_to(config, run, "train")


def evaluate(
    model: Place,
    dataset: Annotated[
        Path | None, typer.Option("--dataset", "-d", help="data set or run; default: what the model was trained on")
    ] = None,
    split: Annotated[str, typer.Option(help="train, validation, test or all")] = "test",
    temperature_K: Annotated[float | None, typer.Option("--temperature", help="K; default: the data set's")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for forces.json and forces.html")] = Path("forces"),
) -> None:
    """Force errors on frames with reference forces: whole model, prior alone, network alone.

    RMSE, MAE, cosine and R², by residue type, by protein and along the chain, beside the noise of the forces.
    """
    from cgloop.assess.evaluate import as_text
    from cgloop.assess.evaluate import evaluate as work

    part = None if split == "all" else split
    found = work(model, out, dataset=dataset, split=part, temperature_K=temperature_K)
    typer.echo(as_text(found))
    typer.echo(f"\nwrote {out / 'forces.json'} and {out / 'forces.html'}")


def infer(
    model: Place,
    frames: Annotated[Path, typer.Argument(help="data set, run, or trajectory", metavar="FRAMES")],
    out: Annotated[Path, typer.Option("--out", "-o", help="HDF5 file to write")] = Path("inferred.h5"),
    topology: Annotated[Path | None, typer.Option(help="of a trajectory: PDB, PSF, GRO …")] = None,
    selection: Annotated[str, typer.Option(help="of a trajectory: the protein's atoms")] = "protein",
    split: Annotated[str | None, typer.Option(help="only this part of a data set")] = None,
) -> None:
    """Energies and forces of a model on the frames of a data set or trajectory."""
    from cgloop.assess.infer import infer as work

    counts = work(model, frames, out, topology=topology, selection=selection, split=split)
    typer.echo(f"wrote {out}: " + ", ".join(f"{name} {count} frames" for name, count in counts.items()))

"""`cgloop bundle`: look at an exported model, check it, compare two, make one anew. Parses, calls, prints."""

import json
from pathlib import Path
from typing import Annotated

import typer

from cgloop.errors import ExitCode

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""Look at an exported model, check that it runs here, compare two, or make one anew.

A bundle is the folder that `cgloop export` writes, and that `deploy/bundle` is a copy of: the compiled function for
each platform, its parameters, and `manifest.json`, which says what it is and holds a digest of every file. Wherever a
bundle is asked for, a run (its newest cycle) or a `deploy` folder will do as well.""",
)

Place = Annotated[Path, typer.Argument(help="bundle, run or deploy folder", metavar="BUNDLE|RUN|DEPLOY")]
Json = Annotated[bool, typer.Option("--json", help="everything, for machines")]


def _print_json(data: object) -> None:
    typer.echo(json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False))


@app.command()
def show(place: Place, as_json: Json = False) -> None:
    """What a bundle is: energy, network, temperature, trained residue types, files, versions, training, verdict.

    Starts no JAX, so that it answers at once, also of bundles that cannot run here. A model belongs to one
    temperature; residue types that were not in training have no learned energy.
    """
    from cgloop.export.describe import as_text, describe
    from cgloop.export.manifest import find_bundle

    facts = describe(find_bundle(place))
    if as_json:
        _print_json(facts)
    else:
        typer.echo(as_text(facts))


@app.command()
def verify(place: Place, as_json: Json = False) -> None:
    """Check a bundle on this machine; exit code 3 if a check fails.

    All files have their digests; the JAX that is here reads the module; on random conformations of 20 beads its
    numbers are finite, its forces and energies are those of the model that is built from the parameters, and its
    forces are the slopes of its energy. Whether the model is *good* is another question, which `cgloop cycle` answers.
    """
    from cgloop.export.manifest import find_bundle
    from cgloop.export.verify import as_text
    from cgloop.export.verify import verify as work

    path = find_bundle(place)
    results = work(path)
    if as_json:
        _print_json({"path": str(path), "checks": [one.to_json() for one in results]})
    else:
        typer.echo(as_text(results))
    if any(one.verdict != "pass" for one in results):
        raise typer.Exit(int(ExitCode.FAIL))


@app.command()
def diff(
    first: Place,
    second: Annotated[Path, typer.Argument(help="another one", metavar="BUNDLE|RUN|DEPLOY")],
    as_json: Json = False,
) -> None:
    """In what two bundles differ: manifest, hyper-parameters, parameters, files.

    Parameters are compared in groups (a term of the prior, a layer of the network) by their largest difference. The
    same parameters with another module mean another version of JAX or of cgloop.
    """
    from cgloop.export.diff import as_text
    from cgloop.export.diff import diff as work
    from cgloop.export.manifest import find_bundle

    found = work(find_bundle(first), find_bundle(second))
    if as_json:
        _print_json(found)
    else:
        typer.echo(as_text(found))


@app.command()
def renew(
    old: Annotated[Path, typer.Argument(help="bundle, run or deploy folder", metavar="OLD")],
    new: Annotated[Path, typer.Argument(help="folder to make", metavar="NEW_FOLDER")],
) -> None:
    """Export the model of a bundle again, with the cgloop and the JAX that are here.

    A module loads in the JAX that exported it and in newer ones for about half a year; parameters last. So this helps
    when JAX here is older than the bundle, much newer, or when the bundle is of an older kind. The old module is not
    read. The new one is compared with the model in JAX before the folder appears. Verdicts are not taken over as its
    own: they are of the old module.
    """
    from cgloop.export.manifest import find_bundle
    from cgloop.export.renew import renew_bundle

    found = renew_bundle(find_bundle(old), new)
    typer.echo(
        f"wrote {new}: forces differ by {found.forces:.1e} of their RMS from the model, energies by {found.energy:.1e}"
    )

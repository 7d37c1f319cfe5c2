"""A trained model, wherever it is: in a run, in the folder of a training, or in a bundle."""

from dataclasses import dataclass
from pathlib import Path

from cgloop.allocator import keep_memory
from cgloop.data.dataset import DatasetReader
from cgloop.data.inspect import find_dataset
from cgloop.errors import UserError
from cgloop.export.bundle import read_model, read_trained
from cgloop.export.manifest import read_manifest, require_files
from cgloop.model.hybrid import Model, Params
from cgloop.model.terms import PriorParams
from cgloop.priors.tables import read_prior
from cgloop.rundir import find_params
from cgloop.stages import digest_file


@dataclass(frozen=True)
class Stored:
    """A model that was found.

    Attributes:
        folder: that holds its parameters.
        model, params: the energy function.
        digest: sha256 of the parameters.
        dataset: what it was trained on, if that lies beside it.
        fitted: the prior that was fitted before the training, if it was trained since.
    """

    folder: Path
    model: Model
    params: Params
    digest: str
    dataset: Path | None
    fitted: PriorParams | None


def find_model(place: Path) -> Stored:
    """The model of a bundle, of the folder of a training, or of the newest cycle of a run.

    Raises:
        UserError: there is none, or a damaged one.
    """
    keep_memory()
    path = find_params(place)
    folder = path.parent
    if (folder / "model.json").is_file():
        model, params = read_trained(folder)
    else:
        # Its module is not needed, so that it need not be one for this JAX.
        manifest = read_manifest(folder, older_too=True)
        require_files(folder, manifest)
        model, params = read_model(folder, manifest)
    dataset = folder.parent / "prep"
    fitted = folder.parent / "priors" / "priors.yaml"
    trained = (folder / "priors.yaml").is_file() and (folder / "model.json").is_file() and fitted.is_file()
    return Stored(
        folder,
        model,
        params,
        digest_file(path),
        dataset if (dataset / "manifest.json").is_file() else None,
        read_prior(fitted)[1] if trained else None,
    )


def open_dataset(given: Path | None, stored: Stored) -> DatasetReader:
    """The data set that was named, or that of the training.

    Raises:
        UserError: there is none.
    """
    if given is None and stored.dataset is None:
        raise UserError("no data set beside this model", where=stored.folder, remedy="name one with `--dataset`")
    return DatasetReader.open(find_dataset(given or stored.dataset or stored.folder))

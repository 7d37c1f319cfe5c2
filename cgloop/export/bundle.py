"""The bundle: everything that is needed to run a model elsewhere, in one folder that vouches for its files.

| file | |
|---|---|
| model.stablehlo | the compiled function (`jax.export`), symbolic sizes, topology as input |
| model.mlir | the same as text, to read |
| params.safetensors | its parameters |
| priors.yaml | the physical terms, to read |
| manifest.json | what it is: types and masses, cutoff, units, energy, training, cautions, versions, sha256 of files |
"""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

import cgloop
from cgloop.allocator import keep_memory
from cgloop.cautions import Caution
from cgloop.checks import jsonable
from cgloop.errors import UserError
from cgloop.export.stablehlo import ARGUMENTS, RESULTS, SIZES, export_model, readable_text
from cgloop.model.graph import Graph
from cgloop.model.hybrid import Model, Params, flatten_params, model_from_json, model_to_json, unflatten_params
from cgloop.model.networks import NETWORKS, name_of
from cgloop.model.terms import PRIOR_TERM_NAMES, TERM_NAMES
from cgloop.residues import RESIDUES
from cgloop.stages import digest_file, write_json

SCHEMA_VERSION = 1
MANIFEST, MODULE, TEXT, PARAMS, PRIORS = (
    "manifest.json",
    "model.stablehlo",
    "model.mlir",
    "params.safetensors",
    "priors.yaml",
)


@dataclass(frozen=True, eq=False)
class Bundle:
    """A bundle that was read and checked.

    Attributes:
        path: its folder.
        manifest: contents of manifest.json.
        exported: the module.
        model, params: what it was made from, to compute the same with this package.
    """

    path: Path
    manifest: dict[str, Any]
    exported: export.Exported
    model: Model
    params: Params

    def function(self, positions: jax.Array, graph: Graph) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Energies [R] kcal/mol, forces [n, 3] kcal/mol/Å and terms [R, n_terms] of positions f32 [n, 3] in Å.

        Can be jitted, together with other things.
        """
        return self.exported.call(positions, *graph)

    @property
    def cutoff_A(self) -> float:
        """Pairs up to this distance have to be in the graph, Å."""
        return float(self.manifest["cutoff_A"])

    @property
    def temperature_K(self) -> float:
        """The one temperature that the model belongs to."""
        return float(self.manifest["temperature_K"])


def write_bundle(
    out: Path,
    model: Model,
    params: Params,
    *,
    temperature_K: float,
    mapping: str = "ca",
    priors_yaml: Path | None = None,
    training: Mapping[str, Any] | None = None,
    cautions: Sequence[Caution] = (),
) -> dict[str, Any]:
    """Write all files of a bundle into a folder that exists.

    Args:
        out: the folder.
        model, params: the energy function.
        temperature_K: of the model.
        mapping: what a bead is.
        priors_yaml: copied, for people to read.
        training: summary of the training, plain data.
        cautions: what a user has to know beside a verdict.

    Returns:
        The manifest.
    """
    exported = export_model(model, params)
    (out / MODULE).write_bytes(exported.serialize())
    (out / TEXT).write_text(readable_text(exported), encoding="utf-8")
    flat = {name: np.asarray(array, np.float32, order="C") for name, array in flatten_params(params).items()}
    (out / PARAMS).write_bytes(save(flat))
    files = [MODULE, TEXT, PARAMS]
    if priors_yaml is not None:
        shutil.copyfile(priors_yaml, out / PRIORS)
        files.append(PRIORS)
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "cgloop": cgloop.__version__,
        "files": {name: digest_file(out / name) for name in files},
        "temperature_K": float(temperature_K),
        "cutoff_A": float(model.cutoff_A),
        "mapping": mapping,
        "units": {"length": "angstrom", "energy": "kcal/mol", "force": "kcal/mol/angstrom", "mass": "g/mol"},
        "energy": describe_energy(model, params),
        "types": _describe_types(model),
        "module": _describe_module(exported),
        "model": model_to_json(model),
        "training": dict(training or {}),
        "cautions": [caution.to_json() for caution in cautions],
    }
    write_json(out / MANIFEST, jsonable(manifest))
    return manifest


def describe_energy(model: Model, params: Params) -> dict[str, Any]:
    """What the energy consists of, as the manifest says it."""
    name, bound = None if model.spec is None else name_of(model.spec), model.ml_energy_bound_kcal_per_mol
    network = "no network" if name is None else f"the network {NETWORKS[name].title}"
    if name and bound:
        network += f" (at most {bound:g} kcal/mol a bead)"
    parts = {"hybrid": f"prior terms plus {network}", "prior-only": "prior terms alone", "ml-only": f"{network} alone"}
    weights = np.asarray(params["prior"].weights, float).tolist() if model.has_prior else []
    return {
        "kind": model.energy,
        "consists_of": parts[model.energy],
        "network": name,
        "ml_energy_bound_kcal_per_mol": bound,
        "receptive_field_A": model.receptive_field_A,
        "terms": list(TERM_NAMES),
        # Anything but 1 reproduces an older model and changes what the simulation feels.
        "prior_weights": dict(zip(PRIOR_TERM_NAMES, weights, strict=False)),
    }


def _describe_types(model: Model) -> list[dict[str, Any]]:
    trained = model.spec.trained_types if model.spec is not None else (False,) * len(RESIDUES)
    return [
        {"id": i, "lammps_type": i + 1, "name": residue.name, "mass": residue.mass, "trained": bool(trained[i])}
        for i, residue in enumerate(RESIDUES)
    ]


def _describe_module(exported: export.Exported) -> dict[str, Any]:
    return {
        "format": "jax.export",
        "jax": jax.__version__,
        "calling_convention": exported.calling_convention_version,
        "platforms": list(exported.platforms),
        "sizes": dict(zip(SIZES, ("beads", "replicas", "edges", "bonds", "angles", "dihedrals"), strict=True)),
        "smallest_size": 1,
        "arguments": {name: {"shape": shape, "dtype": dtype} for name, (shape, dtype) in ARGUMENTS.items()},
        "results": {name: {"shape": shape, "dtype": dtype} for name, (shape, dtype) in RESULTS.items()},
        "loads_in": f"jax {jax.__version__} and newer; promised for releases up to 6 months after that one",
    }


def load_bundle(path: Path) -> Bundle:
    """Read a bundle and check every file against its digest.

    Raises:
        UserError: no bundle there, a damaged file, or a module that this version of JAX is too old for.
    """
    manifest = _read_manifest(path)
    for name, digest in manifest["files"].items():
        file = path / name
        if not file.is_file():
            raise UserError("file of the bundle is missing", where=file, remedy="export the model again")
        if digest_file(file) != digest:
            raise UserError("does not match its digest in manifest.json", where=file, remedy="export the model again")
    needed = str(manifest["module"]["jax"])
    if _release(jax.__version__) < _release(needed):
        raise UserError(
            f"exported by jax {needed}, which the jax {jax.__version__} here cannot read",
            where=path / MODULE,
            remedy=f"pip install 'jax>={needed}'",
        )
    keep_memory()
    try:
        exported = export.deserialize(bytearray((path / MODULE).read_bytes()))
        model, params = model_from_json(manifest["model"]), unflatten_params(load_file(path / PARAMS))
    except (ValueError, TypeError, KeyError, SafetensorError) as error:
        raise UserError(f"cannot be read: {error}", where=path, remedy="export the model again") from None
    return Bundle(path, manifest, exported, model, params)


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            "not a bundle: it has no manifest.json", where=path, remedy="`cgloop export` makes one"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot be read: {error}", where=file, remedy="export the model again") from None
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if version != SCHEMA_VERSION:
        raise UserError(
            f"schema version {version}, this cgloop reads {SCHEMA_VERSION}", where=file, remedy="export the model again"
        )
    missing = [key for key in ("files", "module", "model", "cutoff_A", "temperature_K") if key not in manifest]
    if missing or not {MODULE, PARAMS} <= set(manifest["files"]):
        raise UserError(f"incomplete manifest: {missing or 'files'}", where=file, remedy="export the model again")
    return manifest


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def read_trained(folder: Path) -> tuple[Model, Params]:
    """Model and parameters that a training left in a folder (model.json, params.safetensors).

    Raises:
        UserError: they are not there or cannot be read.
    """
    try:
        model = model_from_json(json.loads((folder / "model.json").read_text(encoding="utf-8")))
        return model, unflatten_params(load_file(folder / PARAMS))
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise UserError(f"no trained model: {error}", where=folder, remedy="run `cgloop train` again") from None

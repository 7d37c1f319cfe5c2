"""The bundle: everything that is needed to run a model elsewhere, in one folder that vouches for its files.

| file | |
|---|---|
| model.cpu.stablehlo, model.cuda.stablehlo | the function (`jax.export`), symbolic sizes, topology as input |
| model.mlir | the same as text, to read; one text where all platforms have the same |
| model.ptb | its network for LAMMPS's `pair_style chemtrain_deploy` |
| params.safetensors | its parameters |
| priors.yaml | the physical terms, to read |
| manifest.json | what it is: types and masses, cutoff, units, energy, training, cautions, versions, sha256 of files |
"""

import importlib.metadata
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export
from jax.extend.backend import get_backend
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

import cgloop
from cgloop.allocator import keep_memory
from cgloop.cautions import Caution
from cgloop.checks import jsonable
from cgloop.errors import UserError
from cgloop.export.chemtrain_deploy import PTB, write_ptb
from cgloop.export.manifest import (
    EXPORT_AGAIN,
    MANIFEST,
    PARAMS,
    PRIORS,
    SCHEMA_VERSION,
    module_file,
    read_manifest,
    require_files,
)
from cgloop.export.stablehlo import ARGUMENTS, MEANINGS, RESULTS, SIZES, export_model, readable_texts, signature
from cgloop.model.compiler_check import require_right_sums
from cgloop.model.graph import Graph
from cgloop.model.hybrid import Model, Params, flatten_params, model_from_json, model_to_json, unflatten_params
from cgloop.model.networks import NETWORKS, name_of
from cgloop.model.terms import PRIOR_TERM_NAMES, TERM_NAMES
from cgloop.model.topology import UNLINKED
from cgloop.residues import RESIDUES
from cgloop.stages import digest_file, write_json


@dataclass(frozen=True, eq=False)
class Bundle:
    """A bundle that was read and checked.

    Attributes:
        path: its folder.
        manifest: contents of manifest.json.
        platform: where the module runs, "cpu" or "cuda".
        exported: the module.
        model, params: what it was made from, to compute the same with this package.
    """

    path: Path
    manifest: dict[str, Any]
    platform: str
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
    renewed_from: Mapping[str, Any] | None = None,
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
        renewed_from: what it was made anew from, if it was not made from a training.

    Returns:
        The manifest. The same model, package and JAX give the same bytes in all files.
    """
    modules = export_model(model, params)
    texts = readable_texts(modules)
    files = {module_file(platform): bytes(module.serialize()) for platform, module in modules.items()}
    files |= {name: text.encode() for name, (text, _) in texts.items()}
    files[PARAMS] = save({name: np.asarray(a, np.float32, order="C") for name, a in flatten_params(params).items()})
    if priors_yaml is not None:
        files[PRIORS] = priors_yaml.read_bytes()
    for name, content in files.items():
        (out / name).write_bytes(content)
    plugin = write_ptb(out / PTB, model, params)
    names = [*files, *([PTB] if plugin["file"] else [])]
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "cgloop": cgloop.__version__,
        "files": {name: digest_file(out / name) for name in names},
        "temperature_K": float(temperature_K),
        "cutoff_A": float(model.cutoff_A),
        "mapping": mapping,
        "units": {"length": "angstrom", "energy": "kcal/mol", "force": "kcal/mol/angstrom", "mass": "g/mol"},
        "energy": describe_energy(model, params),
        "types": _describe_types(model),
        "module": _describe_module(modules, texts),
        "chemtrain_deploy": plugin,
        "model": model_to_json(model),
        "training": dict(training or {}),
        "cautions": [caution.to_json() for caution in cautions],
        **({"renewed_from": dict(renewed_from)} if renewed_from else {}),
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


def _describe_module(
    modules: Mapping[str, export.Exported], texts: Mapping[str, tuple[str, list[str]]]
) -> dict[str, Any]:
    return {
        "format": "jax.export",
        "jax": jax.__version__,
        "jaxlib": importlib.metadata.version("jaxlib"),
        "calling_convention": next(iter(modules.values())).calling_convention_version,
        "files": {platform: module_file(platform) for platform in modules},
        # Several platforms at one text: their modules are the same but for the platform's name.
        "text": {name: platforms for name, (_, platforms) in texts.items()},
        "sizes": dict(zip(SIZES, ("beads", "replicas", "edges", "bonds", "angles", "dihedrals"), strict=True)),
        "smallest_size": 1,
        # The file's keys are sorted by name, so that the order needs lists.
        "argument_order": list(ARGUMENTS),
        "result_order": list(RESULTS),
        "arguments": _describe_arrays(ARGUMENTS),
        "results": _describe_arrays(RESULTS),
        "unlinked_separation": UNLINKED,
        "padding": "mask False; any valid index",
        "loads_in": f"jax {jax.__version__} and newer; promised for releases up to 6 months after that one",
    }


def _describe_arrays(arrays: Mapping[str, tuple[str, str]]) -> dict[str, dict[str, str]]:
    return {
        name: {"shape": shape, "dtype": dtype, "meaning": MEANINGS[name]} for name, (shape, dtype) in arrays.items()
    }


def platform_here() -> str:
    """The platform that JAX computes on in this process, as bundles call it.

    JAX says `gpu` of ROCm, too, which a module for CUDA is not for.
    """
    found = jax.default_backend()
    if found != "gpu":
        return found
    return "rocm" if "rocm" in get_backend().platform_version.lower() else "cuda"


def load_bundle(path: Path) -> Bundle:
    """Read a bundle, check every file against its digest, and take the module for the platform of this process.

    Raises:
        UserError: no bundle there, one of an older schema, a damaged or missing file, no module for this platform, or
            one that this version of JAX is too old for.
    """
    manifest = read_manifest(path)
    require_files(path, manifest)
    platform, modules = platform_here(), manifest["module"]["files"]
    if platform not in modules:
        raise UserError(
            f"no module for `{platform}`, where JAX computes here; there are: {', '.join(modules)}",
            where=path,
            remedy=f"set JAX_PLATFORMS={next(iter(modules))}",
        )
    file, needed = path / modules[platform], str(manifest["module"]["jax"])
    if _release(jax.__version__) < _release(needed):
        raise UserError(
            f"exported by jax {needed}, which the jax {jax.__version__} here cannot read",
            where=file,
            remedy=f"pip install 'jax>={needed}', or `cgloop bundle renew {path} NEW_FOLDER`",
        )
    _require_order(path, manifest["module"])
    keep_memory()
    exported = _read_module(file, platform)
    return Bundle(path, manifest, platform, exported, *read_model(path, manifest))


def _require_order(path: Path, module: Mapping[str, Any]) -> None:
    """Refuse a module that is called in another way. Bundles from before orders were recorded have this one."""
    for key, arrays in (("argument_order", ARGUMENTS), ("result_order", RESULTS)):
        if module.get(key, list(arrays)) != list(arrays):
            kind = "takes its arguments" if arrays is ARGUMENTS else "gives its results"
            raise UserError(f"its module {kind} in another order than this cgloop", where=path, remedy=EXPORT_AGAIN)


def _read_module(file: Path, platform: str) -> export.Exported:
    try:
        exported = export.deserialize(bytearray(file.read_bytes()))
    # What is no module at all fails anywhere in the reader, with any exception.
    except Exception as error:
        reason = f"jax {jax.__version__} cannot read this module: {type(error).__name__}: {error}"
        raise UserError(reason, where=file, remedy=f"`cgloop bundle renew {file.parent} NEW_FOLDER`") from None
    if signature(exported) != (ARGUMENTS, RESULTS):
        raise UserError("a module with other arguments or results than a bundle's", where=file, remedy=EXPORT_AGAIN)
    if exported.platforms != (platform,):
        raise UserError(f"a module for {', '.join(exported.platforms)}", where=file, remedy=EXPORT_AGAIN)
    return exported


def read_model(path: Path, manifest: Mapping[str, Any]) -> tuple[Model, Params]:
    """Model and parameters that a bundle of any schema version was made from; its module is not read.

    Raises:
        UserError: they cannot be read, or sums are wrong on this machine.
    """
    require_right_sums()
    try:
        return model_from_json(manifest["model"]), unflatten_params(load_file(path / PARAMS))
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise UserError(f"cannot be read: {error}", where=path, remedy=EXPORT_AGAIN) from None


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def read_trained(folder: Path) -> tuple[Model, Params]:
    """Model and parameters that a training left in a folder (model.json, params.safetensors).

    Raises:
        UserError: they are not there or cannot be read, or sums are wrong on this machine.
    """
    require_right_sums()
    try:
        model = model_from_json(json.loads((folder / "model.json").read_text(encoding="utf-8")))
        return model, unflatten_params(load_file(folder / PARAMS))
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise UserError(f"no trained model: {error}", where=folder, remedy="run `cgloop train` again") from None

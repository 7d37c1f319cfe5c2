"""In what two bundles differ: what their manifests say, hyper-parameters, parameters, modules."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from cgloop.errors import UserError
from cgloop.export.manifest import PARAMS, read_manifest
from cgloop.stages import describe_changes
from cgloop.wording import table

APART = ("files", "model")
"""Parts of a manifest that are compared in their own way."""


def diff(first: Path, second: Path) -> dict[str, Any]:
    """Differences of two bundles of any schema versions, as plain data.

    Returns:
        `same`: whether there is none; `manifest`, `model`: what changed, as `key: old → new`; `parameters`: for each
        group of tensors that differs its number of tensors, and `max_abs_difference` and `max_abs` (of the first), or
        `difference` in words where shapes or names differ; `files`: for each file `same`, `differs` or `only in …`.

    Raises:
        UserError: one is no bundle, or its parameters cannot be read.
    """
    one, other = (read_manifest(path, older_too=True) for path in (first, second))
    changed = describe_changes(_plain(one), _plain(other))
    model = describe_changes(_named(one["model"]), _named(other["model"]))
    parameters = _parameters(_read(first), _read(second))
    files = _files(one["files"], other["files"])
    same = not (changed or model or parameters) and set(files.values()) <= {"same"}
    return {"same": same, "manifest": changed, "model": model, "parameters": parameters, "files": files}


def _plain(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What is compared key by key. Which types are trained is one thing that changes, not one of each."""
    types = manifest.get("types") or []
    rest = {key: value for key, value in manifest.items() if key not in (*APART, "types")}
    trained = [one["name"] for one in types if one["trained"]]
    masses = {one["name"]: one["mass"] for one in types}
    return _named({**rest, "trained_types": " ".join(trained) or "none", "masses": masses})


def _named(data: Any) -> Any:
    """Lists of things with a name as dictionaries by name, so that a change is told of that one."""
    if isinstance(data, dict):
        return {key: _named(value) for key, value in data.items()}
    if isinstance(data, list) and data and all(isinstance(one, dict) for one in data):
        return {str(one.get("name", one.get("kind", i))): _named(one) for i, one in enumerate(data)}
    return data


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        return load_file(path / PARAMS)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot be read: {error}", where=path / PARAMS) from None


def _group(name: str) -> str:
    """`prior/bond_k` is a group of its own; of the network all tensors of a layer are one."""
    part, *rest = name.split("/")
    return name if part == "prior" else "/".join([part, *rest[:1]])


def _parameters(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    groups: dict[str, list[str]] = {}
    for name in sorted({*first, *second}):
        groups.setdefault(_group(name), []).append(name)
    found = {group: _difference(names, first, second) for group, names in groups.items()}
    return {group: one for group, one in found.items() if one}


def _difference(
    names: list[str], first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]
) -> dict[str, Any] | None:
    for name in names:
        if name not in first or name not in second:
            where = "second" if name in second else "first"
            return {"tensors": len(names), "difference": f"{name} is in the {where} only"}
        if first[name].shape != second[name].shape:
            shapes = f"{list(first[name].shape)} and {list(second[name].shape)}"
            return {"tensors": len(names), "difference": f"{name} has shapes {shapes}"}
    changed = [name for name in names if not np.array_equal(first[name], second[name])]
    if not changed:
        return None
    apart = [float(np.abs(first[name].astype(float) - second[name]).max(initial=0.0)) for name in changed]
    size = max(float(np.abs(first[name]).max(initial=0.0)) for name in names)
    return {"tensors": len(names), "max_abs_difference": max(apart), "max_abs": size}


def _files(first: Mapping[str, str], second: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for name in sorted({*first, *second}):
        if name not in first or name not in second:
            found[name] = "only in the second" if name in second else "only in the first"
        else:
            found[name] = "same" if first[name] == second[name] else "differs"
    return found


def as_text(found: Mapping[str, Any]) -> str:
    """What `diff` found, for a terminal."""
    if found["same"]:
        return "no difference: manifests, parameters and modules are the same"
    lines = []
    for title, key in (("manifest", "manifest"), ("hyper-parameters", "model")):
        lines += [f"{title}:" if found[key] else f"{title}: the same", *(f"  {line}" for line in found[key]), ""]
    if found["parameters"]:
        rows = [
            (group, str(one["tensors"]), one.get("difference") or f"{one['max_abs_difference']:.3g}",
             f"{one['max_abs']:.3g}" if "max_abs" in one else "–")
            for group, one in found["parameters"].items()
        ]  # fmt: skip
        lines += table(("parameters that differ", "tensors", "at most by", "largest of the first"), rows)
    else:
        lines.append("parameters: the same to the bit")
    lines += ["", *table(("file", ""), list(found["files"].items()), left=(0, 1))]
    return "\n".join(lines)

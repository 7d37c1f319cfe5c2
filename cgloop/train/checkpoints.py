"""Checkpoints: everything that a training needs to go on as if it had never stopped.

One file per checkpoint: a safetensors file whose tensors are the arrays and whose metadata is a JSON text
with the rest. Floats survive JSON to the bit. A file is written beside its place, flushed to disk and renamed,
so that a kill leaves the old checkpoint or the new one.
"""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

log = logging.getLogger("cgloop.train")

KEPT = 2
_META = "checkpoint"


def write_checkpoint(folder: Path, serial: int, arrays: Any, position: Mapping[str, Any]) -> Path:
    """Write `checkpoint_<serial>.safetensors` and remove all but the newest two.

    Args:
        folder: made if it is not there.
        serial: the newest has the largest.
        arrays: pytree of arrays.
        position: plain data.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"checkpoint_{serial:08d}.safetensors"
    write_tensors(path, named_leaves(arrays), {_META: json.dumps(position, sort_keys=True)})
    for old in _checkpoints(folder)[:-KEPT]:
        old.unlink()
    return path


def read_checkpoint(folder: Path, like: Any, fingerprint: str) -> tuple[Any, dict[str, Any]] | None:
    """The newest checkpoint that can be read, or None.

    Args:
        folder: where `write_checkpoint` wrote.
        like: pytree of the same structure and shapes, as a fresh start would have it.
        fingerprint: must be what `position["fingerprint"]` says: checkpoints of other inputs are removed.

    Returns:
        Arrays in the structure of `like`, and the position.
    """
    for path in reversed(_checkpoints(folder)):
        try:
            tensors, metadata = read_tensors(path)
            position = json.loads(metadata[_META])
            if position["fingerprint"] != fingerprint:
                log.warning("%s belongs to other inputs and is removed", path.name)
                path.unlink()
                continue
            return with_leaves(like, tensors), position
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            log.warning("%s cannot be used (%s): an older one is looked for", path.name, error)
    return None


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file atomically.

    Metadata of more than one key would come in random order and spoil the file's digest: give one at most.
    """
    data = save({name: np.array(value, order="C") for name, value in tensors.items()}, dict(metadata or {}) or None)
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    # The rename itself must survive a power cut, too.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors and metadata of a safetensors file. Raises OSError or SafetensorError."""
    with safe_open(path, framework="np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def named_leaves(tree: Any) -> dict[str, np.ndarray]:
    """The leaves of a pytree by their path."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def with_leaves(like: Any, tensors: Mapping[str, np.ndarray]) -> Any:
    """The structure of `like` with other leaves, checked for shape and type.

    Raises:
        ValueError: a leaf is missing or does not fit.
    """

    def pick(path: Any, leaf: Any) -> jax.Array:
        name, expected = jax.tree_util.keystr(path), np.asarray(leaf)
        found = tensors.get(name)
        if found is None or found.shape != expected.shape or found.dtype != expected.dtype:
            raise ValueError(f"{name}: expected {expected.dtype}{expected.shape}, found {_described(found)}")
        # A copy: the array may be donated to a compiled function, NumPy's memory may not.
        return jax.numpy.array(found, copy=True)

    return jax.tree_util.tree_map_with_path(pick, like)


def _described(found: np.ndarray | None) -> str:
    return "nothing" if found is None else f"{found.dtype}{found.shape}"


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint_*.safetensors"))

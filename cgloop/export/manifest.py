"""The manifest of a bundle: where a bundle is, whether its files are what it says, and what was found out later.

Neither JAX nor the model is needed for this: a bundle can be looked at on a login node in a moment.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cgloop.checks import jsonable
from cgloop.errors import UserError
from cgloop.stages import RECORD, digest_file, write_json

SCHEMA_VERSION = 2
"""1: one module for all platforms, `model.stablehlo`. 2: a module for each, `module.files` in the manifest."""

MANIFEST, TEXT, PARAMS, PRIORS = "manifest.json", "model.mlir", "params.safetensors", "priors.yaml"

EXPORT_AGAIN = "export the model again"


def module_file(platform: str) -> str:
    """Name of the module that runs on a platform of JAX, as `model.cpu.stablehlo`."""
    return f"model.{platform}.stablehlo"


def find_bundle(place: Path) -> Path:
    """The bundle that `place` means: itself, that of a `deploy` folder, or that of the newest cycle of a run.

    Raises:
        UserError: there is none.
    """
    place = Path(place)
    newest = sorted(place.glob(f"cycle_[0-9][0-9][0-9]/export/{MANIFEST}"))
    for manifest in (place / MANIFEST, place / "bundle" / MANIFEST, place / "export" / MANIFEST, *reversed(newest)):
        if manifest.is_file():
            return manifest.parent
    raise UserError("no bundle here", where=place, remedy="give one, a run after `cgloop export`, or a deploy folder")


def read_manifest(path: Path, *, older_too: bool = False) -> dict[str, Any]:
    """Contents of the manifest of a bundle.

    Args:
        path: folder of the bundle.
        older_too: also of bundles that can be renewed only.

    Raises:
        UserError: no bundle there; it cannot be read; it is of another schema version, or incomplete.
    """
    file = path / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            "not a bundle: it has no manifest.json", where=path, remedy="`cgloop export` makes one"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot be read: {error}", where=file, remedy=EXPORT_AGAIN) from None
    _require_schema(manifest, path, older_too)
    missing = [key for key in ("files", "module", "model", "cutoff_A", "temperature_K") if key not in manifest]
    if missing:
        raise UserError(f"incomplete manifest: no {', '.join(missing)}", where=file, remedy=EXPORT_AGAIN)
    names, modules = set(manifest["files"]), manifest["module"].get("files") or {}
    if not {PARAMS, *modules.values()} <= names or (manifest["schema_version"] == SCHEMA_VERSION and not modules):
        raise UserError("incomplete manifest: it does not list its files", where=file, remedy=EXPORT_AGAIN)
    if outside := [name for name in sorted(names) if Path(name).name != name]:
        raise UserError(f"lists `{outside[0]}`, which is outside of the bundle", where=file, remedy=EXPORT_AGAIN)
    return manifest


def _require_schema(manifest: Any, path: Path, older_too: bool) -> None:
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if not isinstance(version, int) or version < 1:
        raise UserError("not the manifest of a bundle", where=path / MANIFEST, remedy="`cgloop export` makes a bundle")
    if "module" not in manifest and "proteins" in manifest:
        raise UserError("a data set, not a bundle", where=path, remedy="`cgloop data info` shows data sets")
    if version > SCHEMA_VERSION:
        raise UserError(
            f"made by a newer cgloop: schema version {version}, this one reads {SCHEMA_VERSION}",
            where=path / MANIFEST,
            remedy="update cgloop",
        )
    if version < SCHEMA_VERSION and not older_too:
        raise UserError(
            f"made by an older cgloop: schema version {version}, this one reads {SCHEMA_VERSION}",
            where=path / MANIFEST,
            remedy=f"`cgloop bundle renew {path} NEW_FOLDER` makes it anew from its parameters",
        )


def require_files(path: Path, manifest: Mapping[str, Any]) -> None:
    """Raise `UserError` if a file that the manifest names is missing, or is not the one that it vouches for."""
    if found := wrong_files(path, manifest):
        name, fault = next(iter(found.items()))
        raise UserError(fault, where=path / name, remedy=EXPORT_AGAIN)


def wrong_files(path: Path, manifest: Mapping[str, Any]) -> dict[str, str]:
    """Names of files that are missing or not those of the manifest, in its order, with what is wrong."""
    found = {}
    for name, digest in manifest["files"].items():
        file = path / name
        if not file.is_file():
            found[name] = "file of the bundle is missing"
        elif digest_file(file) != digest:
            found[name] = "does not match its digest in manifest.json"
    return found


def foreign_files(path: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Names in the folder that the manifest does not vouch for; nothing reads them. The record of a stage is none."""
    return sorted({entry.name for entry in path.iterdir()} - {MANIFEST, RECORD, *manifest["files"]})


def platforms_of(manifest: Mapping[str, Any]) -> list[str]:
    """Platforms that a bundle has a module for, of any schema version."""
    module = manifest["module"]
    return list(module.get("files") or module.get("platforms") or [])


def add_outcome(path: Path, *, parity: Mapping[str, Any], verdict: Mapping[str, Any]) -> dict[str, Any]:
    """Write into the manifest of a copy of a bundle what parity and gate found; returns the manifest.

    A bundle in a run stays as it was exported, because the digests of later stages are of that.

    Args:
        path: the copy.
        parity: contents of `parity.json`.
        verdict: contents of `verdict.json`.
    """
    manifest = read_manifest(path)
    manifest["parity"] = {
        **{key: parity.get(key) for key in ("verdict", "force", "energy", "emulation", "frames", "proteins")},
        "cases": {case["name"]: case["verdict"] for case in parity.get("cases") or []},
    }
    manifest["verdict"] = {key: verdict.get(key) for key in ("verdict", "summary", "run", "cycle")}
    write_json(path / MANIFEST, jsonable(manifest))
    return manifest

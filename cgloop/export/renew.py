"""A bundle made anew from its own parameters: for another version of JAX, or from an older kind of bundle."""

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import jax

from cgloop.cautions import Caution
from cgloop.errors import UserError
from cgloop.export.bundle import load_bundle, read_model, write_bundle
from cgloop.export.manifest import PARAMS, PRIORS, read_manifest, wrong_files
from cgloop.export.verify import ENERGY_LIMIT, FORCE_LIMIT, Agreement, agreement
from cgloop.stages import explained

log = logging.getLogger("cgloop.export")


def renew_bundle(old: Path, new: Path) -> Agreement:
    """Export the model of a bundle again, with the JAX that is here, into a new folder.

    The old module is not read: parameters, priors and manifest are enough. What was trained, the cautions, the
    temperature and the mapping are taken over; parity and verdict are not, as they are of the old module, and stand in
    `renewed_from`.

    Args:
        old: a bundle of this or an older schema version.
        new: folder that does not exist; it appears when all is written and checked.

    Returns:
        How far the new module is from the model in JAX on random conformations.

    Raises:
        UserError: no bundle, damaged parameters, a folder that exists, or a new module that is not the model.
    """
    manifest = read_manifest(old, older_too=True)
    if new.exists() or new.is_symlink():
        raise UserError("exists already", where=new, remedy="give a folder that does not")
    _require_sources(old, manifest)
    model, params = read_model(old, manifest)
    partial = new.parent / f".{new.name}.partial"
    with explained(new):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            write_bundle(
                partial,
                model,
                params,
                temperature_K=float(manifest["temperature_K"]),
                mapping=str(manifest.get("mapping", "ca")),
                priors_yaml=old / PRIORS if PRIORS in manifest["files"] else None,
                training=manifest.get("training"),
                cautions=[Caution(**one) for one in manifest.get("cautions") or []],
                renewed_from=_origin(manifest),
            )
            bundle = load_bundle(partial)
            found = agreement(jax.jit(bundle.function), model, params, bundle.temperature_K)
            if not (found.forces <= FORCE_LIMIT and found.energy <= ENERGY_LIMIT):
                raise UserError(
                    f"the new module is not the model: forces differ by {found.forces:.1e}, energies by "
                    f"{found.energy:.1e}",
                    where=old,
                    remedy="nothing was written; export the model again from its training",
                )
            os.rename(partial, new)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    log.info("forces differ by %.1e of their RMS from the model in JAX, energies by %.1e", *found)
    return found


def _require_sources(old: Path, manifest: dict[str, Any]) -> None:
    """Refuse what the new bundle is made from if it is not what the old manifest vouches for; the rest is not read."""
    for name, fault in wrong_files(old, manifest).items():
        if name in (PARAMS, PRIORS):
            raise UserError(fault, where=old / name, remedy="get an undamaged copy, or export the model again")


def _origin(manifest: dict[str, Any]) -> dict[str, Any]:
    module = manifest["module"]
    names = ("cgloop", "schema_version", "parity", "verdict", "renewed_from")
    return {**{name: manifest[name] for name in names if name in manifest}, "jax": module.get("jax")}

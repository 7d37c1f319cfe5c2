"""What a bundle is, in words and tables. Needs neither JAX nor the model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from cgloop.data.protein import SPLITS
from cgloop.export.manifest import MANIFEST, PARAMS, SCHEMA_VERSION, platforms_of, read_manifest, wrong_files
from cgloop.residues import N_TYPES
from cgloop.stages import read_record
from cgloop.wording import listing, table


def describe(path: Path) -> dict[str, Any]:
    """Everything that `cgloop bundle show` tells of a bundle of any schema version, as plain data.

    Raises:
        UserError: no bundle there.
    """
    manifest = read_manifest(path, older_too=True)
    types = manifest.get("types") or []
    learned = manifest.get("energy", {}).get("network") is not None
    return {
        "path": str(path),
        "schema_version": manifest["schema_version"],
        "cgloop": manifest.get("cgloop"),
        "energy": manifest.get("energy") or {},
        "network": manifest["model"].get("spec"),
        "cutoff_A": manifest["cutoff_A"],
        "temperature_K": manifest["temperature_K"],
        "mapping": manifest.get("mapping"),
        "trained_types": [one["name"] for one in types if one["trained"]],
        "untrained_types": [one["name"] for one in types if learned and not one["trained"]],
        "parameters": _count_parameters(path / PARAMS),
        "files": {
            name: {"bytes": (path / name).stat().st_size if (path / name).is_file() else None, "sha256": digest}
            for name, digest in manifest["files"].items()
        },
        "wrong_files": wrong_files(path, manifest),
        "module": {**manifest["module"], "platforms": platforms_of(manifest)},
        "training": manifest.get("training") or {},
        "cautions": manifest.get("cautions") or [],
        "renewed_from": manifest.get("renewed_from"),
        **_outcome(path, manifest),
    }


def _count_parameters(file: Path) -> dict[str, int]:
    """Numbers in the file by its first level, `prior` and `ml`; from its header alone. Empty if it cannot be read."""
    counts: dict[str, int] = {}
    try:
        with safe_open(file, framework="numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a dictionary
                size = 1
                for length in tensors.get_slice(name).get_shape():
                    size *= length
                part = name.split("/")[0]
                counts[part] = counts.get(part, 0) + size
    except (OSError, SafetensorError):
        return {}
    return counts


def _outcome(path: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Parity and verdict: those in the manifest, or those in the run that the bundle lies in, if they are of it."""
    found = {name: manifest[name] for name in ("parity", "verdict") if name in manifest}
    record = read_record(path)
    if found or record is None:
        return found
    of_parity = read_record(path.parent / "parity")
    if of_parity is not None and of_parity.inputs.get("export") == {"digest": record.result_digest}:
        found["parity"] = _read(path.parent / "parity" / "parity.json")
    verdict = _read(path.parent / "verdict.json")
    if (verdict.get("results") or {}).get("export") == record.result_digest:
        found["verdict"] = {key: verdict.get(key) for key in ("verdict", "summary", "run", "cycle")}
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def as_text(facts: Mapping[str, Any]) -> str:
    """What `describe` found, for a terminal."""
    rows = [*_model_rows(facts), *_module_rows(facts), *_training_rows(facts["training"]), *_outcome_rows(facts)]
    files = [
        (name, "missing" if one["bytes"] is None else f"{one['bytes'] / 1000:,.1f} kB", one["sha256"][:12])
        for name, one in facts["files"].items()
    ]
    lines = [
        _sentence(facts),
        "",
        *table(("", ""), rows, left=(0, 1))[1:],
        "",
        *table(("file", "size", "sha256"), files),
    ]
    lines += [f"error: {name}: {fault}" for name, fault in facts["wrong_files"].items()]
    lines += ["", *(f"beware: {one['text']}" for one in facts["cautions"])] if facts["cautions"] else []
    return "\n".join(lines)


def _sentence(facts: Mapping[str, Any]) -> str:
    bead = "Cα" if facts["mapping"] == "ca" else str(facts["mapping"])
    text = (
        f"A coarse-grained protein force field for {facts['temperature_K']:g} K, one bead a residue ({bead}). Its "
        f"energy is {facts['energy'].get('consists_of', 'not described')}. It takes any protein, any number of chains "
        "and of replicas: topology and pairs are inputs."
    )
    if facts["schema_version"] < SCHEMA_VERSION:
        text += (
            f"\nIt was made by an older cgloop and does not run here as it is: `cgloop bundle renew {facts['path']} "
            "NEW_FOLDER`."
        )
    return text


def _model_rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    network, energy = facts["network"] or {}, facts["energy"]
    shown = {key: value for key, value in network.items() if key not in ("trained_types", "name", "cutoff_A")}
    weights = {name: weight for name, weight in (energy.get("prior_weights") or {}).items() if weight != 1.0}
    rows = [
        ("energy", str(energy.get("consists_of", "–"))),
        ("network", f"{energy.get('network')}: {_pairs(shown)}" if network else "none"),
        ("parameters", ", ".join(f"{count:,} {part}" for part, count in facts["parameters"].items()) or "unreadable"),
        (
            "cutoff",
            f"{facts['cutoff_A']:g} Å; an energy depends on beads up to {energy.get('receptive_field_A')} Å away",
        ),
        ("temperature", f"{facts['temperature_K']:g} K"),
        ("trained types", _types(facts)),
    ]
    if facts["untrained_types"]:
        rows.append(("untrained types", f"{listing(facts['untrained_types'], N_TYPES)}: no learned energy"))
    if weights:
        rows.append(("scaled terms", _pairs(weights)))
    return rows


def _types(facts: Mapping[str, Any]) -> str:
    if not facts["trained_types"]:
        return "none: nothing is learned"
    return listing(facts["trained_types"], N_TYPES) if facts["untrained_types"] else f"all {N_TYPES}"


def _module_rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    module = facts["module"]
    texts = "; ".join(f"{name} is that of {listing(of)}" for name, of in (module.get("text") or {}).items())
    rows = [
        ("made with", f"cgloop {facts['cgloop']}, jax {module.get('jax')}, jaxlib {module.get('jaxlib', 'unknown')}"),
        ("loads in", str(module.get("loads_in", "–"))),
        ("runs on", f"{listing(module['platforms'])} (calling convention {module.get('calling_convention')})"),
    ]
    if texts:
        rows.append(("text", texts))
    if origin := facts["renewed_from"]:
        rows.append(("renewed from", f"cgloop {origin.get('cgloop')}, jax {origin.get('jax')}"))
    return rows


def _training_rows(training: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The few numbers of the training's summary that fit a line."""
    rows = []
    if given := training.get("frames"):
        frames = {part: given[part] for part in SPLITS if part in given}
        rows.append(("trained on", f"{_pairs(frames)} frames of {listing(training.get('proteins') or ['unknown'])}"))
    if training.get("best_epoch") is not None:
        rows.append(("epochs", f"{training.get('epochs', '–')}, the best was {training['best_epoch']}"))
    errors = [f"{name} {_number(training[key])}" for key, name in ERRORS.items() if training.get(key) is not None]
    if errors:
        rows.append(("force RMSE", f"{', '.join(errors)} kcal/mol/Å ({training.get('split', 'unknown')} frames)"))
    return rows


ERRORS = {"rmse_full": "model", "rmse_prior": "prior alone", "rmse_zero": "no model"}


def _outcome_rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    if parity := facts.get("parity"):
        sizes = [
            f"{many} differ by {_number(parity[one].get('value'))} (limit {_number(parity[one].get('limit'))})"
            for one, many in {"force": "forces", "energy": "energies"}.items()
            if parity.get(one)
        ]
        rows.append(("parity", f"{parity.get('verdict')}: {', '.join(sizes)}"))
        if (emulation := parity.get("emulation") or {}).get("force") is not None:
            size = f"forces differ by {_number(emulation['force'])} (limit {_number(emulation.get('limit'))})"
            rows.append(("model.ptb", f"{emulation.get('verdict')} by emulation: {size}"))
    if verdict := facts.get("verdict"):
        rows.append(("verdict", f"{verdict.get('verdict')}: {verdict.get('summary')}"))
    return rows or [("verdict", f"none in {MANIFEST}: it was not judged, or it is not the deployed copy")]


def _pairs(data: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in data.items())


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"

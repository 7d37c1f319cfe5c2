"""Bundles as an earlier cgloop wrote them."""

import json
import shutil
from pathlib import Path

from cgloop.stages import digest_file


def as_schema_1(bundle: Path, out: Path) -> Path:
    """A copy with one module for all platforms, in a file that no reader of today could read."""
    out.mkdir()
    manifest = json.loads((bundle / "manifest.json").read_text())
    for name in manifest["files"]:
        if not name.endswith(".stablehlo"):
            shutil.copy2(bundle / name, out / name)
    (out / "model.stablehlo").write_bytes(b"a module of an earlier calling convention")
    module = manifest["module"]
    module["platforms"] = list(module.pop("files"))
    del module["text"], module["jaxlib"]
    manifest.update(schema_version=1, cgloop="0.0.9")
    module["jax"] = "0.9.0"
    manifest["files"] = {path.name: digest_file(path) for path in sorted(out.iterdir())}
    (out / "manifest.json").write_text(json.dumps(manifest))
    return out

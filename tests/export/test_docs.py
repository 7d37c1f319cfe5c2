"""What docs/bundle.md shows works as it stands there."""

import json
import re

import numpy as np
import pytest

from cgloop.export.bundle import write_bundle
from cgloop.model.terms import TERM_NAMES
from tests.md.model_worlds import small_model


def test_a_bundle_runs_with_nothing_but_jax(repository, tmp_path, monkeypatch):
    write_bundle(tmp_path, *small_model("prior-only"), temperature_K=320.0)
    (code,) = re.findall(r"```python\n(.*?)```", (repository / "docs" / "bundle.md").read_text(), re.DOTALL)
    assert "cgloop" not in code
    monkeypatch.chdir(tmp_path)
    found = {}
    exec(compile(code, "docs/bundle.md", "exec"), found)
    # A spring of 150 kcal/mol/Å² that is 0.1 Å too long, and no repulsion of bonded beads.
    assert float(found["energies"][0]) == pytest.approx(0.5 * 150.0 * 0.1**2, rel=1e-4)
    assert found["forces"][0][0] == pytest.approx(15.0, rel=1e-4)
    np.testing.assert_allclose(found["forces"].sum(axis=0), 0.0, atol=1e-5)
    assert float(found["terms"][0][TERM_NAMES.index("bond")]) == pytest.approx(0.75, rel=1e-4)


def test_every_file_and_key_is_in_the_docs(repository, tmp_path):
    (tmp_path / "priors.yaml").write_text("bond: {}\n")
    (tmp_path / "out").mkdir()
    model, params = small_model()
    write_bundle(tmp_path / "out", model, params, temperature_K=320.0, priors_yaml=tmp_path / "priors.yaml")
    text = (repository / "docs" / "bundle.md").read_text()
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    files = {path.name for path in (tmp_path / "out").iterdir()}
    table = text.split("## Look at it")[0]
    assert files == set(re.findall(r"`([\w.]+\.\w+)`", table)) - {"module.text", "jax.export"}
    assert set(manifest["module"]) <= set(re.findall(r"`(?:module\.)?(\w+)`", text))

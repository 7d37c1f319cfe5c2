"""Runs of the real command on the real example, made short."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

SHORT = {
    "run": {"name": "short", "root": "runs", "seed": 5, "min_free_gb": 0.01},
    "data": {
        "sources": [{"path": "example.h5", "stride": 5}],
        "temperature_K": 320,
        "split": {"by": "replica", "train": [0, 1], "validation": [2], "test": [3]},
    },
    # One layer compiles in half the time of two; the example, which continuous integration runs, has two.
    "model": {"preset": "nano", "n_layers": 1, "hidden": "4x0e+4x1o+4x2e", "mlp": [16], "embedding": [16]},
    "train": {"epochs": 3, "batch_size": 16, "checkpoint_every_s": 0.0},
    "parity": {"frames": 4},
    "md": {
        "replicas": 3,
        "nvt": {"length_ps": 2.0, "equilibration_ps": 0.2},
        "nve": {"length_ps": 2.0},
    },
    "control": {"order_ps": 0.1},
    "validate": {"noise_blocks": 20},
}


def short_config(folder: Path, source: Path, **sections) -> Path:
    """Write the short config below `folder`; keyword arguments are merged into its sections."""
    data = json.loads(json.dumps(SHORT))
    data["data"]["sources"][0]["path"] = str(source)
    data["run"]["root"] = str(folder / "runs")
    for name, values in sections.items():
        data[name] = {**data.get(name, {}), **values} if isinstance(values, dict) else values
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def start(*arguments) -> subprocess.Popen:
    """The command as a user would start it, without a terminal."""
    command = [sys.executable, "-m", "cgloop.cli", *map(str, arguments)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env=environment
    )


def cgloop(*arguments) -> subprocess.CompletedProcess:
    """Run the command to its end."""
    process = start(*arguments)
    out, err = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def events(run: Path) -> list[dict]:
    """The lines of `events.jsonl`."""
    path = run / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def digests(run: Path) -> dict[str, str]:
    """Result digests of all stages of all cycles, and the verdict."""
    found = {
        str(path.parent.relative_to(run)): json.loads(path.read_text())["result_digest"]
        for path in run.glob("cycle_*/*/stage.json")
    }
    return {**found, "verdict": (run / "verdict.json").read_text()}


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory, example_h5) -> Path:
    """The directory of a short run that went through the whole loop. Read only.

    Processes that share the tests share it: the first one makes it, the others wait.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished"
    folder.mkdir(exist_ok=True)
    run, made = folder / "runs" / "short", folder / "made"
    with FileLock(folder / "lock"):
        if not made.exists():
            done = cgloop("cycle", short_config(folder, example_h5))
            assert done.returncode in (0, 3, 4), done.stderr
            assert (run / "verdict.json").exists()
            made.touch()
    return run

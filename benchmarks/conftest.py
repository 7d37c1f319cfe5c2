"""What the benchmarks share: sizes, a record of what they find, chains to compute on, and a run that went through."""

import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

from cgloop.bench.record import (
    Load,
    Measurement,
    accelerators,
    start_record,
    this_machine,
    watched_load,
    write_record,
)
from cgloop.config.model import AllegroConfig
from cgloop.model.graph import build_graph
from cgloop.model.hybrid import build_model, init_params

REPOSITORY = Path(__file__).resolve().parent.parent

ROWS: list[str] = []
"""Lines of the table that is printed at the end."""

KEPT: dict[str, list[Measurement]] = {}
"""What was found, by suite."""

ROUNDS = {"small": 5, "full": 15}


def pytest_addoption(parser):
    group = parser.getgroup("cgloop benchmarks")
    group.addoption("--bench-size", choices=("small", "full"), default="full", help="how much is measured")
    group.addoption("--bench-out", type=Path, help="folder for a dated file of each suite")


def pytest_generate_tests(metafunc):
    """Parameters that depend on the size: `pytestmark = sized(name, small=…, full=…)`, or as a decorator."""
    for mark in metafunc.definition.iter_markers("sized"):
        names, values = mark.args[0], mark.kwargs[metafunc.config.getoption("--bench-size")]
        metafunc.parametrize(names, values)


def pytest_configure(config):
    config.addinivalue_line("markers", "sized(names, small, full): parameters by --bench-size")


def pytest_collection_modifyitems(items):
    """What is measured may take as long as it takes."""
    for item in items:
        item.add_marker(pytest.mark.timeout(0))


@pytest.fixture(scope="session")
def size(request) -> str:
    """`small` or `full`."""
    return request.config.getoption("--bench-size")


@pytest.fixture
def keep(request, benchmark):
    """Put down what was found; nothing is kept where benchmarks are not enabled.

    `keep(name, unit, values, better=…, facts=…, **settings)` keeps any values; `keep.times(name, function, **settings)`
    measures a function with pytest-benchmark and keeps its seconds.
    """
    suite = request.module.__name__.rpartition("test_")[2]
    chosen = ROUNDS[request.config.getoption("--bench-size")]

    class Keep:
        def __call__(self, name: str, unit: str, values: Sequence[float], better="lower", facts=None, **settings: Any):
            if not benchmark.enabled:
                return
            new = Measurement(
                name=f"{suite}/{name}", settings=settings, unit=unit, values=tuple(map(float, values)), better=better,
                facts=facts or {}, load=tuple(found),
            )  # fmt: skip
            mine.append(new)
            ROWS.append(f"{new.label}: {new.median:.4g} {unit}")

        def times(self, name: str, function, facts=None, rounds: int = chosen, **settings: Any) -> list[float]:
            """Seconds of each round."""
            benchmark.pedantic(function, rounds=rounds, warmup_rounds=1, iterations=1)
            values = list(benchmark.stats.stats.data) if benchmark.enabled else [1.0]
            self(name, "s", values, facts=facts, **settings)
            return values

    found: list[Any] = []
    mine: list[Measurement] = []
    with watched_load() as load:
        yield Keep()
    # The load is known when the test is over.
    KEPT.setdefault(suite, []).extend(one.model_copy(update={"load": tuple(load)}) for one in mine)


def pytest_sessionfinish(session):
    """Write a file of each suite."""
    folder = session.config.getoption("--bench-out")
    if folder is None or not KEPT:
        return
    chosen = session.config.getoption("--bench-size")
    machine = this_machine(accelerators())
    for suite, measurements in KEPT.items():
        command = f"python -m pytest benchmarks/test_{suite}.py --benchmark-enable --bench-size {chosen}"
        record = start_record(suite, command, {"size": chosen}, machine)
        for one in measurements:
            record = record.with_measurement(one)
        write_record(folder / f"{date.today()}-{suite}.json", record)


def pytest_terminal_summary(terminalreporter):
    """Print what was found."""
    if ROWS:
        terminalreporter.write_line("\n".join(["", *ROWS]))


RUN_LOAD: list[Load] = []
"""What else the machine did during `finished_run`."""

RUN_SIZES: dict[str, dict[str, Any]] = {
    "small": {
        "train": {"epochs": 12},
        "md": {"replicas": 4, "nvt": {"length_ps": 30.0, "friction_per_ps": 2}, "nve": {"length_ps": 10.0}},
    },
    "full": {},
}


@pytest.fixture(scope="session")
def finished_run(size, tmp_path_factory) -> Path:
    """The directory of a run of the example that went through the whole loop: made short, or as it is."""
    folder = tmp_path_factory.mktemp("run")
    example = REPOSITORY / "examples" / "chignolin"
    config = yaml.safe_load((example / "config.yaml").read_text(encoding="utf-8"))
    config["data"]["sources"][0]["path"] = str(example / "mdcath_dataset_cln025.h5")
    config["run"]["root"] = str(folder)
    for section, values in RUN_SIZES[size].items():
        config[section] = {**config.get(section, {}), **values}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    # As a user would run it: nothing that an earlier run compiled.
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    command = [sys.executable, "-m", "cgloop.cli", "cycle", str(path)]
    with watched_load() as load:
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    RUN_LOAD.extend(load)
    # 0 pass, 3 fail, 4 inconclusive: the loop went through.
    assert done.returncode in (0, 3, 4), done.stderr[-2000:]
    return folder / config["run"]["name"]


def compact_chain(n_beads: int, seed: int = 0) -> np.ndarray:
    """A self-avoiding chain [N, 3] in Å with 3.8 Å bonds at about the density of a folded protein."""
    random = np.random.default_rng(seed)
    radius = 4.3 * n_beads ** (1 / 3)
    chain = [np.zeros(3)]
    while len(chain) < n_beads:
        for _ in range(200):
            step = random.normal(size=3)
            bead = chain[-1] + 3.8 * step / np.linalg.norm(step)
            far = np.linalg.norm(np.array(chain[:-1]).reshape(-1, 3) - bead, axis=1)
            if np.linalg.norm(bead) < radius and (far > 4.0).all():
                chain.append(bead)
                break
        else:
            chain = chain[: max(1, len(chain) - 5)]
    return np.array(chain)


EDGES = {20: 262, 100: 2870}
"""Directed pairs within the cutoff of one chain, by its beads: as in the measurements of other implementations."""


def system(preset: str, n_beads: int, n_replicas: int):
    """Model, parameters, positions float32 [R·N, 3] and graph of copies of one chain.

    Chains whose number of beads is in `EDGES` are scaled until they have that many pairs.
    """
    chain = compact_chain(n_beads)
    if n_beads in EDGES:
        lengths = np.sort(np.linalg.norm(chain[:, None] - chain, axis=-1)[np.triu_indices(n_beads, 1)])
        last = EDGES[n_beads] // 2
        chain = chain * 12.0 / (0.5 * (lengths[last - 1] + lengths[last]))
    positions = np.stack([chain] * n_replicas)
    types = np.arange(n_beads) % 20
    graph = build_graph(types, np.ones(n_beads - 1, bool), positions, cutoff_A=12.0)
    neighbours = float(graph.edge_mask.sum() / (n_beads * n_replicas))
    model = build_model(AllegroConfig.model_validate({"preset": preset}), avg_num_neighbors=neighbours)
    params = init_params(model, None, jax.random.key(1))
    return model, params, jnp.asarray(positions.reshape(-1, 3), jnp.float32), graph

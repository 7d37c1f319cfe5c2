"""Config reference and table of limits: complete, and those that the code makes."""

import ast

import pytest

from cgloop.config import Config
from cgloop.manual.config_page import config_page
from cgloop.manual.keys import keys, parts
from cgloop.manual.limits import ALL, DEFINITIONS, NO_LIMITS
from cgloop.manual.limits_page import limits_page
from cgloop.manual.write import COMMAND, PAGES
from cgloop.validate.registry import CHECKS

LIMITING = ("validate", "parity", "gate", "md.monitors")
"""Sections of which every key is a limit, or declared to be none."""


@pytest.mark.parametrize("name", sorted(PAGES))
def test_the_committed_page_is_what_the_generator_makes(repository, name):
    assert (repository / "docs" / name).read_text(encoding="utf-8") == PAGES[name](COMMAND), f"run `{COMMAND}`"


def test_every_key_is_described():
    """One or two sentences, with capital and full stop, in the `description` of the field or of its class."""
    undescribed = [key.path for key in keys() if not (key.text.endswith(".") and not key.text[0].islower())]
    assert undescribed == [], "give the pydantic field a `description`"
    assert [part.path for part in parts() if not part.text] == [], "give the section a docstring"


def test_every_key_of_a_config_is_on_the_page():
    """Against the keys that a config has when it is dumped, not against the walk that makes the page."""
    config = {
        "run": {"name": "x"},
        "data": {"sources": [{"path": "a.h5"}], "temperature_K": 300, "split": {"by": "time_block"}},
        "train": {"fine_tuning": {}, "groups": [{"match": "*"}]},
    }
    page = config_page(COMMAND)

    def names(value):
        for name, below in value.items():
            yield name
            for one in below if isinstance(below, list) else [below]:
                if isinstance(one, dict):
                    yield from names(one)

    dumped = set(names(Config.model_validate(config).model_dump(by_alias=True, mode="json")))
    stages = {"prep", "priors", "export"}  # of `slurm.stages`, which are one section on the page
    marks = ("`{}`", ".{}`", ".{}[]`")
    assert [name for name in sorted(dumped - stages) if not any(one.format(name) in page for one in marks)] == []


def test_types_defaults_bounds_and_units():
    known = {(key.path, key.of): key for key in keys()}
    friction = known["md.nvt.friction_per_ps", ""]
    assert (friction.type, friction.default, friction.unit) == ("number, > 0", "1", "1/ps")
    assert known["md.nvt.thermostat", ""].type == "`langevin` or `lammps-langevin` or `csvr` or `nose-hoover`"
    assert known["data.temperature_K", ""].default == "required"
    assert known["data.split.fractions", ""].type == "3 × number"
    assert known["md.masses", ""].type == "`residue` or number"
    assert known["run.seed", ""].type == "integer, ≥ 0, < 4,294,967,296"
    assert known["model.features", "painn"].default == "64"
    assert known["slurm.stages.<stage>.nodes", ""].default == "none"


def test_every_limit_of_the_config_is_in_the_table():
    listed = {limit.at for limit in ALL if limit.is_key}
    assert listed <= {key.path for key in keys()}
    limits = {key.path for key in keys() if key.section in LIMITING}
    assert limits - listed - DEFINITIONS == set(), "add it to cgloop/manual/limits.py"
    assert not DEFINITIONS & listed
    assert limits >= DEFINITIONS


def test_every_number_in_the_checks_is_a_limit_in_the_table_or_declared_to_be_none(repository):
    found = set()
    for path in sorted((repository / "cgloop" / "validate").glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign):
                found |= {f"{path.stem}:{name}" for name in _numbers(node)}
    listed = {
        limit.at.removeprefix("validate.") for limit in ALL if limit.at.startswith("validate.") and ":" in limit.at
    }
    assert found - listed - NO_LIMITS == set(), "add it to cgloop/manual/limits.py"
    assert (listed | NO_LIMITS) - found == set(), "no such constant"


def _numbers(node):
    """Names of constants that are numbers, in an assignment to one name or to several."""
    target, value = node.targets[0], node.value
    pairs = [(target, value)]
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        pairs = list(zip(target.elts, value.elts, strict=True))
    for name, number in pairs:
        try:
            is_number = type(ast.literal_eval(number)) in (int, float)
        except ValueError:
            continue
        if is_number and name.id.isupper():
            yield name.id


def test_every_check_that_decides_has_a_limit_and_every_limit_a_value():
    of = " ".join(limit.of for limit in ALL)
    without = [name for name, check in CHECKS.items() if check.direction != "reported" and name not in of]
    assert [name for name in without if not name.startswith(("local.", "pair."))] == []
    page = limits_page(COMMAND)
    for limit in ALL:
        assert limit.source, limit
        if not limit.is_key:
            assert isinstance(limit.constant(), float)
        assert limit.judged.replace("|", "\\|") in page


def test_the_command_writes_both(tmp_path):
    from typer.testing import CliRunner

    from cgloop.cli import app

    assert CliRunner().invoke(app, ["manual", str(tmp_path)]).exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config-reference.md", "limits.md"]

"""Dynamics that become longer go on where they ended, and are those that would have been asked for from the start."""

import json

import pytest

from cgloop.md.job import STAGES
from cgloop.md.run import Shorter, md_stage
from tests.integration.test_ranks import same_trajectories
from tests.md.model_worlds import config, write_world

SHORT, LONG = {"length_ps": 0.4}, {"length_ps": 0.9}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("world"), "prior-only")


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(("nvt", "nve"), [(LONG, SHORT), (SHORT, LONG), (LONG, LONG)])
def test_a_longer_run_goes_on(world, tmp_path, monkeypatch, nvt, nve, processes):
    monkeypatch.setattr("cgloop.md.spread.WORTH_A_PROCESS_STEPS", 1)

    def run(name, nvt, nve, **more):
        (tmp_path / name).mkdir()
        settings = config(
            nvt={"equilibration_ps": 0.1, **nvt}, nve=nve, extend=True, processes=processes, restart_every_ps=0.3
        )
        log = tmp_path / f"{name}.log"
        return md_stage(settings, world["export"], world["prep"], tmp_path / name, log_file=log, **more)

    run("short", SHORT, SHORT)
    longer = run("longer", nvt, nve, shorter=Shorter(tmp_path / "short", nvt_longer=nvt is LONG))
    assert longer == run("asked", nvt, nve)
    (protein,) = longer["proteins"]
    for stage in STAGES:
        same_trajectories(tmp_path / "asked" / protein / stage, tmp_path / "longer" / protein / stage)
    said = (tmp_path / "longer.log").read_text()
    assert said.count("nvt: goes on at 0.5 ps") == (processes if nvt is LONG else 0)
    assert said.count("nve: goes on at 0.4 ps") == (0 if nvt is LONG else processes)


@pytest.mark.slow
def test_what_kept_nothing_is_made_anew(world, tmp_path):
    for name in ("short", "longer"):
        (tmp_path / name).mkdir()
    given = world["export"], world["prep"]
    md_stage(config(nve=SHORT), *given, tmp_path / "short")
    assert not list((tmp_path / "short").glob("**/continue.*"))
    log = tmp_path / "log"
    md_stage(
        config(nve=LONG, extend=True),
        *given,
        tmp_path / "longer",
        log_file=log,
        shorter=Shorter(tmp_path / "short", False),
    )
    assert not log.exists() or "goes on" not in log.read_text()
    assert json.loads((tmp_path / "longer" / "md.json").read_text())["asked_ps"]["nve"] == 0.9

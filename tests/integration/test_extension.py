"""Dynamics that were too short go on by themselves."""

import json
import shutil

import pytest

from cgloop.stages import digest_file
from tests.integration.conftest import cgloop, events

ONLY_DRIFT = ("--set", "gate.required=[nve.drift]")


@pytest.mark.slow
def test_an_extended_run_is_the_run_that_would_have_been_asked_for(finished_run, tmp_path):
    copies = [shutil.copytree(finished_run, tmp_path / name / "short", symlinks=True) for name in ("asked", "extended")]
    asked, extended = copies
    # Made anew, so that it keeps what it takes to go on.
    shutil.rmtree(extended / "cycle_000" / "md")
    limits = ("md.extend=true", "md.max_extensions=1", "md.max_length_factor=1.5")
    more = [part for limit in limits for part in ("--set", limit)]
    done = cgloop("cycle", extended, *ONLY_DRIFT, *more, "--set", f"run.root={extended.parent}")
    assert "The dynamics were extended once: NVE from 2 to 3 ps." in done.stdout, done.stdout + done.stderr
    verdict = json.loads((extended / "verdict.json").read_text())
    assert verdict["extensions"] == [{"lengths": [2.0, 3.0], "because": ["nve.drift"]}]
    assert [event["event"] for event in events(extended)].count("extended") == 1
    assert "nve: goes on at 2 ps" in (extended / "cgloop.log").read_text()
    assert "nvt: goes on" not in (extended / "cgloop.log").read_text()

    cgloop("md", asked, "--set", "md.nve.length_ps=3", "--set", f"run.root={asked.parent}")
    folders = [next((run / "cycle_000" / "md").glob("*/nve")) for run in copies]
    for name in ("observables.h5", "replica_000.dcd", "replica_002.dcd"):
        assert digest_file(folders[0] / name) == digest_file(folders[1] / name)

    # Asked again nothing is repeated, and nothing is forgotten.
    count = len(events(extended))
    again = cgloop("cycle", extended, "--set", f"run.root={extended.parent}")
    assert again.returncode == done.returncode
    assert not [event for event in events(extended)[count:] if event["event"] in ("stage-start", "extended")]
    assert json.loads((extended / "verdict.json").read_text()) == verdict
    assert "stale" not in cgloop("status", extended).stdout

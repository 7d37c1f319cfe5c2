"""What would run is written down, and is what runs."""

import json

import numpy as np
import pytest

from cgloop.errors import UserError
from cgloop.md.dry_run import write_dry_run
from cgloop.md.session import Session
from tests.md.model_worlds import config


def test_inputs_and_plan(prior_world, tmp_path):
    made = config(masses=100.0, nvt={"length_ps": 1.0, "equilibration_ps": 0.5, "friction_per_ps": 2.0})
    lines = write_dry_run(made, prior_world["export"], prior_world["prep"], tmp_path / "dry")
    assert lines[0].startswith("helix: 10 beads, 3 replicas at 320 K, model of 320 K, seed ")
    assert lines[2] == "  nvt       0.5 ps, then 1 ps in 750 steps of 2 fs, langevin thermostat"
    folder = tmp_path / "dry" / "helix"
    plan = json.loads((folder / "plan.json").read_text())
    assert (plan["nvt"]["steps"], plan["nvt"]["degrees_of_freedom"], plan["nve"]["degrees_of_freedom"]) == (750, 30, 27)
    assert len(list((folder / "minimize").glob("minimize_*.in"))) == 3
    assert {"plain_nvt.in", "priors.in", "system.data"} <= {path.name for path in (folder / "plain").iterdir()}
    seen = []

    def force(step, atoms, forces):
        seen.append((step, atoms.unwrapped(), atoms.velocities.copy()))
        forces[:] = 0.0
        return 0.0

    # The script runs as it is.
    with Session() as session:
        session.run_script(folder / "nvt" / "nvt.in", force)
    assert seen[-1][0] == 750
    kinetic = 0.5 * 100.0 / 4.184e-4 * (seen[0][2] ** 2).sum(axis=1)
    assert kinetic.mean() == pytest.approx(1.5 * 0.0019872 * 320.0, rel=0.5)
    np.testing.assert_allclose(seen[0][1].reshape(3, 10, 3).mean(axis=1), 0.0, atol=1e-9)


def test_nothing_is_overwritten(prior_world, tmp_path):
    with pytest.raises(UserError, match="exists"):
        write_dry_run(config(), prior_world["export"], prior_world["prep"], tmp_path)


def test_what_is_not_there_yet_is_said(tmp_path):
    with pytest.raises(UserError, match="cgloop export"):
        write_dry_run(config(), tmp_path / "export", tmp_path / "prep", tmp_path / "dry")
    assert not (tmp_path / "dry").exists()

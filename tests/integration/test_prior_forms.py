"""The whole loop with every form of the prior that is not the default: what is fitted is what LAMMPS computes."""

import json

import pytest
import yaml

from tests.integration.conftest import cgloop, short_config

FORMS = {
    "splines": {
        "angle_form": "spline",
        "dihedral_form": "spline",
        "repulsion_form": "power12",
        "keyed": "class",
        "electrostatics": {"enabled": True},
        "contacts": {"enabled": True, "pseudo_counts": 100.0},
        "refine": {"enabled": True, "frames": 60, "starts": 1, "max_steps": 8},
    },
    "harmonic": {"angle_form": "harmonic", "repulsion_form": "lj", "keyed": "residue"},
    "mie": {"repulsion_form": "power6", "angle_order": 3, "dihedral_order": 2, "dihedral_form": "spline"},
}


def read(path):
    return json.loads(path.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
def test_other_forms_of_the_prior_go_through_the_whole_loop(tmp_path, example_h5, name):
    chosen = FORMS[name]
    config = short_config(tmp_path, example_h5, priors=chosen, train={"epochs": 2})
    done = cgloop("cycle", config)
    assert done.returncode in (0, 3, 4), done.stderr
    cycle = tmp_path / "runs" / "short" / "cycle_000"

    fitted = yaml.safe_load((cycle / "priors" / "priors.yaml").read_text())
    bundled = yaml.safe_load((cycle / "export" / "priors.yaml").read_text())
    assert bundled == fitted
    forms = read(cycle / "priors" / "summary.json")["forms"]
    assert forms["angle"] == chosen.get("angle_form", "fourier")
    assert forms["dihedral"] == chosen.get("dihedral_form", "fourier")
    assert forms["repulsion"] == chosen["repulsion_form"]
    assert forms["keyed"] == chosen.get("keyed", "global")
    for term in ("electrostatics", "contacts"):
        assert forms[term] == chosen.get(term, {}).get("enabled", False)

    parity = read(cycle / "parity" / "parity.json")
    assert parity["verdict"] == "pass", parity
    md = read(cycle / "md" / "md.json")["proteins"]["cln025"]["stages"]
    assert all(replica["converged"] for replica in md["minimize"]["replicas"])
    assert all(replica["survived"] for stage in ("nvt", "nve") for replica in md[stage]["replicas"])
    verdict = read(tmp_path / "runs" / "short" / "verdict.json")
    checks = {check["check"]: check for check in verdict["checks"]}
    for required in ("parity.forces", "parity.energy", "stability.survival"):
        assert checks[required]["verdict"] == "pass", checks[required]["reason"]

"""Every form of the prior that is not the default goes as far as MD: what is fitted is what LAMMPS computes."""

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


WITH_NETWORK = ("splines",)
"""Forms that are trained with a network beside them; the energy of a network does not depend on the prior's form."""


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
def test_other_forms_of_the_prior_go_through_parity_and_md(tmp_path, example_h5, name):
    """The stages after MD read its files alone, and see nothing of the prior's form."""
    chosen = FORMS[name]
    lengths = {"nvt": {"length_ps": 0.5, "equilibration_ps": 0.1}, "nve": {"length_ps": 0.5}}
    energy = {} if name in WITH_NETWORK else {"energy": "prior-only"}
    config = short_config(
        tmp_path, example_h5, model=energy, priors=chosen, train={"epochs": 2}, md={"replicas": 2, **lengths}
    )
    done = cgloop("md", config)
    assert done.returncode == 0, done.stderr
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
    assert parity["skipped"] == {}
    md = read(cycle / "md" / "md.json")["proteins"]["cln025"]["stages"]
    assert all(replica["converged"] for replica in md["minimize"]["replicas"])
    assert all(replica["survived"] for stage in ("nvt", "nve") for replica in md[stage]["replicas"])
    # The page reads what the priors left, and draws every form.
    assert cgloop("report", tmp_path / "runs" / "short").returncode == 0
    page = (tmp_path / "runs" / "short" / "report.html").read_text()
    assert ("prior-contacts" in page) == forms["contacts"]
    assert ("prior-electrostatics" in page) == forms["electrostatics"]

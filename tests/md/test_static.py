"""Static checks: what the shipped forms of priors give, and that every fault is seen."""

from functools import partial

import numpy as np
import pytest

from cgloop.config.validate import ValidateConfig
from cgloop.md.static import Energy, gradient_error, separate_overlaps, symmetry_errors
from cgloop.model.hybrid import Model
from cgloop.priors.scans import scan_prior
from cgloop.units import thermal_energy
from cgloop.validate.static import FILE, gradient_check, prior_check, read_static, static_checks, symmetry_check
from tests.md.model_worlds import CUTOFF_A, PRIOR, protein, small_model, system

KT = thermal_energy(320.0)
SETTINGS = ValidateConfig()
MODEL = Model(spec=None, energy="prior-only", cutoff_A=CUTOFF_A)


def curves():
    """What the data of a helix would say: bonds near 3.8 Å, angles near 97°, dihedrals near 50°."""

    def entry(term, grid, centre, width):
        density = np.where(np.abs(grid - centre) < width, 1.0, 0.0)
        reference = [4 * KT * ((x - centre) / width) ** 2 if d else None for x, d in zip(grid, density, strict=True)]
        return {"term": term, "grid": grid.tolist(), "density": density.tolist(), "reference": reference, "samples": 9}

    return {
        "terms": [
            entry("bond", np.arange(3.0, 5.0, 0.02), 3.8, 0.3),
            entry("angle", np.arange(0.25, 180, 0.5), 97.0, 20.0),
            entry("dihedral", np.arange(-179.5, 180, 1.0), 50.0, 90.0),
        ]
    }


def judged(prior):
    scans = scan_prior(MODEL, {"prior": prior, "ml": {}}, curves())
    return prior_check({"kT_kcal_per_mol": KT, "energy": "prior-only", "scans": scans, "overlaps": []}, SETTINGS)


def test_a_sound_prior_has_no_fault():
    found = judged(PRIOR)
    assert (found.verdict, found.detail["faults"]) == ("pass", [])
    assert found.detail["scans"] == 6
    assert len(found.plot.curves) == 6


def test_scans_are_the_potentials():
    """Harmonic bonds and WCA by hand; both are as in the papers that `model.potentials` names."""
    bond, angle, dihedral, *pairs = scan_prior(MODEL, {"prior": PRIOR, "ml": {}}, curves())
    np.testing.assert_allclose(bond["energy"], 75.0 * (bond["grid"] - 3.8) ** 2, atol=1e-4)
    theta, phi = np.deg2rad(angle["grid"]), np.deg2rad(dihedral["grid"])
    np.testing.assert_allclose(angle["energy"], 2.0 * np.cos(theta) + 8.0 * np.cos(2 * theta), atol=1e-4)
    np.testing.assert_allclose(dihedral["energy"], -2.0 * np.cos(phi) - 2.4 * np.sin(phi), atol=1e-4)
    near = (pairs[0]["grid"] > 2.5) & (pairs[0]["grid"] < 4.6)
    wca = 2.0 * ((4.6 / pairs[0]["grid"][near]) ** 6 - 1.0) ** 2
    np.testing.assert_allclose(pairs[0]["energy"][near], wca, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        # A second well of the dihedral opposite to the data, as deep as the first.
        ({"dihedral_cos": [0, 0, 1.5], "dihedral_sin": [0, 0, -2.4]}, "dihedral all: a minimum outside the data"),
        # Straight and folded back as good as the angle of the data.
        ({"angle_coeffs": [0, 0, 0, 0, -1.0]}, "angle all: a minimum outside the data"),
        ({"angle_coeffs": [0, 20.0, 80.0]}, "an amplitude of"),
        ({"repulsion_epsilon": [0.0, 2.0, 2.0]}, "pair 2: 0.0 kT at 3 Å"),
        ({"repulsion_epsilon": [2.0, 2.0, -2.0]}, "pair 6+: attracts from"),
        ({"bond_k": np.nan}, "bond all: energies are not finite"),
    ],
)  # fmt: skip
def test_every_bad_prior_fails(change, words):
    found = judged(PRIOR._replace(**{name: np.asarray(value, np.float32) for name, value in change.items()}))
    assert found.verdict == "fail"
    assert any(words in fault for fault in found.detail["faults"]), found.detail["faults"]


@pytest.fixture(scope="module")
def energy():
    model, params = small_model()
    return Energy(model, params, system())


FRAMES = protein().positions[:2].astype(float)


def test_forces_are_the_gradient_and_symmetries_hold(energy):
    rng = np.random.default_rng(0)
    static = {"gradient": gradient_error(energy.near, FRAMES, rng), "symmetry": symmetry_errors(energy, FRAMES, rng)}
    for check in (gradient_check(static, SETTINGS), symmetry_check(static, SETTINGS)):
        assert check.verdict == "pass", check.reason
        assert check.value < 1e-6


def test_forces_that_are_no_gradient_fail(energy):
    def near(frame):
        true = energy.near(frame)

        def broken(moved):
            value, forces = true(moved)
            # One force in a thousand is wrong by a thousandth of itself.
            return value, forces * np.where(np.arange(forces.size).reshape(forces.shape) == 4, 1.001, 1.0)

        return broken

    found = gradient_error(near, FRAMES, np.random.default_rng(0))
    assert gradient_check({"gradient": found}, SETTINGS).verdict == "fail"
    assert gradient_check({"gradient": {"max_relative": None}}, SETTINGS).verdict == "fail"
    assert symmetry_check({}, SETTINGS).verdict == "fail"


def test_an_energy_that_knows_directions_fails(energy):
    class Tilted(Energy):
        def on_graph(self, positions, graph):
            value, forces = energy.on_graph(positions, graph)
            push = np.array([0.0, 0.0, 1e-3])
            return value - float((positions * push).sum()), forces + push

    tilted = Tilted.__new__(Tilted)
    tilted.graph = energy.graph
    errors = symmetry_errors(tilted, FRAMES, np.random.default_rng(0))
    found = symmetry_check({"symmetry": errors}, SETTINGS)
    assert found.verdict == "fail"
    assert "permutation" not in found.reason


def test_overlaps_come_apart_by_repulsion_alone(monkeypatch):
    """Where nothing else holds the chain in shape: bonds alone leave overlapping beads where they are."""
    monkeypatch.setattr("cgloop.md.static.OVERLAPS", 1)
    rng = partial(np.random.default_rng, 1)
    verdicts = []
    none = np.zeros(2, np.float32)
    slack = PRIOR._replace(angle_coeffs=np.zeros(3, np.float32), dihedral_cos=none, dihedral_sin=none)
    for prior in (slack, slack._replace(repulsion_epsilon=np.zeros(3, np.float32))):
        evaluate = Energy(MODEL, {"prior": prior, "ml": {}}, system()).anywhere
        overlaps = separate_overlaps(evaluate, system(), FRAMES, rng())
        assert all(one["before_A"] < 0.5 for one in overlaps)
        static = {"kT_kcal_per_mol": KT, "energy": "ml-only", "scans": [], "overlaps": overlaps}
        verdicts.append(prior_check(static, SETTINGS).verdict)
    assert verdicts == ["pass", "fail"]


def test_an_older_result_of_parity_leaves_it_open(tmp_path):
    """It has no such file; one that says nothing fails."""
    found = read_static(tmp_path, SETTINGS)
    assert [one.check for one in found] == ["static.prior", "static.gradient", "static.symmetry"]
    assert {one.verdict for one in found} == {"inconclusive"}
    assert all("run `cgloop parity` again" in one.reason for one in found)
    (tmp_path / FILE).write_text("{}")
    assert {one.verdict for one in read_static(tmp_path, SETTINGS)} == {"fail"}


def test_nothing_measured_is_no_pass():
    assert [check.verdict for check in static_checks({}, SETTINGS)] == ["fail"] * 3

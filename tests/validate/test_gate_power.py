"""The gate as a whole is right as often as `benchmarks.gate_power` reports: a small sample of that study."""

import numpy as np
import pytest

from benchmarks import gate_power
from benchmarks.gate_power import Outcome, RunSet
from cgloop.config.validate import ValidateConfig
from cgloop.residues import TYPE_ID
from cgloop.validate import geometry
from cgloop.validate.equilibration import FALSE_ALARM, more_than_chance
from cgloop.validate.observables import Protein, observe
from tests.validate import synthetic
from tests.validate.synthetic import Chain

SETS = {one.name: one for one in gate_power.run_sets(dict.fromkeys(gate_power.SECTIONS, 2))}
EXAMPLE = SETS["right model, 8 × 200 ps against 4 × 2 ns"]


@pytest.fixture(scope="module")
def protein(example_h5):
    return synthetic.real_chain(example_h5)


def test_one_replica_that_seems_to_move_means_nothing_and_several_do():
    assert not more_than_chance(0, 8)
    assert not more_than_chance(1, 8)
    assert more_than_chance(2, 8)
    assert more_than_chance(3, 4)
    rng = np.random.default_rng(1)
    false_alarms = rng.binomial(8, FALSE_ALARM, 5000)
    assert np.mean([more_than_chance(count, 8) for count in false_alarms]) < 0.012


def test_analytic_chain_is_the_native_structure_on_average_and_forgets_as_it_says(chain, protein):
    _, analytic = protein
    rmsd, _ = geometry.kabsch_rmsd(analytic.build(analytic.mean[None]), chain[1])
    assert rmsd[0] == pytest.approx(0, abs=1e-5)
    frames = analytic.frames(np.random.default_rng(3), 4000, 2.0)
    found = np.array([Chain.of(frame).mean for frame in frames])
    off = np.angle(np.exp(1j * (found - analytic.mean)))[:, analytic.n_beads - 1 :]
    assert off.std(axis=0) == pytest.approx(analytic.spread[analytic.n_beads - 1 :], rel=0.15)
    slow = off[:, -1] / off[:, -1].std()
    assert np.mean(slow[1:] * slow[:-1]) == pytest.approx(np.exp(-2.0 / analytic.memory_ps[-1]), abs=0.03)


def test_second_state_has_its_share_and_its_relaxation_time():
    rng = np.random.default_rng(5)
    states = np.array([synthetic.two_states(rng, 101, 0.2, 50.0) for _ in range(4000)]).astype(float)
    assert states.mean(axis=0)[[0, 50, 100]] == pytest.approx(0.2, abs=0.025)
    off = states - 0.2
    assert np.mean(off[:, 0] * off[:, 100]) == pytest.approx(0.16 * np.exp(-2.0), abs=0.01)


def test_hopeless_models_visit_nothing_that_the_reference_visits(protein):
    names, chain = protein
    settings, native = ValidateConfig(), chain.build(chain.mean[None])[0]
    types = np.array([TYPE_ID[name] for name in names], np.int8)
    geometry_of = Protein.of(native, np.ones(len(names) - 1, bool), settings, types)
    rng = np.random.default_rng(0)
    theirs = observe(chain.frames(rng, 500, 4.0), geometry_of, settings)
    for model in synthetic.HOPELESS.values():
        mine = observe(model(chain).frames(rng, 500, 4.0), geometry_of, settings)
        assert mine.rmsd.min() > theirs.rmsd.max()
        assert mine.rg.min() > theirs.rg.max() or mine.rg.max() < theirs.rg.min()


def test_table_counts_right_models_only_as_right():
    outcome = Outcome("fail", {"structure.q": "fail"}, ("structure.q fail: far",), ("structure.q",), (12.0, 8.0), 7.0)
    passed = Outcome("pass", {"structure.q": "pass"}, (), (), (30.0, 40.0), 0.5)
    right = RunSet("two states", "right", 0, 2, shares=(0.2, 0.2))
    wrong = RunSet("two states", "wrong", 1, 2, shares=(0.8, 0.2))
    sets = [
        gate_power.summary_of(right, [passed, outcome]),
        gate_power.summary_of(wrong, [outcome, outcome]),
    ]
    assert sets[0]["with_enough_samples"] == {"runs": 2, "failed": 1}
    assert sets[0]["checks"]["structure.q"]["fail"]["count"] == 1
    lines = gate_power.tables({"sets": sets})
    assert any(line.startswith("| wrong | 10 (10–10) | 2 | 0 %") for line in lines)
    assert lines[-1].startswith("| all right models | 22–22 | 2 | 50 % (1.26–98.74) | 50 % (1.26–98.74) |")


@pytest.mark.slow
def test_right_models_pass():
    verdicts = [gate_power.judged(EXAMPLE, EXAMPLE.seeds[0] + number).verdict for number in range(6)]
    assert verdicts.count("fail") == 0
    assert verdicts.count("pass") >= 5  # of 95 % passes fewer are seen in 1 of 30 trials


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "3 × 500 ps",
        "13 × 1 ns",
        "4 × 500 ps, model as slow (8 × 400 ps)",
        "second state 20%, 8 × 200 ps against 8 × 1 ns",
        "second state 50%, 8 × 200 ps against 4 × 1 ns",
    ],
)
def test_right_models_are_not_failed_by_a_short_reference(name):
    assert gate_power.judged(SETS[name], SETS[name].seeds[0]).verdict in ("pass", "inconclusive")


@pytest.mark.slow
@pytest.mark.parametrize("model", synthetic.HOPELESS)
def test_hopeless_models_are_failed_by_a_short_reference(model):
    runs = SETS[f"{model}, 3 × 500 ps"]
    outcome = gate_power.judged(runs, runs.seeds[0])
    assert outcome.verdict == "fail"
    assert outcome.evident


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [*synthetic.DAMAGED, "misfolded"])
def test_wrong_models_are_failed(wrong):
    assert gate_power.judged(SETS[wrong], SETS[wrong].seeds[0]).verdict == "fail"

"""The gate as a whole: healthy models pass, and wrong ones do not, as often as it promises."""

import numpy as np
import pytest

from cgloop.config.validate import REQUIRED
from cgloop.validate import geometry
from cgloop.validate.equilibration import FALSE_ALARM, more_than_chance
from tests.validate import synthetic
from tests.validate.synthetic import Chain, Lengths

LONG = Lengths(nvt_ps=400.0, nve_ps=50.0)


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


@pytest.mark.slow
def test_healthy_models_pass_and_are_not_failed(protein, tmp_path):
    """A sample of `benchmarks.gate_power`, which does the same 200 times."""
    names, chain = protein
    verdicts = []
    for seed in range(30):
        run = synthetic.healthy_run(names, chain, seed, LONG)
        verdicts.append(synthetic.gate_of(run, LONG, tmp_path / str(seed), REQUIRED)["verdict"])
    assert verdicts.count("fail") == 0
    assert verdicts.count("pass") >= 27  # of 95 % passes fewer are seen in 1 of 80 trials


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [*synthetic.DAMAGED, "misfolded"])
def test_wrong_models_are_failed(protein, tmp_path, wrong):
    names, chain = protein
    for seed in range(4):
        model = synthetic.OTHER_MODELS[wrong](chain) if wrong in synthetic.OTHER_MODELS else None
        run = synthetic.healthy_run(names, chain, 500 + seed, Lengths(), model)
        synthetic.DAMAGED.get(wrong, lambda run: None)(run)
        assert synthetic.gate_of(run, Lengths(), tmp_path / str(seed), REQUIRED)["verdict"] == "fail"
